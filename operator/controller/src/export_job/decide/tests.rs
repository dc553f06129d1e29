//! Decisions, one by one.

mod end;

use pgexport_api::condition::{ConditionType, find, is_true};
use pgexport_api::job::ChildKind;
use pgexport_api::progress::WorkerProgress;
use pgexport_api::report::{Delivered, Exported, Failure, Outcome};
use pgexport_api::{ExportJob, ExportJobStatus, Phase, Reason};
use serde_json::json;

use super::*;
use crate::export_job::dereference::{Reference, References};
use crate::export_job::fixture::{UID, at, created, direct, job, references, sink};
use crate::export_job::validate::validate;
use crate::job::fact::{ContainerState, Ended, JobState, PodFacts};
use crate::job::failure::failure;
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
        let verdict = validate("exports", &self.job, &self.references);
        let observed = Observed {
            jobs: self.jobs.clone(),
            foreign: self.foreign.clone(),
            refused: self.refused.clone(),
            image: self.image.clone(),
            admission: Some(self.admission.clone()),
        };
        let decision = decide(&subject, &verdict, &observed, &self.status, self.now);
        self.status = decision.status.clone();
        let again = decide(&subject, &verdict, &observed, &self.status, self.now);
        assert_eq!(again.status, self.status, "applying its own status changes something");
        self.guarded |= decision.actions.contains(&Action::Guard);
        self.guarded &= !decision.actions.contains(&Action::Release);
        decision
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
        self.jobs.push(JobFacts {
            uid: format!("uid-of-{name}"),
            created: self.now,
            state: JobState::Active,
            deleting: None,
            direct: false,
            workers: 1,
            order_sha256: None,
            image: None,
            pods: vec![pod(ContainerState::Waiting(None))],
            trouble: None,
            progress: None,
            namespace_is_going: false,
            name,
        });
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

fn pod(container: ContainerState) -> PodFacts {
    PodFacts {
        name: "pod".to_owned(),
        uid: "pod-uid".to_owned(),
        index: Some(0),
        container,
        deleting: None,
        disrupted: false,
        started: None,
        address: None,
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
        already: false,
    })
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    decision.events.iter().map(|event| event.reason).collect()
}

#[test]
fn a_staged_run_goes_well() {
    let mut story = Story::new(job(&json!({})));
    let decision = story.decide();
    assert_eq!(reasons(&decision), ["Accepted", "AttemptStarted"]);
    assert_eq!(story.status.phase, Some(Phase::Exporting));
    assert_eq!(story.status.location.as_deref(), Some("s3://acme-bucket/from-us/findings/2026-11-23/"));
    story.create(&decision);
    let decision = story.after(1);
    assert!(
        matches!(decision.actions.as_slice(), [Action::EnsureOrder { .. }]),
        "a crash may have left out the ConfigMap"
    );
    assert_eq!(story.status.jobs[0].name, "acme-findings-0b0c1d2e-e1");

    story.run();
    story.last().progress =
        Some(WorkerProgress { chunks: 8, chunks_exported: 4, chunks_transferred: 0, rows: 50, bytes: 2048 });
    let decision = story.after(3);
    assert_eq!(decision.actions, []);
    let progress = story.status.progress.clone().unwrap();
    assert_eq!((progress.percent, progress.rows, progress.size.as_str()), (25, 50, "2.0Ki"));

    story.complete(Some(exported()));
    let decision = story.after(10);
    assert_eq!(reasons(&decision), ["Exported", "TransferStarted"]);
    assert_eq!(story.status.phase, Some(Phase::Transferring));
    assert!(is_true(&story.status.conditions, ConditionType::Exported));
    story.create(&decision);
    story.run();
    story.last().progress =
        Some(WorkerProgress { chunks: 8, chunks_transferred: 8, ..WorkerProgress::default() });
    story.after(3);
    assert_eq!(story.status.progress.clone().unwrap().percent, 99, "100 is said only at the end");

    story.complete(Some(delivered()));
    let decision = story.after(75);
    assert_eq!(reasons(&decision), ["Complete"]);
    let status = &story.status;
    assert_eq!(status.phase, Some(Phase::Succeeded));
    assert_eq!(status.duration.as_deref(), Some("1m32s"));
    assert_eq!(status.progress.as_ref().unwrap().percent, 100);
    assert_eq!(status.output.as_ref().unwrap().rows, 100);
    for kind in [
        ConditionType::Accepted,
        ConditionType::Exported,
        ConditionType::Delivered,
        ConditionType::Complete,
        ConditionType::Ready,
    ] {
        assert!(is_true(&status.conditions, kind), "{kind:?}");
    }
    for kind in [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::Failed] {
        assert!(find(&status.conditions, kind).is_none(), "{kind:?}");
    }
}

#[test]
fn a_direct_run_ends_with_its_export() {
    let mut story = Story::exporting(direct());
    story.last().direct = true;
    story.last().progress =
        Some(WorkerProgress { chunks: 4, chunks_exported: 4, ..WorkerProgress::default() });
    story.after(3);
    assert_eq!(story.status.progress.clone().unwrap().percent, 99);
    story.complete(Some(delivered()));
    story.after(1);
    assert_eq!((story.status.phase, story.status.transfer_attempts), (Some(Phase::Succeeded), 0));
}

#[test]
fn a_missing_reference_stalls_and_fails_in_the_end() {
    let mut story = Story::new(job(&json!({})));
    story.references.sink = Reference::Missing;
    let decision = story.decide();
    assert_eq!(reasons(&decision), ["ReferenceNotFound"]);
    assert_eq!((story.status.phase, story.stalled()), (Some(Phase::Pending), Some("ReferenceNotFound")));
    assert!(
        story.message().contains("ExportSink acme does not exist in namespace exports"),
        "{}",
        story.message()
    );
    let decision = story.after(30);
    assert_eq!(reasons(&decision), [""; 0], "it is told once");
    story.after(14 * 60 + 29);
    assert_eq!(story.status.phase, Some(Phase::Pending));
    let decision = story.after(1);
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Failed), vec!["Failed"]));
    assert!(story.message().contains("spec.deadlines.start (15m)"), "{}", story.message());
}

#[test]
fn a_reference_that_appears_lets_it_go_on() {
    let mut story = Story::new(job(&json!({})));
    story.references.source = Reference::Missing;
    story.decide();
    story.references = references();
    story.after(60);
    assert_eq!((story.status.phase, story.stalled()), (Some(Phase::Exporting), None));
    assert!(is_true(&story.status.conditions, ConditionType::Accepted));
}

#[test]
fn an_operator_that_was_away_gives_a_minute() {
    let mut story = Story::new(job(&json!({})));
    story.references.source = Reference::Missing;
    story.after(3600);
    assert_eq!(story.status.phase, Some(Phase::Pending));
    story.after(60);
    assert_eq!(story.status.phase, Some(Phase::Failed));
}

#[test]
fn a_spec_that_cannot_be_carried_out_fails_at_once() {
    let mut story = Story::new(job(&json!({"path": "{nothing}/"})));
    story.decide();
    assert_eq!(story.status.phase, Some(Phase::Failed));
    assert_eq!(story.status.last_error.as_ref().unwrap().reason, Reason::InvalidSpec);
    assert!(
        is_true(&story.status.conditions, ConditionType::Failed)
            && is_true(&story.status.conditions, ConditionType::Stalled)
    );
}

#[test]
fn a_pod_that_does_not_start_stalls_until_the_deadline() {
    let mut story = Story::new(job(&json!({})));
    let decision = story.decide();
    story.create(&decision);
    let trouble = Trouble {
        reason: Reason::ImagePullFailed,
        message: "image x cannot be pulled: not found".to_owned(),
    };
    story.last().trouble = Some(trouble);
    let decision = story.after(20);
    assert_eq!((reasons(&decision), story.stalled()), (vec!["ImagePullFailed"], Some("ImagePullFailed")));
    assert!(story.message().contains("check the operator's worker image"), "{}", story.message());

    let mut corrected = Story {
        job: story.job.clone(),
        references: references(),
        status: story.status.clone(),
        jobs: story.jobs.clone(),
        foreign: vec![],
        refused: None,
        admission: Admission::Admitted,
        image: "pgexport:1".to_owned(),
        now: story.now,
        deleting: None,
        guarded: true,
    };
    corrected.last().trouble = None;
    corrected.run();
    corrected.after(5);
    assert_eq!((corrected.stalled(), corrected.status.phase), (None, Some(Phase::Exporting)));

    let decision = story.after(15 * 60);
    assert_eq!(story.status.phase, Some(Phase::Failed));
    assert_eq!(story.status.last_error.as_ref().unwrap().reason, Reason::ImagePullFailed);
    assert!(matches!(decision.actions.as_slice(), [Action::DeleteJob { .. }]), "{:?}", decision.actions);
}

#[test]
fn a_pod_that_ran_once_has_met_the_deadline() {
    let mut story = Story::exporting(job(&json!({})));
    story.last().pods = vec![pod(ContainerState::Waiting(None))];
    story.after(3600);
    assert_eq!(story.status.phase, Some(Phase::Exporting));
}

#[test]
fn a_permanent_failure_fails_at_once() {
    let mut story = Story::exporting(job(&json!({})));
    let mut syntax = failure(Reason::InvalidQuery, "syntax error at or near \"SELEC\"");
    syntax.sql_state = Some("42601".to_owned());
    story.fail(syntax);
    story.after(5);
    assert_eq!((story.status.phase, story.status.attempts), (Some(Phase::Failed), 1));
    let error = story.status.last_error.clone().unwrap();
    assert_eq!((error.reason, error.sql_state.as_deref()), (Reason::InvalidQuery, Some("42601")));
    assert!(story.message().contains("SELEC") && story.message().contains("psql"), "{}", story.message());
}

#[test]
fn transient_failures_use_up_the_attempts() {
    let mut story = Story::exporting(job(
        &json!({"retry": {"limit": 2, "backoff": {"initial": "10s", "factor": 2, "max": "5m"}}}),
    ));
    for (attempt, wait) in [(1, 10), (2, 20)] {
        story.fail(failure(Reason::ConnectionLost, "the server closed the connection"));
        let decision = story.after(1);
        assert_eq!(reasons(&decision), ["Retrying"]);
        assert_eq!((story.status.phase, story.stalled()), (Some(Phase::Pending), None));
        let quiet = story.after(wait - 1);
        assert_eq!((quiet.actions.len(), quiet.requeue), (0, Some(Duration::from_secs(1))));
        let decision = story.after(1);
        assert_eq!(story.status.attempts, attempt + 1);
        story.create(&decision);
        story.run();
        story.after(1);
    }
    story.fail(failure(Reason::ConnectionLost, "the server closed the connection"));
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Failed));
    assert!(
        story.message().starts_with("3 attempts (spec.retry.limit is 2) failed, the last one: "),
        "{}",
        story.message()
    );
}

#[test]
fn failures_of_the_environment_cost_no_attempt_but_time() {
    let mut story = Story::exporting(job(&json!({"retry": {"limit": 0}})));
    let begun = story.now;
    let mut failures = 0;
    while story.status.phase != Some(Phase::Failed) {
        story.fail(failure(Reason::BucketNotFound, "bucket acme-bucket does not exist"));
        let decision = story.after(1);
        failures += 1;
        if story.status.phase == Some(Phase::Failed) {
            break;
        }
        assert_eq!((reasons(&decision), story.stalled()), (vec!["BucketNotFound"], Some("BucketNotFound")));
        let wait = i64::try_from(decision.requeue.unwrap().as_secs()).unwrap();
        let decision = story.after(wait);
        story.create(&decision);
        story.run();
        story.after(1);
    }
    assert!(failures > 3, "{failures}");
    let passed = story.now.duration_since(begun).as_mins();
    assert!((15..=21).contains(&passed), "{passed} minutes");
    assert!(
        story.message().contains("bucket acme-bucket") && story.message().contains("spec.deadlines.start"),
        "{}",
        story.message()
    );
}

#[test]
fn a_transfer_is_repeated_without_the_export() {
    let mut story = Story::exporting(job(&json!({"retry": {"limit": 1}})));
    story.complete(Some(exported()));
    let decision = story.after(1);
    story.create(&decision);
    story.run();
    story.after(1);
    story.fail(failure(Reason::StoreError, "503 Slow Down"));
    let decision = story.after(1);
    assert_eq!((reasons(&decision), story.status.phase), (vec!["Retrying"], Some(Phase::Transferring)));
    let decision = story.after(10);
    let expected = Action::EnsureJob(Child::transfer(1, 2));
    assert!(decision.actions.contains(&expected), "{:?}", decision.actions);
    assert_eq!((story.status.attempts, story.status.transfer_attempts), (1, 2));
    assert!(is_true(&story.status.conditions, ConditionType::Exported));
    story.create(&decision);
    story.fail(failure(Reason::StoreError, "503 Slow Down"));
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Failed));
}

#[test]
fn a_job_without_a_last_word_is_run_again_twice() {
    let mut story = Story::exporting(job(&json!({})));
    for rerun in 1..=2 {
        story.complete(None);
        let decision = story.after(1);
        assert!(
            decision.actions.contains(&Action::EnsureJob(Child::export(1).rerun(rerun))),
            "{:?}",
            decision.actions
        );
        story.create(&decision);
        story.after(1);
        assert_eq!(story.status.jobs.len(), 1);
        assert_eq!(story.status.jobs[0].name, format!("acme-findings-0b0c1d2e-e1-r{rerun}"));
    }
    story.complete(Some(exported()));
    story.after(1);
    assert_eq!((story.status.phase, story.status.attempts), (Some(Phase::Transferring), 1));
}

#[test]
fn a_job_that_never_says_a_word_is_a_lost_attempt() {
    let mut story = Story::exporting(job(&json!({})));
    for _ in 1..=2 {
        story.complete(None);
        let decision = story.after(1);
        story.create(&decision);
    }
    story.complete(None);
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Pending));
    assert_eq!(story.status.last_error.as_ref().unwrap().reason, Reason::WorkerLost);
}

#[test]
fn a_job_that_somebody_deleted_is_a_lost_attempt() {
    let mut story = Story::exporting(job(&json!({})));
    story.jobs.clear();
    let decision = story.after(1);
    assert_eq!(reasons(&decision), ["Retrying"]);
    assert!(story.message().contains("Job acme-findings-0b0c1d2e-e1 was deleted"), "{}", story.message());
}

#[test]
fn a_failing_job_is_waited_for_until_its_pods_are_gone_or_lost() {
    let mut story = Story::exporting(job(&json!({})));
    story.last().state = JobState::Failing { since: story.now, reason: "DeadlineExceeded".to_owned() };
    story.after(60);
    assert_eq!(story.status.phase, Some(Phase::Exporting));
    story.after(119);
    assert_eq!(story.status.phase, Some(Phase::Exporting));
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Failed));
    assert!(story.message().contains("spec.deadlines.run (6h)"), "{}", story.message());
}

#[test]
fn a_job_whose_pod_is_lost_with_its_node_is_given_up() {
    let end = at("2026-11-23T11:00:00Z");
    let cases = [
        // When, where the container stands, and whether the pod counts as running and as lost.
        ("2026-11-23T11:01:59Z", ContainerState::Running, true, false),
        ("2026-11-23T11:02:00Z", ContainerState::Running, false, true),
        ("2026-11-23T11:02:00Z", ContainerState::Waiting(None), false, true),
        ("2026-11-23T11:02:00Z", ended(143, None), false, false),
    ];
    for (now, container, is_running, is_lost) in cases {
        let mut story = Story::exporting(job(&json!({})));
        story.last().pods = vec![PodFacts { deleting: Some(end), ..pod(container.clone()) }];
        story.now = at(now);
        let now = story.now;
        assert_eq!(story.last().is_running(now), is_running, "{now} {container:?}");
        let decision = story.decide();
        let is_deleted = decision.actions.iter().any(|action| matches!(action, Action::DeleteJob { .. }));
        assert_eq!(is_deleted, is_lost, "{now} {container:?}");
        if is_lost {
            assert!(story.message().contains("pod pod is lost with its node"), "{}", story.message());
            story.last().deleting = Some(now);
            story.after(180);
            assert_eq!(story.status.last_error.as_ref().unwrap().reason, Reason::WorkerLost);
            assert_eq!(story.status.phase, Some(Phase::Pending), "another attempt follows");
        }
    }
}

#[test]
fn a_job_of_which_some_pods_do_not_start_is_starting() {
    let indexed = |index: u32, container: ContainerState| PodFacts { index: Some(index), ..pod(container) };
    let running = |index: u32| indexed(index, ContainerState::Running);
    let waiting = |index: u32| indexed(index, ContainerState::Waiting(None));
    let quota = || Trouble {
        reason: Reason::PodNotStarted,
        message: "no pod can be created: exceeded quota".to_owned(),
    };
    let cases = [
        // The pods of four workers, what is wrong, and the reasons of Exported and Stalled.
        (vec![], Some(quota()), ("Starting", Some("PodNotStarted"))),
        (vec![running(0), running(1)], Some(quota()), ("PartlyStarted", Some("PodNotStarted"))),
        (vec![running(0), running(1), waiting(2), waiting(3)], None, ("PartlyStarted", None)),
        // A pod that was replaced started only one index.
        (vec![indexed(0, ended(1, None)), running(0), running(1), running(2)], None, ("PartlyStarted", None)),
        (vec![running(0), running(1), running(2), running(3)], None, ("Exporting", None)),
        (vec![running(0), running(1), running(2), indexed(3, ended(0, None))], None, ("Exporting", None)),
    ];
    for (pods, trouble, (exporting, stalled)) in cases {
        let mut story = Story::new(job(&json!({"workers": 4})));
        let decision = story.decide();
        story.create(&decision);
        let has_trouble = trouble.is_some();
        *story.last() = JobFacts { workers: 4, pods: pods.clone(), trouble, ..story.last().clone() };
        story.after(60);
        let condition = find(&story.status.conditions, ConditionType::Exported).unwrap();
        assert_eq!((condition.reason.as_str(), story.stalled()), (exporting, stalled), "{pods:?}");

        let all = exporting == "Exporting";
        story.after(15 * 60);
        let phase = if all { Phase::Exporting } else { Phase::Failed };
        assert_eq!(story.status.phase, Some(phase), "{pods:?}");
        if !all {
            let error = story.status.last_error.as_ref().unwrap();
            assert_eq!(error.reason, Reason::PodNotStarted);
            assert_eq!(error.message.contains("exceeded quota"), has_trouble, "{}", error.message);
        }
    }
}

#[test]
fn a_job_that_ends_at_its_deadline_without_a_start_says_what_kept_it() {
    let cases = [
        (false, None, Reason::PodNotStarted),
        (false, Some(Reason::ImagePullFailed), Reason::ImagePullFailed),
        (true, None, Reason::DeadlineExceeded),
    ];
    for (has_run, trouble, reason) in cases {
        let mut story = Story::new(job(&json!({})));
        let decision = story.decide();
        story.create(&decision);
        if has_run {
            story.run();
            story.after(1);
        }
        // The Job controller has removed its pods.
        *story.last() = JobFacts {
            state: JobState::Failed { reason: "DeadlineExceeded".to_owned() },
            pods: vec![],
            trouble: trouble.map(|reason| Trouble { reason, message: "it did not start".to_owned() }),
            ..story.last().clone()
        };
        story.after(7 * 3600);
        assert_eq!(story.status.last_error.as_ref().unwrap().reason, reason);
    }
}

#[test]
fn an_object_that_nobody_has_looked_at_is_pending() {
    let mut story = Story::new(job(&json!({})));
    story.status = serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
    let decision = story.decide();
    assert_eq!(story.status.observed_generation, Some(1));
    assert!(
        matches!(decision.actions.as_slice(), [Action::Guard, Action::EnsureJob(_)]),
        "{:?}",
        decision.actions
    );
}

#[test]
fn a_name_that_is_taken_stalls() {
    let mut story = Story::new(job(&json!({})));
    story.decide();
    story.foreign = vec!["acme-findings-0b0c1d2e-e1".to_owned()];
    let decision = story.after(1);
    assert_eq!((story.stalled(), decision.actions.len()), (Some("PodNotStarted"), 0));
    assert!(story.message().contains("remove it"), "{}", story.message());
}

#[test]
fn what_the_api_server_refuses_stalls_is_tried_again_and_fails_in_the_end() {
    let mut story = Story::new(job(&json!({})));
    story.decide();
    story.refused = Some("exceeded quota: jobs".to_owned());
    let decision = story.after(5);
    assert_eq!(story.stalled(), Some("PodNotStarted"));
    assert!(story.message().contains("exceeded quota"), "{}", story.message());
    assert!(decision.actions.contains(&Action::EnsureJob(Child::export(1))));
    story.after(16 * 60);
    assert_eq!(story.status.phase, Some(Phase::Failed));
}

#[test]
fn a_sink_that_moves_does_not_move_the_delivery() {
    let mut story = Story::exporting(job(&json!({})));
    story.fail(failure(Reason::ConnectionLost, "gone"));
    story.after(1);
    let moved =
        crate::export_job::fixture::sink("acme", &json!({"spec": {"s3": {"bucket": "other-bucket"}}}));
    story.references.sink = Reference::Found(std::sync::Arc::new(moved));
    story.after(10);
    assert_eq!((story.status.attempts, story.stalled()), (1, Some("SinkNotReady")));
    assert!(story.message().contains("other-bucket"), "{}", story.message());
}

#[test]
fn counters_that_begin_anew_do_not_turn_progress_back() {
    let mut story = Story::exporting(job(&json!({})));
    story.last().progress =
        Some(WorkerProgress { chunks: 8, chunks_exported: 6, chunks_transferred: 0, rows: 60, bytes: 600 });
    story.after(3);
    story.last().progress =
        Some(WorkerProgress { chunks: 8, chunks_exported: 2, chunks_transferred: 0, rows: 20, bytes: 200 });
    story.after(3);
    let progress = story.status.progress.clone().unwrap();
    assert_eq!((progress.chunks_exported, progress.rows, progress.percent), (6, 60, 37));
}

#[test]
fn the_last_error_keeps_its_time() {
    let mut story = Story::new(job(&json!({})));
    story.references.source = Reference::Missing;
    story.decide();
    let first = story.status.clone();
    story.after(45);
    assert_eq!(story.status, first, "a quiet ExportJob is not written");
}

#[test]
fn a_new_generation_is_noted_and_nothing_else_at_the_end() {
    let mut story = Story::new(job(&json!({"path": "{nothing}/"})));
    story.decide();
    let subject = Subject {
        name: "acme-findings",
        uid: UID,
        generation: 2,
        created: created(),
        spec: &story.job.spec,
        restored: false,
        deleting: None,
        guarded: false,
    };
    let verdict = validate("exports", &story.job, &story.references);
    let decision = decide(&subject, &verdict, &Observed::default(), &story.status, story.now);
    assert_eq!(decision.status.observed_generation, Some(2));
    assert!(decision.status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert_eq!(
        (decision.status.phase, decision.actions.len(), decision.requeue),
        (Some(Phase::Failed), 0, None)
    );
}

#[test]
fn whoever_waits_is_told_its_place_and_no_clock_runs() {
    let mut story = Story::new(job(&json!({})));
    story.admission = Admission::Queued {
        place: 3,
        of: 17,
        why: "4 of 4 ExportJobs export (limits.maxRunningJobs)".to_owned(),
    };
    let decision = story.decide();
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Queued), vec!["Queued"]));
    for part in ["place 3 of 17", "4 of 4 ExportJobs"] {
        assert!(story.message().contains(part), "{}", story.message());
    }
    assert!(is_true(&story.status.conditions, ConditionType::Reconciling));
    assert!(!is_true(&story.status.conditions, ConditionType::Stalled));
    assert!(decision.actions.is_empty());

    // Far beyond deadlines.start: it waits for others, and for nothing that somebody has to put right.
    let decision = story.after(24 * 3600);
    assert_eq!((story.status.phase, reasons(&decision).len()), (Some(Phase::Queued), 0));

    story.admission = Admission::Admitted;
    let decision = story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Exporting));
    story.create(&decision);
    story.after(60);
    assert_eq!(
        story.status.phase,
        Some(Phase::Exporting),
        "the time to start counts from when it left the queue"
    );
}

#[test]
fn what_shares_with_others_is_refused_by_name_and_goes_on_by_itself() {
    let cases = [
        (
            Admission::LocationInUse { by: "team/other".to_owned() },
            Reason::LocationInUse,
            "ExportJob team/other",
        ),
        (Admission::TooLarge { needs: 33, limit: 16 }, Reason::ConnectionLimit, "needs 33 connections"),
    ];
    for (admission, reason, wanted) in cases {
        let mut story = Story::new(job(&json!({})));
        story.admission = admission;
        let decision = story.decide();
        assert_eq!((story.stalled(), reasons(&decision)), (Some(reason.as_str()), vec![reason.as_str()]));
        assert!(story.message().contains(wanted), "{}", story.message());
        assert_eq!(story.status.phase, Some(Phase::Pending));
        story.admission = Admission::Admitted;
        story.after(30);
        assert_eq!((story.stalled(), story.status.phase), (None, Some(Phase::Exporting)), "{reason}");
    }
}

#[test]
fn a_staging_that_moves_is_told() {
    let mut story = Story::exporting(job(&json!({})));
    assert_eq!(story.status.staging.as_deref(), Some("s3://staging-bucket/from-us/"));
    let moved = json!({"spec": {"s3": {"bucket": "elsewhere", "region": "eu-west-1"}}});
    story.references.staging = Some(Reference::Found(std::sync::Arc::new(sink("staging", &moved))));
    story.complete(Some(exported()));
    story.after(5);
    assert_eq!(story.stalled(), Some("SinkNotReady"));
    for part in ["s3://elsewhere/", "s3://staging-bucket/from-us/"] {
        assert!(story.message().contains(part), "{}", story.message());
    }
}

#[test]
fn an_image_that_was_corrected_is_used_without_a_retry() {
    let mut story = Story::new(job(&json!({})));
    let decision = story.decide();
    story.create(&decision);
    story.last().image = Some("pgexport:wrong".to_owned());
    story.last().trouble =
        Some(Trouble { reason: Reason::ImagePullFailed, message: "image x cannot be pulled".to_owned() });
    let decision = story.after(20);
    assert!(matches!(decision.actions.as_slice(), [Action::DeleteJob { .. }]), "{:?}", decision.actions);
    assert_eq!(story.status.phase, Some(Phase::Pending));
    story.jobs.clear();
    let decision = story.after(5);
    story.create(&decision);
    assert_eq!((story.status.attempts, story.status.phase), (2, Some(Phase::Exporting)));
    assert_eq!(story.status.failures.clone().unwrap_or_default().transient, 0);
}

#[test]
fn a_suspended_run_pauses_without_a_retry_and_goes_on() {
    let mut story = Story::exporting(job(&json!({})));
    story.job.spec.suspend = true;
    let decision = story.after(5);
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Suspended), vec!["Suspended"]));
    assert!(matches!(decision.actions.as_slice(), [Action::DeleteJob { .. }]), "{:?}", decision.actions);
    assert!(find(&story.status.conditions, ConditionType::Stalled).is_none());
    assert!(find(&story.status.conditions, ConditionType::Reconciling).is_none());
    story.jobs.clear();
    assert!(story.after(48 * 3600).actions.is_empty());

    story.job.spec.suspend = false;
    let decision = story.after(1);
    assert_eq!(reasons(&decision), ["Resumed", "AttemptStarted"]);
    story.create(&decision);
    story.after(60);
    assert_eq!((story.status.phase, story.status.attempts), (Some(Phase::Exporting), 2));
    assert_eq!(story.status.failures.clone().unwrap_or_default().transient, 0, "it costs no retry");
}

#[test]
fn a_suspended_transfer_begins_anew_and_what_has_ended_well_counts() {
    let mut story = Story::exporting(job(&json!({})));
    story.complete(Some(exported()));
    let decision = story.after(1);
    story.create(&decision);
    story.run();
    story.after(1);
    story.job.spec.suspend = true;
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Suspended));
    story.job.spec.suspend = false;
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Transferring));
    assert!(
        !story.after(1).actions.iter().any(|action| matches!(action, Action::EnsureJob(_))),
        "the former transfer has not ended"
    );
    story.jobs.pop();
    let decision = story.after(1);
    story.create(&decision);
    assert_eq!((story.status.attempts, story.status.transfer_attempts), (1, 2));
    story.complete(Some(delivered()));
    story.job.spec.suspend = true;
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Succeeded));
}

#[test]
fn what_a_backup_restored_does_not_run_by_itself() {
    let story = Story::new(job(&json!({})));
    let subject = |restored| Subject {
        name: "acme-findings",
        uid: UID,
        generation: 1,
        created: created(),
        spec: &story.job.spec,
        restored,
        deleting: None,
        guarded: false,
    };
    let verdict = validate("exports", &story.job, &story.references);
    let observed = Observed { admission: Some(Admission::Admitted), ..Observed::default() };
    let decision = decide(&subject(true), &verdict, &observed, &ExportJobStatus::default(), story.now);
    assert_eq!(decision.status.phase, Some(Phase::Suspended));
    assert!(decision.status.message.as_ref().unwrap().contains("velero.io/restore-name"));
    let resumed = decide(&subject(false), &verdict, &observed, &decision.status, story.now);
    assert_eq!(resumed.status.phase, Some(Phase::Exporting));
}

#[test]
fn what_was_delivered_before_is_told_so() {
    let mut story = Story::exporting(direct());
    let Outcome::Delivered(totals) = delivered() else { unreachable!() };
    story.complete(Some(Outcome::Delivered(Delivered { already: true, ..totals })));
    let decision = story.after(1);
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Succeeded), vec!["AlreadyDelivered"]));
    let complete = find(&story.status.conditions, ConditionType::Complete).unwrap();
    assert_eq!((complete.status.as_str(), complete.reason.as_str()), ("True", "AlreadyDelivered"));
}

#[test]
fn disruptions_cost_no_retry_until_they_are_too_many() {
    let mut spec = job(&json!({}));
    spec.spec.retry.limit = 0;
    let mut story = Story::exporting(spec);
    for disruption in 1..=10_u32 {
        story.last().pods = vec![PodFacts { disrupted: true, ..pod(ContainerState::Running) }];
        story.after(1);
        // By the time at which the Job has failed, only the successor is left, whose snapshot is gone.
        story.fail(failure(Reason::SnapshotLost, "worker 0 was restarted"));
        let decision = story.after(1);
        if disruption == 10 {
            break;
        }
        let failures = story.status.failures.clone().unwrap();
        assert_eq!((failures.disruptions, failures.transient), (disruption, 0));
        assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Pending), vec!["Retrying"]));
        let decision = story.after(6);
        story.create(&decision);
        story.run();
        story.after(1);
    }
    assert_eq!(story.status.phase, Some(Phase::Failed));
    assert_eq!(story.status.last_error.as_ref().unwrap().reason, Reason::DisruptedTooOften);
}
