//! Decisions, one by one.

mod end;
mod failed;
mod notify;
mod pending;
mod retention;
mod start;
mod supervise;
mod suspend;

use pgexport_api::condition::{ConditionType, find, is_true};
use pgexport_api::job::{ChildKind, DatasetChunks, Strategy};
use pgexport_api::progress::WorkerProgress;
use pgexport_api::report::{Delivered, Exported, Failure, Outcome};
use pgexport_api::{ExportJob, ExportJobStatus, Phase, Reason};
use serde_json::json;

use super::*;
use crate::export_job::dereference::{Reference, References};
use crate::export_job::fixture::{UID, at, created, direct, job, references, sink};
use crate::export_job::receiver;
use crate::job::fact::{ContainerState, Ended, JobState, PodFacts};
use crate::job::failure::failure;
use crate::job::fixture::{fresh, pod};
use crate::job::trouble::Trouble;

/// An ExportJob on its way: what was decided is applied to its status, and time goes on.
struct Story {
    job: ExportJob,
    references: References,
    status: ExportJobStatus,
    now: Timestamp,
    jobs: Vec<JobFacts>,
    foreign: Vec<String>,
    refused: Option<String>,
    admission: Admission,
    image: String,
    deleting: Option<Timestamp>,
    guarded: bool,
    /// Of labels and annotations that pods may bear.
    prefixes: Vec<String>,
}

impl Story {
    fn new(job: ExportJob) -> Self {
        let status = ExportJobStatus::default();
        Self {
            job,
            references: references(),
            status,
            now: created(),
            jobs: Vec::new(),
            foreign: Vec::new(),
            refused: None,
            admission: Admission::Admitted,
            image: "pgexport:1".to_owned(),
            deleting: None,
            guarded: false,
            prefixes: Vec::new(),
        }
    }

    fn decide(&mut self) -> Decision {
        let subject = Subject {
            name: "acme-findings",
            uid: UID,
            generation: 1,
            created: created(),
            spec: &self.job.spec,
            restored: false,
            deleting: self.deleting,
            guarded: self.guarded,
        };
        let verdict = self.verdict();
        let observed = Observed {
            jobs: self.jobs.clone(),
            foreign: self.foreign.clone(),
            refused: self.refused.clone(),
            image: self.image.clone(),
            admission: Some(self.admission.clone()),
            receiver: receiver::validate("exports", &self.job, &self.references),
        };
        let decision = decide(&subject, &verdict, &observed, &self.status, self.now);
        self.status = decision.status.clone();
        let again = decide(&subject, &self.verdict(), &observed, &self.status, self.now);
        assert_eq!(again.status, self.status, "applying its own status changes something");
        self.guarded |= decision.actions.contains(&Action::Guard);
        self.guarded &= !decision.actions.contains(&Action::Release);
        decision
    }

    fn verdict(&self) -> Verdict {
        Verdict::of("exports", &self.job, &self.references, &self.status, &self.prefixes)
    }

    fn after(&mut self, seconds: i64) -> Decision {
        self.now += jiff::SignedDuration::from_secs(seconds);
        self.decide()
    }

    /// The Job that a decision asks for is there now, with one pod.
    fn create(&mut self, decision: &Decision) -> &mut JobFacts {
        let Some(Action::EnsureJob(child)) =
            decision.actions.iter().find(|action| matches!(action, Action::EnsureJob(_)))
        else {
            panic!("no Job is asked for: {decision:#?}");
        };
        let name = child.name("acme-findings", UID);
        self.jobs.push(fresh(name, self.now));
        self.last()
    }

    fn last(&mut self) -> &mut JobFacts {
        self.jobs.last_mut().unwrap()
    }

    fn run(&mut self) {
        self.last().pods = vec![pod(ContainerState::Running)];
    }

    fn complete(&mut self, outcome: Option<Outcome>) {
        self.last().state = JobState::Complete;
        self.last().pods = outcome.map(|outcome| pod(ended(0, Some(outcome)))).into_iter().collect();
    }

    fn fail(&mut self, failure: Failure) {
        self.last().state = JobState::Failed { reason: "PodFailurePolicy".to_owned() };
        let code = i32::from(failure.reason.exit_code().code());
        self.last().pods = vec![pod(ended(code, Some(Outcome::Failed(failure))))];
    }

    /// Up to where the export runs.
    fn exporting(job: ExportJob) -> Self {
        let mut story = Self::new(job);
        let decision = story.decide();
        story.create(&decision);
        story.run();
        story.after(1);
        story
    }

    fn stalled(&self) -> Option<&str> {
        find(&self.status.conditions, ConditionType::Stalled).map(|condition| condition.reason.as_str())
    }

    fn message(&self) -> &str {
        self.status.message.as_deref().unwrap_or_default()
    }
}

fn ended(code: i32, outcome: Option<Outcome>) -> ContainerState {
    ContainerState::Ended(Ended {
        exit_code: Some(code),
        out_of_memory: false,
        at: None,
        outcome,
        note: None,
    })
}

fn exported() -> Outcome {
    Outcome::Exported(Exported {
        chunks: 8,
        rows: 100,
        bytes: 4096,
        snapshot_time: Some(at("2026-11-23T10:00:03.25Z")),
        chunking: chunking(),
    })
}

fn delivered() -> Outcome {
    Outcome::Delivered(Delivered {
        chunks: 8,
        manifest: "s3://acme-bucket/from-us/findings/2026-11-23/_manifest.json".to_owned(),
        manifest_sha256: "ab".to_owned(),
        files: 1,
        rows: 100,
        bytes: 5000,
        snapshot_time: Some(at("2026-11-23T10:00:03Z")),
        chunking: chunking(),
        already: false,
    })
}

fn chunking() -> Vec<DatasetChunks> {
    let reason = Some("public.findings, by ranges of its pages".to_owned());
    vec![DatasetChunks { dataset: "findings".to_owned(), strategy: Strategy::Table, chunks: 8, reason }]
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    decision.events.iter().map(|event| event.reason).collect()
}
