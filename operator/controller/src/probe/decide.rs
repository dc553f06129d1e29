//! What is to be done about a probe: a pure function of what was observed, of the former status, and of the time.
//!
//! The number of a probe is written before its Job is created, its result before its Job is deleted: no probe is ever
//! started twice, and none is left behind.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::Reason;
use pgexport_api::condition::{self, Condition, ConditionType, Truth};
use pgexport_api::report::{Failure, Outcome};
use pgexport_api::sink::Capability;
use pgexport_api::source::{AuroraS3, ProbeStatus, Server};

use crate::event::Notice;
use crate::job::fact::{JobFacts, JobState};
use crate::job::failure::{self, sentence};

/// How long a probe's pod may take to start: nodes may have to be added, and images to be pulled.
pub const LONGEST_START: Duration = Duration::from_mins(5);
/// How long a probe may take from the start of its container.
pub const LONGEST_RUN: Duration = Duration::from_mins(1);
/// The wait after the first failure; each one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);
/// The longest wait while an ExportJob waits: a Secret that was corrected changes no generation, and `deadlines.start` runs.
const LONGEST_AWAITED_WAIT: SignedDuration = SignedDuration::from_secs(30);
/// How often a running probe is looked at, when no watch reports a change.
const SOON: Duration = Duration::from_secs(5);

/// The source or sink that is decided about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// `ExportSource` or `ExportSink`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its generation.
    pub generation: i64,
    /// Its annotation that asks for a probe.
    pub requested_at: Option<&'a str>,
    /// Whether it is to be tried as staging.
    pub staging: bool,
    /// Whether an ExportJob waits for it.
    pub is_awaited: bool,
}

/// What was observed. A probe's Job whose turn it is, and that is not in `jobs`, does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The Jobs of the source or sink.
    pub jobs: Vec<JobFacts>,
    /// Names of Jobs that it would create and that belong to somebody else.
    pub foreign: Vec<String>,
    /// Why the API server refused to create the last Job.
    pub refused: Option<String>,
}

/// What the status says of probes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Ready, Reconciling and Stalled.
    pub conditions: Vec<Condition>,
    /// The last probe.
    pub probe: Option<ProbeStatus>,
}

/// What is to be done at the API server. All of it is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the Job of this number, and its ConfigMap.
    EnsureJob(u32),
    /// Create the ConfigMap of a Job that exists.
    EnsureOrder {
        /// The probe's number.
        number: u32,
        /// The Job's uid.
        uid: String,
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
            Self::EnsureJob(_) | Self::DeleteJob { .. } => true,
            Self::EnsureOrder { .. } => false,
        }
    }
}

/// A decision. First the status is written, then the Events, then the actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The new state.
    pub state: State,
    /// What a successful probe of a source saw.
    pub server: Option<Server>,
    /// What the login may do beyond reading, as the probe saw it.
    pub login_may: Option<Vec<String>>,
    /// What a source's database has for exports by itself, where that is its method and `server` is told.
    pub aurora_s3: Option<AuroraS3>,
    /// What a sink was let do, where a probe has just told.
    pub capabilities: Option<Vec<Capability>>,
    /// What to do.
    pub actions: Vec<Action>,
    /// What to tell.
    pub events: Vec<Notice>,
    /// When to decide anew, if nothing changes before.
    pub requeue: Option<Duration>,
}

/// The name of a probe's Job.
#[must_use]
pub fn job_name(name: &str, uid: &str, number: u32) -> String {
    format!("{}-{}-p{number}", name.replace('.', "-"), pgexport_api::naming::short_uid(uid))
}

/// Decides. `now` is in whole seconds.
#[must_use]
pub fn decide(subject: &Subject<'_>, observed: &Observed, prior: &State, now: Timestamp) -> Decision {
    let decision = Decision {
        state: prior.clone(),
        server: None,
        login_may: None,
        aurora_s3: None,
        capabilities: None,
        actions: Vec::new(),
        events: Vec::new(),
        requeue: None,
    };
    let mut draft = Draft { subject, observed, prior, now, decision };
    match &prior.probe {
        None => draft.start(0, 0),
        Some(probe) if probe.time.is_none() && probe.generation == subject.generation => {
            draft.supervise(probe);
        }
        Some(probe) if draft.is_wanted(probe) => {
            let failures = if probe.generation == subject.generation { probe.failures } else { 0 };
            draft.start(probe.number, failures);
        }
        Some(probe) => draft.rest(probe),
    }
    draft.decision
}

struct Draft<'a> {
    subject: &'a Subject<'a>,
    observed: &'a Observed,
    prior: &'a State,
    now: Timestamp,
    decision: Decision,
}

impl Draft<'_> {
    /// Whether there is a reason to probe again.
    fn is_wanted(&self, probe: &ProbeStatus) -> bool {
        let requested =
            self.subject.requested_at.is_some() && self.subject.requested_at != probe.requested_at.as_deref();
        let retried = self.retry_time(probe).is_some_and(|time| self.now >= time);
        probe.generation != self.subject.generation
            || requested
            || (self.subject.staging && !probe.staging)
            || retried
    }

    /// Starts the probe after `number`, when the ones before have ended.
    fn start(&mut self, number: u32, failures: u32) {
        let is_known = condition::find(&self.prior.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.observed_generation == Some(self.subject.generation));
        if !is_known {
            let message = format!("{} {} is being probed", self.subject.kind, self.subject.name);
            condition::remove(&mut self.decision.state.conditions, ConditionType::Stalled);
            self.condition(ConditionType::Ready, Truth::Unknown, "Probing", &message);
            self.condition(ConditionType::Reconciling, Truth::True, "Probing", &message);
        }
        self.delete_jobs();
        if self.observed.jobs.iter().any(|job| !job.has_settled(self.now)) {
            self.decision.requeue = Some(SOON);
            return;
        }
        let number = number.saturating_add(1);
        self.decision.state.probe = Some(ProbeStatus {
            number,
            generation: self.subject.generation,
            failures,
            time: None,
            requested_at: self.subject.requested_at.map(str::to_owned),
            staging: self.subject.staging,
        });
        self.decision.actions.push(Action::EnsureJob(number));
        self.decision.requeue = Some(SOON);
    }

    /// What has become of a probe that is under way?
    fn supervise(&mut self, probe: &ProbeStatus) {
        let name = job_name(self.subject.name, self.subject.uid, probe.number);
        // What a crash has left of former probes.
        self.delete_jobs_but(Some(&name));
        let Some(job) = self.observed.jobs.iter().find(|job| job.name == name) else {
            if self.observed.foreign.contains(&name) {
                let message = format!(
                    "a Job {name} exists that does not belong to this {}: remove it",
                    self.subject.kind
                );
                self.failed(probe, &failure::failure(Reason::PodNotStarted, message));
            } else if let Some(said) = &self.observed.refused {
                let message = format!("Job {name} cannot be created: {said}");
                self.failed(probe, &failure::failure(Reason::PodNotStarted, message));
            } else {
                self.decision.actions.push(Action::EnsureJob(probe.number));
                self.decision.requeue = Some(SOON);
            }
            return;
        };
        match &job.state {
            JobState::Complete => match job.success() {
                Some(Outcome::SourceProbed { server, login_may, aurora_s3 }) => {
                    let what = format!("PostgreSQL {} ({:?}) can be read", server.version, server.role);
                    self.decision.server = Some(server.clone());
                    self.decision.login_may = Some(login_may.clone());
                    self.decision.aurora_s3.clone_from(aurora_s3);
                    self.succeeded(probe, &what);
                }
                Some(Outcome::SinkProbed { capabilities }) => {
                    self.decision.capabilities = Some(capabilities.clone());
                    let can = if probe.staging {
                        "it can be written, read and listed"
                    } else {
                        "it can be written"
                    };
                    self.succeeded(probe, can);
                }
                Some(Outcome::ReceiverProbed) => self.succeeded(probe, "it can be reached"),
                _ => self.failed(
                    probe,
                    &failure::failure(Reason::WorkerLost, format!("Job {name} ended without a report")),
                ),
            },
            // A probe changes nothing: there is no need to wait for its pod's end.
            JobState::Failed { .. } | JobState::Failing { .. } => self.failed(probe, &probe_failure(job)),
            JobState::Active => self.under_way(probe, job),
        }
    }

    fn under_way(&mut self, probe: &ProbeStatus, job: &JobFacts) {
        let started = job.pods.iter().filter_map(|pod| pod.started).min();
        let (since, longest) = match started {
            Some(started) => (started, LONGEST_RUN),
            None if job.has_started() => (job.created, LONGEST_START.saturating_add(LONGEST_RUN)),
            None => (job.created, LONGEST_START),
        };
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        if self.now >= since + longest {
            self.failed(probe, &probe_failure(job));
            return;
        }
        if !job.has_started() {
            if job.is_live() {
                self.decision
                    .actions
                    .push(Action::EnsureOrder { number: probe.number, uid: job.uid.clone() });
            }
            if let Some(trouble) = &job.trouble {
                let failure = failure::failure(trouble.reason, &trouble.message);
                self.not_ready(&failure);
            }
        }
        self.decision.requeue = Some(SOON);
    }

    /// Between probes: what the last one left is removed, and a failed one is repeated in time.
    fn rest(&mut self, probe: &ProbeStatus) {
        self.delete_jobs();
        if let Some(time) = self.retry_time(probe) {
            let wait = Duration::try_from(time.duration_since(self.now)).unwrap_or(Duration::ZERO);
            self.decision.requeue = Some(wait.max(Duration::from_secs(1)));
        }
    }

    /// When a failed probe is repeated.
    fn retry_time(&self, probe: &ProbeStatus) -> Option<Timestamp> {
        let time = probe.time.as_ref().filter(|_| probe.failures > 0)?.0;
        let longest = if self.subject.is_awaited { LONGEST_AWAITED_WAIT } else { LONGEST_WAIT };
        let factor = 1_i32 << (probe.failures - 1).min(16);
        let wait = FIRST_WAIT.checked_mul(factor).map_or(longest, |wait| wait.min(longest));
        time.checked_add(wait).ok()
    }

    fn succeeded(&mut self, probe: &ProbeStatus, what: &str) {
        self.record(probe, 0);
        let message = format!("{} {}: {what}", self.subject.kind, self.subject.name);
        condition::remove(&mut self.decision.state.conditions, ConditionType::Reconciling);
        condition::remove(&mut self.decision.state.conditions, ConditionType::Stalled);
        self.condition(ConditionType::Ready, Truth::True, "Probed", &message);
        if !condition::is_true(&self.prior.conditions, ConditionType::Ready) {
            self.decision.events.push(Notice::normal("Ready", message));
        }
    }

    fn failed(&mut self, probe: &ProbeStatus, failure: &Failure) {
        self.record(probe, probe.failures.saturating_add(1));
        self.not_ready(failure);
    }

    fn record(&mut self, probe: &ProbeStatus, failures: u32) {
        let recorded = ProbeStatus { failures, time: Some(Time(self.now)), ..probe.clone() };
        self.delete_jobs();
        self.rest(&recorded);
        if self.is_wanted(&recorded) {
            // It was asked for again meanwhile.
            self.decision.requeue = Some(Duration::from_secs(1));
        }
        self.decision.state.probe = Some(recorded);
    }

    fn not_ready(&mut self, failure: &Failure) {
        let reason = failure.reason.as_str();
        let message = sentence(failure);
        let told = condition::find(&self.prior.conditions, ConditionType::Stalled)
            .is_some_and(|stalled| stalled.reason == reason);
        if !told {
            self.decision.events.push(Notice::warning(reason, &message));
        }
        condition::remove(&mut self.decision.state.conditions, ConditionType::Reconciling);
        self.condition(ConditionType::Ready, Truth::False, reason, &message);
        self.condition(ConditionType::Stalled, Truth::True, reason, &message);
    }

    fn delete_jobs(&mut self) {
        self.delete_jobs_but(None);
    }

    fn delete_jobs_but(&mut self, kept: Option<&str>) {
        for job in
            self.observed.jobs.iter().filter(|job| job.deleting.is_none() && Some(job.name.as_str()) != kept)
        {
            let action = Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() };
            if !self.decision.actions.contains(&action) {
                self.decision.actions.push(action);
            }
        }
    }

    fn condition(&mut self, kind: ConditionType, truth: Truth, reason: &str, message: &str) {
        let generation = self.subject.generation;
        condition::set(
            &mut self.decision.state.conditions,
            kind,
            truth,
            reason,
            message,
            generation,
            self.now,
        );
    }
}

/// Why a probe's Job did not end well. Its deadline is no field of a spec, so the vocabulary's hint would mislead.
fn probe_failure(job: &JobFacts) -> Failure {
    if let (false, Some(trouble)) = (job.has_started(), &job.trouble) {
        return failure::failure(trouble.reason, &trouble.message);
    }
    if !job.has_started() {
        let seconds = LONGEST_START.as_secs();
        return failure::failure(
            Reason::PodNotStarted,
            format!("no pod of Job {} ran within {seconds} s", job.name),
        );
    }
    let seconds = LONGEST_RUN.as_secs();
    let found = failure::of_job(job, &format!("{seconds} s"));
    if found.reason == Reason::DeadlineExceeded || job.state == JobState::Active {
        let message = format!("the probe did not end within {seconds} s");
        return Failure {
            hint: Some("see the log of its pod while it runs".to_owned()),
            ..failure::failure(Reason::WorkerLost, message)
        };
    }
    found
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
