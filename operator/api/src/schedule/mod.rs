//! `ExportSchedule`: when runs are made, and how.

mod status;
mod template;

pub use status::{ExportScheduleStatus, HandledToken, PlannedRun, ScheduleWindowStatus};
pub use template::{JobTemplate, TemplateMetadata};

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{duration, in_range, read_duration, read_optional_duration};

/// Makes an ExportJob for each time that a cron expression names.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pgexport.dev",
    version = "v1alpha1",
    kind = "ExportSchedule",
    namespaced,
    shortname = "esched",
    category = "pgexport",
    status = "ExportScheduleStatus",
    printcolumn(json_path = ".spec.schedule", name = "Schedule", type_ = "string"),
    printcolumn(json_path = ".spec.suspend", name = "Suspended", type_ = "boolean"),
    printcolumn(json_path = ".status.lastSuccessfulTime", name = "Last success", type_ = "date", description = "Since the last run that succeeded has ended"),
    printcolumn(json_path = ".status.nextScheduleTime", name = "Next", type_ = "string"),
    printcolumn(json_path = ".status.active", name = "Active", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".spec.timeZone", name = "Time zone", type_ = "string", priority = 1),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        name = "Message",
        type_ = "string",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 31").message("metadata.name: at most 31 characters, so that the names of ExportJobs made by it stay valid")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.window) || !has(self.concurrencyPolicy) || self.concurrencyPolicy == 'Forbid'")
        .message("window: needs concurrencyPolicy Forbid, as each run begins where the last one that succeeded has ended"),
    validation = Rule::new("has(self.window) || !has(self.jobTemplate.spec.parameters) || self.jobTemplate.spec.parameters.all(p, !has(p.valueFrom))")
        .message("jobTemplate.spec.parameters: valueFrom needs spec.window"),
)]
pub struct ExportScheduleSpec {
    /// When runs are due, as cron writes it: minute, hour, day of the month, month, day of the week. Or one of `@hourly`,
    /// `@daily`, `@weekly`, `@monthly` and `@yearly`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^ *(@(hourly|daily|weekly|monthly|yearly|annually)|[^ @]+( +[^ @]+){4}) *$')")
        .message("schedule: five fields (minute, hour, day of the month, month, day of the week), such as \"0 2 * * *\", or @daily; the time zone goes into timeZone"))]
    pub schedule: String,
    /// The IANA name of the time zone that `schedule` is meant in, such as `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+/-]+$')").message("timeZone: the IANA name of a time zone, such as Europe/Berlin or UTC"))]
    pub time_zone: String,
    /// What happens when a run is due while another one is active. Forbid: it waits, until `startingDeadline` or the next one
    /// is due. Allow: it begins, beside at most 99 others. Replace: the active one is cancelled, and it begins when that has ended.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How late a run may begin, because the controller was away or another run was active, such as `1h`. Default: any time
    /// until the next one is due. Of several that were missed, only the latest is made up for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_optional_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("startingDeadline")]))]
    pub starting_deadline: Option<Duration>,
    /// Whether no runs are made for now. Those that are active go on; what falls due meanwhile is not made up for.
    #[serde(default)]
    pub suspend: bool,
    /// Asks for a run now, also while suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNow>,
    /// How many ExportJobs that have ended are kept.
    #[serde(default)]
    pub history_limits: HistoryLimits,
    /// Lets each run deliver the rows of a span of time that begins where that of the last run that succeeded has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ScheduleWindow>,
    /// The ExportJobs.
    pub job_template: JobTemplate,
}

fn default_time_zone() -> String {
    crate::time_zone::DEFAULT.to_owned()
}

/// See [`ExportScheduleSpec::concurrency_policy`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum ConcurrencyPolicy {
    Allow,
    #[default]
    Forbid,
    Replace,
}

/// See [`ExportScheduleSpec::run_now`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunNow {
    /// Any text. One that differs from the last one starts a run, once.
    #[schemars(length(min = 1, max = 63))]
    pub token: String,
    /// The time that the run counts for: in placeholders of `path`, and as the end of its window. Default: when it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
}

/// See [`ExportScheduleSpec::history_limits`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLimits {
    /// Of those that have succeeded, the latest so many.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 100))]
    pub succeeded: u32,
    /// Of those that have failed or were cancelled, the latest so many.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 100))]
    pub failed: u32,
}

fn default_history() -> u32 {
    3
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { succeeded: default_history(), failed: default_history() }
    }
}

/// See [`ExportScheduleSpec::window`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleWindow {
    /// Where the first run's window begins. It counts until a run has succeeded.
    pub initial_start: Time,
    /// How long before its scheduled time a run's window ends, so that what is written at that time is committed when it
    /// begins.
    #[serde(default = "default_settle_delay", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("window.settleDelay")]))]
    pub settle_delay: Duration,
}

fn default_settle_delay() -> Duration {
    StdDuration::from_mins(5).into()
}
