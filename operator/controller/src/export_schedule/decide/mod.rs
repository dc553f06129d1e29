//! What is to be done about an ExportSchedule: a pure function of what was observed, of the former status, and of the time.
//!
//! A run is noted in the status before its ExportJob is created, and its name follows from what it is for. So whoever decided
//! upon stale facts creates nothing, and what a crash left out is done by the next decision. Times only ever move forwards:
//! when the clock goes back, no run is due until it has passed what is dealt with.

mod draft;
mod due;
mod history;
mod note;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pgexport_api::schedule::{ExportScheduleSpec, ExportScheduleStatus, PlannedRun};

use super::calendar::Calendar;
use super::fact::RunFacts;
use super::validate::Invalid;
use crate::event::Notice;
use draft::Draft;

/// The ExportSchedule that is decided about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its generation.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Its spec.
    pub spec: &'a ExportScheduleSpec,
    /// Whether a backup restored it: without its status, which says what is delivered.
    pub restored: bool,
}

impl Subject<'_> {
    /// Whether runs are not made for now.
    const fn is_suspended(&self) -> bool {
        self.spec.suspend || self.restored
    }
}

/// What was observed. An ExportJob that the status names, and that is not in `runs`, does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The schedule's ExportJobs.
    pub runs: Vec<RunFacts>,
    /// Names of ExportJobs that it would create and that belong to somebody else.
    pub foreign: Vec<String>,
    /// Why the API server refused to create the last one.
    pub refused: Option<String>,
}

/// What is to be done at the API server. All of it is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the ExportJob of a run.
    Start(PlannedRun),
    /// Cancel an ExportJob.
    Cancel {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete an ExportJob that has ended.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunOutcome {
    /// Its ExportJob is made.
    Started,
    /// It has delivered.
    Succeeded,
    /// It has failed, was cancelled, or is gone.
    Failed,
    /// It was left out: the next one was due, there was nothing to deliver, or nobody wanted it any more.
    Skipped,
    /// It was left out, as it could not begin in time.
    Missed,
}

impl RunOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Started, Self::Succeeded, Self::Failed, Self::Skipped, Self::Missed];

    /// As metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

/// A decision. First the status is written, then the Events, then the actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The new status.
    pub status: ExportScheduleStatus,
    /// What to do.
    pub actions: Vec<Action>,
    /// What to tell.
    pub events: Vec<Notice>,
    /// How many runs came to which outcome.
    pub outcomes: BTreeMap<RunOutcome, u64>,
    /// When to decide anew, if nothing changes before.
    pub requeue: Option<Duration>,
}

impl Observed {
    fn find(&self, name: &str) -> Option<&RunFacts> {
        self.runs.iter().find(|run| run.name == name)
    }

    fn active(&self) -> impl Iterator<Item = &RunFacts> {
        self.runs.iter().filter(|run| run.is_active())
    }
}

/// The names of ExportJobs whose absence must be certain, before it is decided.
#[must_use]
pub fn expected_runs(prior: &ExportScheduleStatus) -> Vec<String> {
    let mut names = prior.active.clone();
    names.extend(
        prior.starting.as_ref().map(|run| run.name.clone()).filter(|name| !prior.active.contains(name)),
    );
    names
}

/// Decides. `now` is in whole seconds, as the API keeps times.
#[must_use]
pub fn decide(
    subject: &Subject<'_>,
    verdict: &Result<Calendar, Invalid>,
    observed: &Observed,
    prior: &ExportScheduleStatus,
    now: Timestamp,
) -> Decision {
    let mut draft = Draft::new(subject, observed, prior, now);
    note::note(&mut draft);
    match verdict {
        Ok(calendar) => due::start(&mut draft, calendar),
        Err(invalid) => draft.refuse(invalid),
    }
    history::prune(&mut draft);
    draft.finish(verdict.as_ref().ok())
}
