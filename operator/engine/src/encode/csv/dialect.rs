//! How CSV is quoted (`CopyAttributeOutCSV` in PostgreSQL's `copyto.c`).

use pgexport_api::job::Csv;

use crate::decode::{Scalar, Shape, WORD, contains, equal};
use crate::encode::binary::forget;

/// Room is made for twice as many bytes as are escaped, so those of a long text are so in pieces.
const ESCAPED_AT_ONCE: usize = 64 * 1024;

/// The characters of a CSV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::encode) struct Dialect {
    pub(in crate::encode) delimiter: u8,
    pub(in crate::encode) quote: u8,
    pub(in crate::encode) escape: u8,
    pub(in crate::encode) null: Vec<u8>,
    /// Whether rows have one column only: `\.`, alone on a line, would end what COPY reads.
    pub(in crate::encode) single: bool,
}

impl Dialect {
    pub(in crate::encode) fn new(csv: Option<&Csv>, columns: usize) -> Self {
        let character = |option: fn(&Csv) -> &Option<String>| {
            csv.and_then(|csv| option(csv).as_ref()).and_then(|text| text.bytes().next())
        };
        let quote = character(|csv| &csv.quote).unwrap_or(b'"');
        Self {
            delimiter: character(|csv| &csv.delimiter).unwrap_or(b','),
            quote,
            escape: character(|csv| &csv.escape).unwrap_or(quote),
            null: csv.and_then(|csv| csv.null.clone()).unwrap_or_default().into_bytes(),
            single: columns == 1,
        }
    }

    /// Whether a text as a whole is one that needs quotes, whatever is in it.
    pub(in crate::encode) fn is_reserved(&self, text: &[u8]) -> bool {
        text == self.null || (self.single && text == b"\\.")
    }

    /// Whether some of these bytes need quotes around the text that they are in.
    #[inline]
    #[allow(clippy::needless_bitwise_bool, reason = "without branches, a loop over it is done by vectors")]
    pub(in crate::encode) fn needs_quotes(&self, bytes: &[u8]) -> bool {
        contains(bytes, |byte| {
            (byte == self.delimiter) | (byte == self.quote) | (byte == b'\n') | (byte == b'\r')
        })
    }

    /// Appends bytes as they stand inside of quotes.
    pub(in crate::encode) fn escape(&self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(ESCAPED_AT_ONCE) {
            self.escape_piece(piece, out);
        }
    }

    #[inline]
    fn escape_piece(&self, bytes: &[u8], out: &mut Vec<u8>) {
        // Each word is written as it is, and the next one over what was too much.
        let mut end = out.len();
        out.resize(end + 2 * bytes.len() + 2 * WORD, 0);
        let (words, rest) = bytes.as_chunks::<WORD>();
        for word in words {
            end = self.escape_word(u64::from_le_bytes(*word), WORD, out, end);
        }
        let mut word = [0; WORD];
        word[..rest.len()].copy_from_slice(rest);
        end = self.escape_word(u64::from_le_bytes(word), rest.len(), out, end);
        out.truncate(end);
    }

    /// Writes the first bytes of a word at a place, and returns where they end.
    #[inline]
    fn escape_word(&self, mut word: u64, mut length: usize, out: &mut [u8], mut end: usize) -> usize {
        let mut found = equal(word, self.quote) | equal(word, self.escape);
        loop {
            // The bytes up to the next one that is escaped, and some more.
            if let Some(place) = out.get_mut(end..end + WORD) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            let before = (found.trailing_zeros() / 8) as usize;
            if before >= length {
                return end + length;
            }
            end += before;
            if let Some(place) = out.get_mut(end..end + 2) {
                let byte = word.to_le_bytes()[before];
                place.copy_from_slice(&[self.escape, byte]);
            }
            end += 2;
            let taken = before + 1;
            length -= taken;
            if length == 0 {
                return end;
            }
            word >>= 8 * taken;
            found >>= 8 * taken;
        }
    }

    /// Appends a text, in quotes if it needs them.
    pub(in crate::encode) fn text(&self, text: &[u8], force: bool, out: &mut Vec<u8>) {
        if force || self.is_reserved(text) || self.needs_quotes(text) {
            out.push(self.quote);
            self.escape(text, out);
            out.push(self.quote);
        } else {
            out.extend_from_slice(text);
        }
    }

    /// Puts what stands in `out` from `start` on into quotes, if it needs them. Meanwhile it is held in `scratch`.
    pub(in crate::encode) fn tail(
        &self,
        start: usize,
        force: bool,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) {
        let text = &out[start..];
        if force || self.is_reserved(text) || self.needs_quotes(text) {
            scratch.clear();
            scratch.extend_from_slice(text);
            out.truncate(start);
            out.push(self.quote);
            self.escape(scratch, out);
            out.push(self.quote);
            forget(scratch);
        }
    }

    /// Whether no text of this shape ever needs quotes.
    pub(in crate::encode) fn never_quotes(&self, shape: &Shape) -> bool {
        let Shape::Scalar(scalar) = shape else { return false };
        let Some(alphabet) = alphabet(*scalar) else { return false };
        let may_be_null = !self.null.is_empty() && self.null.iter().all(|byte| alphabet.contains(byte));
        !alphabet.contains(&self.delimiter) && !alphabet.contains(&self.quote) && !may_be_null
    }
}

/// The bytes that a type's texts are of, where those are few and no text is empty.
const fn alphabet(scalar: Scalar) -> Option<&'static [u8]> {
    Some(match scalar {
        Scalar::Bool => b"tf",
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid | Scalar::Xid8 => b"0123456789-",
        Scalar::Float4 | Scalar::Float8 | Scalar::Numeric => b"0123456789+-.eNaInfity",
        Scalar::Lsn => b"0123456789ABCDEF/",
        Scalar::Uuid => b"0123456789abcdef-",
        Scalar::Bytea => b"\\x0123456789abcdef",
        Scalar::Date | Scalar::Time | Scalar::Timetz | Scalar::Timestamp | Scalar::Timestamptz => {
            b"0123456789+-:. BCinfty"
        }
        Scalar::Interval => b"0123456789-.PYMDTHSinfty",
        Scalar::Inet | Scalar::Macaddr => b"0123456789abcdef.:/",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::Csv;
    use proptest::prelude::*;

    use super::Dialect;
    use crate::decode::{Scalar, Shape};

    fn written(dialect: &Dialect, text: &str, force: bool) -> String {
        let (mut out, mut tail) = (Vec::new(), b"x,".to_vec());
        dialect.text(text.as_bytes(), force, &mut out);
        tail.extend_from_slice(text.as_bytes());
        dialect.tail(2, force, &mut tail, &mut Vec::new());
        assert_eq!(tail[2..], out, "both ways are one");
        String::from_utf8(out).unwrap()
    }

    fn csv(delimiter: &str, quote: &str, escape: &str, null: &str) -> Csv {
        let some = |text: &str| Some(text.to_owned());
        Csv {
            delimiter: some(delimiter),
            quote: some(quote),
            escape: some(escape),
            null: some(null),
            ..Csv::default()
        }
    }

    #[test]
    fn texts_are_quoted_where_copy_quotes_them() {
        let plain = Dialect::new(None, 2);
        for (text, wanted) in [
            ("", "\"\""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
            ("\\.", "\\."),
            ("a comma far behind the first block,", "\"a comma far behind the first block,\""),
        ] {
            assert_eq!(written(&plain, text, false), wanted);
        }
        assert_eq!(written(&plain, "a", true), "\"a\"");
        assert_eq!(written(&Dialect::new(None, 1), "\\.", false), "\"\\.\"");
        let other = Dialect::new(Some(&csv(";", "'", "\\", "NULL")), 2);
        for (text, wanted) in [
            ("", ""),
            ("NULL", "'NULL'"),
            ("NULLs", "NULLs"),
            ("a\\b", "a\\b"),
            ("a\\;b", "'a\\\\;b'"),
            ("it's", "'it\\'s'"),
            ("a,\"b", "a,\"b"),
        ] {
            assert_eq!(written(&other, text, false), wanted);
        }
    }

    #[test]
    fn types_without_quotes_are_found_by_what_their_texts_are_of() {
        let never = |dialect: &Dialect, scalar| dialect.never_quotes(&Shape::Scalar(scalar));
        let plain = Dialect::new(None, 1);
        assert!(never(&plain, Scalar::Int4) && never(&plain, Scalar::Timestamptz));
        assert!(!never(&plain, Scalar::Text) && !never(&plain, Scalar::Point) && !never(&plain, Scalar::Bit));
        let digits = Dialect::new(Some(&csv("1", "\"", "\"", "")), 2);
        assert!(!never(&digits, Scalar::Int4) && never(&digits, Scalar::Bool));
        let null = Dialect::new(Some(&csv(",", "\"", "\"", "0")), 2);
        assert!(!never(&null, Scalar::Int4) && never(&null, Scalar::Bool));
    }

    proptest! {
        #[test]
        fn a_reader_of_csv_finds_the_text_again(text in "[a,\"\n\r\\\\ ]{0,40}") {
            let line = written(&Dialect::new(None, 1), &text, false);
            let read = match line.strip_prefix('"').and_then(|line| line.strip_suffix('"')) {
                Some(inner) => inner.replace("\"\"", "\""),
                None => line,
            };
            prop_assert_eq!(read, text);
        }
    }
}
