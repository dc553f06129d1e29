//! Properties of decisions over random histories: Jobs that run, end, fail, vanish and hang, references that come and go,
//! an operator that dies between writing and acting, and clocks that run on.

mod child;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use pgexport_api::condition::{ConditionType, is_true};
use pgexport_api::job::ChildKind;
use pgexport_api::report::{Cleaned, Kept};
use pgexport_api::{ExportJob, ExportJobStatus, Phase, Reason};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::export_job::dereference::Reference;
use crate::export_job::fixture::{UID, created, direct, job, references, source, tell_pager};
use crate::export_job::receiver;
use crate::job::fact::JobState;
use crate::job::fixture::fresh;
use child::happen;

/// What happens to the newest Job, or around it.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Reconcile,
    DieBeforeActing,
    Wait(u16),
    PodStarts,
    PodHangs,
    PodIsDisrupted,
    PodsAreLost,
    Completes { with_report: bool },
    Fails(Reason),
    BeginsToFail(Reason),
    IsDeleted,
    DeletedJobsGo,
    References { there: bool },
    NewGeneration,
    Suspend(bool),
    Cancel,
    Delete,
}

fn steps() -> impl Strategy<Value = Step> {
    let reason = prop_oneof![
        Just(Reason::ConnectionLost),
        Just(Reason::SnapshotLost),
        Just(Reason::BucketNotFound),
        Just(Reason::InvalidQuery),
    ];
    prop_oneof![
        6 => Just(Step::Reconcile),
        1 => Just(Step::DieBeforeActing),
        3 => (1_u16..2000).prop_map(Step::Wait),
        3 => Just(Step::PodStarts),
        1 => Just(Step::PodHangs),
        1 => Just(Step::PodIsDisrupted),
        1 => Just(Step::PodsAreLost),
        1 => Just(Step::DeletedJobsGo),
        2 => any::<bool>().prop_map(|with_report| Step::Completes { with_report }),
        2 => reason.clone().prop_map(Step::Fails),
        1 => reason.prop_map(Step::BeginsToFail),
        1 => Just(Step::IsDeleted),
        1 => any::<bool>().prop_map(|there| Step::References { there }),
        1 => Just(Step::NewGeneration),
        1 => any::<bool>().prop_map(Step::Suspend),
        1 => prop_oneof![8 => Just(Step::Reconcile), 1 => Just(Step::Cancel), 1 => Just(Step::Delete)],
    ]
}

/// A small API server and Job controller.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct World {
    job: ExportJob,
    generation: i64,
    references: bool,
    status: ExportJobStatus,
    jobs: BTreeMap<String, JobFacts>,
    /// Jobs in the order in which they were made.
    made: Vec<String>,
    deleting: Option<Timestamp>,
    /// Whether Jobs go as soon as they are deleted. Otherwise their pods take their time, or are lost.
    deletes_at_once: bool,
    guarded: bool,
    now: Timestamp,
    /// How many seconds what a failed run has staged is kept.
    retention: u32,
    /// What the Jobs that clean up were made for.
    parts: BTreeMap<String, CleanupPart>,
    left: Left,
    /// Whether its failure was told.
    told: bool,
}

/// What the runs of its attempts have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    staged: bool,
    at_location: bool,
}

impl World {
    fn new(job: ExportJob, retention: u32, deletes_at_once: bool) -> Self {
        let status = ExportJobStatus::default();
        Self {
            job,
            generation: 1,
            references: true,
            status,
            jobs: BTreeMap::new(),
            made: Vec::new(),
            deleting: None,
            deletes_at_once,
            guarded: false,
            now: created(),
            retention,
            parts: BTreeMap::new(),
            left: Left::default(),
            told: false,
        }
    }

    fn decide(&self, status: &ExportJobStatus) -> Decision {
        let mut references = references();
        let retention = json!({"onFailure": format!("{}s", self.retention)});
        let source = source(&json!({"spec": {"staging": {"retention": retention}}}));
        references.source =
            if self.references { Reference::Found(Arc::new(source)) } else { Reference::Missing };
        if !self.references {
            references.receiver = Some(Reference::Missing);
        }
        let verdict = Verdict::of("exports", &self.job, &references, status, &[]);
        let subject = Subject {
            name: "acme-findings",
            uid: UID,
            generation: self.generation,
            created: created(),
            spec: &self.job.spec,
            restored: false,
            deleting: self.deleting,
            guarded: self.guarded,
        };
        let observed = Observed {
            jobs: self.jobs.values().cloned().collect(),
            admission: Some(Admission::Admitted),
            receiver: receiver::validate("exports", &self.job, &references),
            ..Observed::default()
        };
        decide(&subject, &verdict, &observed, status, self.now)
    }

    fn reconcile(&mut self, acts: bool) -> Result<Option<Duration>, TestCaseError> {
        let before = self.status.clone();
        let decision = self.decide(&before);
        prop_assert_eq!(decision.status.observed_generation, Some(self.generation));
        for condition in &decision.status.conditions {
            prop_assert_eq!(condition.observed_generation, Some(self.generation));
        }
        if before.phase.is_some_and(Phase::is_terminal) {
            let mut refreshed = before.clone();
            refreshed.observed_generation = decision.status.observed_generation;
            refreshed.conditions.clone_from(&decision.status.conditions);
            refreshed.cleanup.clone_from(&decision.status.cleanup);
            refreshed.jobs.clone_from(&decision.status.jobs);
            refreshed.notification.clone_from(&decision.status.notification);
            prop_assert_eq!(&decision.status, &refreshed, "an end is the end");
            let is_clean = before.cleanup.as_ref().is_some_and(|cleanup| cleanup.completion_time.is_some());
            let is_told = notify::is_over(&before);
            prop_assert!(!(is_clean && is_told) || decision.events.is_empty(), "told after all was over");
            let only_cleans = decision.actions.iter().all(|action| match action {
                Action::EnsureJob(child) | Action::EnsureOrder { child, .. } => match child.kind {
                    ChildKind::Cleanup => !is_clean,
                    ChildKind::Notification => !is_told && before.phase == Some(Phase::Failed),
                    ChildKind::Export | ChildKind::Transfer => false,
                },
                Action::DeleteJob { .. } | Action::Release => true,
                Action::Guard => !is_told,
            });
            prop_assert!(only_cleans, "an end begins something: {:?}", decision.actions);
        }
        let begins = decision.actions.iter().any(|action| {
            let works = [ChildKind::Export, ChildKind::Transfer];
            matches!(action, Action::EnsureJob(child) if works.contains(&child.kind))
        });
        prop_assert!(
            !begins || self.guarded || decision.actions.contains(&Action::Guard),
            "a Job without a finalizer"
        );
        prop_assert!(
            !begins || self.deleting.is_none() && !self.job.spec.cancel,
            "it begins although it is to end"
        );
        // What reads back from the API server is what was written.
        let text = serde_json::to_string(&decision.status).unwrap();
        let stored: ExportJobStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&stored, &decision.status);
        let again = self.decide(&stored);
        prop_assert_eq!(&again.status, &stored, "applying its own status changes something");
        prop_assert!(again.events.is_empty(), "told twice: {:?}", again.events);

        let is_terminal = stored.phase.is_some_and(Phase::is_terminal);
        self.status = stored;
        if acts {
            for action in decision.actions {
                self.act(&action)?;
            }
        }
        let live =
            |kind: &str| self.jobs.values().filter(|job| job.name.contains(kind) && job.is_live()).count();
        prop_assert!(live("-0b0c1d2e-e") <= 1, "two live exports");
        prop_assert!(live("-0b0c1d2e-t") <= 1, "two live transfers");
        prop_assert!(live("-0b0c1d2e-c") <= 1, "two live cleanups");
        prop_assert!(live("-0b0c1d2e-n") <= 1, "two live notifications");
        prop_assert!(!(self.told && acts) || live("-0b0c1d2e-n") == 0, "it is told again");
        let unsettled = |kind: &str| {
            self.jobs.values().filter(|job| job.name.contains(kind) && !job.has_settled(self.now)).count()
        };
        prop_assert!(unsettled("-0b0c1d2e-e") <= 1, "an export begins while another one ends");
        prop_assert!(unsettled("-0b0c1d2e-t") <= 1, "a transfer begins while another one ends");
        let works = live("-0b0c1d2e-e") + live("-0b0c1d2e-t");
        prop_assert!(works == 0 || live("-0b0c1d2e-c") == 0, "it is cleaned up while it works");
        let is_suspended = self.status.phase == Some(Phase::Suspended);
        prop_assert!(!(is_suspended && acts) || live("-0b0c1d2e-") == 0, "something runs on while suspended");
        prop_assert!(!(is_terminal && acts) || works == 0, "something runs on after the end");
        let progress = self.status.progress.as_ref().map_or(0, |progress| progress.percent);
        prop_assert_eq!(progress == 100, self.status.phase == Some(Phase::Succeeded));
        prop_assert!(self.is_over() || !acts || decision.requeue.is_some(), "nothing would wake it");
        Ok(decision.requeue)
    }

    fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::EnsureJob(child) => {
                let name = child.name("acme-findings", UID);
                let direct = self.job.spec.workers == 1;
                let fresh = JobFacts { direct, ..fresh(name.clone(), self.now) };
                if !self.jobs.contains_key(&name) {
                    match child.kind {
                        ChildKind::Cleanup => self.begin_cleanup(&name)?,
                        ChildKind::Export if direct => self.left.at_location = true,
                        ChildKind::Export => self.left.staged = true,
                        ChildKind::Transfer => self.left.at_location = true,
                        ChildKind::Notification => prop_assert!(!self.told, "it is told again"),
                    }
                    self.made.push(name.clone());
                    self.jobs.insert(name, fresh);
                }
            }
            Action::Guard => self.guarded = true,
            Action::Release => self.guarded = false,
            Action::EnsureOrder { .. } => {}
            Action::DeleteJob { name, .. } if self.deletes_at_once => {
                self.jobs.remove(name);
            }
            Action::DeleteJob { name, .. } => {
                if let Some(job) = self.jobs.get_mut(name) {
                    job.deleting.get_or_insert(self.now);
                }
            }
        }
        Ok(())
    }

    /// Notes what a Job that cleans up is made for, and checks that it is time for that.
    fn begin_cleanup(&mut self, name: &str) -> Result<(), TestCaseError> {
        let part = cleanup_part(&self.status);
        if part != CleanupPart::AllButStaged && self.status.phase == Some(Phase::Failed) && self.left.staged {
            let completed = self.status.completion_time.as_ref().unwrap().0;
            let is_over = self.now >= completed + SignedDuration::from_secs(self.retention.into());
            prop_assert!(is_over || self.deleting.is_some(), "what is staged goes before its time");
        }
        if part == CleanupPart::Staged {
            let kept = self.status.cleanup.as_ref().and_then(|cleanup| cleanup.staging_kept.as_ref());
            let is_given_up = kept.is_some_and(|kept| kept.remains.is_some());
            prop_assert!(!self.left.at_location || is_given_up, "the location is forgotten");
        }
        self.parts.insert(name.to_owned(), part);
        Ok(())
    }

    /// The newest Job, which cleans up, has done its work. Returns its report.
    fn clean(&mut self, name: &str) -> Cleaned {
        let part = self.parts[name];
        self.left.at_location &= part == CleanupPart::Staged;
        self.left.staged &= part == CleanupPart::AllButStaged;
        let kept = Kept { objects: 3, location: "s3://staging-bucket/from-us/exports/".to_owned() };
        Cleaned { kept: self.left.staged.then_some(kept), ..Cleaned::default() }
    }

    /// Whether it has ended, and nothing keeps it from being deleted.
    fn is_over(&self) -> bool {
        self.status.phase.is_some_and(Phase::is_terminal) && !self.guarded
    }

    fn newest(&mut self) -> Option<&mut JobFacts> {
        let is_active =
            |name: &&String| self.jobs.get(*name).is_some_and(|job| job.state == JobState::Active);
        let name = self.made.iter().rev().find(is_active)?;
        self.jobs.get_mut(name)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match step {
            Step::Reconcile => drop(self.reconcile(true)?),
            Step::DieBeforeActing => drop(self.reconcile(false)?),
            Step::Wait(seconds) => self.now += SignedDuration::from_secs(seconds.into()),
            Step::References { there } => self.references = there,
            Step::NewGeneration => self.generation += 1,
            Step::Suspend(suspend) => self.job.spec.suspend = suspend,
            Step::Cancel => self.job.spec.cancel = true,
            Step::Delete if self.guarded => self.deleting = self.deleting.or(Some(now)),
            // It is gone at once.
            Step::Delete => {}
            Step::IsDeleted => {
                if let Some(name) = self.newest().map(|job| job.name.clone()) {
                    self.jobs.remove(&name);
                }
            }
            Step::DeletedJobsGo => self.jobs.retain(|_, job| job.deleting.is_none()),
            Step::PodStarts
            | Step::PodHangs
            | Step::PodIsDisrupted
            | Step::PodsAreLost
            | Step::Completes { .. }
            | Step::Fails(_)
            | Step::BeginsToFail(_) => self.happen(step, now),
        }
        Ok(())
    }

    fn happen(&mut self, step: Step, now: Timestamp) {
        let Some(name) = self.newest().map(|job| job.name.clone()) else { return };
        let is_cleaned = matches!(step, Step::Completes { .. }) && self.parts.contains_key(&name);
        let cleaned = if is_cleaned { self.clean(&name) } else { Cleaned::default() };
        self.told |= matches!(step, Step::Completes { with_report: true }) && name.contains("-0b0c1d2e-n");
        if let Some(job) = self.newest() {
            happen(job, step, now, cleaned);
        }
    }

    /// From here on, Jobs end within a minute, one way or another, and the clock follows what was asked for.
    fn run_out(&mut self, ends: &[bool]) -> Result<(), TestCaseError> {
        self.job.spec.suspend = false;
        let begun = self.now;
        for round in 0..2000 {
            if self.is_over() {
                let is_cleaned = is_true(&self.status.conditions, ConditionType::CleanedUp);
                prop_assert!(!is_cleaned || self.left == Left::default(), "left: {:?}", self.left);
                let is_told = is_true(&self.status.conditions, ConditionType::Notified);
                prop_assert!(!is_told || self.told, "nobody was told");
                prop_assert!(!is_told || self.status.phase == Some(Phase::Failed), "it has not failed");
                return Ok(());
            }
            let hangs = self.deleting.is_some() && self.now > begun + SignedDuration::from_mins(30);
            prop_assert!(!hangs, "its deletion hangs");
            let wait = self.reconcile(true)?.unwrap_or(Duration::from_secs(1));
            self.now += SignedDuration::try_from(wait).unwrap();
            let now = self.now;
            self.jobs.retain(|_, job| {
                job.deleting.is_none_or(|since| now < since + SignedDuration::from_secs(30))
            });
            let good = ends[round % ends.len()];
            if self.newest().is_some_and(|job| now >= job.created + SignedDuration::from_mins(1)) {
                let step = if good {
                    Step::Completes { with_report: true }
                } else {
                    Step::Fails(Reason::ConnectionLost)
                };
                self.happen(step, now);
            }
        }
        Err(TestCaseError::fail(format!("it never ends: {:#?}", self.status)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_ends(
        is_direct in any::<bool>(),
        tells in any::<bool>(),
        limit in 0_u32..4,
        retention in prop_oneof![Just(0_u32), 1_u32..30, 1_u32..20_000],
        deletes_at_once in any::<bool>(),
        history in proptest::collection::vec(steps(), 0..60),
        ends in proptest::collection::vec(any::<bool>(), 1..8),
    ) {
        let mut spec = if is_direct { direct() } else { job(&json!({})) };
        spec.spec.retry.limit = limit;
        spec.spec.on_failure = job(&tell_pager()).spec.on_failure.filter(|_| tells);
        let mut world = World::new(spec, retention, deletes_at_once);
        for step in history {
            world.step(step)?;
        }
        world.run_out(&ends)?;
    }
}
