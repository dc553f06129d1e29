//! Parquet files: record batches become row groups.

use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use pgexport_api::job::{Parquet, ParquetCompression};
use pgexport_api::reason::Reason;

use super::varied;
use crate::error::{Error, Result};

/// What comes from the writer is collected in pieces of this size: a whole row group comes at once.
const PIECE: usize = 1 << 20;
/// A column whose different values have more bytes than this in a row group is not worth a dictionary: finding that out costs
/// a look-up for each value until then, which [`varied`] saves where the first rows tell.
const DICTIONARY: usize = 128 * 1024;
/// A page is compressed when it has about so many bytes. Each column has one in the making, and a compressor with memory for it.
const PAGE: usize = 64 * 1024;

/// Writes a Parquet file to memory, from where it is taken piece by piece. That holds one row group, encoded.
pub(in crate::output) struct ParquetWriter(State);

enum State {
    /// Before the first rows, which tell what dictionaries are worth.
    New {
        properties: Box<WriterPropertiesBuilder>,
        schema: SchemaRef,
    },
    Begun(Box<ArrowWriter<Pieces>>),
}

impl ParquetWriter {
    /// Begins a file. One that is to be a part of another has no page index, whose offsets would be others there.
    pub(in crate::output) fn new(parquet: &Parquet, schema: Schema, is_part: bool) -> Self {
        let compression = match parquet.compression {
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let group = usize::try_from(parquet.row_group_bytes.bytes()).unwrap_or(usize::MAX);
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_page_size_limit(DICTIONARY)
            .set_data_page_size_limit(PAGE)
            .set_max_row_group_bytes(Some(group))
            .set_max_row_group_row_count(None);
        if is_part {
            properties =
                properties.set_statistics_enabled(EnabledStatistics::Chunk).set_offset_index_disabled(true);
        }
        Self(State::New { properties: Box::new(properties), schema: Arc::new(schema) })
    }

    /// Takes rows, and gives what is ready of the file.
    pub(in crate::output) fn push(&mut self, rows: &RecordBatch) -> Result<Vec<Bytes>> {
        let writer = self.writer(Some(rows))?;
        writer.write(rows).map_err(failed)?;
        Ok(writer.inner_mut().take())
    }

    /// Writes the last row group and the footer, and gives all that is left; with it, how long the footer is.
    pub(in crate::output) fn finish(mut self) -> Result<(Vec<Bytes>, u64)> {
        let writer = self.writer(None)?;
        writer.flush().map_err(failed)?;
        let before = writer.bytes_written();
        writer.finish().map_err(failed)?;
        let footer = writer.bytes_written().saturating_sub(before) as u64;
        Ok((writer.inner_mut().take(), footer))
    }

    /// The writer; before it is one, `rows` are the first, if there are any.
    fn writer(&mut self, rows: Option<&RecordBatch>) -> Result<&mut ArrowWriter<Pieces>> {
        if let State::New { properties, schema } = &self.0 {
            let mut properties = properties.as_ref().clone();
            for name in rows.map(varied::columns).unwrap_or_default() {
                properties = properties.set_column_dictionary_enabled(name.into(), false);
            }
            let options =
                ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
            let writer = ArrowWriter::try_new_with_options(Pieces::default(), Arc::clone(schema), options);
            self.0 = State::Begun(Box::new(writer.map_err(failed)?));
        }
        match &mut self.0 {
            State::Begun(writer) => Ok(writer),
            State::New { .. } => Err(Error::new(Reason::InternalError, "a Parquet file has not been begun")),
        }
    }
}

impl std::fmt::Debug for ParquetWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ParquetWriter")
    }
}

/// Bytes in the order in which they were written.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
    fn take(&mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        std::mem::take(&mut self.full)
    }
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.last.len() + data.len() > PIECE && !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        self.last.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn failed(error: ParquetError) -> Error {
    Error::new(Reason::InternalError, "a Parquet file cannot be made").with_source(error)
}
