//! What a failed run has staged is kept for a while.

use std::sync::Arc;

use pgexport_api::job::Cleanup;
use pgexport_api::report::{Cleaned, Kept};

use super::end::{deletes_all, removed};
use super::*;
use crate::export_job::fixture::source;

const HOURS: i64 = 3600;
const FOLDER: &str =
    "s3://staging-bucket/from-us/exports/acme-findings/0b0c1d2e-1111-2222-3333-444444444444/";

fn kept() -> Cleaned {
    Cleaned { kept: Some(Kept { objects: 5, location: FOLDER.to_owned() }), ..removed() }
}

/// A staged run whose source keeps what failed runs have staged for so long.
fn exporting(retention: &str) -> Story {
    let mut story = Story::exporting(job(&json!({})));
    let source = source(&json!({"spec": {"staging": {"retention": {"onFailure": retention}}}}));
    story.references.source = Reference::Found(Arc::new(source));
    story
}

/// The same, failed; its first cleanup is asked for.
fn failed(retention: &str) -> (Story, Decision) {
    let mut story = exporting(retention);
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Failed));
    let decision = story.after(5);
    (story, decision)
}

/// The same, whose first cleanup has left what is staged.
fn waiting() -> Story {
    let (mut story, decision) = failed("72h");
    story.clean(&decision, kept());
    story
}

impl Story {
    fn part(&self) -> CleanupPart {
        cleanup_part(&self.status)
    }

    fn cleanup(&self) -> &Cleanup {
        self.status.cleanup.as_ref().expect("a cleanup")
    }

    fn cleanup_message(&self) -> &str {
        &find(&self.status.conditions, ConditionType::CleanedUp).expect("a condition").message
    }

    /// Lets cleanups fail until there is none any more, or none for a while. Returns how many there were.
    fn never_cleans(&mut self) -> u32 {
        let mut tries = 0;
        while self.guarded
            && self
                .cleanup()
                .next_attempt_time
                .as_ref()
                .is_none_or(|next| next.0 < self.now + jiff::SignedDuration::from_hours(1))
        {
            let decision = self.after(5);
            if decision.actions.iter().any(|action| matches!(action, Action::EnsureJob(_))) {
                tries += 1;
                self.create(&decision);
                self.fail(failure(Reason::StoreUnreachable, "nothing answers"));
            }
        }
        tries
    }
}

#[test]
fn what_a_failed_run_has_staged_stays_until_its_time_is_over() {
    let (mut story, decision) = failed("72h");
    let until = story.status.completion_time.clone().unwrap().0 + jiff::SignedDuration::from_hours(72);
    assert_eq!((story.part(), story.cleanup().is_location_free()), (CleanupPart::AllButStaged, false));
    let decision = story.clean(&decision, kept());
    assert_eq!((story.cleaned_up(), reasons(&decision)), (("False", "StagingKept"), vec!["StagingKept"]));
    for part in
        [FOLDER, "5 objects", &until.to_string(), "spec.staging.retention.onFailure", "delete the ExportJob"]
    {
        assert!(story.cleanup_message().contains(part), "{part:?} is not in: {}", story.cleanup_message());
    }
    assert!(story.guarded && story.cleanup().is_location_free());
    assert_eq!(decision.requeue, Some(until.duration_since(story.now).unsigned_abs()));
    let quiet = story.after(71 * HOURS);
    assert_eq!((quiet.actions, quiet.events), (vec![], vec![]));

    story.now = until;
    assert_eq!(story.decide().requeue, Some(Duration::from_secs(1)));
    let decision = story.after(1);
    assert_eq!((story.part(), story.cleaned_up()), (CleanupPart::Staged, ("False", "CleaningUp")));
    let decision = story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), decision.actions), (("True", "CleanedUp"), vec![Action::Release]));
    assert_eq!(story.cleanup().staging_kept, None);
}

#[test]
fn other_ends_and_other_runs_keep_nothing() {
    let mut cancelled = exporting("72h");
    cancelled.job.spec.cancel = true;
    cancelled.after(1);
    cancelled.forget_jobs();
    let mut succeeded = exporting("72h");
    succeeded.complete(Some(exported()));
    let decision = succeeded.after(1);
    succeeded.create(&decision);
    succeeded.complete(Some(delivered()));
    let mut at_once = exporting("0s");
    at_once.fail(failure(Reason::InvalidQuery, "no such table"));
    let mut streamed = Story::exporting(direct());
    streamed.references = exporting("72h").references;
    streamed.fail(failure(Reason::InvalidQuery, "no such table"));
    for (mut story, phase) in [
        (cancelled, Phase::Cancelled),
        (succeeded, Phase::Succeeded),
        (at_once, Phase::Failed),
        (streamed, Phase::Failed),
    ] {
        story.after(5);
        assert_eq!(story.status.phase, Some(phase));
        let decision = story.after(5);
        assert_eq!(story.part(), CleanupPart::Everything, "{phase:?}");
        story.clean(&decision, removed());
        assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false), "{phase:?}");
    }
}

#[test]
fn where_nothing_is_staged_nothing_is_waited_for() {
    let (mut story, decision) = failed("72h");
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false));
}

#[test]
fn a_time_that_is_over_by_then_is_not_waited_for() {
    let (mut story, decision) = failed("2s");
    assert_eq!(story.part(), CleanupPart::Everything, "it was over before the first cleanup began");
    story.clean(&decision, removed());
    assert!(!story.guarded);

    let (mut story, decision) = failed("7s");
    story.clean(&decision, kept());
    let decision = story.after(1);
    assert_eq!(story.part(), CleanupPart::Staged, "it was over when the first cleanup had ended");
    story.clean(&decision, removed());
    assert!(!story.guarded);
}

#[test]
fn an_operator_that_was_away_has_its_time_to_clean_up() {
    let mut story = waiting();
    let decision = story.after(200 * HOURS);
    assert_eq!(decision.actions, [], "{decision:#?}");
    let decision = story.after(1);
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false));
}

#[test]
fn the_time_to_clean_up_counts_from_the_end_of_the_retention() {
    let mut story = waiting();
    story.after(72 * HOURS);
    let begun = story.now;
    let tries = story.never_cleans();
    assert!((10..40).contains(&tries), "{tries}");
    assert_eq!((story.cleaned_up(), story.guarded), (("False", "CleanupGivenUp"), false));
    assert_eq!(story.now.duration_since(begun).as_hours(), 1);
    assert!(!story.cleanup_message().contains("s3://acme-bucket"), "{}", story.cleanup_message());
}

#[test]
fn a_deletion_removes_what_was_kept_at_once() {
    let mut story = waiting();
    story.after(HOURS);
    story.deleting = Some(story.now);
    story.decide();
    let decision = story.after(1);
    assert_eq!(story.part(), CleanupPart::Staged);
    story.clean(&decision, removed());
    assert!(!story.guarded);
}

#[test]
fn a_deletion_in_the_first_cleanup_begins_another_one() {
    let (mut story, decision) = failed("72h");
    story.create(&decision);
    story.run();
    story.after(1);
    story.deleting = Some(story.now);
    let decision = story.after(1);
    assert!(deletes_all(&decision), "{:?}", decision.actions);
    assert_eq!(story.part(), CleanupPart::Everything);
    story.forget_jobs();
    let decision = story.after(5);
    assert_eq!(decision.actions, [Action::EnsureJob(Child::cleanup(2))]);
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false));
}

#[test]
fn what_may_be_left_at_the_location_is_not_forgotten() {
    let (mut story, decision) = failed("72h");
    let remains = "s3://acme-bucket/x/ may hold files";
    let decision = story.clean(&decision, Cleaned { remains: Some(remains.to_owned()), ..kept() });
    assert_eq!(
        (story.cleaned_up(), reasons(&decision)),
        (("False", "PartialOutputRemains"), vec!["PartialOutputRemains"])
    );
    assert!(story.cleanup_message().contains(remains) && story.cleanup_message().contains(FOLDER));
    story.after(72 * HOURS);
    let decision = story.after(1);
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("False", "PartialOutputRemains"), false));
    assert_eq!(story.cleanup_message(), remains);
}

#[test]
fn where_the_location_is_given_up_what_is_staged_is_removed_in_the_end() {
    let (mut story, decision) = failed("72h");
    story.create(&decision);
    story.fail(failure(Reason::StoreUnreachable, "nothing answers"));
    story.never_cleans();
    assert_eq!(story.cleaned_up(), ("False", "CleanupGivenUp"));
    for part in ["s3://acme-bucket/from-us/", "nothing answers", "is kept until"] {
        assert!(story.cleanup_message().contains(part), "{}", story.cleanup_message());
    }
    assert!(story.guarded && story.cleanup().is_location_free());
    story.after(72 * HOURS);
    let decision = story.after(1);
    assert_eq!(story.part(), CleanupPart::Staged);
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("False", "PartialOutputRemains"), false));
}

/// Something that becomes of a run's surroundings.
type Change = (&'static str, fn(&mut Story));

/// What may become of them while its staging is kept. Each would keep the run itself from going on.
fn changes() -> Vec<Change> {
    fn sink_with(story: &mut Story, patch: &serde_json::Value) {
        story.references.sink = Reference::Found(Arc::new(sink("acme", patch)));
    }
    fn source_with(story: &mut Story, patch: &serde_json::Value) {
        story.references.source = Reference::Found(Arc::new(source(patch)));
    }
    vec![
        ("allow", |story| sink_with(story, &json!({"spec": {"allow": {"sources": ["other"]}}}))),
        ("prefix", |story| sink_with(story, &json!({"spec": {"s3": {"prefix": "elsewhere/"}}}))),
        ("inlineSQL", |story| source_with(story, &json!({"spec": {"inlineSQL": "Forbid"}}))),
        ("metadataPrefixes", |story| story.prefixes.clear()),
        ("staging's prefix", |story| {
            let moved = sink("staging", &json!({"spec": {"s3": {"prefix": "elsewhere/"}}}));
            story.references.staging = Some(Reference::Found(Arc::new(moved)));
        }),
    ]
}

/// A staged run that has begun, with a label of its own.
fn labelled(spec: &serde_json::Value) -> Story {
    let mut job = job(spec);
    job.spec.pod_template = serde_json::from_value(json!({"labels": {"acme.com/team": "x"}})).unwrap();
    let mut story = Story::new(job);
    story.prefixes = vec!["acme.com/".to_owned()];
    let decision = story.decide();
    story.create(&decision);
    story.run();
    story.after(1);
    story
}

#[test]
fn what_was_forbidden_since_keeps_no_staging_for_ever() {
    for (what, change) in changes() {
        let mut story = labelled(&json!({}));
        story.references.source = exporting("72h").references.source;
        story.fail(failure(Reason::InvalidQuery, "no such table"));
        story.after(1);
        let decision = story.after(5);
        story.clean(&decision, kept());
        assert_eq!(story.cleaned_up(), ("False", "StagingKept"), "{what}");
        change(&mut story);
        story.after(72 * HOURS);
        let decision = story.after(1);
        story.clean(&decision, removed());
        assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false), "{what}");
    }
}

#[test]
fn what_was_forbidden_since_keeps_no_deletion_waiting() {
    for (what, change) in changes() {
        let mut story = labelled(&json!({}));
        change(&mut story);
        story.deleting = Some(story.now);
        story.after(1);
        story.forget_jobs();
        story.after(5);
        let decision = story.after(5);
        story.clean(&decision, removed());
        assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false), "{what}");
    }
}

#[test]
fn for_what_was_kept_the_sink_is_not_needed_any_more() {
    let mut story = waiting();
    story.references.sink = Reference::Missing;
    story.after(72 * HOURS);
    let decision = story.after(1);
    story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), story.guarded), (("True", "CleanedUp"), false));
}

#[test]
fn a_staging_at_another_server_is_told_and_given_up_in_the_end() {
    let mut story = waiting();
    let moved = sink("staging", &json!({"spec": {"s3": {"endpoint": "https://elsewhere.example.com"}}}));
    story.references.staging = Some(Reference::Found(Arc::new(moved)));
    story.after(72 * HOURS);
    let decision = story.after(1);
    assert_eq!((decision.actions, story.cleaned_up()), (vec![], ("False", "SinkNotReady")));
    assert!(story.cleanup_message().contains("endpoint and region"), "{}", story.cleanup_message());
    story.after(HOURS);
    assert_eq!((story.cleaned_up(), story.guarded), (("False", "CleanupGivenUp"), false));
}
