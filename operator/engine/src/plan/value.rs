//! A value that a data set is split by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value's text. It is a row's, so it is shown nowhere; it lies in the plan, in the staging, where rows do too.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(transparent)]
pub struct ItemValue(String);

impl ItemValue {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ItemValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ItemValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::ItemValue;

    #[test]
    fn debug_output_shows_no_value() {
        assert!(!format!("{:?}", ItemValue::new("hunter2".to_owned())).contains("hunter2"));
    }
}
