//! Durations as Kubernetes writes them: `90s`, `15m`, `6h`.

use std::time::Duration as StdDuration;

use kube::core::Duration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A duration with units; the schema admits neither negative ones nor bare numbers, nor numbers that no clock can count.
pub(crate) fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 32, "pattern": DURATION_PATTERN})
}

/// Up to four numbers of up to eight digits: the longest of them is far from overflowing anybody's arithmetic.
const DURATION_PATTERN: &str = "^([0-9]{1,8}(\\.[0-9]{1,9})?(ms|s|m|h)){1,4}$";

/// A year: whoever means for ever will not notice.
const LONGEST: StdDuration = StdDuration::from_hours(8760);

/// The rule of a field that is a duration. Its name is in the message because clients show that alone.
pub(crate) fn in_range(field: &str) -> serde_json::Value {
    serde_json::json!({
        "rule": "duration(self) > duration('0s') && duration(self) <= duration('8760h')",
        "message": format!("{field}: more than 0s, at most 8760h (a year)")
    })
}

/// The same of a field that may be nothing, too.
pub(crate) fn up_to_a_year(field: &str) -> serde_json::Value {
    serde_json::json!({
        "rule": "duration(self) <= duration('8760h')",
        "message": format!("{field}: at most 8760h (a year)")
    })
}

/// The same of a wait for an answer.
pub(crate) fn up_to_a_minute(field: &str) -> serde_json::Value {
    serde_json::json!({
        "rule": "duration(self) > duration('0s') && duration(self) <= duration('1m')",
        "message": format!("{field}: more than 0s, at most 1m")
    })
}

/// Reads a duration without ever panicking, as kube's own reader does when a number is too large: one object that was
/// stored before the schema forbade it would end the operator each time that it is listed.
pub(crate) fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Duration::from).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is no duration of at most 8760h, such as 90s, 15m or 6h"))
    })
}

/// [`read_duration`] of a field that may be left out.
pub(crate) fn read_optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    read_duration(deserializer).map(Some)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Backoff, Deadlines};
    use crate::source::Retention;

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
    fn a_retention_may_be_nothing_and_at_most_a_year() {
        let read = |text: &str| {
            let retention = serde_json::from_value::<Retention>(serde_json::json!({"onFailure": text}));
            retention.ok().map(|retention| StdDuration::from(retention.on_failure.unwrap()))
        };
        assert_eq!(read("0s"), Some(StdDuration::ZERO));
        assert_eq!(read("8760h"), Some(LONGEST));
        assert_eq!(read("8761h"), None);
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
