//! Delivery, retries, deadlines and the pods' needs.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::core::Duration;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// How files reach the sink.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Direct: one pod streams to the sink. Staged: chunks wait in the source's staging until all are complete, then a
    /// transfer delivers them. Auto: Direct where it is possible, otherwise Staged.
    #[serde(default)]
    pub mode: DeliveryMode,
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

/// A duration with units; the schema admits neither negative ones nor bare numbers, nor numbers that no clock can count.
fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 32, "pattern": DURATION_PATTERN})
}

/// Up to four numbers of up to eight digits: the longest of them is far from overflowing anybody's arithmetic.
const DURATION_PATTERN: &str = "^([0-9]{1,8}(\\.[0-9]{1,9})?(ms|s|m|h)){1,4}$";

/// A year: whoever means for ever will not notice.
const LONGEST: StdDuration = StdDuration::from_hours(8760);

/// The rule of a field that is a duration. Its name is in the message because clients show that alone.
fn in_range(field: &str) -> serde_json::Value {
    serde_json::json!({
        "rule": "duration(self) > duration('0s') && duration(self) <= duration('8760h')",
        "message": format!("{field}: more than 0s, at most 8760h (a year)")
    })
}

/// Reads a duration without ever panicking, as kube's own reader does when a number is too large: one object that was
/// stored before the schema forbade it would end the operator each time that it is listed.
fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Duration::from).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is no duration of at most 8760h, such as 90s, 15m or 6h"))
    })
}

fn parse_duration(text: &str) -> Option<StdDuration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = StdDuration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|character: char| character.is_alphabetic())?);
        let (unit, tail) =
            tail.split_at(tail.find(|character: char| !character.is_alphabetic()).unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = StdDuration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part).filter(|total| *total <= LONGEST)?;
        rest = tail;
    }
    Some(total)
}

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

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        let read = |text: &str| {
            let deadlines = serde_json::from_value::<Deadlines>(serde_json::json!({"run": text}));
            deadlines.ok().map(|deadlines| StdDuration::from(deadlines.run))
        };
        assert_eq!(read("1h30m"), Some(StdDuration::from_mins(90)));
        assert_eq!(read("1.5s250ms"), Some(StdDuration::from_millis(1750)));
        assert_eq!(read("8760h"), Some(LONGEST));
        for text in ["", "5", "-1h", "1d", "h", "1.2.3s", "NaNs", "1e400s"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        let written = serde_json::to_value(Deadlines::default()).unwrap();
        assert_eq!(serde_json::from_value::<Deadlines>(written).unwrap(), Deadlines::default());
    }

    #[test]
    fn no_duration_is_too_long_to_be_refused() {
        // The longest that the pattern admits, one that former schemas admitted, and one beyond any float.
        let longest = "99999999h".repeat(3) + "9999h";
        for text in [longest, "999999999999999999h".to_owned(), format!("{}h", "9".repeat(400))] {
            let value = serde_json::json!({"start": text, "run": text, "transfer": text});
            assert!(serde_json::from_value::<Deadlines>(value).is_err(), "{text}");
            let value = serde_json::json!({"initial": text, "max": text});
            assert!(serde_json::from_value::<Backoff>(value).is_err(), "{text}");
        }
    }
}
