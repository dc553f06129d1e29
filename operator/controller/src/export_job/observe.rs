//! Looks at the ExportJob's Kubernetes Jobs and reduces them to plain facts.

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::job::ExportJobStatus;
use pgexport_api::order::Refusal;
use pgexport_api::{ExportJob, Phase};

use super::admission::{self, Turn};
use super::decide::{Observed, current, expected_jobs};
use super::dereference::{Reference, References};
use super::validate::{Readiness, Validated};
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
    let runs: Vec<String> =
        current(prior).flat_map(super::child::Child::runs).map(|run| run.name(&name, &uid)).collect();
    let mut jobs = Vec::with_capacity(owned.jobs.len());
    for owned in &owned.jobs {
        jobs.push(if runs.contains(&owned.name_any()) {
            facts(context, namespace, owned, now).await?
        } else {
            stored_facts(context, owned)
        });
    }
    let refused = if runs.is_empty() { context.refusals.take(&uid) } else { context.refusals.get(&uid) };
    Ok(Observed {
        jobs,
        foreign: owned.foreign,
        refused,
        image: context.image.image.clone(),
        admission: None,
        receiver: None,
    })
}

/// Whether the turn of an ExportJob has come, where nothing else keeps it from beginning an attempt.
pub async fn turn(
    context: &Context,
    job: &ExportJob,
    references: &References,
    verdict: &Result<Validated, Refusal>,
    prior: &ExportJobStatus,
) -> Result<Option<Turn>, ReconcileError> {
    let is_ending = job.spec.cancel || job.metadata.deletion_timestamp.is_some();
    let begins = !is_ending && matches!(prior.phase, None | Some(Phase::Pending | Phase::Queued));
    match (verdict, &references.source) {
        (Ok(Validated { order, readiness: Readiness::Ready, .. }), Reference::Found(source)) if begins => {
            admission::turn(context, job, order, source).await.map(Some)
        }
        _ => Ok(None),
    }
}
