//! A decision in the making.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{self, ConditionType, Truth};
use pgexport_api::schedule::ExportScheduleStatus;

use super::{Action, Calendar, Decision, Invalid, Observed, RunOutcome, Subject};
use crate::event::Notice;

/// The longest rest: a clock that is set forwards wakes nobody.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// How the schedule stands, in its Ready condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it can make runs.
    pub is_well: bool,
    /// The condition's reason.
    pub reason: &'static str,
    /// What a person wants to know.
    pub message: String,
}

/// A decision in the making.
pub struct Draft<'a> {
    /// The schedule.
    pub subject: &'a Subject<'a>,
    /// What was observed.
    pub observed: &'a Observed,
    /// The former status.
    pub prior: &'a ExportScheduleStatus,
    /// The time.
    pub now: Timestamp,
    /// The new status.
    pub status: ExportScheduleStatus,
    /// What to do.
    pub actions: Vec<Action>,
    /// What to tell.
    pub events: Vec<Notice>,
    /// How many runs came to which outcome.
    pub outcomes: BTreeMap<RunOutcome, u64>,
    /// Whether, and until when, a run that is due waits.
    pub wake: Option<Timestamp>,
    standing: Standing,
}

impl<'a> Draft<'a> {
    /// Nothing is decided yet.
    pub fn new(
        subject: &'a Subject<'a>,
        observed: &'a Observed,
        prior: &'a ExportScheduleStatus,
        now: Timestamp,
    ) -> Self {
        let status = ExportScheduleStatus { observed_generation: Some(subject.generation), ..prior.clone() };
        let standing = Standing { is_well: true, reason: "Scheduled", message: String::new() };
        Self {
            subject,
            observed,
            prior,
            now,
            status,
            actions: Vec::new(),
            events: Vec::new(),
            outcomes: BTreeMap::new(),
            wake: None,
            standing,
        }
    }

    /// Tells something.
    pub fn tell(&mut self, notice: Notice) {
        self.events.push(notice);
    }

    /// Tells what became of a run.
    pub fn tell_outcome(&mut self, outcome: RunOutcome, notice: Notice) {
        self.tell_outcomes(outcome, 1, notice);
    }

    /// Tells what became of so many runs.
    pub fn tell_outcomes(&mut self, outcome: RunOutcome, number: u64, notice: Notice) {
        *self.outcomes.entry(outcome).or_default() += number;
        self.tell(notice);
    }

    /// It goes on by itself.
    pub fn stands(&mut self, reason: &'static str, message: impl Into<String>) {
        self.standing = Standing { is_well: true, reason, message: message.into() };
    }

    /// Nothing goes on until somebody acts. It is told when it is new.
    pub fn stalls(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        if !self.stood(reason) {
            self.tell(Notice::warning(reason, message.clone()));
        }
        self.standing = Standing { is_well: false, reason, message };
    }

    /// The schedule itself is not right.
    pub fn refuse(&mut self, invalid: &Invalid) {
        self.stalls(invalid.reason, invalid.message.clone());
        self.condition(ConditionType::Accepted, Truth::False, invalid.reason, &invalid.message);
    }

    /// The schedule can be kept.
    pub fn accept(&mut self) {
        let message = "spec.schedule, spec.timeZone and spec.window are understood";
        self.condition(ConditionType::Accepted, Truth::True, "Accepted", message);
    }

    /// Whether the former status gave this as the reason of its Ready condition.
    #[must_use]
    pub fn stood(&self, reason: &str) -> bool {
        condition::find(&self.prior.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.reason == reason)
    }

    /// Up to where scheduled times are dealt with.
    #[must_use]
    pub fn handled(&self) -> Timestamp {
        let since = self.status.last_schedule_time.as_ref().map_or(self.subject.created, |time| time.0);
        self.status.handled_time.as_ref().map_or_else(|| since.max(self.subject.created), |time| time.0)
    }

    /// Scheduled times up to `time` are dealt with.
    pub fn handle(&mut self, time: Timestamp) {
        self.status.handled_time = Some(Time(self.handled().max(time)));
    }

    fn condition(&mut self, kind: ConditionType, truth: Truth, reason: &str, message: &str) {
        let generation = self.subject.generation;
        condition::set(&mut self.status.conditions, kind, truth, reason, message, generation, self.now);
    }

    /// The decision.
    #[must_use]
    pub fn finish(mut self, calendar: Option<&Calendar>) -> Decision {
        let next = calendar
            .filter(|_| !self.subject.is_suspended())
            .and_then(|calendar| calendar.next(self.handled().max(self.now)));
        self.status.next_schedule_time = next.map(Time);
        let Standing { is_well, reason, message } = self.standing.clone();
        if is_well {
            self.condition(ConditionType::Ready, Truth::True, reason, &message);
            condition::remove(&mut self.status.conditions, ConditionType::Stalled);
        } else {
            self.condition(ConditionType::Ready, Truth::False, reason, &message);
            self.condition(ConditionType::Stalled, Truth::True, reason, &message);
        }
        let wait = |until: Timestamp| Duration::try_from(until.duration_since(self.now)).unwrap_or_default();
        let requeue = [next, self.wake].into_iter().flatten().map(wait).min();
        Decision {
            requeue: requeue.map(|wait| wait.clamp(Duration::from_millis(100), LONGEST_REST)),
            status: self.status,
            actions: self.actions,
            events: self.events,
            outcomes: self.outcomes,
        }
    }
}
