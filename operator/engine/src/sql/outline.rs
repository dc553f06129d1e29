//! What a query may name, as far as its tokens tell: more than it names, and never less. What a name stands for, the server
//! is asked.

use std::collections::BTreeSet;
use std::ops::Range;

use super::lexer::{Kind, Token, tokens};

/// The tokens of a query, in the light of what matters for its chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// What may be a table's name: one name, or two with a point between them.
    pub names: Vec<Name>,
    /// All words, folded as the server folds them.
    pub words: BTreeSet<String>,
    /// Words before a parenthesis: functions are among them.
    pub calls: BTreeSet<String>,
    /// Words after a point: functions that are written as columns are among them.
    pub attributes: BTreeSet<String>,
    /// All that is neither word, constant nor comment: operators are in it.
    pub symbols: String,
    /// Whether an ORDER BY may stand at the top.
    pub may_be_ordered: bool,
    /// Whether a DISTINCT ON stands anywhere.
    pub has_distinct_on: bool,
    /// Whether a constant is a date that depends on when it is read (PostgreSQL's documentation, "Date/Time Input").
    pub has_relative_date: bool,
}

/// A name in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The schema before it, folded.
    pub schema: Option<String>,
    /// The name, folded.
    pub name: String,
    /// Where it stands, in bytes.
    pub place: Range<usize>,
    /// Where the ONLY before it begins, if there is one.
    pub only: Option<usize>,
    /// Where the asterisk behind it ends, if there is one.
    pub star: Option<usize>,
}

const RELATIVE_DATES: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// A token that is neither white space nor a comment, and where it begins.
type Placed<'a> = (usize, Token<'a>);

/// Reads a query's tokens.
#[must_use]
pub fn outline(sql: &str) -> Outline {
    let mut at = 0;
    let placed: Vec<Placed<'_>> = tokens(sql)
        .map(|token| {
            at += token.text.len();
            (at - token.text.len(), token)
        })
        .filter(|(_, token)| !matches!(token.kind, Kind::Space | Kind::Comment))
        .collect();
    let mut found = Outline { names: names(&placed), ..Outline::default() };
    // Where all of it is in parentheses, its top is not outside of them.
    let wrapped = placed.first().is_some_and(|(_, token)| token.kind == Kind::OpenParenthesis);
    let mut depth = 0_usize;
    for (index, (_, token)) in placed.iter().enumerate() {
        let next = placed.get(index + 1).map(|(_, token)| token);
        let before = index.checked_sub(1).and_then(|index| placed.get(index)).map(|(_, token)| token);
        match token.kind {
            Kind::OpenParenthesis => depth += 1,
            Kind::CloseParenthesis => depth = depth.saturating_sub(1),
            Kind::Word => {
                let word = fold(token.text);
                found.may_be_ordered |= word == "order" && (depth == 0 || wrapped);
                found.has_distinct_on |=
                    word == "distinct" && next.is_some_and(|next| fold(next.text) == "on");
                if next.is_some_and(|next| next.kind == Kind::OpenParenthesis) {
                    found.calls.insert(word.clone());
                }
                if before.is_some_and(|before| before.text == ".") {
                    found.attributes.insert(word.clone());
                }
                found.words.insert(word);
            }
            Kind::String => {
                let text = token.text.to_lowercase();
                found.has_relative_date |=
                    text.split(|char: char| !char.is_alphabetic()).any(|word| RELATIVE_DATES.contains(&word));
            }
            Kind::Other => found.symbols.push_str(token.text),
            _ => {}
        }
    }
    found
}

fn names(placed: &[Placed<'_>]) -> Vec<Name> {
    let is = |index: usize, text: &str| placed.get(index).is_some_and(|(_, token)| token.text == text);
    let word = |index: usize| placed.get(index).filter(|(_, token)| token.kind == Kind::Word);
    let mut names = Vec::new();
    let mut index = 0;
    while index < placed.len() {
        if word(index).is_none() {
            index += 1;
            continue;
        }
        let first = index;
        while is(index + 1, ".") && word(index + 2).is_some() {
            index += 2;
        }
        let parts: Vec<&Placed<'_>> = placed[first..=index].iter().step_by(2).collect();
        index += 1;
        let (Some((start, _)), Some((end, last))) = (parts.first(), parts.last()) else { continue };
        if parts.len() > 2 || first.checked_sub(1).is_some_and(|before| is(before, ".")) {
            continue;
        }
        let schema = parts.first().filter(|_| parts.len() > 1).map(|(_, token)| fold(token.text));
        let only = first.checked_sub(1).and_then(word).filter(|(_, token)| fold(token.text) == "only");
        let star = placed.get(index).filter(|(_, token)| token.text == "*");
        names.push(Name {
            schema,
            name: fold(last.text),
            place: *start..end + last.text.len(),
            only: only.map(|(at, _)| *at),
            star: star.map(|(at, token)| at + token.text.len()),
        });
    }
    names
}

/// A word as the server has it: without quotes, or with its capitals of ASCII small.
fn fold(word: &str) -> String {
    match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::outline;

    #[test]
    fn what_may_be_a_table_is_found_where_it_stands() {
        let sql = "SELECT f.id, 't' FROM S . \"T t\" /* t */ f, ONLY t*, a.b.c -- d";
        let found = outline(sql);
        let names: Vec<(Option<&str>, &str, &str)> = found
            .names
            .iter()
            .map(|name| (name.schema.as_deref(), name.name.as_str(), &sql[name.place.clone()]))
            .collect();
        assert_eq!(
            names,
            [
                (None, "select", "SELECT"),
                (Some("f"), "id", "f.id"),
                (None, "from", "FROM"),
                (Some("s"), "T t", "S . \"T t\""),
                (None, "f", "f"),
                (None, "only", "ONLY"),
                (None, "t", "t"),
            ]
        );
        let table = &found.names[6];
        assert_eq!(table.only.map(|at| &sql[at..]), Some("ONLY t*, a.b.c -- d"));
        assert_eq!(table.star.map(|at| &sql[at..]), Some(", a.b.c -- d"));
        assert_eq!((found.names[3].only, found.names[3].star), (None, None));
    }

    #[test]
    fn an_order_at_the_top_is_never_missed() {
        for (sql, wanted) in [
            ("SELECT a FROM t ORDER BY a", true),
            ("WITH w AS (SELECT 1) SELECT a FROM t order/**/by a", true),
            ("(SELECT a FROM t ORDER BY a)", true),
            ("((SELECT a FROM t)) ORDER BY 1", true),
            ("SELECT a FROM (SELECT a FROM t ORDER BY a) x", false),
            ("SELECT array_agg(a ORDER BY a), 'ORDER BY' FROM t -- ORDER", false),
        ] {
            assert_eq!(outline(sql).may_be_ordered, wanted, "{sql}");
        }
    }

    #[test]
    fn calls_attributes_and_constants_are_told() {
        let found = outline("SELECT Lower (x), (t).size, y.f(1), 'today' || a <-> b FROM g");
        assert_eq!(found.calls.iter().collect::<Vec<_>>(), ["f", "lower"]);
        assert_eq!(found.attributes.iter().collect::<Vec<_>>(), ["f", "size"]);
        assert!(found.symbols.contains("<->") && found.symbols.contains("||"), "{}", found.symbols);
        assert!(found.has_relative_date && !found.has_distinct_on);
        assert!(found.words.contains("g") && !found.words.contains("today"));
        for sql in ["SELECT E' Now '", "SELECT $x$yesterday$x$", "SELECT date 'TOMORROW 12:00'"] {
            assert!(outline(sql).has_relative_date, "{sql}");
        }
        assert!(!outline("SELECT 'nowhere', 'unknown', now, $1").has_relative_date);
        assert!(outline("SELECT DISTINCT/**/ON (a) b FROM t").has_distinct_on);
        assert!(!outline("SELECT DISTINCT a FROM t JOIN u ON true").has_distinct_on);
    }

    proptest! {
        #[test]
        fn any_text_has_an_outline(sql in any::<String>()) {
            for name in outline(&sql).names {
                prop_assert!(sql.get(name.place).is_some_and(|text| !text.is_empty()));
            }
        }
    }
}
