//! Before an attempt: what it refers to, and whose turn it is.

use super::*;

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
fn the_last_error_keeps_its_time() {
    let mut story = Story::new(job(&json!({})));
    story.references.source = Reference::Missing;
    story.decide();
    let first = story.status.clone();
    story.after(45);
    assert_eq!(story.status, first, "a quiet ExportJob is not written");
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
fn a_sink_or_staging_of_the_same_bucket_at_another_server_has_moved() {
    let elsewhere = json!({"spec": {"s3": {"endpoint": "https://elsewhere.example.com"}}});
    for (name, of_former_version) in [("acme", false), ("staging", false), ("acme", true), ("staging", true)]
    {
        let mut story = Story::exporting(job(&json!({})));
        assert_eq!(story.status.location_server.as_deref(), Some("Amazon S3 in eu-west-1"));
        if of_former_version {
            (story.status.location_server, story.status.staging_server) = (None, None);
        }
        let moved = Reference::Found(std::sync::Arc::new(sink(name, &elsewhere)));
        if name == "acme" {
            story.references.sink = moved;
        } else {
            story.references.staging = Some(moved);
        }
        story.complete(Some(exported()));
        story.after(5);
        let wanted = (!of_former_version).then_some("SinkNotReady");
        assert_eq!(story.stalled(), wanted, "{name}, {of_former_version}: {}", story.message());
        if !of_former_version {
            for part in [name, "https://elsewhere.example.com", "Amazon S3 in eu-west-1", "endpoint"] {
                assert!(story.message().contains(part), "{}", story.message());
            }
        }
    }
}
