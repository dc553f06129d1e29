//! Decisions one by one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{ConditionType, find, is_true};
use pgexport_api::schedule::RunNow;
use serde_json::json;

use super::super::fact::RunState;
use super::simulation::World;
use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(world: &World) -> Vec<String> {
    world.started.iter().map(|(_, time)| time.strftime("%H:%M").to_string()).collect()
}

fn ready(world: &World) -> (&str, &str) {
    let ready = find(&world.status.conditions, ConditionType::Ready).unwrap();
    (&ready.status, &ready.reason)
}

fn count(world: &World, reason: &str) -> usize {
    world.told.iter().filter(|told| **told == reason).count()
}

#[test]
fn a_run_is_started_when_it_is_due_and_told_when_it_has_ended() {
    let mut world = World::new(&json!({}));
    let decision = world.after(30);
    assert_eq!((decision.actions.len(), decision.requeue), (0, Some(Duration::from_secs(30))));
    assert_eq!(world.status.next_schedule_time, Some(Time(at("2026-11-25T20:01:00Z"))));
    assert!(is_true(&world.status.conditions, ConditionType::Accepted));
    world.after(30);
    assert_eq!(world.names(), ["nightly-29927281"]);
    assert_eq!(world.status.last_schedule_time, Some(Time(at("2026-11-25T20:01:00Z"))));
    assert_eq!(world.status.active, ["nightly-29927281"]);
    world.after(1);
    assert_eq!(world.status.starting, None);
    world.end(true);
    world.after(10);
    assert_eq!(world.status.last_successful_time, Some(Time(at("2026-11-25T20:01:01Z"))));
    assert!(world.status.active.is_empty());
    assert_eq!(world.told, ["RunStarted", "RunSucceeded"]);
    assert_eq!(world.outcomes, BTreeMap::from([(RunOutcome::Started, 1), (RunOutcome::Succeeded, 1)]));
}

#[test]
fn a_controller_that_died_before_it_created_does_so_and_one_that_died_after_it_does_not() {
    let mut world = World::new(&json!({}));
    world.pass(60);
    world.decide();
    assert!(world.names().is_empty() && world.status.starting.is_some());
    let decision = world.after(5);
    assert!(matches!(decision.actions.as_slice(), [Action::Start(_)]));
    assert_eq!(world.names(), ["nightly-29927281"]);
    let decision = world.after(5);
    assert_eq!((decision.actions.len(), count(&world, "RunStarted")), (0, 1));
}

#[test]
fn of_several_that_were_missed_the_latest_is_made_up_for() {
    let mut world = World::new(&json!({}));
    world.after(300);
    assert_eq!(minutes(&world), ["20:05"]);
    assert_eq!(world.told, ["RunSkipped", "RunStarted"]);
    assert_eq!(world.outcomes, BTreeMap::from([(RunOutcome::Started, 1), (RunOutcome::Skipped, 4)]));
    let mut world = World::new(&json!({"startingDeadline": "30s"}));
    world.after(331);
    assert!(world.started.is_empty());
    assert_eq!(world.told, ["RunSkipped", "RunMissed"]);
    assert_eq!(world.outcomes, BTreeMap::from([(RunOutcome::Skipped, 4), (RunOutcome::Missed, 1)]));
    world.after(29);
    assert_eq!(minutes(&world), ["20:06"]);
}

#[test]
fn forbid_lets_a_run_wait_until_the_next_one_is_due() {
    let mut world = World::new(&json!({}));
    world.after(60);
    world.after(60);
    assert_eq!(ready(&world), ("True", "Waiting"));
    world.after(10);
    assert_eq!(count(&world, "RunWaiting"), 1);
    world.after(50);
    assert_eq!((world.started.len(), count(&world, "RunSkipped")), (1, 1));
    world.end(true);
    world.after(5);
    assert_eq!(minutes(&world), ["20:01", "20:03"]);
    assert_eq!(ready(&world).1, "Scheduled");
}

#[test]
fn a_run_that_waits_is_missed_at_its_deadline() {
    let mut world = World::new(&json!({"startingDeadline": "20s"}));
    world.after(60);
    let decision = world.after(60);
    assert_eq!(decision.requeue, Some(Duration::from_secs(21)));
    world.after(21);
    assert_eq!(count(&world, "RunMissed"), 1);
    world.end(true);
    world.after(1);
    assert_eq!(world.started.len(), 1, "it is too late");
}

#[test]
fn allow_lets_runs_be_side_by_side_up_to_a_hundred() {
    let mut world = World::new(&json!({"concurrencyPolicy": "Allow"}));
    for _ in 0..105 {
        world.after(60);
        world.after(1);
        world.pass(-1);
    }
    assert_eq!(world.runs.len(), 100);
    assert_eq!(ready(&world).1, "Waiting");
}

#[test]
fn replace_cancels_and_starts_when_that_has_ended_however_long_it_takes() {
    let mut world = World::new(&json!({"concurrencyPolicy": "Replace", "startingDeadline": "10s"}));
    world.after(60);
    world.after(1);
    let decision = world.after(59);
    assert!(
        matches!(decision.actions.as_slice(), [Action::Cancel { name, .. }] if name == "nightly-29927281")
    );
    assert_eq!(world.started.len(), 1, "it has not ended");
    let decision = world.after(30);
    assert_eq!((decision.actions.len(), ready(&world).1), (0, "Replacing"));
    world.end(false);
    world.pass(1);
    // What is cancelled is known until it has ended; then the run that it was cancelled for is late.
    world.reconcile();
    assert_eq!(minutes(&world), ["20:01", "20:02"]);
    assert_eq!(count(&world, "RunReplaced"), 1);
}

#[test]
fn what_falls_due_while_suspended_is_not_made_up_for() {
    let mut world = World::new(&json!({}));
    world.after(60);
    world.after(1);
    world.edit(|spec| spec.suspend = true);
    let decision = world.after(1);
    assert_eq!((ready(&world), decision.requeue), (("True", "Suspended"), None));
    assert_eq!(world.status.next_schedule_time, None);
    world.end(true);
    world.after(600);
    world.edit(|spec| spec.suspend = false);
    world.after(0);
    assert_eq!(minutes(&world), ["20:01"]);
    world.after(60);
    assert_eq!(minutes(&world), ["20:01", "20:12"]);
}

#[test]
fn one_that_was_restored_rests_until_its_label_is_removed() {
    let mut world = World::new(&json!({"runNow": {"token": "of yore"}}));
    world.restored = true;
    world.after(300);
    assert_eq!((ready(&world), world.started.len()), (("True", "Suspended"), 0));
    world.restored = false;
    world.after(30);
    assert_eq!(world.started.len(), 0, "neither the token nor what fell due before");
    world.after(30);
    assert_eq!(minutes(&world), ["20:06"]);
}

#[test]
fn a_changed_schedule_counts_from_its_change() {
    let mut world = World::new(&json!({"schedule": "0 0 * * *"}));
    world.after(1800);
    world.edit(|spec| "*/10 * * * *".clone_into(&mut spec.schedule));
    world.after(60);
    assert!(world.started.is_empty(), "half past eight was before the change");
    world.after(600);
    assert_eq!(minutes(&world), ["20:40"]);
}

#[test]
fn each_token_starts_one_run_at_once_also_while_suspended() {
    let mut world = World::new(&json!({"suspend": true}));
    let scheduled_time = Some(Time(at("2026-11-01T02:00:00Z")));
    world.edit(|spec| spec.run_now = Some(RunNow { token: "again".to_owned(), scheduled_time }));
    world.after(5);
    let name = super::super::child::asked_for("nightly", "again");
    assert_eq!(world.names(), [name.as_str()]);
    assert_eq!(world.runs[&name].scheduled, at("2026-11-01T02:00:00Z"));
    assert_eq!(world.status.run_now.as_ref().unwrap().job.as_deref(), Some(name.as_str()));
    assert_eq!(world.status.last_schedule_time, None, "the schedule has started none");
    world.end(true);
    world.after(5);
    world.after(600);
    assert_eq!(world.started.len(), 1);
    world.edit(|spec| spec.run_now = Some(RunNow { token: "and again".to_owned(), scheduled_time: None }));
    world.after(5);
    assert_eq!(world.started.len(), 2);
}

#[test]
fn a_token_waits_under_forbid() {
    let mut world = World::new(&json!({}));
    world.after(60);
    world.edit(|spec| spec.run_now = Some(RunNow { token: "again".to_owned(), scheduled_time: None }));
    world.after(5);
    assert_eq!((world.started.len(), ready(&world).1), (1, "Waiting"));
    world.end(true);
    world.after(5);
    assert_eq!(world.started.len(), 2);
}

#[test]
fn windows_begin_where_the_last_success_has_ended() {
    let mut world =
        World::new(&json!({"window": {"initialStart": "2026-11-25T19:00:00Z", "settleDelay": "30s"}}));
    let window = |world: &World| {
        let run = world.runs.values().find(|run| run.is_active()).unwrap();
        let window = run.window.clone().unwrap();
        [window.start, window.end].map(|time| time.0.strftime("%H:%M:%S").to_string())
    };
    world.after(60);
    assert_eq!(window(&world), ["19:00:00", "20:00:30"]);
    world.end(true);
    world.after(60);
    assert_eq!(window(&world), ["20:00:30", "20:01:30"]);
    world.end(false);
    world.after(60);
    assert_eq!(window(&world), ["20:00:30", "20:02:30"], "the window of the failed run is covered");
    world.end(true);
    world.after(5);
    assert_eq!(world.status.window.as_ref().unwrap().last_end, Time(at("2026-11-25T20:02:30Z")));
}

#[test]
fn a_run_with_nothing_to_deliver_is_left_out() {
    let mut world =
        World::new(&json!({"window": {"initialStart": "2026-11-25T20:03:00Z", "settleDelay": "1m"}}));
    for _ in 0..4 {
        world.after(60);
    }
    assert_eq!((world.started.len(), count(&world, "RunSkipped")), (0, 4));
    for (token, time) in [("past", "2026-11-25T20:01:00Z"), ("future", "2026-11-26T20:01:00Z")] {
        let scheduled_time = Some(Time(at(time)));
        world.edit(|spec| spec.run_now = Some(RunNow { token: token.to_owned(), scheduled_time }));
        world.after(1);
        assert_eq!(world.status.run_now.as_ref().unwrap().job, None);
    }
    assert_eq!((world.started.len(), count(&world, "RunSkipped")), (0, 6));
    world.after(58);
    assert_eq!(minutes(&world), ["20:05"]);
}

#[test]
fn a_schedule_that_cannot_be_kept_is_stalled_and_goes_on_when_it_is_corrected() {
    let mut world = World::new(&json!({"schedule": "0 25 * * *"}));
    let decision = world.after(60);
    assert_eq!((ready(&world), decision.requeue), (("False", "InvalidSchedule"), None));
    assert!(is_true(&world.status.conditions, ConditionType::Stalled));
    assert!(!is_true(&world.status.conditions, ConditionType::Accepted));
    world.after(60);
    assert_eq!(count(&world, "InvalidSchedule"), 1);
    world.edit(|spec| "* * * * *".clone_into(&mut spec.schedule));
    world.after(60);
    assert!(find(&world.status.conditions, ConditionType::Stalled).is_none());
    assert_eq!((ready(&world).0, minutes(&world)), ("True", vec!["20:03".to_owned()]));
}

#[test]
fn what_the_api_server_refuses_is_told_and_tried_again() {
    let mut world = World::new(&json!({}));
    world.pass(60);
    world.decide();
    world.refused = Some("exceeded quota".to_owned());
    let decision = world.decide();
    assert_eq!(ready(&world), ("False", "RunNotCreated"));
    assert!(matches!(decision.actions.as_slice(), [Action::Start(_)]));
    world.refused = None;
    world.after(5);
    world.after(5);
    assert_eq!((ready(&world).0, world.started.len()), ("True", 1));
}

#[test]
fn a_run_that_could_not_be_created_gives_way_to_the_next_one() {
    for (patch, seconds, wanted) in
        [(json!({}), 60, "20:02"), (json!({"startingDeadline": "20s"}), 21, "20:02")]
    {
        let mut world = World::new(&patch);
        world.pass(60);
        world.decide();
        world.refused = Some("exceeded quota".to_owned());
        world.pass(10);
        world.decide();
        assert_eq!(count(&world, "RunMissed"), 0);
        world.pass(seconds - 10);
        world.decide();
        assert_eq!(count(&world, "RunMissed"), 1, "{patch}");
        world.refused = None;
        world.after(60 - seconds);
        world.after(1);
        assert_eq!((minutes(&world), count(&world, "RunMissed")), (vec![wanted.to_owned()], 1), "{patch}");
    }
}

#[test]
fn a_run_that_could_not_be_created_is_left_out_when_nobody_wants_it_any_more() {
    let asked = json!({"suspend": true, "runNow": {"token": "by hand"}});
    for (patch, is_asked) in [(json!({}), false), (asked, true)] {
        let mut world = World::new(&patch);
        world.pass(60);
        world.decide();
        world.refused = Some("exceeded quota".to_owned());
        world.decide();
        assert_eq!(ready(&world), ("False", "RunNotCreated"), "{patch}");
        world.edit(|spec| {
            spec.suspend = true;
            spec.run_now = None;
        });
        world.refused = None;
        let decision = world.after(1);
        assert_eq!(decision.actions, [], "{patch}");
        assert_eq!((ready(&world).1, count(&world, "RunSkipped")), ("Suspended", 1), "{patch}");
        assert!(world.status.starting.is_none() && world.status.active.is_empty());
        assert_eq!(world.status.run_now.as_ref().is_some_and(|handled| handled.job.is_none()), is_asked);
        world.edit(|spec| spec.suspend = false);
        world.after(1);
        world.after(60);
        assert_eq!((ready(&world).0, world.started.len()), ("True", 1), "{patch}: what comes later is made");
    }
}

#[test]
fn an_export_job_of_somebody_elses_is_left_alone() {
    let mut world = World::new(&json!({}));
    world.pass(60);
    world.decide();
    let subject = Subject {
        name: "nightly",
        generation: 1,
        created: world.created,
        spec: &world.spec,
        restored: false,
    };
    let observed = Observed { foreign: vec!["nightly-29927281".to_owned()], ..Observed::default() };
    let verdict = super::super::validate::validate(&world.spec);
    let decision = super::decide(&subject, &verdict, &observed, &world.status, world.now);
    assert!(decision.actions.is_empty() && decision.requeue.is_some());
    assert!(is_true(&decision.status.conditions, ConditionType::Stalled));
    assert_eq!(decision.events[0].reason, "NameTaken");
}

#[test]
fn a_clock_that_goes_back_starts_nothing_again() {
    let mut world = World::new(&json!({}));
    for _ in 0..3 {
        world.after(60);
        world.end(true);
        world.after(1);
        world.pass(-1);
    }
    world.pass(-150);
    for _ in 0..15 {
        world.after(10);
        world.end(true);
    }
    assert_eq!(minutes(&world), ["20:01", "20:02", "20:03"]);
    world.after(60);
    assert_eq!(minutes(&world).last().unwrap(), "20:04");
}

#[test]
fn the_oldest_that_have_ended_are_deleted_and_none_that_runs() {
    let mut world =
        World::new(&json!({"concurrencyPolicy": "Allow", "historyLimits": {"succeeded": 2, "failed": 1}}));
    for _ in 0..10 {
        world.after(60);
    }
    for (index, run) in world.runs.values_mut().take(8).enumerate() {
        run.state = if index % 2 == 0 {
            RunState::Succeeded { ended: world.now }
        } else {
            RunState::Failed { why: "DataError".to_owned() }
        };
        run.is_removable = index != 2;
    }
    world.after(1);
    let left: Vec<i64> =
        world.runs.values().map(|run| run.scheduled.duration_since(world.created).as_secs() / 60).collect();
    // Those of minutes 5 and 7 succeeded last, that of 8 failed last, that of 3 is not cleaned up, 9 and 10 run.
    assert_eq!(left, [3, 5, 7, 8, 9, 10]);
}

#[test]
fn a_run_that_vanished_is_told_once() {
    let mut world = World::new(&json!({}));
    world.after(60);
    world.after(1);
    world.runs.clear();
    world.after(1);
    world.after(1);
    assert_eq!(count(&world, "RunVanished"), 1);
    assert_eq!(world.outcomes.get(&RunOutcome::Failed), Some(&1));
    assert!(world.status.active.is_empty());
}
