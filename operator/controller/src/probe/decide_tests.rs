//! Decisions about probes: one by one, and over random histories.

use pgexport_api::condition::{find, is_true};
use pgexport_api::source::ServerRole;
use proptest::prelude::*;

use super::*;
use crate::job::fact::{ContainerState, Ended, PodFacts};
use crate::job::fixture;
use crate::job::trouble::Trouble;

const UID: &str = "50c5e0d1-1111";

struct Story {
    generation: i64,
    requested_at: Option<&'static str>,
    staging: bool,
    is_awaited: bool,
    state: State,
    job: Option<JobFacts>,
    refused: Option<String>,
    now: Timestamp,
    started: u32,
}

impl Story {
    fn new() -> Self {
        Self {
            generation: 1,
            requested_at: None,
            staging: false,
            is_awaited: false,
            state: State::default(),
            job: None,
            refused: None,
            now: "2026-11-23T10:00:00Z".parse().unwrap(),
            started: 0,
        }
    }

    fn ready(&self) -> (&str, &str) {
        let ready = find(&self.state.conditions, ConditionType::Ready).unwrap();
        (&ready.status, &ready.reason)
    }

    fn number(&self) -> u32 {
        self.state.probe.as_ref().map_or(0, |probe| probe.number)
    }

    fn after(&mut self, seconds: i64) -> Decision {
        self.now += SignedDuration::from_secs(seconds);
        self.decide(true)
    }

    fn decide(&mut self, acts: bool) -> Decision {
        let subject = Subject {
            kind: "ExportSource",
            name: "findings-db",
            uid: UID,
            generation: self.generation,
            requested_at: self.requested_at,
            staging: self.staging,
            is_awaited: self.is_awaited,
        };
        let observed = Observed {
            jobs: self.job.clone().into_iter().collect(),
            foreign: Vec::new(),
            refused: self.refused.clone(),
        };
        let decision = decide(&subject, &observed, &self.state, self.now);
        self.state = decision.state.clone();
        let again = decide(&subject, &observed, &self.state, self.now);
        assert!(again.events.is_empty(), "told twice: {:?}", again.events);
        // A result may be followed by the start of a probe that was asked for meanwhile, and that by nothing.
        let begun = self.state.probe.as_ref().is_some_and(|probe| probe.time.is_none());
        assert!(!begun || again.state == self.state, "applying its own state changes something");
        assert_eq!(
            decide(&subject, &observed, &again.state, self.now).state,
            again.state,
            "it does not come to rest"
        );
        for condition in &self.state.conditions {
            assert_eq!(condition.observed_generation, Some(self.generation));
        }
        if acts {
            for action in &decision.actions {
                self.act(action);
            }
        }
        decision
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::EnsureJob(number) => {
                let name = job_name("findings-db", UID, *number);
                if let Some(job) = &self.job {
                    assert_eq!(job.name, name, "two probes at a time");
                } else {
                    self.started += 1;
                    self.job = Some(fresh(name, self.now));
                }
            }
            Action::EnsureOrder { .. } => assert!(self.job.is_some()),
            Action::DeleteJob { name, .. } => {
                assert_eq!(self.job.as_ref().map(|job| &job.name), Some(name));
                self.job = None;
            }
        }
    }

    fn end(&mut self, outcome: Option<Outcome>) {
        let Some(job) = &mut self.job else { return };
        let well = !matches!(outcome, Some(Outcome::Failed(_)));
        job.state = if well {
            JobState::Complete
        } else {
            JobState::Failed { reason: "BackoffLimitExceeded".to_owned() }
        };
        job.pods = vec![pod(ContainerState::Ended(Ended {
            exit_code: Some(if well { 0 } else { 77 }),
            out_of_memory: false,
            at: None,
            outcome,
            note: None,
        }))];
    }
}

fn fresh(name: String, now: Timestamp) -> JobFacts {
    JobFacts { pods: vec![pod(ContainerState::Waiting(None))], ..fixture::fresh(name, now) }
}

/// A probe's Job gives its pod no index.
fn pod(container: ContainerState) -> PodFacts {
    PodFacts { index: None, ..fixture::pod(container) }
}

fn probed() -> Outcome {
    Outcome::SourceProbed {
        server: Server { version: "17.7".to_owned(), role: ServerRole::Replica },
        login_may: Vec::new(),
        aurora_s3: None,
    }
}

fn refused() -> Outcome {
    Outcome::Failed(failure::failure(
        Reason::AuthenticationFailed,
        "password authentication failed for user \"exporter\"",
    ))
}

#[test]
fn a_probe_that_goes_well() {
    let mut story = Story::new();
    let decision = story.after(0);
    assert_eq!((story.ready(), decision.actions), (("Unknown", "Probing"), vec![Action::EnsureJob(1)]));
    let decision = story.after(1);
    assert!(matches!(decision.actions.as_slice(), [Action::EnsureOrder { number: 1, .. }]));
    story.end(Some(probed()));
    let decision = story.after(2);
    assert_eq!(story.ready(), ("True", "Probed"));
    assert_eq!(decision.server.map(|server| server.version), Some("17.7".to_owned()));
    assert_eq!(decision.events.iter().map(|event| event.reason).collect::<Vec<_>>(), ["Ready"]);
    assert!(story.job.is_none(), "its Job is deleted");
    let decision = story.after(3600);
    assert_eq!((decision.actions.len(), decision.requeue), (0, None), "a ready source is left alone");
}

#[test]
fn a_failed_probe_is_told_and_repeated_ever_more_rarely() {
    let mut story = Story::new();
    story.after(0);
    let mut waits = Vec::new();
    for number in 1..=9 {
        assert_eq!(story.number(), number);
        story.end(Some(refused()));
        let decision = story.after(1);
        assert_eq!(story.ready(), ("False", "AuthenticationFailed"));
        assert!(is_true(&story.state.conditions, ConditionType::Stalled));
        assert_eq!(decision.events.len(), usize::from(number == 1), "it is told once");
        let wait = decision.requeue.unwrap().as_secs();
        waits.push(wait);
        story.after(i64::try_from(wait).unwrap());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    let message = &find(&story.state.conditions, ConditionType::Ready).unwrap().message;
    assert!(message.contains("user \"exporter\"") && message.contains("pg_hba.conf"), "{message}");
    story.end(Some(probed()));
    story.after(1);
    assert_eq!((story.ready(), story.state.probe.clone().unwrap().failures), (("True", "Probed"), 0));
    assert!(find(&story.state.conditions, ConditionType::Stalled).is_none());
}

#[test]
fn a_job_that_waits_makes_repetitions_more_frequent() {
    let mut story = Story::new();
    story.after(0);
    for _ in 1..=6 {
        story.end(Some(refused()));
        let wait = story.after(1).requeue.unwrap().as_secs();
        story.after(i64::try_from(wait).unwrap());
    }
    story.end(Some(refused()));
    assert_eq!(story.after(1).requeue, Some(Duration::from_mins(10)));
    story.is_awaited = true;
    assert_eq!(story.after(10).requeue, Some(Duration::from_secs(20)));
    assert_eq!(story.after(20).actions, [Action::EnsureJob(8)]);
}

#[test]
fn a_new_generation_is_probed_at_once_even_while_a_probe_runs() {
    let mut story = Story::new();
    story.after(0);
    story.generation = 2;
    story.after(1);
    assert_eq!(story.ready(), ("Unknown", "Probing"));
    story.after(5);
    assert_eq!((story.number(), story.state.probe.clone().unwrap().generation), (2, 2));
}

#[test]
fn an_annotation_asks_for_a_probe_and_ready_stays_meanwhile() {
    let mut story = Story::new();
    story.after(0);
    story.end(Some(probed()));
    story.after(1);
    story.requested_at = Some("2026-11-23T11:00:00Z");
    story.after(1);
    assert_eq!((story.number(), story.ready()), (2, ("True", "Probed")));
    story.end(Some(refused()));
    story.after(1);
    assert_eq!(story.ready(), ("False", "AuthenticationFailed"));
}

#[test]
fn a_sink_that_becomes_a_staging_is_probed_as_such() {
    let mut story = Story::new();
    story.after(0);
    story.end(Some(Outcome::SinkProbed { capabilities: Vec::new() }));
    story.after(1);
    story.staging = true;
    story.after(1);
    assert!(story.state.probe.clone().unwrap().staging && story.number() == 2);
    story.end(Some(Outcome::SinkProbed { capabilities: Vec::new() }));
    story.after(1);
    story.staging = false;
    let decision = story.after(60);
    assert_eq!((story.number(), decision.actions.len()), (2, 0), "what can do more can do less");
}

#[test]
fn a_pod_that_does_not_start_is_told_at_once_and_given_up_after_five_minutes() {
    let mut story = Story::new();
    story.after(0);
    let trouble = Trouble::new(Reason::ImagePullFailed, "image x cannot be pulled".to_owned());
    story.job.as_mut().unwrap().trouble = Some(trouble);
    story.after(5);
    assert_eq!(
        (story.ready(), story.state.probe.clone().unwrap().time),
        (("False", "ImagePullFailed"), None)
    );
    story.after(294);
    assert_eq!(story.state.probe.clone().unwrap().time, None);
    story.after(1);
    assert_eq!(
        (story.ready(), story.state.probe.clone().unwrap().failures),
        (("False", "ImagePullFailed"), 1)
    );
    assert!(story.job.is_none());
}

#[test]
fn a_probe_that_hangs_says_so_without_naming_a_field() {
    let mut story = Story::new();
    story.after(0);
    // Scheduling and pulling took four minutes of their own.
    let started = Some(story.now + SignedDuration::from_mins(4));
    story.job.as_mut().unwrap().pods = vec![PodFacts { started, ..pod(ContainerState::Running) }];
    story.after(299);
    assert_eq!(story.ready(), ("Unknown", "Probing"));
    story.after(1);
    let ready = find(&story.state.conditions, ConditionType::Ready).unwrap();
    assert!(
        ready.message.contains("did not end within 60 s") && !ready.message.contains("deadlines"),
        "{}",
        ready.message
    );
}

#[test]
fn what_the_api_server_refuses_is_a_failure() {
    let mut story = Story::new();
    story.decide(false);
    story.refused = Some("exceeded quota".to_owned());
    story.after(5);
    assert_eq!(story.ready(), ("False", "PodNotStarted"));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reconcile,
    DieBeforeActing,
    Wait(u16),
    Succeeds,
    Fails,
    EndsSilently,
    Hangs,
    IsDeleted,
    NewGeneration,
    Request,
    Staging(bool),
    Awaited(bool),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Reconcile),
        1 => Just(Step::DieBeforeActing),
        3 => (1_u16..900).prop_map(Step::Wait),
        2 => Just(Step::Succeeds),
        2 => Just(Step::Fails),
        1 => Just(Step::EndsSilently),
        1 => Just(Step::Hangs),
        1 => Just(Step::IsDeleted),
        1 => Just(Step::NewGeneration),
        1 => Just(Step::Request),
        1 => any::<bool>().prop_map(Step::Staging),
        1 => any::<bool>().prop_map(Step::Awaited),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The invariants are asserted in `Story`: its own state changes nothing, nothing is told twice, generations are
    /// current, and never are there two probes at a time.
    #[test]
    fn every_history_keeps_the_invariants_and_ends_in_a_verdict(history in proptest::collection::vec(steps(), 0..60)) {
        let mut story = Story::new();
        let mut requests = ["a", "b", "c"].into_iter().cycle();
        for step in history {
            match step {
                Step::Reconcile => drop(story.decide(true)),
                Step::DieBeforeActing => drop(story.decide(false)),
                Step::Wait(seconds) => story.now += SignedDuration::from_secs(seconds.into()),
                Step::Succeeds => story.end(Some(probed())),
                Step::Fails => story.end(Some(refused())),
                Step::EndsSilently => story.end(None),
                Step::Hangs => if let Some(job) = &mut story.job { job.pods = vec![pod(ContainerState::Running)]; },
                Step::IsDeleted => story.job = None,
                Step::NewGeneration => story.generation += 1,
                Step::Request => story.requested_at = requests.next(),
                Step::Staging(staging) => story.staging = staging,
                Step::Awaited(is_awaited) => story.is_awaited = is_awaited,
            }
        }
        let mut rounds = 0;
        while !(story.decide(true).requeue.is_none() && story.ready().0 == "True") {
            rounds += 1;
            prop_assert!(rounds < 100, "it never ends: {:#?}", story.state);
            story.end(Some(probed()));
            let wait = story.decide(true).requeue.unwrap_or_default();
            story.now += SignedDuration::try_from(wait).unwrap();
        }
        prop_assert!(story.job.is_none(), "a Job is left behind");
    }
}
