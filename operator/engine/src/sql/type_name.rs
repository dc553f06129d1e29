//! Names of types as users write them, checked so far that nothing but a name can be in them. Whether there is such a
//! type, only the server knows.

use std::fmt;

/// The text of a type's name, such as `numeric(10,2)`, `timestamp(3) with time zone`, `app."Kind"` or `text[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName(String);

impl TypeName {
    /// Takes words (plain or in double quotes) with dots between them, numbers in one pair of parentheses, and `[]`:
    /// what can stand behind `AS` in `CAST(… AS …)` and cannot leave it. `None` for all else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim_matches(' ');
        let mut words = 0;
        let mut modified = false;
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                break;
            } else if let Some(after) = word(rest) {
                words += 1;
                rest = after;
                if let Some(after) = rest.strip_prefix('.') {
                    word(after)?;
                    rest = after;
                }
            } else if let (Some(after), true, false) = (rest.strip_prefix('('), words > 0, modified) {
                let (numbers, after) = after.split_once(')')?;
                let number = |text: &str| {
                    let digits = text.trim_matches(' ');
                    let digits = digits.strip_prefix('-').unwrap_or(digits);
                    (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
                };
                if !numbers.split(',').all(number) {
                    return None;
                }
                modified = true;
                rest = after;
            } else if let (Some(after), true) = (rest.strip_prefix("[]"), words > 0) {
                // Arrays end a name; PostgreSQL ignores how many dimensions are written.
                return after.trim_matches(' ').is_empty().then(|| Self(text.to_owned()));
            } else {
                return None;
            }
        }
        (words > 0).then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What follows the word that `text` begins with.
fn word(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut rest = quoted;
        loop {
            let end = rest.find('"')?;
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(doubled) => rest = doubled,
                // An empty quoted name is no name.
                None => return (quoted.len() - rest.len() > 1).then_some(rest),
            }
        }
    }
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let rest = text.trim_start_matches(plain);
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    // Two words without a space between them are one word, or no name at all.
    (begins && !rest.starts_with('"')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::TypeName;

    #[test]
    fn names_of_types_pass() {
        for name in [
            "int",
            "uuid",
            "double precision",
            "numeric(10,2)",
            "numeric(10, -2)",
            "character varying(10)",
            "timestamp(3) with time zone",
            "interval day to second(3)",
            "text[]",
            "numeric(10,2)[]",
            "app.kind",
            "\"Odd \"\"name\"\"\"",
            "app.\"Kind\"[]",
            "pg_catalog.int4",
        ] {
            assert!(TypeName::parse(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_could_leave_the_cast_does_not_pass() {
        for name in [
            "",
            " ",
            "int)",
            "int) FROM secrets --",
            "int()",
            "(3)",
            "[]",
            "int'",
            "int--",
            "int/**/",
            "int;",
            "\"",
            "\"\"",
            "\"a",
            "int(3)(4)",
            "numeric((1))",
            "text[] x",
            "text[1]",
            "a..b",
            ".a",
            "a.",
            "int(x)",
            "int\n",
            "ï",
            "a\"b\"",
            "int::text",
            "1a",
        ] {
            assert!(TypeName::parse(name).is_none(), "{name}");
        }
    }
}
