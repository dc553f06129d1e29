//! Delivery, retries, deadlines and the pods' needs.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{duration, in_range, read_duration};
use crate::source::ObjectRef;

/// How files reach the sink.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Direct: one pod streams to the sink. Staged: chunks wait in the source's staging until all are complete, then a
    /// transfer delivers them. Auto: Direct where it is possible, otherwise Staged.
    #[serde(default)]
    pub mode: DeliveryMode,
    /// What becomes of another ExportJob's finished delivery at the location. Fail: it stays, and this ExportJob fails.
    /// Replace: it stays until all files of this one are there; then its `_SUCCESS` goes, this one's manifest and `_SUCCESS`
    /// come, and its other files are removed. That takes the right to read and to delete.
    #[serde(default)]
    pub if_exists: IfExists,
}

/// See [`Delivery::if_exists`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum IfExists {
    #[default]
    Fail,
    Replace,
}

/// See [`Delivery::mode`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum DeliveryMode {
    #[default]
    Auto,
    Direct,
    Staged,
}

/// What happens when an attempt fails for a reason that may pass.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many more attempts follow the first one. Exporting and delivering are counted apart.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub limit: u32,
    /// How long to wait between attempts.
    #[serde(default)]
    pub backoff: Backoff,
}

fn default_limit() -> u32 {
    3
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: default_limit(), backoff: Backoff::default() }
    }
}

/// A wait that grows from attempt to attempt.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Before the second attempt.
    #[serde(default = "default_initial", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("retry.backoff.initial")]))]
    pub initial: Duration,
    /// What each wait is multiplied with for the next.
    #[serde(default = "default_factor")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// The longest wait.
    #[serde(default = "default_max", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("retry.backoff.max")]))]
    pub max: Duration,
}

fn default_initial() -> Duration {
    StdDuration::from_secs(10).into()
}

fn default_factor() -> u32 {
    2
}

fn default_max() -> Duration {
    StdDuration::from_mins(5).into()
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: default_initial(), factor: default_factor(), max: default_max() }
    }
}

impl Backoff {
    /// How long to wait after `failures` failures in a row (1 or more).
    #[must_use]
    pub fn wait(&self, failures: u32) -> StdDuration {
        let max = StdDuration::from(self.max);
        let exponent = failures.saturating_sub(1).min(32);
        let factor = self.factor.checked_pow(exponent).unwrap_or(u32::MAX);
        StdDuration::from(self.initial).checked_mul(factor).map_or(max, |wait| wait.min(max))
    }
}

/// How long each part of the run may take, as Kubernetes writes durations: `90s`, `15m`, `6h`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// From creation until an attempt is under way: references, credentials, images and quota have to be right by then.
    #[serde(default = "default_start", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("deadlines.start")]))]
    pub start: Duration,
    /// One attempt's export.
    #[serde(default = "default_run", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("deadlines.run")]))]
    pub run: Duration,
    /// One attempt's transfer.
    #[serde(default = "default_run", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("deadlines.transfer")]))]
    pub transfer: Duration,
}

fn default_start() -> Duration {
    StdDuration::from_mins(15).into()
}

fn default_run() -> Duration {
    StdDuration::from_hours(6).into()
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { start: default_start(), run: default_run(), transfer: default_run() }
    }
}

/// What is done when the run ends as Failed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OnFailure {
    /// An ExportSink of type http that is told of it, by a signed message; `status.notification` and the condition `Notified`
    /// tell how that went. It is tried for an hour, and changes nothing about the run's end.
    pub notify_sink_ref: ObjectRef,
}

/// The memory that a pod may use where neither `podTemplate.resources` nor the installation says otherwise.
pub const DEFAULT_MEMORY_LIMIT: &str = "512Mi";

/// What the pods of a job ask for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Requests and limits of the worker container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// The pods' PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Labels of the pods, beside the operator's own. Only with prefixes that the operator's installation allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods. Only with prefixes that the operator's installation allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_one() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = [1, 2, 3, 5, 6, 100].map(|failures| backoff.wait(failures).as_secs()).to_vec();
        assert_eq!(waits, [10, 20, 40, 160, 300, 300]);
    }
}
