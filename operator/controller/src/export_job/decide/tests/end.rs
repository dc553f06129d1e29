//! How runs end before their time, and what is done after the end.

use pgexport_api::report::Cleaned;

use super::*;

impl Story {
    /// The Job of the cleanup that a decision asks for ends with this report.
    pub(super) fn clean(&mut self, decision: &Decision, cleaned: Cleaned) -> Decision {
        assert!(
            matches!(decision.actions.as_slice(), [Action::EnsureJob(child)] if child.kind == ChildKind::Cleanup),
            "{:?}",
            decision.actions
        );
        self.create(decision);
        self.complete(Some(Outcome::Cleaned(cleaned)));
        self.after(5)
    }

    pub(super) fn cleaned_up(&self) -> (&str, &str) {
        let condition = find(&self.status.conditions, ConditionType::CleanedUp).expect("a condition");
        (condition.status.as_str(), condition.reason.as_str())
    }

    /// Everything that was made is gone: deleted, or collected.
    pub(super) fn forget_jobs(&mut self) {
        self.jobs.clear();
    }
}

pub(super) fn removed() -> Cleaned {
    Cleaned { objects: 12, uploads: 1, ..Cleaned::default() }
}

pub(super) fn deletes_all(decision: &Decision) -> bool {
    !decision.actions.is_empty()
        && decision.actions.iter().all(|action| matches!(action, Action::DeleteJob { .. }))
}

#[test]
fn what_has_not_begun_is_cancelled_at_once() {
    let mut story = Story::new(job(&json!({})));
    story.job.spec.cancel = true;
    let decision = story.decide();
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Cancelled), vec!["Cancelled"]));
    assert_eq!((decision.actions, decision.requeue), (vec![], None));
    assert!(is_true(&story.status.conditions, ConditionType::Failed));
    assert!(story.message().contains("spec.cancel is true"), "{}", story.message());
}

#[test]
fn a_run_is_cancelled_when_its_pods_have_ended_and_then_cleaned_up() {
    let mut story = Story::exporting(job(&json!({})));
    assert!(story.guarded, "a Job is made only of what has the finalizer");
    story.job.spec.cancel = true;
    let decision = story.after(1);
    assert!(deletes_all(&decision), "{:?}", decision.actions);
    assert_eq!(story.status.phase, Some(Phase::Exporting), "its pods may still deliver");

    story.forget_jobs();
    let decision = story.after(5);
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Cancelled), vec!["Cancelled"]));
    assert_eq!(story.cleaned_up(), ("False", "Pending"));
    let decision = story.after(5);
    let decision = story.clean(&decision, removed());
    assert_eq!((story.cleaned_up(), reasons(&decision)), (("True", "CleanedUp"), vec!["CleanedUp"]));
    assert_eq!(decision.actions, [Action::Release]);
    let decision = story.after(3600);
    assert_eq!((decision.actions, decision.events), (vec![], vec![]));
}

#[test]
fn a_run_that_has_delivered_before_its_pods_were_stopped_has_succeeded() {
    let mut story = Story::exporting(direct());
    story.job.spec.cancel = true;
    story.after(1);
    story.last().deleting = Some(story.now);
    story.last().pods = vec![pod(ended(0, Some(delivered())))];
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Succeeded));
}

#[test]
fn a_suspended_run_can_be_cancelled() {
    let mut story = Story::exporting(job(&json!({})));
    story.job.spec.suspend = true;
    story.after(1);
    story.forget_jobs();
    story.job.spec.cancel = true;
    story.after(1);
    assert_eq!(story.status.phase, Some(Phase::Cancelled));
}

#[test]
fn a_staged_run_is_cleaned_up_and_one_that_streamed_at_once_has_left_nothing() {
    let mut story = Story::exporting(job(&json!({})));
    story.complete(Some(exported()));
    let decision = story.after(1);
    story.create(&decision);
    story.complete(Some(delivered()));
    story.after(1);
    assert_eq!((story.status.phase, story.cleaned_up()), (Some(Phase::Succeeded), ("False", "Pending")));
    assert!(is_true(&story.status.conditions, ConditionType::Ready), "a cleanup keeps nobody waiting");
    let decision = story.after(5);
    story.clean(&decision, removed());
    assert!(!story.guarded);

    let mut story = Story::exporting(direct());
    story.complete(Some(delivered()));
    let decision = story.after(1);
    assert_eq!(decision.actions, [Action::Release]);
    assert!(find(&story.status.conditions, ConditionType::CleanedUp).is_none());
}

#[test]
fn what_a_sink_does_not_let_be_removed_is_told() {
    let mut story = Story::exporting(direct());
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    story.after(1);
    let decision = story.after(5);
    let remains = Cleaned { remains: Some("s3://acme-bucket/x/ may hold files".to_owned()), ..removed() };
    let decision = story.clean(&decision, remains);
    assert_eq!(story.cleaned_up(), ("False", "PartialOutputRemains"));
    assert_eq!((reasons(&decision), story.guarded), (vec!["PartialOutputRemains"], false));
}

#[test]
fn a_cleanup_that_fails_is_tried_again_and_given_up_in_the_end() {
    let mut story = Story::exporting(direct());
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    story.after(1);
    let mut tries = 0;
    let begun = story.now;
    while story.guarded {
        let decision = story.after(5);
        if decision.actions.iter().any(|action| matches!(action, Action::EnsureJob(_))) {
            tries += 1;
            story.create(&decision);
            story.fail(failure(Reason::StoreUnreachable, "nothing answers"));
        }
    }
    assert_eq!(story.cleaned_up(), ("False", "CleanupGivenUp"));
    let condition = find(&story.status.conditions, ConditionType::CleanedUp).unwrap();
    for part in ["s3://acme-bucket/from-us/", "nothing answers", "lifecycle rule"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    assert!((10..40).contains(&tries), "{tries}");
    assert_eq!(story.now.duration_since(begun).as_hours(), 1);
    assert_eq!(story.status.phase, Some(Phase::Failed), "the end is as it was");
}

#[test]
fn a_deletion_cancels_cleans_up_and_lets_go() {
    let mut story = Story::exporting(job(&json!({})));
    story.deleting = Some(story.now);
    assert!(deletes_all(&story.after(1)));
    story.forget_jobs();
    story.after(5);
    assert_eq!(story.status.phase, Some(Phase::Cancelled));
    let decision = story.after(5);
    story.clean(&decision, removed());
    assert!(!story.guarded);
}

/// How many seconds a deletion took until the finalizer went, where a cleanup never succeeds.
fn seconds_to_go(mut story: Story) -> (i64, Story) {
    story.deleting = Some(story.now);
    let begun = story.now;
    story.forget_jobs();
    while story.guarded {
        let decision = story.after(5);
        if decision.actions.iter().any(|action| matches!(action, Action::EnsureJob(_)))
            && story.refused.is_none()
        {
            story.create(&decision);
            story.fail(failure(Reason::StoreUnreachable, "nothing answers"));
        }
    }
    (story.now.duration_since(begun).as_secs(), story)
}

#[test]
fn no_deletion_hangs() {
    let (seconds, story) = seconds_to_go(Story::exporting(job(&json!({}))));
    assert!((600..620).contains(&seconds), "{seconds} s");
    assert_eq!(story.cleaned_up(), ("False", "CleanupGivenUp"));

    let mut orphan = Story::exporting(job(&json!({})));
    orphan.references.source = Reference::Missing;
    let (seconds, _) = seconds_to_go(orphan);
    assert!((30..50).contains(&seconds), "{seconds} s");

    let mut terminating = Story::exporting(job(&json!({})));
    terminating.refused = Some(
        "jobs.batch is forbidden: unable to create new content in namespace x because it is being terminated"
            .to_owned(),
    );
    let (seconds, _) = seconds_to_go(terminating);
    assert!(seconds < 30, "{seconds} s");
}

#[test]
fn a_job_in_a_namespace_that_is_being_deleted_is_given_up() {
    let mut story = Story::exporting(job(&json!({})));
    story.last().pods = vec![PodFacts { deleting: Some(story.now), ..pod(ended(143, None)) }];
    assert!(story.last().is_left_without_pods());
    assert_eq!(story.after(1).actions, [], "its successor is on its way");
    story.last().namespace_is_going = true;
    assert!(deletes_all(&story.after(1)));
}
