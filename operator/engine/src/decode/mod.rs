//! Values as COPY's binary format carries them, turned into the bytes that PostgreSQL itself would print: the text of a
//! type's output function, and the JSON of `row_to_json`. Everything is written straight into the buffer that becomes the
//! file.
//!
//! The forms are those of the pinned session settings (ISO dates in UTC, ISO 8601 intervals, shortest floats, hexadecimal
//! bytea). Each type's binary form is what its send function in PostgreSQL's `src/backend/utils/adt` writes.

mod bit;
mod cursor;
mod date;
mod escape;
mod float;
mod geometry;
mod interval;
mod json;
mod nested;
mod network;
mod numeric;
mod scalar;
mod search;
mod shape;
mod text;

pub(crate) use cursor::whole;
pub(crate) use escape::{WORD, contains, ends_lines, equal, escape_json, quote_json};
pub(crate) use json::write_json;
pub(crate) use nested::Array;
pub(crate) use numeric::decimal;
pub use scalar::Scalar;
pub use shape::{Attribute, Shape};
pub(crate) use text::{boolean, hex, versioned, write_text};

use pgexport_api::reason::Reason;

use crate::error::Error;

/// Bytes that are not what the server's send functions write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(Reason::InternalError, format!("the server's data is not what was asked for: {malformed}"))
    }
}

/// What decoders return.
pub(crate) type Decoded<T = ()> = Result<T, Malformed>;
