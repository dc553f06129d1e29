//! Looks at the Jobs of a source or sink.

use jiff::Timestamp;

use super::decide::{Observed, State, Subject, job_name};
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::observe::{facts, owned_jobs};

/// Observes the probes of `subject`.
pub async fn observe(
    context: &Context,
    namespace: &str,
    subject: &Subject<'_>,
    prior: &State,
    now: Timestamp,
) -> Result<Observed, ReconcileError> {
    let running = prior.probe.as_ref().filter(|probe| probe.time.is_none());
    let expected: Vec<String> =
        running.map(|probe| job_name(subject.name, subject.uid, probe.number)).into_iter().collect();
    let owned = owned_jobs(context, namespace, subject.uid, &expected).await?;
    let mut jobs = Vec::with_capacity(owned.jobs.len());
    for job in &owned.jobs {
        jobs.push(facts(context, namespace, job, now).await?);
    }
    Ok(Observed { jobs, foreign: owned.foreign, refused: context.refusals.take(subject.uid) })
}
