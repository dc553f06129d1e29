//! What was last observed of an `ExportSchedule`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::job::Window;

/// What was last observed of an `ExportSchedule`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExportScheduleStatus {
    /// The generation that the rest of this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted; Ready and Stalled as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The time that the last run which the schedule has started is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the last run that succeeded has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// When the next run is due; absent while suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The ExportJobs that have not ended, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub active: Vec<String>,
    /// The last `runNow` that was obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_now: Option<HandledToken>,
    /// How far windows have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ScheduleWindowStatus>,
    /// All scheduled times up to this one are dealt with: started, skipped or missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_time: Option<Time>,
    /// The schedule and the time zone that `handledTime` is counted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_schedule: Option<String>,
    /// The run whose ExportJob is about to be created. Noted before it is, so that a crash in between starts it neither twice nor
    /// not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<PlannedRun>,
}

/// See [`ExportScheduleStatus::run_now`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HandledToken {
    /// The token.
    pub token: String,
    /// The ExportJob that was made for it; absent where none was, as there was nothing to deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// See [`ExportScheduleStatus::window`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleWindowStatus {
    /// The end of the window of the last run that succeeded: the next window begins here.
    pub last_end: Time,
}

/// See [`ExportScheduleStatus::starting`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRun {
    /// The ExportJob's name.
    pub name: String,
    /// The time that the run is for.
    pub scheduled_time: Time,
    /// The `runNow.token` that asked for it; absent where the schedule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}
