//! What is read at `/metrics`.

use std::sync::{Mutex, PoisonError};

use pgexport_api::ExportSchedule;
use serde_json::{Value, json};

use super::*;
use crate::export_schedule::fixture::{UID, schedule};

/// Objects that change.
#[derive(Debug, Default)]
struct Fixed {
    phases: Vec<Option<Phase>>,
    schedules: Mutex<Vec<ExportSchedule>>,
}

impl Objects for Fixed {
    fn phases(&self) -> Vec<Option<Phase>> {
        self.phases.clone()
    }

    fn schedules(&self) -> Vec<ScheduleFacts> {
        let schedules = self.schedules.lock().unwrap_or_else(PoisonError::into_inner);
        schedules.iter().map(ScheduleFacts::of).collect()
    }
}

fn with_status(patch: &Value, status: Value) -> ExportSchedule {
    ExportSchedule { status: Some(serde_json::from_value(status).unwrap()), ..schedule(patch) }
}

/// The samples of schedules, without their common beginning.
fn of_schedules(registry: &Registry) -> Vec<String> {
    let text = encode(registry);
    text.lines()
        .filter_map(|line| line.strip_prefix("pgexport_export_schedule_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn jobs_are_counted_when_they_are_asked_for() {
    let metrics = Metrics::default();
    metrics.reconciled("ExportJob", "ok", 0.01);
    let phases = vec![None, Some(Phase::Pending), Some(Phase::Failed)];
    let objects: Arc<dyn Objects> = Arc::new(Fixed { phases, ..Fixed::default() });
    let text = encode(&metrics.registry(&objects));
    assert!(text.contains("pgexport_export_jobs{phase=\"Pending\"} 2\n"), "{text}");
    assert!(text.contains("pgexport_export_jobs{phase=\"Succeeded\"} 0\n"), "{text}");
    assert!(text.contains("pgexport_reconciles_total{kind=\"ExportJob\",outcome=\"ok\"} 1\n"), "{text}");
}

#[test]
fn schedules_tell_how_they_stand_and_how_their_runs_went() {
    let metrics = Metrics::default();
    let status = json!({
        "conditions": [{"type": "Ready", "status": "True", "reason": "Scheduled", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-11-25T20:00:00Z"}],
        "active": ["nightly-29927281", "nightly-29927282"],
        "lastScheduleTime": "2026-11-25T20:02:00Z",
        "lastSuccessfulTime": "2026-11-25T20:01:30Z",
        "nextScheduleTime": "2026-11-25T20:03:00Z",
    });
    let schedules = Mutex::new(vec![with_status(&json!({}), status)]);
    let objects: Arc<dyn Objects> = Arc::new(Fixed { schedules, ..Fixed::default() });
    let registry = metrics.registry(&objects);
    metrics.scheduled(UID, &BTreeMap::from([(RunOutcome::Started, 1), (RunOutcome::Skipped, 4)]));
    metrics.scheduled(UID, &BTreeMap::from([(RunOutcome::Started, 1), (RunOutcome::Failed, 1)]));
    let labels = r#"{namespace="exports",schedule="nightly"#;
    let wanted = [
        format!("ready{labels}\"}} 1"),
        format!("suspended{labels}\"}} 0"),
        format!("active{labels}\"}} 2"),
        format!("last_schedule_timestamp_seconds{labels}\"}} 1795636920"),
        format!("last_success_timestamp_seconds{labels}\"}} 1795636890"),
        format!("next_schedule_timestamp_seconds{labels}\"}} 1795636980"),
        format!(r#"runs_total{labels}",outcome="started"}} 2"#),
        format!(r#"runs_total{labels}",outcome="succeeded"}} 0"#),
        format!(r#"runs_total{labels}",outcome="failed"}} 1"#),
        format!(r#"runs_total{labels}",outcome="skipped"}} 4"#),
        format!(r#"runs_total{labels}",outcome="missed"}} 0"#),
    ];
    assert_eq!(of_schedules(&registry), wanted);
}

#[test]
fn what_has_not_been_yet_is_not_told_and_what_is_deleted_is_forgotten() {
    let metrics = Metrics::default();
    let fixed = Arc::new(Fixed::default());
    let objects: Arc<dyn Objects> = Arc::clone(&fixed) as Arc<dyn Objects>;
    let registry = metrics.registry(&objects);
    let there = |schedules: Vec<ExportSchedule>| {
        *fixed.schedules.lock().unwrap_or_else(PoisonError::into_inner) = schedules;
    };
    there(vec![schedule(&json!({"suspend": true}))]);
    metrics.scheduled(UID, &BTreeMap::from([(RunOutcome::Missed, 3)]));
    let samples = of_schedules(&registry);
    assert!(!samples.iter().any(|sample| sample.contains("timestamp")), "{samples:?}");
    assert!(samples.iter().any(|sample| sample.starts_with("suspended{") && sample.ends_with(" 1")));
    assert!(samples.iter().any(|sample| sample.ends_with(r#"outcome="missed"} 3"#)), "{samples:?}");

    there(Vec::new());
    assert_eq!(of_schedules(&registry), Vec::<String>::new());
    there(vec![schedule(&json!({}))]);
    assert!(of_schedules(&registry).iter().any(|sample| sample.ends_with(r#"outcome="missed"} 0"#)));
}
