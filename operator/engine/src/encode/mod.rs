//! Rows as bytes. What leaves here is the format's *body*: NDJSON lines for NDJSON and JSON, CSV lines without a header for
//! CSV. Headers, and the brackets and commas of a JSON array, are added where files are made (`output::frame`), so that a
//! staged chunk can become a file of its own or a part of a longer one.

use bytes::Bytes;

/// Some whole rows of a chunk, encoded, each ended by `\n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The rows' bytes.
    pub data: Bytes,
    /// How many rows they are.
    pub rows: u64,
}
