//! Looks at the ExportJobs of a schedule. The watch's store may lag: before one counts as missing, the API server is asked.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use pgexport_api::schedule::ExportScheduleStatus;
use pgexport_api::{ExportJob, ExportSchedule};

use super::decide::{Observed, expected_runs};
use super::fact::{RunFacts, RunState};
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::fact::is_owned_by;

/// Observes the ExportJobs of `schedule`.
pub async fn observe(
    context: &Context,
    namespace: &str,
    schedule: &ExportSchedule,
    prior: &ExportScheduleStatus,
) -> Result<Observed, ReconcileError> {
    let uid = schedule.uid().unwrap_or_default();
    let mut owned = context
        .stores
        .export_jobs
        .state_filter(|job| job.meta().namespace.as_deref() == Some(namespace) && is_owned_by(job, &uid));
    let mut foreign = Vec::new();
    let api: Api<DeserializeGuard<ExportJob>> = Api::namespaced(context.client.clone(), namespace);
    for name in expected_runs(prior) {
        if owned.iter().any(|job| job.name_any() == name) {
            continue;
        }
        let live = api
            .get_opt(&name)
            .await
            .map_err(|error| ReconcileError::api("get", format!("ExportJob {name}"), error))?;
        match live {
            Some(job) if is_owned_by(&job, &uid) => owned.push(Arc::new(job)),
            Some(_) => foreign.push(name),
            None => {}
        }
    }
    let refused =
        if prior.starting.is_some() { context.refusals.get(&uid) } else { context.refusals.take(&uid) };
    Ok(Observed { runs: owned.iter().map(|job| facts(job)).collect(), foreign, refused })
}

/// The facts of an ExportJob. One that cannot be read counts as active: nobody knows what it does.
fn facts(guard: &DeserializeGuard<ExportJob>) -> RunFacts {
    match &guard.0 {
        Ok(job) => RunFacts::new(job),
        Err(_) => RunFacts {
            name: guard.name_any(),
            uid: guard.uid().unwrap_or_default(),
            scheduled: guard.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            token: None,
            window: None,
            state: RunState::Active { cancelling: false },
            is_removable: false,
        },
    }
}
