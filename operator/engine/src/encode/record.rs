//! Rows that a database wrote by itself for a format that is not text: each a line, the base64 of what `record_send` makes of
//! it. That is the number of its columns, and of each its type, its length and the bytes that COPY's binary format has for it
//! (PostgreSQL's `src/backend/utils/adt/rowtypes.c`). They are put into that format here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2;

use super::binary::{HEADER, SIGNATURE};
use crate::decode::{Decoded, Malformed};

/// From lines to COPY's binary format, in pieces that may end anywhere.
#[derive(Debug)]
pub(super) struct Lines {
    columns: usize,
    begun: bool,
    /// Base64 of which less than four characters have come.
    carry: Vec<u8>,
    /// Whether the last byte was a backslash.
    escaped: bool,
    place: Place,
    /// The beginning of a number whose end has not come.
    pending: Vec<u8>,
    /// Bytes of the piece, which belong to one line.
    raw: Vec<u8>,
    rows: u64,
}

/// What a place in a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the number of its columns.
    Row,
    /// Before a column's type and length.
    Column(usize),
    /// Inside of a value: its column, and what is left of it.
    Value(usize, usize),
    /// At its end.
    End,
}

impl Lines {
    /// Of rows of so many columns.
    pub(super) const fn new(columns: usize) -> Self {
        Self {
            columns,
            begun: false,
            carry: Vec::new(),
            escaped: false,
            place: Place::Row,
            pending: Vec::new(),
            raw: Vec::new(),
            rows: 0,
        }
    }

    /// Puts the next piece into COPY's format.
    pub(super) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Decoded {
        self.begin(out);
        loop {
            if self.escaped
                && let Some((next, rest)) = piece.split_first()
            {
                // Base64 comes in lines of 76 characters, between which COPY's text format writes `\n`.
                if *next != b'n' {
                    return Err(Malformed("a line has another escape than that of a line end"));
                }
                self.escaped = false;
                piece = rest;
            }
            let end = memchr2(b'\n', b'\\', piece);
            let (digits, rest) = piece.split_at(end.unwrap_or(piece.len()));
            self.decode(digits)?;
            let Some((last, rest)) = rest.split_first() else { break };
            piece = rest;
            if *last == b'\\' {
                self.escaped = true;
            } else {
                self.end_line(out)?;
            }
        }
        self.row(out)
    }

    /// Ends COPY's data, and tells how many rows there were.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Decoded<u64> {
        self.begin(out);
        if self.place != Place::Row || !self.pending.is_empty() || !self.carry.is_empty() || self.escaped {
            return Err(Malformed("it ends within a row"));
        }
        out.extend((-1_i16).to_be_bytes());
        Ok(self.rows)
    }

    /// The header, before the first row.
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend(SIGNATURE);
            out.extend([0; HEADER - SIGNATURE.len()]);
        }
    }

    /// Takes base64, all but what has to wait for its end.
    fn decode(&mut self, mut digits: &[u8]) -> Decoded {
        if !self.carry.is_empty() {
            let missing = (4 - self.carry.len()).min(digits.len());
            self.carry.extend(&digits[..missing]);
            digits = &digits[missing..];
            if self.carry.len() < 4 {
                return Ok(());
            }
            decode(&self.carry, &mut self.raw)?;
            self.carry.clear();
        }
        let (whole, rest) = digits.split_at(digits.len() / 4 * 4);
        self.carry.extend(rest);
        decode(whole, &mut self.raw)
    }

    /// With a line a row ends.
    fn end_line(&mut self, out: &mut Vec<u8>) -> Decoded {
        self.row(out)?;
        if self.place != Place::End || !self.carry.is_empty() {
            return Err(Malformed("a line ends within a row"));
        }
        self.place = Place::Row;
        self.rows += 1;
        Ok(())
    }

    /// Puts the bytes that were decoded into COPY's format.
    fn row(&mut self, out: &mut Vec<u8>) -> Decoded {
        let decoded = std::mem::take(&mut self.raw);
        let mut raw = decoded.as_slice();
        loop {
            match self.place {
                Place::Row => {
                    let Some(count) = self.collect::<4>(&mut raw) else { break };
                    let columns = i16::try_from(self.columns)
                        .ok()
                        .filter(|columns| i32::from(*columns) == i32::from_be_bytes(count))
                        .ok_or(Malformed("a row has another number of columns than the query"))?;
                    out.extend(columns.to_be_bytes());
                    self.place = Place::Column(0);
                }
                Place::Column(column) if column == self.columns => self.place = Place::End,
                Place::Column(column) => {
                    let Some([_, _, _, _, prefix @ ..]) = self.collect::<8>(&mut raw) else { break };
                    out.extend(prefix);
                    self.place = match i32::from_be_bytes(prefix) {
                        -1 => Place::Column(column + 1),
                        length => Place::Value(
                            column,
                            usize::try_from(length).map_err(|_| Malformed("a length is negative"))?,
                        ),
                    };
                }
                Place::Value(column, left) => {
                    let (value, rest) = raw.split_at(left.min(raw.len()));
                    out.extend(value);
                    raw = rest;
                    self.place = match left - value.len() {
                        0 => Place::Column(column + 1),
                        left => Place::Value(column, left),
                    };
                    if raw.is_empty() && matches!(self.place, Place::Value(..)) {
                        break;
                    }
                }
                Place::End if raw.is_empty() => break,
                Place::End => return Err(Malformed("something follows a row in its line")),
            }
        }
        self.raw = decoded;
        self.raw.clear();
        Ok(())
    }

    /// The next `N` bytes, once all are there.
    fn collect<const N: usize>(&mut self, raw: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = raw.split_at((N - self.pending.len()).min(raw.len()));
        self.pending.extend(taken);
        *raw = rest;
        let bytes = self.pending.as_slice().try_into().ok();
        if bytes.is_some() {
            self.pending.clear();
        }
        bytes
    }
}

/// Decodes base64 of whole groups of four.
fn decode(digits: &[u8], raw: &mut Vec<u8>) -> Decoded {
    STANDARD.decode_vec(digits, raw).map_err(|_| Malformed("a line is not base64"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::binary::tests::framed;
    use super::*;

    fn sent(row: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut out = u32::try_from(row.len()).unwrap().to_be_bytes().to_vec();
        for value in row {
            out.extend(25_u32.to_be_bytes());
            out.extend(value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap()).to_be_bytes());
            out.extend(value.iter().flatten());
        }
        out
    }

    /// A line as `COPY (SELECT encode(…, 'base64'))` writes it.
    fn line(bytes: &[u8]) -> Vec<u8> {
        let digits = STANDARD.encode(bytes).into_bytes();
        let mut line = digits.chunks(76).collect::<Vec<_>>().join(&b"\\n"[..]);
        line.push(b'\n');
        line
    }

    fn made(columns: usize, data: &[u8], size: usize) -> Decoded<(u64, Vec<u8>)> {
        let (mut lines, mut out) = (Lines::new(columns), Vec::new());
        for piece in data.chunks(size) {
            lines.push(piece, &mut out)?;
        }
        let rows = lines.finish(&mut out)?;
        Ok((rows, out))
    }

    proptest! {
        #[test]
        fn lines_become_what_copy_sends_however_they_are_cut(
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..120)), 3),
                0..6,
            ),
            size in 1_usize..200,
        ) {
            let data: Vec<u8> = rows.iter().flat_map(|row| line(&sent(row))).collect();
            let (count, out) = made(3, &data, size).unwrap();
            prop_assert_eq!(count, rows.len() as u64);
            prop_assert_eq!(out, framed(&rows, 0));
        }

        #[test]
        fn any_bytes_end_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..80), size in 1_usize..80) {
            let _ = made(2, &data, size);
            let _ = made(2, &line(&data), size);
        }
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let row = line(&sent(&[]));
        assert_eq!(made(0, &row.repeat(3), 5).unwrap(), (3, framed(&vec![Vec::new(); 3], 0)));
        assert_eq!(made(7, b"", 1).unwrap(), (0, framed(&[], 0)));
    }

    #[test]
    fn what_breaks_off_or_is_something_else_is_refused() {
        let row = sent(&[Some(vec![7; 100]), None]);
        let whole = line(&row);
        assert!(made(2, &whole, 9).is_ok());
        let cut = line(&row[..50]);
        let longer = line(&[&row[..], &[0]].concat());
        let negative = line(&[&2_i32.to_be_bytes()[..], &[0; 4], &(-2_i32).to_be_bytes()].concat());
        let cases: [(&str, usize, &[u8]); 10] = [
            ("cut off", 2, &whole[..whole.len() - 1]),
            ("a line that is cut", 2, &cut),
            ("more in a line", 2, &longer),
            ("fewer columns", 3, &whole),
            ("more columns", 1, &whole),
            ("a negative length", 2, &negative),
            ("an empty line", 2, b"\n"),
            ("no base64", 2, b"AAA*\n"),
            ("three digits", 2, b"AAA\n"),
            ("another escape", 2, b"AAAA\\tAAAA\n"),
        ];
        for (what, columns, data) in cases {
            for size in [1, 7, data.len()] {
                assert!(made(columns, data, size).is_err(), "{what}");
            }
        }
    }
}
