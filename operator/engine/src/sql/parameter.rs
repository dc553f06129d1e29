//! Placeholders: `:name` for what is declared, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Kind, tokens};

/// The placeholder for a chunk's condition on the table that is split.
pub const CHUNK: &str = "chunk";
/// The placeholder for the instant of the snapshot, of type timestamptz.
pub const SNAPSHOT_TIME: &str = "snapshot_time";

/// What stands for each placeholder: expressions in parentheses, so that they need nothing of their surroundings.
pub type Values = BTreeMap<String, String>;

/// A query with values in the place of placeholders.
#[derive(Clone, PartialEq, Eq)]
pub struct Substituted {
    /// The query, without what may stand behind a statement: semicolons and comments.
    pub sql: String,
    /// How often each placeholder was replaced.
    pub replaced: BTreeMap<String, usize>,
    /// What looks like placeholders and is not declared. It may be right SQL all the same, such as
    /// `JSON_OBJECT('id':id)`; where the server finds a syntax error, it was meant as one.
    pub undeclared: BTreeSet<String>,
    /// Declared placeholders that stand in `[…]` without parentheses: there `:n` is the end of a slice.
    pub bracketed: BTreeSet<String>,
    /// Where, behind each value, [`Self::sql`] goes on, and where the text that it was made of does.
    shifts: Vec<(usize, usize)>,
}

impl Substituted {
    /// Whether a semicolon stands in the query, so that it is more than one statement.
    #[must_use]
    pub fn has_more_statements(&self) -> bool {
        tokens(&self.sql).any(|token| token.kind == Kind::Semicolon)
    }

    /// Where a place of [`Self::sql`] that is in no value is in the text that it was made of.
    #[must_use]
    pub fn origin(&self, place: usize) -> usize {
        let behind = self.shifts.partition_point(|(here, _)| *here <= place);
        let (here, there) = behind.checked_sub(1).map_or((0, 0), |last| self.shifts[last]);
        there + (place - here)
    }
}

impl std::fmt::Debug for Substituted {
    /// Without the query, which holds values.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sql: _, replaced, undeclared, bracketed, shifts: _ } = self;
        formatter
            .debug_struct("Substituted")
            .field("replaced", replaced)
            .field("undeclared", undeclared)
            .field("bracketed", bracketed)
            .finish_non_exhaustive()
    }
}

/// Replaces the placeholders that `values` holds. Strings, comments, names, casts and slices stay as they are.
#[must_use]
pub fn substitute(sql: &str, values: &Values) -> Substituted {
    let mut out = Substituted {
        sql: String::with_capacity(sql.len()),
        replaced: BTreeMap::new(),
        undeclared: BTreeSet::new(),
        bracketed: BTreeSet::new(),
        shifts: Vec::new(),
    };
    let (mut end, mut read) = (0, 0);
    let mut open = Vec::new();
    let mut after_colon = false;
    for token in tokens(sql) {
        read += token.text.len();
        match token.kind {
            Kind::OpenParenthesis | Kind::OpenBracket => open.push(token.kind),
            Kind::CloseParenthesis | Kind::CloseBracket => {
                open.pop();
            }
            _ => {}
        }
        let name = token.text.get(1..).filter(|_| token.kind == Kind::Placeholder && !after_colon);
        let in_brackets = open.last() == Some(&Kind::OpenBracket);
        match name.map(|name| (name, values.get(name))) {
            Some((name, Some(_))) if in_brackets => {
                out.bracketed.insert(name.to_owned());
                out.sql.push_str(token.text);
            }
            Some((name, Some(value))) => {
                *out.replaced.entry(name.to_owned()).or_default() += 1;
                out.sql.push_str(value);
                out.shifts.push((out.sql.len(), read));
            }
            Some((name, None)) => {
                if !in_brackets {
                    out.undeclared.insert(name.to_owned());
                }
                out.sql.push_str(token.text);
            }
            None => out.sql.push_str(token.text),
        }
        if !matches!(token.kind, Kind::Space | Kind::Comment | Kind::Semicolon) {
            end = out.sql.len();
        }
        after_colon = token.kind == Kind::Other && token.text.ends_with(':');
    }
    out.sql.truncate(end);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::law;
    use super::{Values, substitute};

    fn values() -> Values {
        Values::from([("a".to_owned(), "(A)".to_owned()), ("n".to_owned(), "(N)".to_owned())])
    }

    #[test]
    fn declared_placeholders_are_replaced_and_nothing_else() {
        for (sql, wanted) in [
            ("SELECT :a", "SELECT (A)"),
            ("SELECT:a,:n", "SELECT(A),(N)"),
            ("SELECT :a::text, x::a", "SELECT (A)::text, x::a"),
            (
                "SELECT ':a', E'\\':a', \":a\", $$:a$$ -- :a\n, :a",
                "SELECT ':a', E'\\':a', \":a\", $$:a$$ -- :a\n, (A)",
            ),
            ("SELECT x -- :n\r, :n", "SELECT x -- :n\r, (N)"),
            ("SELECT /* :a /* */ :a */ :a", "SELECT /* :a /* */ :a */ (A)"),
            ("f(a := :a, b :=:a)", "f(a := (A), b :=(A))"),
            ("x[:n], x[i:n], x[1:n]", "x[:n], x[i:n], x[1:n]"),
            ("x[(:n)], x[f(:n):(:n)], ARRAY[(:a)]", "x[((N))], x[f((N)):((N))], ARRAY[((A))]"),
            ("x[1] = :n", "x[1] = (N)"),
            ("E:a", "E(A)"),
            (":::a", ":::a"),
            (":A :a_ :a1", ":A :a_ :a1"),
            ("x = $1 AND :a", "x = $1 AND (A)"),
        ] {
            assert_eq!(substitute(sql, &values()).sql, wanted);
        }
    }

    #[test]
    fn what_stands_behind_the_statement_is_cut() {
        for sql in ["SELECT 1;", "SELECT 1 ; ; -- done", "SELECT 1 /* ; */\n", "SELECT 1\n--;"] {
            assert_eq!(substitute(sql, &values()).sql, "SELECT 1");
        }
        assert_eq!(substitute("SELECT 1; SELECT 2;", &values()).sql, "SELECT 1; SELECT 2");
        assert_eq!(substitute(" -- nothing", &values()).sql, "");
    }

    #[test]
    fn it_tells_what_it_saw() {
        let seen = substitute("SELECT :a, :a, :foo, ARRAY[:n], x[:m], JSON_OBJECT('id':id)", &values());
        assert_eq!(seen.replaced.get("a"), Some(&2));
        assert_eq!(seen.undeclared.iter().collect::<Vec<_>>(), ["foo", "id"]);
        assert_eq!(seen.bracketed.iter().collect::<Vec<_>>(), ["n"]);
    }

    #[test]
    fn places_outside_of_values_are_found_again() {
        let sql = "SELECT :a, x FROM t WHERE y = :n AND z";
        let seen = substitute(sql, &values());
        for word in ["SELECT", "x FROM", "t WHERE", "y =", "z"] {
            let place = seen.sql.find(word).unwrap();
            assert_eq!(seen.origin(place), sql.find(word).unwrap(), "{word}");
        }
        assert_eq!(seen.origin(seen.sql.len()), sql.len());
    }

    #[test]
    fn debug_output_shows_no_value() {
        let values = Values::from([("a".to_owned(), "(CAST('hunter2' AS text))".to_owned())]);
        assert!(!format!("{:?}", substitute("SELECT :a", &values)).contains("hunter2"));
    }

    /// A piece of SQL in which no placeholder is.
    fn opaque() -> impl Strategy<Value = String> {
        prop_oneof![
            "[^']{0,12}".prop_map(|text| format!("'{text}'")),
            "[^'\\\\]{0,12}".prop_map(|text| format!("E'{text}\\':a'")),
            "[^\"]{0,12}".prop_map(|text| format!("\"{text}\"")),
            "[^$]{0,12}".prop_map(|text| format!("$t${text} :a $$ $t$")),
            "[^\r\n]{0,12}".prop_map(|text| format!("--{text}:a\n")),
            "[^*/]{0,12}".prop_map(|text| format!("/*{text}/*:a*/ :n */")),
            Just("x[i:n]".to_owned()),
            Just("x::a".to_owned()),
        ]
    }

    /// What a lexer has to decide something at.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            ":a", ":n", ":é", ":chunk", ":x", "a", "e", "E", "n", "b", "x", "U&", "u", "é", "_", "1", "0",
            ".", "..", "1e", "1e+", "'", "''", "\"", "\"\"", "\\", "\\'", "$", "$$", "$a$", "$1", "$é$",
            "--", "-", "/*", "*/", "/", "*", ":", "::", ":=", ";", " ", "\n", "\r", "\t", "\u{b}", "\u{c}",
            "(", ")", "[", "]", ",", "\u{a0}", "SELECT ",
        ])
    }

    proptest! {
        #[test]
        fn opaque_pieces_are_never_altered(pieces in prop::collection::vec(opaque(), 0..6)) {
            // A comma between them, so that no string continues another one.
            let sql: String = pieces.iter().flat_map(|piece| [piece.as_str(), " , :a , "]).chain(["1"]).collect();
            let wanted: String = pieces.iter().flat_map(|piece| [piece.as_str(), " , (A) , "]).chain(["1"]).collect();
            prop_assert_eq!(substitute(&sql, &values()).sql, wanted);
        }

        #[test]
        fn the_law_holds_for_any_text(sql in any::<String>()) {
            prop_assert_eq!(law::check(&sql), Ok(()));
        }

        #[test]
        fn the_law_holds_for_what_looks_like_sql(pieces in prop::collection::vec(piece(), 0..24)) {
            prop_assert_eq!(law::check(&pieces.concat()), Ok(()));
        }

        #[test]
        fn without_declared_names_nothing_changes(sql in any::<String>()) {
            let kept = substitute(&sql, &Values::new()).sql;
            prop_assert!(sql.starts_with(&kept));
        }
    }
}
