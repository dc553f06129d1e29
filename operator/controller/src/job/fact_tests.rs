use super::*;
use crate::job::failure;
use pgexport_api::Reason;
use serde_json::json;

fn pod(value: serde_json::Value) -> core::Pod {
    serde_json::from_value(value).unwrap()
}

fn job(conditions: &serde_json::Value) -> batch::Job {
    job_of(1, conditions)
}

fn job_of(workers: u32, conditions: &serde_json::Value) -> batch::Job {
    serde_json::from_value(json!({
        "metadata": {"name": "j", "uid": "job-uid", "creationTimestamp": "2026-11-23T10:00:00Z",
            "annotations": {WORKERS_ANNOTATION: workers.to_string()}},
        "status": {"conditions": conditions}
    }))
    .unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn pods_of_others_are_not_counted() {
    let mine = pod(json!({"metadata": {"name": "a", "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid", "controller": true}]}}));
    let foreign = pod(json!({"metadata": {"name": "b", "labels": {"job-name": "j"}, "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "another", "controller": true}]}}));
    let facts = JobFacts::new(&job(&json!([])), [&mine, &foreign]);
    assert_eq!(facts.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_failure_target_settles_when_its_pods_are_gone_or_lost() {
    let failing = job(&json!([{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded",
        "lastTransitionTime": "2026-11-23T10:10:00Z"}]));
    let stuck = pod(
        json!({"metadata": {"name": "a", "deletionTimestamp": "2026-11-23T10:11:00Z", "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid", "controller": true}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "worker", "image": "", "imageID": "",
            "ready": true, "restartCount": 0, "state": {"running": {}}}]}}),
    );
    let facts = JobFacts::new(&failing, [&stuck]);
    assert!(!facts.has_settled(at("2026-11-23T10:12:59Z")));
    assert!(facts.has_settled(at("2026-11-23T10:13:00Z")));
    assert!(JobFacts::new(&failing, []).has_settled(at("2026-11-23T10:10:01Z")));
}

/// A pod of this index, whose container is in this state while the kubelet still takes its sandbox down.
fn indexed(index: &str, state: &serde_json::Value) -> core::Pod {
    pod(
        json!({"metadata": {"name": format!("p{index}"), "annotations": {"batch.kubernetes.io/job-completion-index": index},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid", "controller": true}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "worker", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": state}]}}),
    )
}

fn ended(index: &str, exit_code: i32, outcome: Option<Outcome>) -> core::Pod {
    let message = outcome.map(|outcome| Report::new(outcome).to_termination_message());
    indexed(index, &json!({"terminated": {"exitCode": exit_code, "message": message}}))
}

fn probed() -> Outcome {
    Outcome::SinkProbed { capabilities: Vec::new() }
}

#[test]
fn the_last_word_of_index_0_counts() {
    let other = ended("1", 0, Some(Outcome::ShareExported));
    let first = ended("0", 0, Some(probed()));
    let complete = job_of(2, &json!([{"type": "Complete", "status": "True"}]));
    assert_eq!(JobFacts::new(&complete, [&other, &first]).success(), Some(&probed()));
    assert_eq!(JobFacts::new(&complete, [&other]).success(), None);
}

#[test]
fn a_job_whose_pods_have_all_said_that_they_are_done_is_complete_before_kubernetes_says_so() {
    let state = |pods: &[&core::Pod]| JobFacts::new(&job_of(2, &json!([])), pods.iter().copied()).state;
    let first = ended("0", 0, Some(probed()));
    let second = ended("1", 0, Some(Outcome::ShareExported));
    assert_eq!(state(&[&first, &second]), JobState::Complete);

    let killed = ended("1", 137, None);
    assert_eq!(state(&[&first, &killed, &second]), JobState::Complete, "a pod was replaced");
    assert_eq!(state(&[&first, &killed]), JobState::Active, "its successor is not there yet");
    assert_eq!(state(&[&first]), JobState::Active, "the other pod was not seen yet");
    let running = indexed("1", &json!({"running": {}}));
    assert_eq!(state(&[&first, &running]), JobState::Active);
    assert_eq!(state(&[&first, &second, &running]), JobState::Active);
    assert_eq!(state(&[&first, &ended("1", 0, None)]), JobState::Active, "it said nothing");
    let said = failure::failure(Reason::DataError, "it failed");
    assert_eq!(state(&[&first, &ended("1", 0, Some(Outcome::Failed(said)))]), JobState::Active);
}

#[test]
fn a_job_that_kubernetes_has_given_up_has_failed_whatever_its_pods_say() {
    let failed = job(&json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]));
    let facts = JobFacts::new(&failed, [&ended("0", 0, Some(probed()))]);
    assert_eq!(facts.state, JobState::Failed { reason: "DeadlineExceeded".to_owned() });
}
