//! What holds for the substitution of placeholders in any text, for the unit tests and for `fuzz/`: there this file is a
//! module too, with the engine's `sql` beside it.
//!
//! The law is a second reading of PostgreSQL's lexical rules (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>),
//! one byte after the other, that shares no code with the lexer.

use std::collections::BTreeMap;

use crate::sql::{Values, substitute};

/// What is put in: an expression in which no placeholder is, and which occurs in no text under test.
const VALUE: &str = "(CAST('\u{1}it''s :a $$ -- /*' AS text))";

/// Says how a text breaks the law, if it does.
pub fn check(sql: &str) -> Result<(), String> {
    // The mark by which values are found again.
    let sql = sql.replace('\u{1}', " ");
    let names = ["a", "n", "chunk", "é"];
    let values: Values = names.iter().map(|name| ((*name).to_owned(), VALUE.to_owned())).collect();
    let out = substitute(&sql, &values);

    let expected = read(&sql);
    let mut wanted = String::new();
    let mut from = 0;
    let mut replaced: BTreeMap<String, usize> = BTreeMap::new();
    for place in &expected.placeholders {
        let name = &sql[place.from + 1..place.to];
        if names.contains(&name) && !place.in_brackets {
            wanted.push_str(&sql[from..place.from]);
            wanted.push_str(VALUE);
            from = place.to;
            *replaced.entry(name.to_owned()).or_default() += 1;
        }
    }
    wanted.push_str(sql.get(from..expected.end).unwrap_or_default());
    let is = |what: &str, right: bool| {
        if right { Ok(()) } else { Err(format!("{what}: {sql:?} became {:?}", out.sql)) }
    };
    is("placeholders are where PostgreSQL has them", out.sql == wanted)?;
    is("each is counted", out.replaced == replaced)?;

    let mut back = String::new();
    let mut pieces = out.sql.split(VALUE);
    back.push_str(pieces.next().unwrap_or_default());
    let names_in_order = expected
        .placeholders
        .iter()
        .filter(|place| !place.in_brackets)
        .map(|place| &sql[place.from..place.to])
        .filter(|text| names.contains(&&text[1..]));
    for (piece, placeholder) in pieces.zip(names_in_order) {
        back.push_str(placeholder);
        back.push_str(piece);
    }
    is("all else stays as it is", sql.starts_with(&back))?;

    let again = substitute(&out.sql, &values);
    is("nothing is left to replace, in values neither", again.sql == out.sql && again.replaced.is_empty())?;
    let without = substitute(&sql, &Values::new());
    is("without values nothing is replaced", sql.starts_with(&without.sql) && without.replaced.is_empty())
}

/// Where `:name` stands as a placeholder.
struct Place {
    from: usize,
    to: usize,
    in_brackets: bool,
}

/// What the second reading finds.
#[derive(Default)]
struct Reading {
    placeholders: Vec<Place>,
    /// Where the statement ends: behind it are spaces, comments and semicolons.
    end: usize,
}

/// Where the reader is.
#[derive(Clone)]
enum State {
    Between,
    Name {
        from: usize,
    },
    Number {
        exponent: bool,
        point: bool,
    },
    DollarNumber,
    Placeholder {
        from: usize,
        real: bool,
    },
    Quoted {
        by: u8,
        backslashes: bool,
    },
    /// Behind a string's last quote: one more in a later line goes on with it.
    Closed {
        backslashes: bool,
        line: bool,
    },
    LineComment {
        of_string: Option<(bool, bool)>,
    },
    Dollars {
        tag: Vec<u8>,
    },
}

fn begins(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..)
}

fn goes_on(byte: u8) -> bool {
    begins(byte) || matches!(byte, b'0'..=b'9' | b'$')
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

#[allow(clippy::too_many_lines, reason = "a state machine is read in one piece")]
fn read(text: &str) -> Reading {
    let sql = text.as_bytes();
    let mut reading = Reading::default();
    let mut state = State::Between;
    let mut nesting: Vec<u8> = Vec::new();
    // Whether the token just before is one that ends in a colon.
    let mut colon = false;
    let mut at = 0;
    loop {
        let byte = sql.get(at).copied();
        let next = sql.get(at + 1).copied();
        match (state.clone(), byte) {
            (State::Between | State::Closed { .. }, None) => return reading,
            (State::Between, Some(byte)) => {
                let behind_colon = std::mem::take(&mut colon);
                let mut length = 1;
                let mut counts = true;
                match (byte, next) {
                    (byte, _) if blank(byte) => counts = false,
                    (b';', _) => counts = false,
                    (b'-', Some(b'-')) => {
                        (state, counts) = (State::LineComment { of_string: None }, false);
                    }
                    (b'/', Some(b'*')) => match comment(&sql[at..]) {
                        Some(end) => (length, counts) = (end, false),
                        None => length = sql.len() - at,
                    },
                    (b'\'' | b'"', _) => state = State::Quoted { by: byte, backslashes: false },
                    (b':', Some(b':' | b'=')) => {
                        length = 2;
                        colon = next == Some(b':');
                    }
                    (b':', Some(name)) if begins(name) => {
                        state = State::Placeholder { from: at, real: !behind_colon };
                    }
                    (b':', _) => colon = true,
                    (b'$', Some(b'0'..=b'9')) => state = State::DollarNumber,
                    (b'$', _) => {
                        if let Some(tag) = tag(&sql[at..]) {
                            length = tag.len();
                            state = State::Dollars { tag };
                        }
                    }
                    (b'(' | b'[', _) => nesting.push(byte),
                    (b')' | b']', _) => drop(nesting.pop()),
                    (b'0'..=b'9', _) => state = State::Number { exponent: false, point: false },
                    (b'.', Some(b'0'..=b'9')) => state = State::Number { exponent: false, point: true },
                    (byte, _) if begins(byte) => state = State::Name { from: at },
                    _ => {}
                }
                at += length;
                if counts {
                    reading.end = at;
                }
            }
            (State::Name { .. }, Some(byte)) if goes_on(byte) => {
                at += 1;
                reading.end = at;
            }
            (State::Name { from }, byte) => {
                let name = sql[from..at].to_ascii_lowercase();
                state = match (name.as_slice(), byte, next) {
                    (b"e", Some(b'\''), _) => State::Quoted { by: b'\'', backslashes: true },
                    (b"b" | b"x" | b"n", Some(b'\''), _) => State::Quoted { by: b'\'', backslashes: false },
                    (b"u", Some(b'&'), Some(by @ (b'\'' | b'"'))) => {
                        at += 1;
                        State::Quoted { by, backslashes: false }
                    }
                    _ => State::Between,
                };
                if !matches!(state, State::Between) {
                    at += 1;
                    reading.end = at;
                }
            }
            (State::Number { exponent, point }, byte) => {
                let sign = matches!(next, Some(b'+' | b'-'));
                let digit = sql.get(at + 1 + usize::from(sign)).is_some_and(u8::is_ascii_digit);
                match byte {
                    Some(b'0'..=b'9' | b'_') => at += 1,
                    Some(b'.') if !point && !exponent && next != Some(b'.') => {
                        at += 1;
                        state = State::Number { exponent, point: true };
                    }
                    Some(b'e' | b'E') if !exponent && digit => {
                        at += 2 + usize::from(sign);
                        state = State::Number { exponent: true, point };
                    }
                    _ => state = State::Between,
                }
                reading.end = at;
            }
            (State::DollarNumber, Some(b'0'..=b'9')) => {
                at += 1;
                reading.end = at;
            }
            (State::DollarNumber, _) => state = State::Between,
            (State::Placeholder { .. }, Some(byte)) if goes_on(byte) => {
                at += 1;
                reading.end = at;
            }
            (State::Placeholder { from, real }, _) => {
                if real {
                    let in_brackets = nesting.last() == Some(&b'[');
                    reading.placeholders.push(Place { from, to: at, in_brackets });
                }
                state = State::Between;
            }
            (State::Quoted { .. } | State::Dollars { .. }, None) => {
                reading.end = sql.len();
                return reading;
            }
            (State::Quoted { by, backslashes }, Some(byte)) => {
                at += match (byte, next) {
                    (b'\\', Some(_)) if backslashes => 2,
                    (byte, Some(next)) if byte == by && next == by => 2,
                    (byte, _) if byte == by => {
                        reading.end = at + 1;
                        state = if by == b'"' {
                            State::Between
                        } else {
                            State::Closed { backslashes, line: false }
                        };
                        1
                    }
                    _ => 1,
                };
            }
            (State::Closed { backslashes, line }, Some(byte)) => match (byte, next) {
                (b'\'', _) if line => {
                    state = State::Quoted { by: b'\'', backslashes };
                    at += 1;
                }
                (b'\n' | b'\r', _) => {
                    state = State::Closed { backslashes, line: true };
                    at += 1;
                }
                (byte, _) if blank(byte) => at += 1,
                (b'-', Some(b'-')) => state = State::LineComment { of_string: Some((backslashes, line)) },
                _ => state = State::Between,
            },
            (State::LineComment { of_string }, None | Some(b'\n' | b'\r')) => {
                state = match of_string {
                    Some((backslashes, line)) => State::Closed { backslashes, line },
                    None => State::Between,
                };
            }
            (State::LineComment { .. }, Some(_)) => at += 1,
            (State::Dollars { tag }, Some(_)) => {
                if sql[at..].starts_with(&tag) {
                    at += tag.len();
                    reading.end = at;
                    state = State::Between;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// The length of the comment that begins here, if it ends.
fn comment(sql: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match (sql.get(at)?, sql.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) if depth == 1 => return Some(at + 2),
            (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// `$$`, or `$tag$`.
fn tag(sql: &[u8]) -> Option<Vec<u8>> {
    let length = sql.iter().skip(1).position(|byte| *byte == b'$')?;
    let name = sql.get(1..=length)?;
    let fits =
        name.iter().enumerate().all(|(place, byte)| begins(*byte) || (place > 0 && byte.is_ascii_digit()));
    fits.then(|| sql[..length + 2].to_vec())
}
