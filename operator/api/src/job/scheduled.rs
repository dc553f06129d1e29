//! What an ExportSchedule tells its runs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which schedule made an ExportJob, and for when.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Scheduled {
    /// The ExportSchedule's name: the placeholder `{schedule}`.
    #[schemars(length(min = 1, max = 253))]
    pub schedule: String,
    /// The time that the run is for, however late it begins: the placeholders `{date}` and `{time}`.
    pub time: Time,
    /// The time zone of these, by its IANA name.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    crate::time_zone::DEFAULT.to_owned()
}

/// A span of time. Its start belongs to it, its end does not.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.start < self.end").message("window: its end is after its start"))]
pub struct Window {
    /// Where it begins.
    pub start: Time,
    /// Where it ends.
    pub end: Time,
}
