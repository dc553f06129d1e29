//! Metrics of `ExportSchedules`. All of a schedule's go when it is deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::ExportSchedule;
use pgexport_api::condition::{ConditionType, is_true};
use pgexport_api::naming::RESTORED_LABEL;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Objects;
use crate::export_schedule::decide::RunOutcome;

/// An `ExportSchedule`, as far as metrics tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleFacts {
    namespace: String,
    name: String,
    uid: String,
    is_ready: bool,
    is_suspended: bool,
    active: usize,
    last_schedule: Option<Timestamp>,
    last_success: Option<Timestamp>,
    next_schedule: Option<Timestamp>,
}

impl ScheduleFacts {
    /// What its spec and its status say.
    #[must_use]
    pub fn of(schedule: &ExportSchedule) -> Self {
        let status = schedule.status.clone().unwrap_or_default();
        Self {
            namespace: schedule.namespace().unwrap_or_default(),
            name: schedule.name_any(),
            uid: schedule.uid().unwrap_or_default(),
            is_ready: is_true(&status.conditions, ConditionType::Ready),
            is_suspended: schedule.spec.suspend || schedule.labels().contains_key(RESTORED_LABEL),
            active: status.active.len(),
            last_schedule: status.last_schedule_time.map(|time| time.0),
            last_success: status.last_successful_time.map(|time| time.0),
            next_schedule: status.next_schedule_time.map(|time| time.0),
        }
    }
}

/// How the runs of each schedule went since the controller was started, by the schedule's uid.
#[derive(Clone, Debug, Default)]
pub struct ScheduleRuns(Arc<Mutex<HashMap<String, Counts>>>);

type Counts = BTreeMap<RunOutcome, u64>;

impl ScheduleRuns {
    /// Counts what a decision about a schedule has settled.
    pub fn count(&self, uid: &str, outcomes: &Counts) {
        if outcomes.is_empty() {
            return;
        }
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = runs.entry(uid.to_owned()).or_default();
        for (outcome, number) in outcomes {
            *counts.entry(*outcome).or_default() += number;
        }
    }

    /// The counts of those that there are. All others are forgotten.
    fn of(&self, schedules: &[ScheduleFacts]) -> HashMap<String, Counts> {
        let known: HashSet<&str> = schedules.iter().map(|schedule| schedule.uid.as_str()).collect();
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|uid, _| known.contains(uid.as_str()));
        runs.clone()
    }
}

/// What is told of each schedule now: the metric's name, its help, and its value; nothing where there is none.
type Gauge = (&'static str, &'static str, fn(&ScheduleFacts) -> Option<i64>);

const GAUGES: [Gauge; 6] = [
    ("export_schedule_ready", "Whether the ExportSchedule can make runs (its condition Ready)", |facts| {
        Some(i64::from(facts.is_ready))
    }),
    ("export_schedule_suspended", "Whether the ExportSchedule makes no runs for now", |facts| {
        Some(i64::from(facts.is_suspended))
    }),
    ("export_schedule_active", "ExportJobs of the ExportSchedule that have not ended", |facts| {
        Some(i64::try_from(facts.active).unwrap_or(i64::MAX))
    }),
    (
        "export_schedule_last_schedule_timestamp_seconds",
        "The time that the last run which the ExportSchedule has started is for",
        |facts| facts.last_schedule.map(Timestamp::as_second),
    ),
    (
        "export_schedule_last_success_timestamp_seconds",
        "When the last run of the ExportSchedule that succeeded has ended",
        |facts| facts.last_success.map(Timestamp::as_second),
    ),
    (
        "export_schedule_next_schedule_timestamp_seconds",
        "When the next run of the ExportSchedule is due",
        |facts| facts.next_schedule.map(Timestamp::as_second),
    ),
];

/// Tells of the schedules that there are when it is asked.
#[derive(Debug)]
pub struct ScheduleCollector {
    /// Where they are seen.
    pub objects: Arc<dyn Objects>,
    /// How their runs went.
    pub runs: ScheduleRuns,
}

impl Collector for ScheduleCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let schedules = self.objects.schedules();
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for facts in &schedules {
                let labels = [("namespace", facts.namespace.as_str()), ("schedule", facts.name.as_str())];
                if let Some(value) = value(facts) {
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let runs = self.runs.of(&schedules);
        let help = "Runs of the ExportSchedule since the controller was started, by what became of them";
        let mut family =
            encoder.encode_descriptor("export_schedule_runs", help, None, MetricType::Counter)?;
        for facts in &schedules {
            for outcome in RunOutcome::ALL {
                let labels = [
                    ("namespace", facts.namespace.as_str()),
                    ("schedule", facts.name.as_str()),
                    ("outcome", outcome.as_str()),
                ];
                let count = runs.get(&facts.uid).and_then(|counts| counts.get(&outcome)).copied();
                ConstCounter::new(count.unwrap_or_default()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
