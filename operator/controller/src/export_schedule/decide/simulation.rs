//! A world for decisions: a clock, ExportJobs that run and end, and a controller that may die anywhere.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::job::Window;
use pgexport_api::schedule::{ConcurrencyPolicy, ExportScheduleSpec, ExportScheduleStatus, RunNow};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fact::{RunFacts, RunState};
use super::super::fixture::schedule;
use super::super::validate::validate;
use super::*;

/// A schedule, its ExportJobs, and what has happened.
pub struct World {
    pub spec: ExportScheduleSpec,
    pub generation: i64,
    pub created: Timestamp,
    pub now: Timestamp,
    pub status: ExportScheduleStatus,
    pub runs: BTreeMap<String, RunFacts>,
    pub refused: Option<String>,
    pub restored: bool,
    /// All that were ever created.
    pub started: Vec<(String, Timestamp)>,
    /// The windows of those that have succeeded, in their order.
    pub delivered: Vec<Window>,
    /// The reasons of all Events.
    pub told: Vec<&'static str>,
    /// How many runs came to which outcome.
    pub outcomes: BTreeMap<RunOutcome, u64>,
}

impl World {
    pub fn new(patch: &Value) -> Self {
        let created = "2026-11-25T20:00:00Z".parse().unwrap();
        Self {
            spec: schedule(patch).spec,
            generation: 1,
            created,
            now: created,
            status: ExportScheduleStatus::default(),
            runs: BTreeMap::new(),
            refused: None,
            restored: false,
            started: Vec::new(),
            delivered: Vec::new(),
            told: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Time passes, and then it is decided and acted.
    pub fn after(&mut self, seconds: i64) -> Decision {
        self.pass(seconds);
        self.reconcile()
    }

    /// Decides and acts.
    pub fn reconcile(&mut self) -> Decision {
        let decision = self.decide();
        for action in &decision.actions {
            self.act(action);
        }
        decision
    }

    /// Decides and writes the status; the controller dies before it acts.
    pub fn decide(&mut self) -> Decision {
        let subject = Subject {
            name: "nightly",
            generation: self.generation,
            created: self.created,
            spec: &self.spec,
            restored: self.restored,
        };
        let verdict = validate(&self.spec);
        let observed = Observed {
            runs: self.runs.values().cloned().collect(),
            foreign: Vec::new(),
            refused: self.refused.clone(),
        };
        let decision = super::decide(&subject, &verdict, &observed, &self.status, self.now);
        self.told.extend(decision.events.iter().map(|event| event.reason));
        for (outcome, number) in &decision.outcomes {
            *self.outcomes.entry(*outcome).or_default() += number;
        }
        self.status = through_the_api(&decision.status);
        assert_eq!(self.status, decision.status, "it reads back otherwise than it was written");
        // Upon its own status it decides the same, and tells nothing again but that others are cancelled, until they are.
        let again = super::decide(&subject, &verdict, &observed, &self.status, self.now);
        let twice: Vec<_> = again.events.iter().filter(|event| event.reason != "RunReplaced").collect();
        assert!(twice.is_empty() && again.outcomes.is_empty(), "told twice: {twice:?}");
        assert_eq!(decision.status.observed_generation, Some(self.generation));
        for condition in &decision.status.conditions {
            assert_eq!(condition.observed_generation, Some(self.generation));
        }
        decision
    }

    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Start(run) => {
                if self.runs.contains_key(&run.name) {
                    return;
                }
                let time = run.scheduled_time.0;
                assert!(
                    self.started.iter().all(|(name, _)| *name != run.name),
                    "{} is started twice: {:?}",
                    run.name,
                    self.started
                );
                if run.token.is_none() {
                    assert!(
                        self.started.iter().all(|(_, started)| *started != time),
                        "{time} is started twice"
                    );
                }
                let active = self.runs.values().filter(|run| run.is_active()).count();
                if self.spec.concurrency_policy != ConcurrencyPolicy::Allow {
                    assert_eq!(active, 0, "{} is started beside another one", run.name);
                }
                self.started
                    .push((run.name.clone(), if run.token.is_none() { time } else { Timestamp::MIN }));
                let facts = RunFacts {
                    name: run.name.clone(),
                    uid: format!("uid-of-{}", run.name),
                    scheduled: time,
                    token: run.token.clone(),
                    window: run.window.clone(),
                    state: RunState::Active { cancelling: false },
                    is_removable: true,
                };
                self.runs.insert(run.name.clone(), facts);
            }
            Action::Cancel { name, uid } => {
                if let Some(run) = self.runs.get_mut(name) {
                    assert_eq!(run.uid, *uid);
                    assert!(run.is_active(), "{name} has ended, and is cancelled");
                    run.state = RunState::Active { cancelling: true };
                }
            }
            Action::Delete { name, uid } => {
                let run = self.runs.remove(name).expect("it is there");
                assert_eq!(run.uid, *uid);
                assert!(!run.is_active(), "{name} is deleted while it runs");
            }
        }
    }

    /// The oldest run that is active ends.
    pub fn end(&mut self, well: bool) {
        let (now, active) = (self.now, self.runs.values_mut().filter(|run| run.is_active()));
        let Some(run) = active.min_by_key(|run| run.scheduled) else { return };
        if well {
            run.state = RunState::Succeeded { ended: now };
            self.delivered.extend(run.window.clone());
        } else {
            run.state = RunState::Failed { why: "DataError".to_owned() };
        }
    }

    /// Somebody deletes the oldest run that the schedule has seen.
    fn delete(&mut self) {
        let seen = self.status.active.iter().find(|name| {
            let is_starting = self.status.starting.as_ref().is_some_and(|run| run.name == **name);
            !is_starting && self.runs.get(*name).is_some_and(RunFacts::is_active)
        });
        if let Some(name) = seen {
            self.runs.remove(name);
        }
    }

    pub fn edit(&mut self, change: impl FnOnce(&mut ExportScheduleSpec)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    /// Whether the run that the schedule itself has started last is there.
    fn remembers(&self) -> bool {
        let last = self.started.iter().rfind(|(_, time)| *time != Timestamp::MIN);
        last.is_none_or(|(name, _)| self.runs.contains_key(name))
    }

    /// Names of the runs that are there.
    pub fn names(&self) -> Vec<&str> {
        self.runs.keys().map(String::as_str).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reconcile,
    DieBeforeActing,
    Pass(u16),
    ClockSteps(i16),
    Succeed,
    Fail,
    Delete,
    Suspend(bool),
    RunNow(u8, bool),
    Edit(&'static str),
    LoseStatus,
}

fn steps(loses_status: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Reconcile),
        2 => Just(Step::DieBeforeActing),
        6 => (1_u16..200).prop_map(Step::Pass),
        1 => (-900_i16..900).prop_map(Step::ClockSteps),
        4 => Just(Step::Succeed),
        2 => Just(Step::Fail),
        1 => Just(Step::Delete),
        1 => any::<bool>().prop_map(Step::Suspend),
        1 => (0_u8..4, any::<bool>()).prop_map(|(token, dated)| Step::RunNow(token, dated)),
        1 => proptest::sample::select(vec!["* * * * *", "*/2 * * * *", "nonsense"]).prop_map(Step::Edit),
        1 => Just(if loses_status { Step::LoseStatus } else { Step::Reconcile }),
    ]
}

fn live(world: &mut World, step: &Step, used: &mut BTreeSet<u8>) {
    match step {
        Step::Reconcile => drop(world.reconcile()),
        Step::DieBeforeActing => drop(world.decide()),
        Step::Pass(seconds) => world.pass((*seconds).into()),
        Step::ClockSteps(seconds) => world.pass((*seconds).into()),
        Step::Succeed => world.end(true),
        Step::Fail => world.end(false),
        Step::Delete => world.delete(),
        Step::Suspend(suspend) => world.edit(|spec| spec.suspend = *suspend),
        // A token that was used before and comes back is a new one to the schedule; its ExportJob's name is not.
        Step::RunNow(token, dated) if used.insert(*token) => {
            let scheduled_time = dated.then_some(Time(world.now - SignedDuration::from_mins(7)));
            world
                .edit(|spec| spec.run_now = Some(RunNow { token: format!("token-{token}"), scheduled_time }));
        }
        Step::Edit(schedule) => world.edit(|spec| (*schedule).clone_into(&mut spec.schedule)),
        // What the schedule started last tells the new status of itself, where nobody has deleted it; a token does not come back.
        Step::LoseStatus if world.remembers() => {
            world.edit(|spec| spec.run_now = None);
            world.status = ExportScheduleStatus::default();
        }
        Step::RunNow(..) | Step::LoseStatus => {}
    }
}

/// As it reads back once it was written.
fn through_the_api(status: &ExportScheduleStatus) -> ExportScheduleStatus {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}

/// Lets a schedule that is right and not suspended go on until it is at rest and a run is delivered.
fn settle(world: &mut World) {
    world.edit(|spec| {
        spec.suspend = false;
        "* * * * *".clone_into(&mut spec.schedule);
    });
    let handled = world.status.handled_time.as_ref().map(|time| time.0);
    world.now = handled.map_or(world.now, |handled| handled.max(world.now));
    let before = world.started.len();
    for _ in 0..60 {
        world.reconcile();
        world.end(true);
        world.pass(31);
    }
    assert!(world.started.len() > before, "no run is started any more: {:#?}", world.status);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// That no time and no token is started twice, and that none is beside another one but under Allow, is asserted whenever
    /// a run is started.
    #[test]
    fn no_history_starts_a_run_twice(
        policy in proptest::sample::select(vec!["Allow", "Forbid", "Replace"]),
        deadline in proptest::option::of(20_u32..300),
        limits in (0_u32..3, 0_u32..3),
        history in proptest::collection::vec(steps(false), 0..80),
    ) {
        let mut world = World::new(&json!({
            "concurrencyPolicy": policy, "historyLimits": {"succeeded": limits.0, "failed": limits.1},
        }));
        world.spec.starting_deadline = deadline.map(|seconds| Duration::from_secs(seconds.into()).into());
        let mut used = BTreeSet::new();
        for step in &history {
            live(&mut world, step, &mut used);
        }
        settle(&mut world);
        for _ in 0..20 {
            world.reconcile();
            world.end(false);
        }
        let (ended, active): (Vec<_>, Vec<_>) = world.runs.values().partition(|run| !run.is_active());
        prop_assert!(active.len() <= 1 && ended.len() <= (limits.0 + limits.1 + 1) as usize, "{:?}", world.names());
    }

    /// Each window begins where the last one that was delivered has ended, whatever fails, dies or is asked for; also when the
    /// status is lost, while the last ExportJob that succeeded is still there.
    #[test]
    fn windows_are_contiguous_and_disjoint(
        delay in 1_u32..400_000,
        history in proptest::collection::vec(steps(true), 0..80),
    ) {
        let mut world = World::new(&json!({
            "window": {"initialStart": "2026-11-25T19:00:00.7Z", "settleDelay": format!("{delay}ms")},
        }));
        let mut used = BTreeSet::new();
        for step in &history {
            live(&mut world, step, &mut used);
        }
        settle(&mut world);
        let mut end = Time("2026-11-25T19:00:00Z".parse().unwrap());
        for window in &world.delivered {
            prop_assert_eq!(&window.start, &end);
            prop_assert!(window.end > window.start && window.end.0 <= world.now);
            end = window.end.clone();
        }
        let behind = world.now.duration_since(end.0).as_secs();
        prop_assert!(behind <= i64::from(delay / 1000) + 180, "windows are {behind} s behind");
    }
}
