//! Attempts that failed, and what they are charged to.

use super::*;

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
fn each_attempt_that_fails_is_one_event_that_names_its_job() {
    let mut story = Story::exporting(job(&json!({"retry": {"limit": 1}})));
    let mut told = Vec::new();
    for reason in [Reason::BucketNotFound, Reason::ConnectionLost, Reason::ConnectionLost] {
        let name = story.last().name.clone();
        story.fail(failure(reason, "the third wall of the room"));
        let decision = story.after(1);
        let warnings: Vec<_> = decision.events.iter().filter(|event| event.warning).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].note.contains("the third wall of the room"), "{}", warnings[0].note);
        assert_eq!(warnings[0].about, Some(crate::event::About::Job(name)));
        told.push(warnings[0].reason);
        if let Some(wait) = decision.requeue {
            let wait = i64::try_from(wait.as_secs()).unwrap();
            let decision = story.after(wait);
            story.create(&decision);
            story.run();
            story.after(1);
        }
    }
    assert_eq!(told, ["BucketNotFound", "Retrying", "Failed"]);
    assert_eq!(story.status.phase, Some(Phase::Failed));
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
fn what_fails_hours_later_has_a_budget_of_its_own() {
    let mut story = Story::exporting(job(&json!({})));
    for _ in 0..3 {
        story.fail(failure(Reason::StoreUnreachable, "no answer"));
        let decision = story.after(1);
        assert_eq!(story.stalled(), Some("StoreUnreachable"));
        let wait = i64::try_from(decision.requeue.unwrap().as_secs()).unwrap();
        let decision = story.after(wait);
        story.create(&decision);
        story.run();
        story.after(1);
        story.after(3600);
        assert_eq!(story.status.phase, Some(Phase::Exporting), "{}", story.message());
    }
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

#[test]
fn a_disruption_is_remembered_while_others_have_not_started() {
    for (container, counted) in [
        (ContainerState::Running, (1, 0)),
        // It had begun nothing, so that it took nothing with it.
        (ContainerState::Waiting(None), (0, 1)),
    ] {
        let mut story = Story::new(job(&json!({"workers": 2})));
        let decision = story.decide();
        story.create(&decision).workers = 2;
        let other = PodFacts { index: Some(1), ..pod(ContainerState::Waiting(None)) };
        story.last().pods = vec![PodFacts { disrupted: true, ..pod(container.clone()) }, other.clone()];
        story.after(1);
        // Its successor waits for the node, and it is gone.
        story.last().pods = vec![pod(ContainerState::Waiting(None)), other];
        story.after(1);
        story.fail(failure(Reason::SnapshotLost, "worker 0 was restarted"));
        story.after(1);
        let failures = story.status.failures.clone().unwrap();
        assert_eq!((failures.disruptions, failures.transient), counted, "{container:?}");
    }
}
