//! PostgreSQL's lexical structure, as far as it decides what is a string, a comment, a name or a colon. It follows
//! `scan.l` of PostgreSQL 14 to 18; where these differ, what differs is a syntax error in one of them.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// White space.
    Space,
    /// `-- …` or `/* … */`.
    Comment,
    /// A constant in quotes of any kind, dollars included.
    String,
    /// A keyword, a name, or a name in double quotes.
    Word,
    /// A number, or `$1`.
    Number,
    /// `:name`: a placeholder, or the end of a slice such as `a[:n]`.
    Placeholder,
    /// `(`
    OpenParenthesis,
    /// `)`
    CloseParenthesis,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `;`
    Semicolon,
    /// Anything else, `::` and `:=` included.
    Other,
}

/// A part of the text. All tokens together are the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

/// The tokens of a text, to its end. What is not closed (a string, a comment) ends with the text: the server refuses it.
pub(super) fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (kind, length) = next(rest.as_bytes());
        // Each token ends before or after an ASCII character, or at the end.
        let (text, after) = rest.split_at(length);
        rest = after;
        Some(Token { kind, text })
    })
}

fn next(sql: &[u8]) -> (Kind, usize) {
    let second = sql.get(1).copied();
    match sql[0] {
        byte if is_space(byte) => (Kind::Space, span(sql, 0, is_space)),
        b'-' if second == Some(b'-') => (Kind::Comment, line_comment(sql, 0)),
        b'/' if second == Some(b'*') => block_comment(sql),
        b'\'' => (Kind::String, string(sql, 0, Escapes::None)),
        b'"' => (Kind::Word, quoted(sql, 0, b'"', Escapes::None)),
        b'$' => dollar(sql),
        b':' => colon(sql),
        b'(' => (Kind::OpenParenthesis, 1),
        b')' => (Kind::CloseParenthesis, 1),
        b'[' => (Kind::OpenBracket, 1),
        b']' => (Kind::CloseBracket, 1),
        b';' => (Kind::Semicolon, 1),
        byte if byte.is_ascii_digit() => (Kind::Number, number(sql)),
        b'.' if second.is_some_and(|byte| byte.is_ascii_digit()) => (Kind::Number, number(sql)),
        byte if starts_name(byte) => word(sql),
        _ => (Kind::Other, 1),
    }
}

/// A name, or a string with a letter before it.
fn word(sql: &[u8]) -> (Kind, usize) {
    let end = span(sql, 0, continues_name);
    match (&sql[..end], sql.get(end), sql.get(end + 1)) {
        (b"e" | b"E", Some(b'\''), _) => (Kind::String, string(sql, end, Escapes::Backslash)),
        (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", Some(b'\''), _) => {
            (Kind::String, string(sql, end, Escapes::None))
        }
        (b"u" | b"U", Some(b'&'), Some(b'\'')) => (Kind::String, string(sql, end + 1, Escapes::None)),
        (b"u" | b"U", Some(b'&'), Some(b'"')) => (Kind::Word, quoted(sql, end + 1, b'"', Escapes::None)),
        _ => (Kind::Word, end),
    }
}

/// Whether a backslash takes the next character's meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Backslash,
}

/// The end of a string that opens at `start`, with all that continues it: after white space with a line break, another
/// quote goes on with the same string, and in the same mode.
fn string(sql: &[u8], start: usize, escapes: Escapes) -> usize {
    let mut end = quoted(sql, start, b'\'', escapes);
    while let Some(again) = continuation(sql, end) {
        end = quoted(sql, again, b'\'', escapes);
    }
    end
}

/// Where the quote stands that continues a string, if one does.
fn continuation(sql: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    let mut broken = false;
    loop {
        match sql.get(at)? {
            b'\'' => return broken.then_some(at),
            b'\n' | b'\r' => {
                broken = true;
                at += 1;
            }
            byte if is_space(*byte) => at += 1,
            b'-' if sql.get(at + 1) == Some(&b'-') => at = line_comment(sql, at),
            _ => return None,
        }
    }
}

/// The end of what opens with `quote` at `start`. A doubled quote stands for one.
fn quoted(sql: &[u8], start: usize, quote: u8, escapes: Escapes) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = sql.get(at) {
        if byte == quote {
            if sql.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 2;
        } else if byte == b'\\' && escapes == Escapes::Backslash {
            at += 2;
        } else {
            at += 1;
        }
    }
    sql.len()
}

/// `$1`, `$tag$…$tag$`, or a dollar.
fn dollar(sql: &[u8]) -> (Kind, usize) {
    if sql.get(1).is_some_and(u8::is_ascii_digit) {
        return (Kind::Number, span(sql, 1, |byte| byte.is_ascii_digit()));
    }
    let end = if sql.get(1).copied().is_some_and(starts_name) {
        span(sql, 1, |byte| continues_name(byte) && byte != b'$')
    } else {
        1
    };
    if sql.get(end) != Some(&b'$') {
        return (Kind::Other, 1);
    }
    let tag = &sql[..=end];
    let body = &sql[tag.len()..];
    let close = body.windows(tag.len()).position(|window| window == tag);
    (Kind::String, close.map_or(sql.len(), |close| tag.len() + close + tag.len()))
}

/// `::`, `:=`, `:name` or a colon.
fn colon(sql: &[u8]) -> (Kind, usize) {
    match sql.get(1) {
        Some(b':' | b'=') => (Kind::Other, 2),
        Some(&byte) if starts_name(byte) => (Kind::Placeholder, span(sql, 1, continues_name)),
        _ => (Kind::Other, 1),
    }
}

/// The end of a number. An exponent without digits is not part of it: `1e'…'` ends in an escape string.
fn number(sql: &[u8]) -> usize {
    let digits = |at| span(sql, at, |byte| byte.is_ascii_digit() || byte == b'_');
    let mut end = digits(0);
    if sql.get(end) == Some(&b'.') && sql.get(end + 1) != Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(sql.get(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(sql.get(end + 1), Some(b'+' | b'-')));
        if sql.get(signed).is_some_and(u8::is_ascii_digit) {
            end = digits(signed);
        }
    }
    end
}

/// The end of a line comment, which a carriage return ends too.
fn line_comment(sql: &[u8], start: usize) -> usize {
    span(sql, start, |byte| byte != b'\n' && byte != b'\r')
}

/// A block comment. They nest. One that is not closed is none: what stands behind a statement is cut, and the server shall
/// see this.
fn block_comment(sql: &[u8]) -> (Kind, usize) {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        match sql.get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            Some(_) => at += 1,
            None => return (Kind::Other, sql.len()),
        }
    }
    (Kind::Comment, at)
}

fn span(sql: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    sql[start..].iter().position(|byte| !belongs(*byte)).map_or(sql.len(), |length| start + length)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_name(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, tokens};

    /// The tokens but white space, as `kind text`.
    fn lexed(sql: &str) -> Vec<(Kind, &str)> {
        tokens(sql).filter(|token| token.kind != Kind::Space).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn whole_strings_comments_and_names_are_one_token() {
        for (kind, text) in [
            (Kind::String, "'it''s :a'"),
            (Kind::String, "'back\\'"),
            (Kind::String, "E'it\\'s :a'"),
            (Kind::String, "e'\\\\'"),
            (Kind::String, "E'a'\n 'b\\' :a'"),
            (Kind::String, "E'a' -- x '\n -- y '\n 'b\\' :a'"),
            (Kind::String, "E'a'\r'b\\''"),
            (Kind::String, "U&'\\0041 '' :a'"),
            (Kind::String, "b'01'"),
            (Kind::String, "X'ff'"),
            (Kind::String, "N'n'"),
            (Kind::String, "$$ :a ' $x$ $$"),
            (Kind::String, "$tag$ :a $$ $tag $tag$"),
            (Kind::String, "$Ünï$ $Ünï$"),
            (Kind::Word, "\"a\"\":b\""),
            (Kind::Word, "U&\"\\0041\""),
            (Kind::Word, "tablE"),
            (Kind::Word, "a$b$c"),
            (Kind::Word, "größe"),
            (Kind::Comment, "/* a /* :b */ ' */"),
            (Kind::Comment, "/**/"),
            (Kind::Comment, "-- :a '"),
            (Kind::Number, "1.5e-10"),
            (Kind::Number, "$12"),
            (Kind::Number, ".5"),
            (Kind::Placeholder, ":a_1"),
            (Kind::Other, "::"),
            (Kind::Other, ":="),
            // Unclosed: to the end of the text.
            (Kind::String, "'a"),
            (Kind::String, "E'a\\"),
            (Kind::String, "$a$ $a"),
            (Kind::Other, "/* /* */"),
        ] {
            assert_eq!(lexed(text), [(kind, text)]);
        }
    }

    #[test]
    fn neighbours_are_told_apart() {
        assert_eq!(lexed("-- a\r:b"), [(Kind::Comment, "-- a"), (Kind::Placeholder, ":b")]);
        assert_eq!(lexed("a::b"), [(Kind::Word, "a"), (Kind::Other, "::"), (Kind::Word, "b")]);
        assert_eq!(lexed("tablE'x'"), [(Kind::Word, "tablE"), (Kind::String, "'x'")]);
        assert_eq!(lexed("'a' 'b'"), [(Kind::String, "'a'"), (Kind::String, "'b'")]);
        assert_eq!(lexed("1E'\\''"), [(Kind::Number, "1"), (Kind::String, "E'\\''")]);
        assert_eq!(lexed("$1$$:a$$"), [(Kind::Number, "$1"), (Kind::String, "$$:a$$")]);
        assert_eq!(lexed("$x :a"), [(Kind::Other, "$"), (Kind::Word, "x"), (Kind::Placeholder, ":a")]);
        assert_eq!(
            lexed("+--a\n-1"),
            [(Kind::Other, "+"), (Kind::Comment, "--a"), (Kind::Other, "-"), (Kind::Number, "1")]
        );
        assert_eq!(
            lexed("E'a' /* */ 'b\\'"),
            [(Kind::String, "E'a'"), (Kind::Comment, "/* */"), (Kind::String, "'b\\'")]
        );
        assert_eq!(lexed("1..2"), [(Kind::Number, "1"), (Kind::Other, "."), (Kind::Number, ".2")]);
    }

    proptest! {
        #[test]
        fn tokens_are_the_text(sql in "(?s)([a-z:'\"$/*\\\\\\-\\[\\]();=\n\r 0-9é]|\\$a\\$|E'|--|/\\*|\\*/){0,40}") {
            prop_assert_eq!(tokens(&sql).map(|token| token.text).collect::<String>(), sql);
        }

        #[test]
        fn any_text_is_lexed(sql in any::<String>()) {
            prop_assert_eq!(tokens(&sql).map(|token| token.text).collect::<String>(), sql);
        }
    }
}
