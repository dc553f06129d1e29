//! Jobs that cannot be made, and pods that do not start.

use super::*;

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
fn a_pod_that_does_not_start_stalls_until_the_deadline() {
    let mut story = Story::new(job(&json!({})));
    let decision = story.decide();
    story.create(&decision);
    let trouble = Trouble::new(Reason::ImagePullFailed, "image x cannot be pulled: not found".to_owned());
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
        prefixes: vec![],
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
fn a_job_of_which_some_pods_do_not_start_is_starting() {
    let indexed = |index: u32, container: ContainerState| PodFacts { index: Some(index), ..pod(container) };
    let running = |index: u32| indexed(index, ContainerState::Running);
    let waiting = |index: u32| indexed(index, ContainerState::Waiting(None));
    let quota = || Trouble::new(Reason::PodNotStarted, "no pod can be created: exceeded quota".to_owned());
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
            trouble: trouble.map(|reason| Trouble::new(reason, "it did not start".to_owned())),
            ..story.last().clone()
        };
        story.after(7 * 3600);
        assert_eq!(story.status.last_error.as_ref().unwrap().reason, reason);
    }
}

#[test]
fn an_image_that_was_corrected_is_used_without_a_retry() {
    let mut story = Story::new(job(&json!({})));
    let decision = story.decide();
    story.create(&decision);
    story.last().image = Some("pgexport:wrong".to_owned());
    story.last().trouble = Some(Trouble::new(Reason::ImagePullFailed, "image x cannot be pulled".to_owned()));
    let decision = story.after(20);
    assert!(matches!(decision.actions.as_slice(), [Action::DeleteJob { .. }]), "{:?}", decision.actions);
    assert_eq!(story.status.phase, Some(Phase::Pending));
    story.jobs.clear();
    let decision = story.after(5);
    story.create(&decision);
    assert_eq!((story.status.attempts, story.status.phase), (2, Some(Phase::Exporting)));
    assert_eq!(story.status.failures.clone().unwrap_or_default().transient, 0);
}
