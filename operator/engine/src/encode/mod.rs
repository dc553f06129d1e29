//! Rows as bytes. What leaves here is the format's *body*: NDJSON lines for NDJSON and JSON, CSV lines without a header for
//! CSV. Headers, and the brackets and commas of a JSON array, are added where files are made (`output::frame`), so that a
//! staged chunk can become a file of its own or a part of a longer one.

mod binary;
mod csv;
mod json;

use bytes::{Bytes, BytesMut};
use pgexport_api::job::{Format, FormatType};

use crate::error::Result;

/// A batch is handed on when it has this many bytes: enough to make its cost small, few enough to be forgotten.
const BATCH_BYTES: usize = 128 * 1024;

/// Some whole rows of a chunk, encoded, each ended by `\n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The rows' bytes.
    pub data: Bytes,
    /// How many rows they are.
    pub rows: u64,
}

/// The statement that makes the server send a query's rows in the form that [`Encoder`] takes.
#[must_use]
pub fn copy_statement(query: &str, format: &Format) -> String {
    match format.format_type {
        FormatType::Csv => format!("COPY (\n{query}\n) TO STDOUT ({})", csv::options(format.csv.as_ref())),
        // `q.*`, not `q`: a column of that name would take its place.
        FormatType::Json | FormatType::Ndjson => format!(
            "COPY (SELECT pg_catalog.row_to_json(q.*)::pg_catalog.text FROM (\n{query}\n) q) TO STDOUT (FORMAT binary)"
        ),
    }
}

/// The statement that makes the server send nothing but the header line of a query's CSV.
#[must_use]
pub fn header_statement(query: &str, format: &Format) -> Option<String> {
    let csv = match format.format_type {
        FormatType::Csv => format.csv.as_ref(),
        FormatType::Json | FormatType::Ndjson => return None,
    };
    let options = csv::options(csv);
    Some(format!("COPY (SELECT * FROM (\n{query}\n) q LIMIT 0) TO STDOUT ({options}, HEADER true)"))
}

/// Turns what the server sends into batches.
#[derive(Debug)]
pub struct Encoder {
    rows: u64,
    data: BytesMut,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A row a message, as the files have it.
    Csv,
    /// JSON documents in the framing of COPY's binary format.
    Json(json::Decoder),
}

impl Encoder {
    /// An encoder for one [`copy_statement`].
    #[must_use]
    pub fn new(format: &Format) -> Self {
        let source = match format.format_type {
            FormatType::Csv => Source::Csv,
            FormatType::Json | FormatType::Ndjson => Source::Json(json::Decoder::default()),
        };
        Self { rows: 0, data: BytesMut::new(), source }
    }

    /// Takes the body of a `CopyData` message, and gives a batch when it is full.
    pub fn push(&mut self, message: &[u8]) -> Result<Option<Batch>> {
        if self.data.capacity() == 0 {
            self.data.reserve(BATCH_BYTES + BATCH_BYTES / 8);
        }
        match &mut self.source {
            Source::Csv => {
                self.data.extend_from_slice(message);
                self.rows += 1;
            }
            Source::Json(decoder) => self.rows += decoder.push(message, &mut self.data)?,
        }
        Ok(if self.data.len() >= BATCH_BYTES { self.take() } else { None })
    }

    /// Takes the end of the data, and gives the last batch.
    pub fn finish(&mut self) -> Result<Option<Batch>> {
        if let Source::Json(decoder) = &self.source {
            decoder.finish()?;
        }
        Ok(self.take())
    }

    /// The whole rows that are there. Bytes of a row that has not ended stay for the next batch.
    fn take(&mut self) -> Option<Batch> {
        let partial = match &self.source {
            Source::Csv => 0,
            Source::Json(decoder) => decoder.partial(),
        };
        if self.rows == 0 {
            return None;
        }
        let rest = self.data.split_off(self.data.len() - partial);
        // The rest moves to a buffer of its own: one that is shared with the batch would keep it in memory.
        let mut next = BytesMut::new();
        if !rest.is_empty() {
            next.reserve(BATCH_BYTES + BATCH_BYTES / 8);
            next.extend_from_slice(&rest);
        }
        let data = std::mem::replace(&mut self.data, next).freeze();
        Some(Batch { data, rows: std::mem::take(&mut self.rows) })
    }
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Format, FormatType};

    use super::{BATCH_BYTES, Encoder};

    #[test]
    fn csv_counts_messages_and_ends_batches_when_they_are_full() {
        let mut encoder = Encoder::new(&Format { format_type: FormatType::Csv, csv: None });
        let row = format!("{}\n", "x".repeat(BATCH_BYTES / 2));
        assert_eq!(encoder.push(row.as_bytes()).unwrap(), None);
        let batch = encoder.push(row.as_bytes()).unwrap().unwrap();
        assert_eq!((batch.rows, batch.data.len()), (2, 2 * row.len()));
        assert_eq!(encoder.push(b"\n").unwrap(), None);
        assert_eq!(encoder.finish().unwrap().unwrap().data, "\n");
        assert_eq!(encoder.finish().unwrap(), None);
    }
}
