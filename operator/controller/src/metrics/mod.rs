//! Metrics. Gauges are derived from the watch's store when they are read, so that they cannot lie after a restart.

mod schedule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use pgexport_api::Phase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::export_schedule::decide::RunOutcome;
pub use schedule::ScheduleFacts;
use schedule::{ScheduleCollector, ScheduleRuns};

/// What was reconciled, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// The controller's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Reconciled, Counter>,
    durations: Family<Kind, Histogram>,
    schedule_runs: ScheduleRuns,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.001, 4.0, 7))) as fn() -> Histogram,
        );
        Self { reconciles: Family::default(), durations, schedule_runs: ScheduleRuns::default() }
    }
}

impl Metrics {
    /// Counts a reconciliation of a kind; `outcome` is `ok` or an error's category.
    pub fn reconciled(&self, kind: &'static str, outcome: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&Reconciled { kind, outcome }).inc();
        self.durations.get_or_create(&Kind { kind }).observe(seconds);
    }

    /// Counts what became of runs of the ExportSchedule with this uid.
    pub fn scheduled(&self, uid: &str, outcomes: &BTreeMap<RunOutcome, u64>) {
        self.schedule_runs.count(uid, outcomes);
    }

    /// A registry of these metrics and of the objects that there are.
    #[must_use]
    pub fn registry(&self, objects: &Arc<dyn Objects>) -> Registry {
        let mut registry = Registry::with_prefix("pgexport");
        registry.register("reconciles", "Reconciliations by kind and outcome", self.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "How long reconciliations take",
            self.durations.clone(),
        );
        registry.register_collector(Box::new(JobGauges(Arc::clone(objects))));
        let runs = self.schedule_runs.clone();
        registry.register_collector(Box::new(ScheduleCollector { objects: Arc::clone(objects), runs }));
        registry
    }
}

/// The objects that there are now.
pub trait Objects: std::fmt::Debug + Send + Sync + 'static {
    /// The phases of all `ExportJobs`: one entry an ExportJob; `None` before its first reconciliation.
    fn phases(&self) -> Vec<Option<Phase>>;

    /// All `ExportSchedules`.
    fn schedules(&self) -> Vec<ScheduleFacts>;
}

/// All phases.
const PHASES: [Phase; 8] = [
    Phase::Pending,
    Phase::Queued,
    Phase::Exporting,
    Phase::Transferring,
    Phase::Succeeded,
    Phase::Failed,
    Phase::Cancelled,
    Phase::Suspended,
];

#[derive(Debug)]
struct JobGauges(Arc<dyn Objects>);

impl Collector for JobGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family =
            encoder.encode_descriptor("export_jobs", "ExportJobs by phase", None, MetricType::Gauge)?;
        let phases = self.0.phases();
        for phase in PHASES {
            let count = phases.iter().filter(|found| found.unwrap_or(Phase::Pending) == phase).count();
            let label = [("phase", phase_name(phase))];
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

/// A phase as it is written in the status.
#[must_use]
pub const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Queued => "Queued",
        Phase::Exporting => "Exporting",
        Phase::Transferring => "Transferring",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Cancelled => "Cancelled",
        Phase::Suspended => "Suspended",
    }
}

/// The registry in the text format that Prometheus reads.
#[must_use]
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# EOF");
    }
    text
}
