//! Reading a value's bytes from front to back.

use super::{Decoded, Malformed};

const SHORT: Malformed = Malformed("a value is shorter than its type");
const LONG: Malformed = Malformed("a value is longer than its type");

/// A value's bytes that have not been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Decoded<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Decoded<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Decoded<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn f64(&mut self) -> Decoded<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// A count of things, as an `int4`.
    pub(super) fn count(&mut self) -> Decoded<usize> {
        usize::try_from(self.i32()?).map_err(|_| Malformed("a count is negative"))
    }

    /// A value with its length before it; `None` is NULL.
    pub(crate) fn value(&mut self) -> Decoded<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed("a length is negative"))?;
                self.take(length).map(Some)
            }
        }
    }

    /// A text that ends at a zero byte.
    pub(super) fn text(&mut self) -> Decoded<&'a [u8]> {
        let end = memchr::memchr(0, self.0).ok_or(SHORT)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// Checks that nothing is left.
    pub(crate) const fn end(self) -> Decoded {
        if self.0.is_empty() { Ok(()) } else { Err(LONG) }
    }
}

/// All of a value of fixed length.
pub(crate) fn whole<const N: usize>(bytes: &[u8]) -> Decoded<[u8; N]> {
    bytes.try_into().map_err(|_| if bytes.len() < N { SHORT } else { LONG })
}
