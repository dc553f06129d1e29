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
    use super::ByteSize;

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
