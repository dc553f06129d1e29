//! Whom a failure is told, and that it changes nothing else.

use std::sync::Arc;

use super::end::removed;
use super::*;
use crate::export_job::fixture::{pager, tell_pager};

impl Story {
    fn notified(&self) -> (&str, &str) {
        let condition = find(&self.status.conditions, ConditionType::Notified).expect("a condition");
        (condition.status.as_str(), condition.reason.as_str())
    }

    fn notified_message(&self) -> &str {
        &find(&self.status.conditions, ConditionType::Notified).expect("a condition").message
    }
}

/// What is asked for of a kind.
fn asked(decision: &Decision, kind: ChildKind) -> Option<Child> {
    decision.actions.iter().find_map(|action| match action {
        Action::EnsureJob(child) if child.kind == kind => Some(*child),
        _ => None,
    })
}

fn told() -> Outcome {
    Outcome::Notified { status: 204 }
}

/// A run that has failed, and whose failure is being told by a Job.
fn failed_run() -> Story {
    let mut story = Story::exporting(job(&tell_pager()));
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    let decision = story.after(1);
    assert_eq!(asked(&decision, ChildKind::Notification), Some(Child::notification(1)));
    assert_eq!((story.status.phase, story.notified()), (Some(Phase::Failed), ("False", "Notifying")));
    story.create(&decision);
    story.run();
    story
}

#[test]
fn a_failure_is_told_once_beside_the_cleanup() {
    let mut story = failed_run();
    let notification = story.last().clone();
    let decision = story.after(5);
    assert!(asked(&decision, ChildKind::Cleanup).is_some(), "{:?}", decision.actions);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::DeleteJob { .. })));
    story.create(&decision);
    story.complete(Some(Outcome::Cleaned(removed())));
    let decision = story.after(5);
    assert!(story.guarded && !decision.actions.contains(&Action::Release), "it is told yet");

    story.jobs.retain(|job| job.name != notification.name);
    story.jobs.push(notification);
    story.complete(Some(told()));
    let decision = story.after(1);
    assert_eq!((reasons(&decision), story.notified()), (vec!["Notified"], ("True", "Notified")));
    assert!(
        story.notified_message().contains("ExportSink pager") && story.notified_message().contains("204")
    );
    assert_eq!((decision.actions, story.guarded), (vec![Action::Release], false));
    assert_eq!(story.status.phase, Some(Phase::Failed));
    let decision = story.after(3600);
    assert_eq!((decision.actions, decision.events), (vec![], vec![]));
}

#[test]
fn what_never_began_is_told_too_and_stays_until_then() {
    let mut story = Story::new(job(&tell_pager()));
    story.references.source = Reference::Missing;
    story.decide();
    let decision = story.after(16 * 60);
    assert_eq!((story.status.phase, story.status.attempts), (Some(Phase::Failed), 0));
    assert!(decision.actions.contains(&Action::Guard) && story.guarded);
    story.create(&decision);
    story.complete(Some(told()));
    let decision = story.after(1);
    assert_eq!((story.notified(), decision.actions), (("True", "Notified"), vec![Action::Release]));
}

#[test]
fn nobody_is_told_of_a_run_that_succeeded_or_was_cancelled() {
    let mut story = Story::exporting(job(&tell_pager()));
    story.job.spec.cancel = true;
    story.after(1);
    story.forget_jobs();
    let decision = story.after(5);
    assert_eq!((story.status.phase, &story.status.notification), (Some(Phase::Cancelled), &None));
    assert_eq!(asked(&decision, ChildKind::Notification), None);

    let mut patch = tell_pager();
    crate::export_job::fixture::merge(&mut patch, &json!({"workers": 1, "files": {"layout": "PerChunk"}}));
    let mut story = Story::exporting(job(&patch));
    story.complete(Some(delivered()));
    let decision = story.after(1);
    assert_eq!((story.status.phase, decision.actions), (Some(Phase::Succeeded), vec![Action::Release]));
    assert!(find(&story.status.conditions, ConditionType::Notified).is_none());
}

#[test]
fn a_receiver_that_refuses_is_told_again_later_with_the_same_id() {
    let mut story = failed_run();
    let id = story.status.notification.as_ref().unwrap().id.clone();
    story.fail(failure(Reason::ReceiverRefused, "it answers with status 503"));
    let decision = story.after(1);
    assert_eq!(reasons(&decision), ["NotificationFailed"]);
    assert_eq!(story.notified(), ("False", "ReceiverRefused"));
    assert_eq!(asked(&story.after(8), ChildKind::Notification), None, "its wait is not over");
    let decision = story.after(2);
    assert_eq!(asked(&decision, ChildKind::Notification), Some(Child::notification(2)));
    assert_eq!(story.status.notification.as_ref().unwrap().id, id);
    assert_eq!(story.notified(), ("False", "Notifying"));
    assert!(story.notified_message().contains("503"), "{}", story.notified_message());
}

#[test]
fn one_that_was_not_told_in_time_says_why_and_names_no_field() {
    let mut story = failed_run();
    story.last().pods = vec![pod(ContainerState::Waiting(None))];
    let message = "0/1 nodes are available: insufficient cpu".to_owned();
    story.last().trouble = Some(Trouble::new(Reason::PodNotStarted, message));
    story.after(5);
    story.last().trouble = None;
    story.last().pods.clear();
    story.last().state = JobState::Failed { reason: "DeadlineExceeded".to_owned() };
    story.after(300);
    assert_eq!(story.notified(), ("False", "DeadlineExceeded"));
    let message = story.notified_message();
    assert!(message.contains("insufficient cpu") && !message.contains("spec."), "{message}");
}

#[test]
fn a_receiver_that_is_missing_is_foretold_and_told_as_soon_as_it_is_there() {
    let mut story = Story::new(job(&tell_pager()));
    story.references.receiver = Some(Reference::Missing);
    let decision = story.decide();
    assert_eq!(story.notified(), ("Unknown", "ReferenceNotFound"));
    assert!(asked(&decision, ChildKind::Export).is_some(), "it keeps nothing from going on");
    story.create(&decision);
    story.run();
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    let decision = story.after(1);
    assert_eq!(asked(&decision, ChildKind::Notification), None);
    assert_eq!(story.notified(), ("False", "ReferenceNotFound"));
    story.references.receiver = Some(Reference::Found(Arc::new(pager())));
    assert!(asked(&story.after(30), ChildKind::Notification).is_some());
}

#[test]
fn it_is_given_up_after_an_hour_and_says_why() {
    let mut story = failed_run();
    let begun = story.now;
    let mut attempts = 1;
    while story.status.notification.as_ref().unwrap().completion_time.is_none() {
        let notification = Child::notification(attempts).name("acme-findings", UID);
        let under_way = story.jobs.iter_mut().find(|job| job.name == notification);
        if let Some(job) = under_way.filter(|job| job.state == JobState::Active) {
            job.state = JobState::Failed { reason: "BackoffLimitExceeded".to_owned() };
            let failed = failure(Reason::ReceiverUnreachable, "nothing answers");
            job.pods = vec![pod(ended(77, Some(Outcome::Failed(failed))))];
        }
        let decision = story.after(5);
        if let Some(child) = asked(&decision, ChildKind::Notification) {
            attempts = child.attempt;
            story.jobs.push(fresh(child.name("acme-findings", UID), story.now));
        }
    }
    assert_eq!(story.now.duration_since(begun).as_mins(), 60);
    assert!((10..30).contains(&attempts), "{attempts}");
    assert_eq!(story.notified(), ("False", "NotificationGivenUp"));
    for part in ["ExportSink pager", "nothing answers", "spec.onFailure.notifySinkRef"] {
        assert!(story.notified_message().contains(part), "{}", story.notified_message());
    }
    assert_eq!(story.status.phase, Some(Phase::Failed));
}

#[test]
fn a_deletion_waits_a_minute_for_it_and_not_at_all_where_the_namespace_goes() {
    for (refused, within) in [(None, 60..70), (Some("x is forbidden: it is being terminated"), 0..10)] {
        let mut story = failed_run();
        let decision = story.after(5);
        story.create(&decision);
        story.complete(Some(Outcome::Cleaned(removed())));
        story.after(1);
        story.deleting = Some(story.now);
        story.refused = refused.map(str::to_owned);
        let begun = story.now;
        while story.guarded {
            let decision = story.after(2);
            assert_eq!(asked(&decision, ChildKind::Export), None);
        }
        let seconds = story.now.duration_since(begun).as_secs();
        assert!(within.contains(&seconds), "{seconds} s");
        assert_eq!(story.notified(), ("False", "NotificationGivenUp"));
    }
}

#[test]
fn an_unready_receiver_is_tried_all_the_same() {
    let mut sink = pager();
    sink.status.as_mut().unwrap().conditions[0].status = "False".to_owned();
    let mut story = Story::exporting(job(&tell_pager()));
    story.references.receiver = Some(Reference::Found(Arc::new(sink)));
    story.fail(failure(Reason::InvalidQuery, "no such table"));
    assert!(asked(&story.after(1), ChildKind::Notification).is_some());
}
