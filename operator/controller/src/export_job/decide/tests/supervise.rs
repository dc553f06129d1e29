//! Runs that go well, and Jobs that end without a word, hang, or are lost.

use super::*;

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
    assert_eq!(status.chunking, chunking());
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
    let verdict = story.verdict();
    let decision = decide(&subject, &verdict, &Observed::default(), &story.status, story.now);
    assert_eq!(decision.status.observed_generation, Some(2));
    assert!(decision.status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert_eq!(
        (decision.status.phase, decision.actions.len(), decision.requeue),
        (Some(Phase::Failed), 0, None)
    );
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
