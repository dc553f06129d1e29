//! The framing of COPY's binary format (PostgreSQL's documentation of COPY, "Binary Format"), for rows of one column.

use bytes::{Buf as _, BytesMut};
use pgexport_api::reason::Reason;

use crate::error::{Error, Result};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the header's extension.
const HEADER: usize = SIGNATURE.len() + 4 + 4;

/// What a place in the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Extension(usize),
    Row,
    Value(usize),
    End,
}

/// Where a value's bytes go.
pub(super) trait Values {
    /// Some bytes of the value.
    fn bytes(&mut self, bytes: &[u8]);
    /// The value's end.
    fn end(&mut self);
}

/// Reads the framing from pieces that may end anywhere.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    /// The beginning of a header or of a row's frame whose end has not come.
    pending: BytesMut,
}

impl Default for Reader {
    fn default() -> Self {
        Self { place: Place::Header, pending: BytesMut::new() }
    }
}

impl Reader {
    /// Takes the next piece, and hands the values in it on.
    pub(super) fn push(&mut self, mut piece: &[u8], values: &mut impl Values) -> Result<()> {
        loop {
            match self.place {
                Place::Header => {
                    let Some(header) = self.collect::<HEADER>(&mut piece) else { return Ok(()) };
                    let (signature, mut rest) = header.split_at(SIGNATURE.len());
                    if signature != SIGNATURE || rest.get_u32() & 0xffff_0000 != 0 {
                        return Err(unexpected("its header is not one of COPY's binary format"));
                    }
                    self.place = Place::Extension(length(rest.get_i32())?);
                }
                Place::Extension(left) => {
                    let here = left.min(piece.len());
                    piece.advance(here);
                    self.place = if here == left { Place::Row } else { Place::Extension(left - here) };
                    if here < left {
                        return Ok(());
                    }
                }
                Place::Row => {
                    // The trailer has two bytes, a row's frame six.
                    let Some(mut count) = self.peek::<2>(&mut piece) else { return Ok(()) };
                    match count.as_slice().get_i16() {
                        -1 => {
                            self.pending.clear();
                            self.place = Place::End;
                        }
                        1 => {
                            let Some(frame) = self.collect::<6>(&mut piece) else { return Ok(()) };
                            count.copy_from_slice(&frame[..2]);
                            self.place = Place::Value(length((&frame[2..]).get_i32())?);
                        }
                        _ => return Err(unexpected("a row has another number of columns than one")),
                    }
                }
                Place::Value(left) => {
                    let here = left.min(piece.len());
                    values.bytes(&piece[..here]);
                    piece.advance(here);
                    if here < left {
                        self.place = Place::Value(left - here);
                        return Ok(());
                    }
                    values.end();
                    self.place = Place::Row;
                }
                Place::End if piece.is_empty() => return Ok(()),
                Place::End => return Err(unexpected("something follows its end")),
            }
        }
    }

    /// Checks that the data was complete.
    pub(super) fn finish(&self) -> Result<()> {
        if self.place == Place::End { Ok(()) } else { Err(unexpected("it ends before its trailer")) }
    }

    /// The next `N` bytes, once all are there.
    fn collect<const N: usize>(&mut self, piece: &mut &[u8]) -> Option<[u8; N]> {
        let bytes = self.peek::<N>(piece)?;
        self.pending.clear();
        Some(bytes)
    }

    /// The next `N` bytes, once all are there; they stay pending.
    fn peek<const N: usize>(&mut self, piece: &mut &[u8]) -> Option<[u8; N]> {
        let missing = N.saturating_sub(self.pending.len()).min(piece.len());
        self.pending.extend_from_slice(&piece[..missing]);
        piece.advance(missing);
        self.pending.get(..N)?.try_into().ok()
    }
}

fn length(length: i32) -> Result<usize> {
    usize::try_from(length).map_err(|_| unexpected("a value that cannot be NULL is NULL"))
}

fn unexpected(what: &str) -> Error {
    Error::new(Reason::InternalError, format!("the server's data is not what was asked for: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Reader, SIGNATURE, Values};

    #[derive(Default)]
    struct Collected(Vec<Vec<u8>>, Vec<u8>);

    impl Values for Collected {
        fn bytes(&mut self, bytes: &[u8]) {
            self.1.extend_from_slice(bytes);
        }
        fn end(&mut self) {
            self.0.push(std::mem::take(&mut self.1));
        }
    }

    fn framed(values: &[Vec<u8>], extension: usize) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0; 4]);
        out.extend(u32::try_from(extension).unwrap().to_be_bytes());
        out.extend(vec![7; extension]);
        for value in values {
            out.extend(1_i16.to_be_bytes());
            out.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend(value);
        }
        out.extend((-1_i16).to_be_bytes());
        out
    }

    proptest! {
        #[test]
        fn pieces_may_end_anywhere(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            extension in 0_usize..5,
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let data = framed(&values, extension);
            let (mut reader, mut collected) = (Reader::default(), Collected::default());
            let mut rest = data.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                reader.push(piece, &mut collected).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
                prop_assert!(reader.finish().is_err());
            }
            reader.finish().unwrap();
            prop_assert_eq!(collected.0, values);
        }

        #[test]
        fn any_bytes_end_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut whole = framed(&[], 0);
            whole.truncate(whole.len() - 2);
            whole.extend(data);
            let _ = Reader::default().push(&whole, &mut Collected::default());
        }
    }

    #[test]
    fn what_is_not_the_format_is_refused() {
        let null = [&framed(&[], 0)[..19], &1_i16.to_be_bytes(), &(-1_i32).to_be_bytes()].concat();
        let two = [&framed(&[], 0)[..19], &2_i16.to_be_bytes()].concat();
        let after = [framed(&[], 0), vec![0]].concat();
        for data in [null, two, after, b"PGCOPY\n\xff\r\n\x01\0\0\0\0\0\0\0\0".to_vec()] {
            assert!(Reader::default().push(&data, &mut Collected::default()).is_err(), "{data:?}");
        }
    }
}
