//! Bodies that a database wrote by itself: their records are counted, and made what a worker would have written.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2, memchr2_iter, memchr3};
use pgexport_api::job::{Csv, Format, FormatType};
use pgexport_api::reason::Reason;

use crate::error::{Error, Result};

/// The records of one body, which comes in pieces of any size.
#[derive(Debug)]
pub struct Records {
    kind: Kind,
    count: u64,
    /// Whether the last byte ended a record, or none has come.
    ended: bool,
}

#[derive(Debug)]
enum Kind {
    /// A record ends with a line that ends outside of quotes.
    Csv {
        quote: u8,
        /// `None` where a quote in quotes is doubled, which opens and closes as if there were two fields.
        escape: Option<u8>,
        quoted: bool,
        /// The next byte is escaped.
        escaped: bool,
    },
    /// A record is a line, and stays one.
    Lines,
    /// A record is a line, and a comma stands between two of them.
    Array,
}

impl Records {
    /// Of a body in this format.
    #[must_use]
    pub fn new(format: &Format) -> Self {
        let kind = match format.format_type {
            FormatType::Csv => {
                let csv = format.csv.as_ref();
                let first = |text: Option<&String>| text.and_then(|text| text.bytes().next());
                let quote = first(csv.and_then(|csv: &Csv| csv.quote.as_ref())).unwrap_or(b'"');
                let escape = first(csv.and_then(|csv: &Csv| csv.escape.as_ref())).unwrap_or(quote);
                Kind::Csv {
                    quote,
                    escape: (escape != quote).then_some(escape),
                    quoted: false,
                    escaped: false,
                }
            }
            FormatType::Json => Kind::Array,
            FormatType::Ndjson | FormatType::Parquet => Kind::Lines,
        };
        Self { kind, count: 0, ended: true }
    }

    /// Takes the next piece, and gives what a worker would have written.
    pub fn push(&mut self, piece: Bytes) -> Result<Bytes> {
        let Some(last) = piece.last() else { return Ok(piece) };
        let began_ended = self.ended;
        match &mut self.kind {
            Kind::Csv { quote, escape, quoted, escaped } => {
                self.count += count_csv(&piece, *quote, *escape, quoted, escaped);
                self.ended = *last == b'\n' && !*quoted;
                Ok(piece)
            }
            Kind::Lines => {
                check_json(&piece)?;
                self.count += memchr::memchr_iter(b'\n', &piece).count() as u64;
                self.ended = *last == b'\n';
                Ok(piece)
            }
            Kind::Array => {
                check_json(&piece)?;
                let starts_row = began_ended && self.count > 0;
                let lines = memchr::memchr_iter(b'\n', &piece).count();
                self.count += lines as u64;
                self.ended = *last == b'\n';
                Ok(join(&piece, starts_row, lines))
            }
        }
    }

    /// How many there were.
    pub fn finish(self) -> Result<u64> {
        if self.ended {
            return Ok(self.count);
        }
        Err(Error::new(Reason::ChecksumMismatch, "what the database wrote ends within a row"))
    }
}

/// Counts line ends outside of quotes.
fn count_csv(piece: &[u8], quote: u8, escape: Option<u8>, quoted: &mut bool, escaped: &mut bool) -> u64 {
    let Some(escape) = escape else {
        // Only the two matter.
        let mut count = 0;
        for place in memchr2_iter(quote, b'\n', piece) {
            if piece[place] == quote {
                *quoted = !*quoted;
            } else if !*quoted {
                count += 1;
            }
        }
        return count;
    };
    let (mut count, mut rest) = (0, piece);
    loop {
        if std::mem::take(escaped) {
            let Some((_, after)) = rest.split_first() else {
                *escaped = true;
                return count;
            };
            rest = after;
        }
        let found = if *quoted { memchr2(quote, escape, rest) } else { memchr2(quote, b'\n', rest) };
        let Some(place) = found else { return count };
        match (rest[place], *quoted) {
            (byte, _) if byte == quote => *quoted = !*quoted,
            (_, true) => *escaped = true,
            (_, false) => count += 1,
        }
        rest = &rest[place + 1..];
    }
}

/// JSON has no such characters: where one is, the database has quoted a row.
fn check_json(piece: &[u8]) -> Result<()> {
    match memchr3(1, 2, b'\r', piece) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Reason::InternalError,
            "what the database wrote is not a JSON object on each line",
        )),
    }
}

/// Rows of an array: the line end of a row becomes a comma and a line end before the next one.
fn join(piece: &Bytes, starts_row: bool, lines: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(piece.len() + lines + 2);
    if starts_row {
        out.extend_from_slice(b",\n");
    }
    let mut rest: &[u8] = piece;
    while let Some(end) = memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        if !rest.is_empty() {
            out.extend_from_slice(b",\n");
        }
    }
    out.extend_from_slice(rest);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pgexport_api::job::{Csv, Format, FormatType};
    use proptest::prelude::*;

    use super::Records;

    fn format(format_type: FormatType, csv: Option<Csv>) -> Format {
        Format { format_type, csv, parquet: None }
    }

    /// What comes of a body that is cut into pieces of this size.
    fn made(format: &Format, body: &[u8], size: usize) -> crate::Result<(u64, Vec<u8>)> {
        let mut records = Records::new(format);
        let mut out = Vec::new();
        for piece in body.chunks(size) {
            out.extend_from_slice(&records.push(Bytes::copy_from_slice(piece))?);
        }
        Ok((records.finish()?, out))
    }

    #[test]
    fn an_array_s_rows_have_commas_between_them_however_they_are_cut() {
        for size in 1..12 {
            let body = b"{\"a\":1}\n{\"a\":2}\n{}\n";
            let (count, out) = made(&format(FormatType::Json, None), body, size).unwrap();
            assert_eq!((count, out.as_slice()), (3, &b"{\"a\":1},\n{\"a\":2},\n{}"[..]), "pieces of {size}");
            let (count, out) = made(&format(FormatType::Ndjson, None), body, size).unwrap();
            assert_eq!((count, out.as_slice()), (3, &body[..]));
        }
        assert_eq!(made(&format(FormatType::Json, None), b"", 1).unwrap(), (0, Vec::new()));
    }

    #[test]
    fn what_breaks_off_or_is_quoted_is_refused() {
        for body in [&b"{}"[..], b"{}\n{"] {
            assert!(made(&format(FormatType::Json, None), body, 2).is_err());
            assert!(made(&format(FormatType::Ndjson, None), body, 2).is_err());
        }
        for body in [&b"a"[..], b"\"a\n", b"\"a\"\"\n"] {
            assert!(made(&format(FormatType::Csv, None), body, 2).is_err());
        }
        assert!(made(&format(FormatType::Json, None), b"\x01{}\x01\n", 9).is_err());
        assert!(made(&format(FormatType::Ndjson, None), b"{}\r\n", 9).is_err());
    }

    proptest! {
        /// Fields of what is hard to count, written as COPY writes them.
        #[test]
        fn csv_records_are_counted_whatever_is_in_them(
            rows in prop::collection::vec(prop::collection::vec("[a,\"'\\\\\n\rx]{0,6}", 1..4), 0..12),
            quote in prop::sample::select(vec!['"', '\'']),
            escape in prop::sample::select(vec!['"', '\'', '\\', 'x']),
            size in 1_usize..20,
        ) {
            let mut body = String::new();
            for row in &rows {
                let fields: Vec<String> = row.iter().map(|field| {
                    if field.contains([',', quote, '\n', '\r']) {
                        let mut quoted = String::from(quote);
                        for char in field.chars() {
                            if char == quote || char == escape {
                                quoted.push(escape);
                            }
                            quoted.push(char);
                        }
                        quoted.push(quote);
                        quoted
                    } else {
                        field.clone()
                    }
                }).collect();
                body.push_str(&fields.join(","));
                body.push('\n');
            }
            let csv = Csv { quote: Some(quote.to_string()), escape: Some(escape.to_string()), ..Csv::default() };
            let (count, out) = made(&format(FormatType::Csv, Some(csv)), body.as_bytes(), size).unwrap();
            prop_assert_eq!(count, rows.len() as u64);
            prop_assert_eq!(out, body.into_bytes());
        }
    }
}
