//! Sizes in bytes as Kubernetes writes them: `64Mi`.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// A size in bytes; written as a whole number of `Mi` or `Gi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A number of mebibytes.
    #[must_use]
    pub const fn mebibytes(number: u32) -> Self {
        Self(number as u64 * MEBIBYTE)
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(2)?)?;
        let unit = match unit {
            "Mi" => MEBIBYTE,
            "Gi" => GIBIBYTE,
            _ => return None,
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }
}

/// The bytes of a quantity of Kubernetes's, rounded down: `512Mi`, `1.5G`, `1000000`. `None`: it is none, or not of bytes.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
#[must_use]
pub fn quantity_bytes(text: &str) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => MEBIBYTE,
        "Gi" => GIBIBYTE,
        "Ti" => 1 << 40,
        _ => return None,
    };
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a limit of memory has fewer digits; what is too large becomes the largest number"
    )]
    let bytes = number.parse::<f64>().ok().map(|number| (number * unit as f64) as u64);
    bytes
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % GIBIBYTE == 0 => write!(formatter, "{}Gi", bytes / GIBIBYTE),
            bytes => write!(formatter, "{}Mi", bytes / MEBIBYTE),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no size, such as 64Mi or 1Gi")))
    }
}

/// The schema of a size.
pub(crate) fn size(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 6, "pattern": "^[1-9][0-9]{0,3}(Mi|Gi)$"})
}

/// The rule of a field that is a size. Its name is in the message because clients show that alone.
pub(crate) fn at_most(field: &str, most: ByteSize) -> serde_json::Value {
    serde_json::json!({
        "rule": format!("quantity(self).compareTo(quantity('{most}')) <= 0"),
        "message": format!("{field}: at most {most}")
    })
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, quantity_bytes};

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("512Mi", Some(512 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("1G", Some(1_000_000_000)),
            ("1000000", Some(1_000_000)),
            ("0.5Ki", Some(512)),
            ("100m", None),
            ("Mi", None),
            ("", None),
            ("-1Mi", None),
            ("1.2.3", None),
        ] {
            assert_eq!(quantity_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let read = |text: &str| serde_json::from_value::<ByteSize>(serde_json::json!(text)).ok();
        for (text, bytes) in [("1Mi", 1 << 20), ("64Mi", 64 << 20), ("3Gi", 3 << 30), ("1025Mi", 1025 << 20)]
        {
            let size = read(text).unwrap();
            assert_eq!(size.bytes(), bytes);
            assert_eq!(serde_json::to_value(size).unwrap(), serde_json::json!(text));
        }
        for text in ["", "Mi", "64", "64M", "-1Mi", "+1Mi", "1.5Gi", "é", "99999999999999999999Gi"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
