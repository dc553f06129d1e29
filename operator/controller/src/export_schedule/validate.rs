//! From an ExportSchedule to a calendar that can be kept, or to the reason why not. No I/O.

use pgexport_api::schedule::{ConcurrencyPolicy, ExportScheduleSpec};

use super::calendar::{Calendar, CalendarError};

/// Why an ExportSchedule makes no runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The reason of its conditions.
    pub reason: &'static str,
    /// Which field, and what to write instead.
    pub message: String,
}

/// Validates a schedule. The CRD's rules say some of it too.
pub fn validate(spec: &ExportScheduleSpec) -> Result<Calendar, Invalid> {
    let invalid = |message: &str| Err(Invalid { reason: "InvalidSpec", message: message.to_owned() });
    if spec.window.is_some() && spec.concurrency_policy != ConcurrencyPolicy::Forbid {
        return invalid(
            "window: needs concurrencyPolicy Forbid, as each run begins where the last one that succeeded has ended",
        );
    }
    let job = &spec.job_template.spec;
    if spec.window.is_none() && job.parameters.iter().any(|parameter| parameter.value_from.is_some()) {
        return invalid("jobTemplate.spec.parameters: valueFrom needs spec.window");
    }
    Calendar::new(&spec.schedule, &spec.time_zone).map_err(|error| {
        let reason = match error {
            CalendarError::TimeZone(_) => "InvalidTimeZone",
            CalendarError::Schedule { .. } | CalendarError::Never(_) => "InvalidSchedule",
        };
        Invalid { reason, message: error.to_string() }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export_schedule::fixture::schedule;

    #[test]
    fn each_refusal_names_its_field() {
        let window = json!({"initialStart": "2026-11-01T00:00:00Z"});
        let cases = [
            (json!({"schedule": "0 25 * * *"}), "InvalidSchedule", "schedule: "),
            (json!({"timeZone": "Europe/Bonn"}), "InvalidTimeZone", "timeZone: "),
            (json!({"window": window, "concurrencyPolicy": "Allow"}), "InvalidSpec", "window: "),
            (
                json!({"jobTemplate": {"spec": {"parameters": [
                    {"name": "until", "type": "timestamptz", "valueFrom": {"window": "End"}}]}}}),
                "InvalidSpec",
                "jobTemplate.spec.parameters: valueFrom",
            ),
        ];
        for (patch, reason, field) in cases {
            let invalid = validate(&schedule(&patch).spec).unwrap_err();
            assert_eq!(invalid.reason, reason, "{patch}");
            assert!(invalid.message.starts_with(field), "{}", invalid.message);
        }
        assert!(validate(&schedule(&json!({})).spec).is_ok());
    }
}
