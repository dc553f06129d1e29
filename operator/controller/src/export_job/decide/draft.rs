//! A decision in the making: the former status, and what is changed of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{self, ConditionType, Truth};
use pgexport_api::job::{ChildJob, ChildKind, Failures, LastError, Progress};
use pgexport_api::report::Failure;
use pgexport_api::{ExportJobStatus, Phase, Reason};

use super::{Action, Decision, Observed, Subject, notify, supervise};
use crate::event::Notice;
use crate::export_job::admission::Database;
use crate::export_job::child::Child;
use crate::export_job::validate::Verdict;
use crate::job::fact::JobFacts;
use crate::job::failure::sentence;

/// A blocked ExportJob is looked at this often, even when no watch reports a change.
pub const RECHECK: Duration = Duration::from_secs(30);
/// A Job that was just asked for is looked at again after this long.
pub const SOON: Duration = Duration::from_secs(5);

/// A decision in the making.
pub struct Draft<'a> {
    pub subject: &'a Subject<'a>,
    pub verdict: &'a Verdict,
    pub observed: &'a Observed,
    pub prior: &'a ExportJobStatus,
    pub now: Timestamp,
    pub status: ExportJobStatus,
    actions: Vec<Action>,
    events: Vec<Notice>,
    requeue: Option<Duration>,
}

impl<'a> Draft<'a> {
    pub fn new(
        subject: &'a Subject<'a>,
        verdict: &'a Verdict,
        observed: &'a Observed,
        prior: &'a ExportJobStatus,
        now: Timestamp,
    ) -> Self {
        let status = ExportJobStatus {
            observed_generation: Some(subject.generation),
            phase: Some(prior.phase.unwrap_or(Phase::Pending)),
            ..prior.clone()
        };
        Self {
            subject,
            verdict,
            observed,
            prior,
            now,
            status,
            actions: Vec::new(),
            events: Vec::new(),
            requeue: None,
        }
    }

    /// The decision. What this status says, it says of the current generation.
    pub fn finish(mut self) -> Decision {
        for condition in &mut self.status.conditions {
            condition.observed_generation = Some(self.subject.generation);
        }
        Decision { status: self.status, actions: self.actions, events: self.events, requeue: self.requeue }
    }

    pub fn act(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    pub fn tell(&mut self, notice: Notice) {
        self.events.push(notice);
    }

    pub fn wake_in(&mut self, wait: Duration) {
        self.requeue = Some(self.requeue.map_or(wait, |sooner| sooner.min(wait)));
    }

    pub fn wake_at(&mut self, time: Timestamp) {
        let wait = Duration::try_from(time.duration_since(self.now)).unwrap_or(Duration::ZERO);
        self.wake_in(wait.max(Duration::from_secs(1)));
    }

    pub fn name(&self, child: Child) -> String {
        child.name(self.subject.name, self.subject.uid)
    }

    pub fn failures(&self) -> Failures {
        self.status.failures.clone().unwrap_or_default()
    }

    pub fn set_failures(&mut self, failures: Failures) {
        self.status.failures = (failures != Failures::default()).then_some(failures);
    }

    pub fn condition(&mut self, kind: ConditionType, truth: Truth, reason: &str, message: &str) {
        condition::set(
            &mut self.status.conditions,
            kind,
            truth,
            reason,
            message,
            self.subject.generation,
            self.now,
        );
    }

    /// What was last said to be wrong with a cleanup or a notification. Its condition's message says first what is not done, and then
    /// why.
    pub fn trouble(&self, kind: ChildKind) -> Option<String> {
        let (kind, doing) = supervise::doing(kind);
        let found = condition::find(&self.status.conditions, kind).filter(|found| found.reason != doing)?;
        let (_, why) = found.message.split_once(": ")?;
        Some(why.to_owned())
    }

    /// Work is under way, or goes on by itself.
    pub fn reconciling(&mut self, reason: &str, message: &str) {
        condition::remove(&mut self.status.conditions, ConditionType::Stalled);
        self.condition(ConditionType::Reconciling, Truth::True, reason, message);
        self.condition(ConditionType::Ready, Truth::False, reason, message);
        self.status.message = Some(message.to_owned());
    }

    /// Nothing goes on until somebody acts; told once for each reason.
    pub fn stalled(&mut self, reason: Reason, message: &str) {
        let told = condition::find(&self.prior.conditions, ConditionType::Stalled)
            .is_some_and(|stalled| stalled.reason == reason.as_str());
        if !told {
            self.tell(Notice::warning(reason.as_str(), message));
        }
        self.set_stalled(reason, message);
    }

    pub fn set_stalled(&mut self, reason: Reason, message: &str) {
        condition::remove(&mut self.status.conditions, ConditionType::Reconciling);
        self.condition(ConditionType::Stalled, Truth::True, reason.as_str(), message);
        self.condition(ConditionType::Ready, Truth::False, reason.as_str(), message);
        self.status.message = Some(message.to_owned());
    }

    /// Records an error; the time of one that is seen again stays.
    pub fn record_error(&mut self, failure: &Failure) {
        let same = self.status.last_error.as_ref().filter(|last| {
            last.reason == failure.reason && last.message == failure.message && last.chunk == failure.chunk
        });
        let time = same.map_or(Time(self.now), |last| last.time.clone());
        self.status.last_error = Some(LastError {
            reason: failure.reason,
            sql_state: failure.sql_state.clone(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            chunk: failure.chunk,
            time,
        });
    }

    /// Ends the ExportJob badly.
    pub fn fail(&mut self, failure: &Failure) {
        self.fail_by(failure, None);
    }

    /// By an attempt's Job, if one failed last.
    pub fn fail_by(&mut self, failure: &Failure, job: Option<String>) {
        self.record_error(failure);
        let reason = failure.reason;
        let message = sentence(failure);
        self.end(Phase::Failed);
        self.set_stalled(reason, &message);
        self.condition(ConditionType::Failed, Truth::True, reason.as_str(), &message);
        let notice = Notice::warning("Failed", format!("{reason}: {message}"));
        self.tell(match job {
            Some(job) => notice.about(job),
            None => notice,
        });
        self.leave_nothing_running();
    }

    /// The phase and the times of an end.
    pub fn end(&mut self, phase: Phase) {
        self.status.phase = Some(phase);
        self.status.completion_time = Some(Time(self.now));
        self.status.duration =
            self.status.start_time.as_ref().map(|start| human_duration(self.now.duration_since(start.0)));
        let mut failures = self.failures();
        failures.next_attempt_time = None;
        self.set_failures(failures);
        self.requeue = None;
    }

    /// Deletes Jobs that would still go on.
    pub fn leave_nothing_running(&mut self) {
        self.stop_all_but(None);
    }

    /// Deletes Jobs that would still go on, all but one.
    pub fn stop_all_but(&mut self, name: Option<&str>) {
        let observed = self.observed;
        let others = |job: &&JobFacts| job.is_live() && Some(job.name.as_str()) != name;
        let doomed: Vec<_> =
            observed.jobs.iter().filter(others).filter(|job| !self.is_notification(job)).collect();
        self.stop(&doomed);
    }

    /// Deletes the Job that tells of the failure, if it would still go on.
    pub fn stop_notification(&mut self) {
        let observed = self.observed;
        let told = |job: &&JobFacts| job.is_live() && self.is_notification(job);
        let doomed: Vec<_> = observed.jobs.iter().filter(told).collect();
        self.stop(&doomed);
    }

    fn stop(&mut self, jobs: &[&JobFacts]) {
        for job in jobs {
            self.act(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
        }
    }

    /// Whether no Job runs on, but perhaps one. What tells of a failure works on nothing that others work on.
    pub fn has_settled_but(&self, name: Option<&str>) -> bool {
        let mut others = self.observed.jobs.iter().filter(|job| Some(job.name.as_str()) != name);
        others.all(|job| job.has_settled(self.now) || self.is_notification(job))
    }

    fn is_notification(&self, job: &JobFacts) -> bool {
        Child::is_notification(&job.name, self.subject.name, self.subject.uid)
    }

    /// Whether its namespace is being deleted: Kubernetes admits nothing new to it then.
    pub fn is_namespace_going(&self) -> bool {
        self.observed.refused.as_ref().is_some_and(|said| said.contains("is being terminated"))
    }

    /// Removes the finalizer, once nothing needs it any more.
    pub fn release(&mut self) {
        if notify::is_over(&self.status) {
            self.act(Action::Release);
        }
    }

    /// Whether nothing of former attempts runs on. Never two live Jobs of a kind: what they have left ends first.
    pub fn is_settled(&mut self) -> bool {
        let is_settled = self.has_settled_but(None);
        if !is_settled {
            self.leave_nothing_running();
            self.wake_in(SOON);
        }
        is_settled
    }

    /// Remembers the Job of a kind.
    pub fn record_job(&mut self, kind: ChildKind, job: &JobFacts) {
        let recorded = ChildJob { kind, name: job.name.clone(), uid: job.uid.clone() };
        match self.status.jobs.iter_mut().find(|old| old.kind == kind) {
            Some(old) => *old = recorded,
            None => self.status.jobs.push(recorded),
        }
    }

    /// Whether the wait between attempts is not over. Nothing is to be done before its end.
    pub fn is_waiting_for_next_attempt(&mut self) -> bool {
        match self.failures().next_attempt_time {
            Some(next) if self.now < next.0 => {
                self.wake_at(next.0);
                true
            }
            _ => false,
        }
    }

    /// Begins an attempt to export: takes its number, and asks for its Job.
    pub fn begin_export(&mut self) {
        let child = self.next_export();
        self.begin(child, "Exporting", "AttemptStarted");
    }

    /// Begins an attempt to transfer: takes its number, and asks for its Job.
    pub fn begin_transfer(&mut self) {
        let child = self.next_transfer();
        self.begin(child, "Transferring", "TransferStarted");
    }

    fn begin(&mut self, child: Child, doing: &str, milestone: &'static str) {
        let mut failures = self.failures();
        failures.next_attempt_time = None;
        if failures.environment == 0 {
            failures.environment_since = None;
        }
        self.set_failures(failures);
        let message = format!("{doing}: attempt {} is starting", number(child));
        self.reconciling("Starting", &message);
        let name = self.name(child);
        self.tell(
            Notice::normal(milestone, format!("attempt {} begins with Job {name}", number(child)))
                .about(name),
        );
        supervise::ensure(self, child);
    }

    fn next_export(&mut self) -> Child {
        if self.status.attempts == 0 {
            self.tell(Notice::normal(
                "Accepted",
                "the ExportJob is understood, and what it refers to is ready",
            ));
        }
        self.condition(
            ConditionType::Accepted,
            Truth::True,
            "Accepted",
            "what it refers to exists and is ready",
        );
        self.condition(ConditionType::Exported, Truth::False, "Starting", "no pod runs yet");
        self.condition(ConditionType::Delivered, Truth::False, "Pending", "nothing is exported yet");
        if self.prior.phase == Some(Phase::Queued) {
            self.status.resume_time = Some(Time(self.now));
        }
        if let (None, Ok(validated)) = (&self.status.location, &self.verdict.run) {
            let (sink, staging) = (&validated.order.sink, validated.order.staging());
            self.status.location = Some(validated.order.location());
            self.status.location_server = sink.target.server();
            self.status.staging = staging.map(|staging| staging.target.location());
            self.status.staging_server = staging.and_then(|staging| staging.target.server());
        }
        if let Ok(validated) = &self.verdict.run {
            self.status.method = Some(validated.order.source.method);
            self.status.database = Some(Database::new(&validated.order.source.postgres).to_string());
        }
        self.status.phase = Some(Phase::Exporting);
        self.status.attempts = self.status.attempts.saturating_add(1);
        self.status.start_time.get_or_insert(Time(self.now));
        self.status.jobs.clear();
        self.status.progress = Some(Progress { size: "0".to_owned(), ..Progress::default() });
        Child::export(self.status.attempts)
    }

    fn next_transfer(&mut self) -> Child {
        self.condition(ConditionType::Delivered, Truth::False, "Starting", "no pod runs yet");
        self.status.phase = Some(Phase::Transferring);
        self.status.transfer_attempts = self.status.transfer_attempts.saturating_add(1);
        self.status.jobs.retain(|job| job.kind != ChildKind::Transfer);
        Child::transfer(self.status.attempts, self.status.transfer_attempts)
    }

    /// When the time to start is over, for what was begun at `since`. The first attempt has until `deadlines.start` after
    /// the ExportJob's creation, or after it was last suspended or queued; but an operator that was away has a minute at
    /// least.
    pub fn start_deadline(&self, is_first: bool, since: Timestamp) -> Timestamp {
        let start = signed(self.subject.spec.deadlines.start.into());
        if is_first {
            let resumed = self.status.resume_time.as_ref().map_or(self.subject.created, |time| time.0);
            let last = after(self.subject.created.max(resumed), start);
            last.max(after(since, start.min(SignedDuration::from_mins(1))))
        } else {
            after(since, start)
        }
    }

    /// `deadlines.start` as a user wrote it.
    pub fn start_field(&self) -> String {
        format!("spec.deadlines.start ({})", human_duration(signed(self.subject.spec.deadlines.start.into())))
    }
}

/// The number of an attempt, as it is counted for its kind.
pub fn number(child: Child) -> u32 {
    match child.kind {
        ChildKind::Export | ChildKind::Cleanup | ChildKind::Notification => child.attempt,
        ChildKind::Transfer => child.transfer,
    }
}

/// A time plus a duration; the end of all time, where it would be later.
pub fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A duration of the spec.
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A duration for people, such as `1m32s`.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, _) => format!("{seconds}s"),
        (0, _, 0) => format!("{minutes}m"),
        (0, ..) => format!("{minutes}m{seconds}s"),
        (_, 0, 0) => format!("{hours}h"),
        (_, _, 0) => format!("{hours}h{minutes}m"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
