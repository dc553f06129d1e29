//! What is known of the ExportJobs that a schedule has made.

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::condition::{ConditionType, find};
use pgexport_api::job::Window;
use pgexport_api::naming::RUN_NOW_ANNOTATION;
use pgexport_api::{ExportJob, Phase};

/// An ExportJob, as far as it matters to its schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The time that it is for.
    pub scheduled: Timestamp,
    /// The token that asked for it; `None` where the schedule did.
    pub token: Option<String>,
    /// Its window.
    pub window: Option<Window>,
    /// How far it is.
    pub state: RunState,
    /// Whether it can be removed: what it has left is cleaned up, whoever is to be told of its failure was told, and nobody has
    /// removed it yet.
    pub is_removable: bool,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It has not ended.
    Active {
        /// Whether it is being cancelled.
        cancelling: bool,
    },
    /// It has delivered.
    Succeeded {
        /// When it ended.
        ended: Timestamp,
    },
    /// It has failed, or was cancelled.
    Failed {
        /// The reason.
        why: String,
    },
}

impl RunFacts {
    /// The facts of an ExportJob.
    #[must_use]
    pub fn new(job: &ExportJob) -> Self {
        let status = job.status.as_ref();
        let created = job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let state = match status.and_then(|status| Some((status, status.phase?))) {
            Some((status, Phase::Succeeded)) => {
                RunState::Succeeded { ended: status.completion_time.as_ref().map_or(created, |time| time.0) }
            }
            Some((status, phase)) if phase.is_terminal() => {
                let failed = find(&status.conditions, ConditionType::Failed);
                RunState::Failed { why: failed.map(|failed| failed.reason.clone()).unwrap_or_default() }
            }
            _ => {
                RunState::Active { cancelling: job.spec.cancel || job.metadata.deletion_timestamp.is_some() }
            }
        };
        let is_cleaned = status
            .and_then(|status| status.cleanup.as_ref())
            .is_none_or(|cleanup| cleanup.completion_time.is_some());
        let is_to_be_told = job.spec.on_failure.is_some()
            && status.is_some_and(|status| {
                let told = status.notification.as_ref().and_then(|told| told.completion_time.as_ref());
                status.phase == Some(Phase::Failed) && told.is_none()
            });
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            scheduled: job.spec.scheduled.as_ref().map_or(created, |scheduled| scheduled.time.0),
            token: job.annotations().get(RUN_NOW_ANNOTATION).cloned(),
            window: job.spec.window.clone(),
            is_removable: job.metadata.deletion_timestamp.is_none() && is_cleaned && !is_to_be_told,
            state,
        }
    }

    /// Whether it has not ended.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self.state, RunState::Active { .. })
    }

    /// Whether it is about to end as cancelled.
    #[must_use]
    pub const fn is_cancelling(&self) -> bool {
        matches!(self.state, RunState::Active { cancelling: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export_job::fixture::{job, tell_pager};
    use serde_json::json;

    #[test]
    fn a_failed_run_is_kept_until_its_failure_was_told_or_given_up() {
        let told = json!({"id": "msg", "startTime": "2026-11-25T20:05:00Z", "completionTime": "2026-11-25T20:06:00Z"});
        let telling = json!({"id": "msg", "startTime": "2026-11-25T20:05:00Z"});
        let cleaning = json!({"startTime": "2026-11-25T20:05:00Z"});
        for (tells, status, wanted) in [
            (false, json!({"phase": "Failed"}), true),
            (false, json!({"phase": "Failed", "cleanup": cleaning}), false),
            (true, json!({"phase": "Failed"}), false),
            (true, json!({"phase": "Failed", "notification": telling}), false),
            (true, json!({"phase": "Failed", "notification": told}), true),
            (true, json!({"phase": "Cancelled"}), true),
            (true, json!({"phase": "Succeeded"}), true),
        ] {
            let mut job = job(&if tells { tell_pager() } else { json!({}) });
            job.status = Some(serde_json::from_value(status.clone()).unwrap());
            assert_eq!(RunFacts::new(&job).is_removable, wanted, "{tells} {status}");
        }
    }
}
