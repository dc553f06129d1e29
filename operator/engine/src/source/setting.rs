//! Settings of a session: first the user's, then those that bytes depend on.

/// What every export session has, so that values are written in one way: the same bytes from every server.
///
/// Sequential scans start at the first page, or chunks of pages would come in another order at each run.
pub(super) const PINNED: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("TimeZone", "UTC"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("synchronize_seqscans", "off"),
];

/// Settings that pgexport makes use of itself, and that the user's may not name either.
const RESERVED: &[&str] =
    &["application_name", "transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// Whether the user's settings may not name it. Names of settings ignore case.
pub(super) fn is_pinned(name: &str) -> bool {
    PINNED
        .iter()
        .map(|(pinned, _)| *pinned)
        .chain(RESERVED.iter().copied())
        .any(|pinned| pinned.eq_ignore_ascii_case(name))
}

/// The statement that sets all that is pinned, and the session's name to its parameter. Only constants stand in it: a
/// query may have changed how strings are read.
pub(super) fn pin() -> String {
    let calls: Vec<_> = PINNED
        .iter()
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', false)"))
        .collect();
    format!("SELECT {}, pg_catalog.set_config('application_name', $1, false)", calls.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{is_pinned, pin};

    #[test]
    fn pinned_names_ignore_case() {
        for name in ["datestyle", "DATESTYLE", "TimeZone", "application_name", "Transaction_Read_Only"] {
            assert!(is_pinned(name), "{name}");
        }
        for name in ["statement_timeout", "work_mem", "search_path"] {
            assert!(!is_pinned(name), "{name}");
        }
    }

    #[test]
    fn pinning_needs_no_escapes() {
        let sql = pin();
        assert!(sql.starts_with("SELECT pg_catalog.set_config('DateStyle', 'ISO', false), "), "{sql}");
        assert!(!sql.contains('\\') && !sql.contains("''"), "{sql}");
    }
}
