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
    /// Whether it can be removed: what it has left is cleaned up, and nobody has removed it yet.
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
        let cleanup = status.and_then(|status| status.cleanup.as_ref());
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            scheduled: job.spec.scheduled.as_ref().map_or(created, |scheduled| scheduled.time.0),
            token: job.annotations().get(RUN_NOW_ANNOTATION).cloned(),
            window: job.spec.window.clone(),
            is_removable: job.metadata.deletion_timestamp.is_none()
                && cleanup.is_none_or(|cleanup| cleanup.completion_time.is_some()),
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
