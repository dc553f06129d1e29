//! The framing of COPY's binary format (PostgreSQL's documentation of COPY, "Binary Format").

use bytes::Buf as _;

use crate::decode::{Decoded, Malformed};

pub(super) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the header's extension.
pub(super) const HEADER: usize = SIGNATURE.len() + 4 + 4;
/// A value of more bytes than this comes in parts where its column allows it, and a part has at most as many.
const PART_BYTES: usize = 64 * 1024;
/// A buffer that grew beyond this for a value is not kept for the next one.
const KEPT_BYTES: usize = 1 << 20;

/// What a place in the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Extension(usize),
    Row,
    /// Before the value of a column.
    Column(usize),
    /// Inside of a value that is collected: its column and length.
    Value(usize, usize),
    /// Inside of a value that comes in parts: its column, and what is left of it.
    Parts(usize, usize),
    End,
}

/// Where rows go.
pub(super) trait Rows {
    /// Why rows cannot be taken.
    type Error: From<Malformed>;
    /// How many columns a row has.
    fn columns(&self) -> usize;
    /// A whole value; `None` is NULL.
    fn value(&mut self, column: usize, value: Option<&[u8]>) -> Result<(), Self::Error>;
    /// Whether a large value of this column may come in parts.
    fn takes_parts(&self, column: usize) -> bool;
    /// A value begins that comes in parts.
    fn begin(&mut self, column: usize);
    /// The next part of it.
    fn part(&mut self, column: usize, part: &[u8]) -> Result<(), Self::Error>;
    /// Its end.
    fn end(&mut self, column: usize) -> Result<(), Self::Error>;
    /// A row's end.
    fn end_row(&mut self);
    /// Whether reading pauses. It is asked after rows and parts.
    fn is_full(&self) -> bool;
}

/// Reads the framing from pieces that may end anywhere.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    /// The beginning of something whose end has not come.
    pending: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { place: Place::Header, pending: Vec::new() }
    }
}

impl Reader {
    /// Takes a piece from its front on, until it is empty or the rows are full.
    pub(super) fn read<R: Rows>(&mut self, piece: &mut &[u8], rows: &mut R) -> Result<(), R::Error> {
        let columns = rows.columns();
        loop {
            match self.place {
                Place::Header => {
                    let Some(header) = self.collect::<HEADER>(piece) else { return Ok(()) };
                    let (signature, mut rest) = header.split_at(SIGNATURE.len());
                    if signature != SIGNATURE || rest.get_u32() & 0xffff_0000 != 0 {
                        return Err(Malformed("its header is not one of COPY's binary format").into());
                    }
                    self.place = Place::Extension(length(rest.get_i32())?);
                }
                Place::Extension(left) => {
                    let here = left.min(piece.len());
                    piece.advance(here);
                    if here < left {
                        self.place = Place::Extension(left - here);
                        return Ok(());
                    }
                    self.place = Place::Row;
                }
                // The server sends each row as a message of its own.
                Place::Row | Place::Parts(..) | Place::End if piece.is_empty() => return Ok(()),
                Place::Row => {
                    let Some(count) = self.collect::<2>(piece) else { return Ok(()) };
                    self.place = match i16::from_be_bytes(count) {
                        -1 => Place::End,
                        count if usize::try_from(count) == Ok(columns) => Place::Column(0),
                        _ => {
                            return Err(
                                Malformed("a row has another number of columns than the query").into()
                            );
                        }
                    };
                }
                Place::Column(column) if column == columns => {
                    rows.end_row();
                    self.place = Place::Row;
                    if rows.is_full() {
                        return Ok(());
                    }
                }
                Place::Column(column) => {
                    let Some(prefix) = self.collect::<4>(piece) else { return Ok(()) };
                    let length = match i32::from_be_bytes(prefix) {
                        -1 => {
                            rows.value(column, None)?;
                            self.place = Place::Column(column + 1);
                            continue;
                        }
                        other => length(other)?,
                    };
                    self.place = if length > PART_BYTES && rows.takes_parts(column) {
                        rows.begin(column);
                        Place::Parts(column, length)
                    } else if let Some((value, rest)) = piece.split_at_checked(length) {
                        *piece = rest;
                        rows.value(column, Some(value))?;
                        Place::Column(column + 1)
                    } else {
                        Place::Value(column, length)
                    };
                }
                Place::Value(column, length) => {
                    self.gather(piece, length);
                    if self.pending.len() < length {
                        return Ok(());
                    }
                    rows.value(column, Some(&self.pending))?;
                    forget(&mut self.pending);
                    self.place = Place::Column(column + 1);
                }
                Place::Parts(column, left) => {
                    let (part, rest) = piece.split_at(left.min(PART_BYTES).min(piece.len()));
                    *piece = rest;
                    rows.part(column, part)?;
                    if part.len() == left {
                        rows.end(column)?;
                        self.place = Place::Column(column + 1);
                    } else {
                        self.place = Place::Parts(column, left - part.len());
                        if rows.is_full() {
                            return Ok(());
                        }
                    }
                }
                Place::End => return Err(Malformed("something follows its end").into()),
            }
        }
    }

    /// How many bytes are collected of a value that has not ended.
    pub(super) fn held(&self) -> usize {
        self.pending.len()
    }

    /// Checks that the data was complete.
    pub(super) fn finish(&self) -> Decoded {
        if self.place == Place::End { Ok(()) } else { Err(Malformed("it ends before its trailer")) }
    }

    /// The next `N` bytes, once all are there.
    #[inline]
    fn collect<const N: usize>(&mut self, piece: &mut &[u8]) -> Option<[u8; N]> {
        if self.pending.is_empty()
            && let Some((bytes, rest)) = piece.split_first_chunk::<N>()
        {
            *piece = rest;
            return Some(*bytes);
        }
        self.gather(piece, N);
        let bytes = self.pending.as_slice().try_into().ok();
        if bytes.is_some() {
            self.pending.clear();
        }
        bytes
    }

    /// Moves bytes from the piece to those that are pending, until those are `length`.
    fn gather(&mut self, piece: &mut &[u8], length: usize) {
        let (taken, rest) = piece.split_at(length.saturating_sub(self.pending.len()).min(piece.len()));
        self.pending.extend_from_slice(taken);
        *piece = rest;
    }
}

/// Empties a buffer, and lets go of it if it is large.
pub(super) fn forget(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
}

fn length(length: i32) -> Decoded<usize> {
    usize::try_from(length).map_err(|_| Malformed("a length is negative"))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{PART_BYTES, Reader, Rows, SIGNATURE};
    use crate::decode::{Decoded, Malformed};

    /// Two columns; the second one takes parts.
    #[derive(Default)]
    struct Collected {
        rows: Vec<Vec<Option<Vec<u8>>>>,
        row: Vec<Option<Vec<u8>>>,
        largest: usize,
    }

    impl Rows for Collected {
        type Error = Malformed;

        fn columns(&self) -> usize {
            2
        }
        fn value(&mut self, column: usize, value: Option<&[u8]>) -> Decoded {
            assert_eq!(column, self.row.len());
            self.row.push(value.map(<[u8]>::to_vec));
            Ok(())
        }
        fn takes_parts(&self, column: usize) -> bool {
            column == 1
        }
        fn begin(&mut self, _: usize) {
            self.row.push(Some(Vec::new()));
        }
        fn part(&mut self, column: usize, part: &[u8]) -> Decoded {
            self.largest = self.largest.max(part.len());
            self.row[column].as_mut().unwrap().extend_from_slice(part);
            Ok(())
        }
        fn end(&mut self, _: usize) -> Decoded {
            Ok(())
        }
        fn end_row(&mut self) {
            self.rows.push(std::mem::take(&mut self.row));
        }
        fn is_full(&self) -> bool {
            self.rows.len() % 2 == 1
        }
    }

    /// Rows as COPY sends them.
    pub(in crate::encode) fn framed(rows: &[Vec<Option<Vec<u8>>>], extension: usize) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0; 4]);
        out.extend(u32::try_from(extension).unwrap().to_be_bytes());
        out.extend(vec![7; extension]);
        for row in rows {
            out.extend(i16::try_from(row.len()).unwrap().to_be_bytes());
            for value in row {
                let length = value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap());
                out.extend(length.to_be_bytes());
                out.extend(value.iter().flatten());
            }
        }
        out.extend((-1_i16).to_be_bytes());
        out
    }

    fn read(reader: &mut Reader, mut piece: &[u8], rows: &mut Collected) -> Decoded {
        while !piece.is_empty() {
            reader.read(&mut piece, rows)?;
        }
        reader.read(&mut piece, rows)
    }

    proptest! {
        #[test]
        fn pieces_may_end_anywhere(
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 2),
                0..8,
            ),
            extension in 0_usize..5,
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let data = framed(&rows, extension);
            let (mut reader, mut collected) = (Reader::default(), Collected::default());
            let mut rest = data.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                read(&mut reader, piece, &mut collected).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
                prop_assert!(reader.finish().is_err());
            }
            reader.finish().unwrap();
            prop_assert_eq!(collected.rows, rows);
        }

        #[test]
        fn any_bytes_end_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut whole = framed(&[], 0);
            whole.truncate(whole.len() - 2);
            whole.extend(data);
            let _ = read(&mut Reader::default(), &whole, &mut Collected::default());
        }
    }

    #[test]
    fn large_values_come_in_parts() {
        let large = || Some((0..=u8::MAX).cycle().take(3 * PART_BYTES + 5).collect::<Vec<u8>>());
        let rows = vec![vec![None, large()], vec![large(), None]];
        let data = framed(&rows, 0);
        for size in [data.len(), 1000] {
            let (mut reader, mut collected) = (Reader::default(), Collected::default());
            for piece in data.chunks(size) {
                read(&mut reader, piece, &mut collected).unwrap();
                assert!(reader.pending.len() <= 3 * PART_BYTES + 5);
            }
            reader.finish().unwrap();
            assert!(collected.rows == rows);
            assert_eq!(collected.largest, PART_BYTES.min(size));
        }
    }

    #[test]
    fn what_is_not_the_format_is_refused() {
        let negative = [&framed(&[], 0)[..19], &2_i16.to_be_bytes(), &(-2_i32).to_be_bytes()].concat();
        let three = [&framed(&[], 0)[..19], &3_i16.to_be_bytes()].concat();
        let after = [framed(&[], 0), vec![0]].concat();
        for data in [negative, three, after, b"PGCOPY\n\xff\r\n\x01\0\0\0\0\0\0\0\0".to_vec()] {
            assert!(read(&mut Reader::default(), &data, &mut Collected::default()).is_err(), "{data:?}");
        }
    }
}
