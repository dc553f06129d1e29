//! Runs that pause.

use super::*;

#[test]
fn a_suspended_run_pauses_without_a_retry_and_goes_on() {
    let mut story = Story::exporting(job(&json!({})));
    story.job.spec.suspend = true;
    let decision = story.after(5);
    assert_eq!((story.status.phase, reasons(&decision)), (Some(Phase::Suspended), vec!["Suspended"]));
    assert!(matches!(decision.actions.as_slice(), [Action::DeleteJob { .. }]), "{:?}", decision.actions);
    assert!(find(&story.status.conditions, ConditionType::Stalled).is_none());
    assert!(find(&story.status.conditions, ConditionType::Reconciling).is_none());
    let ready = |story: &Story| find(&story.status.conditions, ConditionType::Ready).unwrap().reason.clone();
    assert_eq!(ready(&story), "Suspending", "its pods still have connections");
    story.jobs.clear();
    assert!(story.after(48 * 3600).actions.is_empty());
    assert_eq!(ready(&story), "Suspended");

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
    let verdict = story.verdict();
    let observed = Observed { admission: Some(Admission::Admitted), ..Observed::default() };
    let decision = decide(&subject(true), &verdict, &observed, &ExportJobStatus::default(), story.now);
    assert_eq!(decision.status.phase, Some(Phase::Suspended));
    assert!(decision.status.message.as_ref().unwrap().contains("velero.io/restore-name"));
    let resumed = decide(&subject(false), &verdict, &observed, &decision.status, story.now);
    assert_eq!(resumed.status.phase, Some(Phase::Exporting));
}
