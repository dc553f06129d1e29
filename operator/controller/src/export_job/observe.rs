//! Looks at the ExportJob's Kubernetes Jobs and reduces them to plain facts.

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::ExportJob;
use pgexport_api::job::ExportJobStatus;

use super::decide::{Observed, current, expected_jobs};
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::observe::{facts, owned_jobs, stored_facts};

/// Observes the Jobs of `job`. Only of the attempt that is under way is more asked than the stores hold.
pub async fn observe(
    context: &Context,
    namespace: &str,
    job: &ExportJob,
    prior: &ExportJobStatus,
    now: Timestamp,
) -> Result<Observed, ReconcileError> {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let expected = expected_jobs(&name, &uid, prior);
    let owned = owned_jobs(context, namespace, &uid, &expected).await?;
    let runs: Vec<String> = current(prior)
        .into_iter()
        .flat_map(super::child::Child::runs)
        .map(|run| run.name(&name, &uid))
        .collect();
    let mut jobs = Vec::with_capacity(owned.jobs.len());
    for owned in &owned.jobs {
        jobs.push(if runs.contains(&owned.name_any()) {
            facts(context, namespace, owned, now).await?
        } else {
            stored_facts(context, owned)
        });
    }
    let refused = if runs.is_empty() { context.refusals.take(&uid) } else { context.refusals.get(&uid) };
    Ok(Observed { jobs, foreign: owned.foreign, refused })
}
