//! Names and values as SQL writes them.

/// A name in double quotes. It is right for any name, keywords and upper case included.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant. Backslashes are plain characters in it, which `standard_conforming_strings` (pinned in each
/// session) makes true.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A value of a type as an expression that needs nothing of its surroundings: `(CAST('…' AS type))`. `type_name` stands
/// there as it is: it comes from the server, or from a [`super::TypeName`].
#[must_use]
pub fn cast(value: Option<&str>, type_name: &str) -> String {
    let value = value.map_or_else(|| "NULL".to_owned(), literal);
    format!("(CAST({value} AS {type_name}))")
}

#[cfg(test)]
mod tests {
    use super::{cast, identifier, literal};

    #[test]
    fn quotes_are_doubled_and_backslashes_are_not() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's \\ "), "'it''s \\ '");
        assert_eq!(cast(Some("x'"), "text"), "(CAST('x''' AS text))");
        assert_eq!(cast(None, "int[]"), "(CAST(NULL AS int[]))");
    }
}
