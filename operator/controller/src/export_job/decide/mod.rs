//! What is to be done about an ExportJob: a pure function of what was observed, of the former status, and of the time.
//!
//! The status is written before actions are carried out, and with the resource version that was decided upon. So the
//! number of an attempt is taken before its Job exists, and whoever decided upon stale facts creates nothing. A Job's name
//! follows from that number: what a crash left out is simply done by the next decision.

mod cancel;
mod cleanup;
mod draft;
mod failed;
mod notify;
mod pending;
mod progress;
mod retention;
#[cfg(test)]
mod simulation;
mod supervise;
mod suspend;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use pgexport_api::order::{CleanupPart, Refusal};
use pgexport_api::{ExportJobSpec, ExportJobStatus, Phase};

use super::admission::Admission;
use super::child::Child;
use super::receiver::Receiver;
use super::validate::Verdict;
use crate::event::Notice;
use crate::job::fact::JobFacts;
use draft::Draft;

pub use suspend::SUSPENDING;

/// The ExportJob that is decided about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its generation.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Its spec.
    pub spec: &'a ExportJobSpec,
    /// Whether a backup restored it.
    pub restored: bool,
    /// When its deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// Whether it has the finalizer, which keeps it until what it has left is removed.
    pub guarded: bool,
}

/// What was observed. A Job that the status records, or whose turn it is, and that is not in `jobs`, does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The ExportJob's Jobs.
    pub jobs: Vec<JobFacts>,
    /// Names of Jobs that it would create and that belong to somebody else.
    pub foreign: Vec<String>,
    /// Why the API server refused to create the last Job.
    pub refused: Option<String>,
    /// The image of the pods that would be made now.
    pub image: String,
    /// Whether its turn has come, where nothing else keeps it from beginning an attempt.
    pub admission: Option<Admission>,
    /// Whom a failure is told, or why nobody can be told, where the ExportJob names somebody.
    pub receiver: Option<Result<Receiver, Refusal>>,
}

/// What is to be done at the API server. All of it is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add the finalizer.
    Guard,
    /// Remove the finalizer.
    Release,
    /// Create a Job and its ConfigMap.
    EnsureJob(Child),
    /// Create the ConfigMap of a Job that exists, where a crash left it out.
    EnsureOrder {
        /// The Job.
        child: Child,
        /// Its uid.
        uid: String,
        /// The SHA-256 of the order that the Job was made for.
        sha256: Option<String>,
    },
    /// Delete a Job.
    DeleteJob {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

impl Action {
    /// Whether it would do harm when it is decided upon a status that is not the last one.
    #[must_use]
    pub const fn needs_current_status(&self) -> bool {
        match self {
            Self::Guard | Self::Release | Self::EnsureJob(_) | Self::DeleteJob { .. } => true,
            Self::EnsureOrder { .. } => false,
        }
    }
}

/// A decision. First the status is written, then Events are told and actions carried out, side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The new status.
    pub status: ExportJobStatus,
    /// What to do.
    pub actions: Vec<Action>,
    /// What to tell.
    pub events: Vec<Notice>,
    /// When to decide anew, if nothing changes before.
    pub requeue: Option<Duration>,
}

impl Observed {
    fn find(&self, name: &str) -> Option<&JobFacts> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

/// The names of Jobs whose absence must be certain, before it is decided.
#[must_use]
pub fn expected_jobs(name: &str, uid: &str, prior: &ExportJobStatus) -> Vec<String> {
    let mut names: Vec<String> = current(prior).map(|child| child.name(name, uid)).collect();
    if names.is_empty() {
        return names;
    }
    names.extend(
        prior
            .jobs
            .iter()
            .map(|job| job.name.clone())
            .filter(|recorded| !names.contains(recorded))
            .collect::<Vec<_>>(),
    );
    names
}

/// The Jobs whose turn it is: the run's one, and at the end the one that cleans up and the one that tells of a failure.
pub fn current(prior: &ExportJobStatus) -> impl Iterator<Item = Child> {
    let (first, second) = match prior.phase {
        Some(Phase::Exporting) => (Some(Child::export(prior.attempts)), None),
        Some(Phase::Transferring) => (Some(Child::transfer(prior.attempts, prior.transfer_attempts)), None),
        None | Some(Phase::Pending | Phase::Queued | Phase::Suspended) => (None, None),
        Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled) => {
            (cleanup::under_way(prior.cleanup.as_ref()), notify::under_way(prior.notification.as_ref()))
        }
    };
    first.into_iter().chain(second)
}

/// What a Job that cleans up is to remove now.
#[must_use]
pub fn cleanup_part(status: &ExportJobStatus) -> CleanupPart {
    status.cleanup.as_ref().map_or_else(CleanupPart::default, retention::part)
}

/// Decides. `now` is in whole seconds, as the API keeps times.
#[must_use]
pub fn decide(
    subject: &Subject<'_>,
    verdict: &Verdict,
    observed: &Observed,
    prior: &ExportJobStatus,
    now: Timestamp,
) -> Decision {
    let mut draft = Draft::new(subject, verdict, observed, prior, now);
    notify::foretell(&mut draft);
    go_on(&mut draft);
    notify::notify(&mut draft);
    if draft.status.phase.is_some_and(Phase::is_terminal) {
        cleanup::clean_up(&mut draft);
    }
    draft.finish()
}

/// What the phase asks for, up to the end.
fn go_on(draft: &mut Draft<'_>) {
    let prior = draft.prior;
    let phase = prior.phase.unwrap_or(Phase::Pending);
    match phase {
        Phase::Succeeded | Phase::Failed | Phase::Cancelled => {}
        _ if cancel::is_wanted(draft) => cancel::cancelled(draft),
        _ if suspend::is_due(draft) => suspend::suspended(draft),
        Phase::Pending | Phase::Queued => pending::pending(draft),
        Phase::Suspended => suspend::resumed(draft),
        Phase::Exporting => supervise::supervise(draft, Child::export(prior.attempts)),
        Phase::Transferring if draft.is_waiting_for_next_attempt() => {}
        Phase::Transferring if draft.failures().next_attempt_time.is_some() => {
            if draft.is_settled() {
                draft.begin_transfer();
            }
        }
        Phase::Transferring => {
            supervise::supervise(draft, Child::transfer(prior.attempts, prior.transfer_attempts));
        }
    }
}
