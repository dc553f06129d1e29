//! Renders the ExportJob of a run. No I/O, and no way to fail.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::core::ObjectMeta;
use pgexport_api::job::{Parameter, Scheduled, Window, WindowEdge};
use pgexport_api::naming::{MANAGED_BY, RUN_NOW_ANNOTATION, SCHEDULE_LABEL};
use pgexport_api::schedule::{ExportScheduleSpec, PlannedRun};
use pgexport_api::{ExportJob, ExportJobSpec};

/// What is the same for all ExportJobs of a schedule.
#[derive(Clone, Debug)]
pub struct Rendering<'a> {
    /// The schedule's namespace.
    pub namespace: &'a str,
    /// A reference to it.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: &'a ExportScheduleSpec,
}

impl Rendering<'_> {
    /// The ExportJob of a run. It says all by itself: it refers to nothing of the schedule that could change.
    #[must_use]
    pub fn job(&self, run: &PlannedRun) -> ExportJob {
        let template = &self.spec.job_template;
        let metadata = template.metadata.clone().unwrap_or_default();
        let mut labels = metadata.labels;
        labels.insert(SCHEDULE_LABEL.to_owned(), self.owner.name.clone());
        labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        let mut annotations = metadata.annotations;
        annotations.remove(RUN_NOW_ANNOTATION);
        annotations.extend(run.token.iter().map(|token| (RUN_NOW_ANNOTATION.to_owned(), token.clone())));
        let parameters = &template.spec.parameters;
        let spec = ExportJobSpec {
            parameters: parameters.iter().map(|parameter| resolved(parameter, run.window.as_ref())).collect(),
            scheduled: Some(Scheduled {
                schedule: self.owner.name.clone(),
                time: run.scheduled_time.clone(),
                time_zone: self.spec.time_zone.clone(),
            }),
            window: run.window.clone(),
            cancel: false,
            ..template.spec.clone()
        };
        ExportJob {
            metadata: ObjectMeta {
                name: Some(run.name.clone()),
                namespace: Some(self.namespace.to_owned()),
                labels: Some(labels),
                annotations: (!annotations.is_empty()).then_some(annotations),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }
}

/// A parameter whose value is known by now.
fn resolved(parameter: &Parameter, window: Option<&Window>) -> Parameter {
    let edge = |from: WindowEdge, window: &Window| -> Time {
        match from {
            WindowEdge::Start => window.start.clone(),
            WindowEdge::End => window.end.clone(),
        }
    };
    match (&parameter.value_from, window) {
        (Some(from), Some(window)) => Parameter {
            value: Some(edge(from.window, window).0.to_string().into()),
            value_from: None,
            ..parameter.clone()
        },
        _ => parameter.clone(),
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::json;

    use super::*;
    use crate::export_schedule::fixture::schedule;

    #[test]
    fn an_export_job_says_all_by_itself() {
        let schedule = schedule(&json!({
            "timeZone": "Europe/Berlin",
            "window": {"initialStart": "2026-11-25T00:00:00Z", "settleDelay": "5m"},
            "jobTemplate": {
                "metadata": {"annotations": {"acme.com/note": "nightly"}},
                "spec": {"onFailure": {"notifySinkRef": {"name": "pager"}}, "parameters": [
                    {"name": "since", "type": "timestamptz", "valueFrom": {"window": "Start"}},
                    {"name": "until", "type": "timestamptz", "valueFrom": {"window": "End"}},
                    {"name": "tenant", "type": "int", "value": 7}]}
            }
        }));
        let time = |text: &str| Time(text.parse().unwrap());
        let run = PlannedRun {
            name: "nightly-29927280".to_owned(),
            scheduled_time: time("2026-11-25T20:00:00Z"),
            token: Some("again".to_owned()),
            window: Some(Window { start: time("2026-11-25T00:00:00Z"), end: time("2026-11-25T19:55:00Z") }),
        };
        let rendering = Rendering {
            namespace: "exports",
            owner: schedule.controller_owner_ref(&()).map(crate::job::apply::blocking).unwrap(),
            spec: &schedule.spec,
        };
        insta::assert_yaml_snapshot!("scheduled_export_job", rendering.job(&run));
    }
}
