//! Parquet files joined to one: row groups are copied as they are, and the footer is written anew.

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use pgexport_api::reason::Reason;

use super::writer::failed;
use crate::error::{Error, Result};

/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// What stands behind the metadata in a footer: its length and [`MAGIC`].
const FOOTER_END: usize = 8;

/// Collects the row groups of one schema's files. The caller writes [`ParquetJoiner::head`], the bytes of each file
/// between [`ParquetJoiner::HEAD`] and its footer, and [`ParquetJoiner::tail`].
#[derive(Debug)]
pub struct ParquetJoiner {
    /// The first file's.
    file: Option<FileMetaData>,
    groups: Vec<RowGroupMetaData>,
    /// Bytes that are written before the next file's row groups.
    written: u64,
}

impl Default for ParquetJoiner {
    fn default() -> Self {
        Self { file: None, groups: Vec::new(), written: Self::HEAD }
    }
}

impl ParquetJoiner {
    /// How many bytes stand before a file's row groups.
    pub const HEAD: u64 = MAGIC.len() as u64;

    /// What the file begins with.
    #[must_use]
    pub const fn head() -> Bytes {
        Bytes::from_static(MAGIC)
    }

    /// Takes the footer of a file whose row groups have been written next: so many bytes.
    pub fn add(&mut self, bytes: u64, footer: &[u8]) -> Result<()> {
        let metadata = footer
            .len()
            .checked_sub(FOOTER_END)
            .and_then(|end| footer.get(..end))
            .ok_or_else(|| Error::new(Reason::InternalError, "a chunk's Parquet footer is cut off"))?;
        let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
        let metadata =
            ParquetMetaDataReader::decode_metadata_with_options(metadata, Some(&options)).map_err(failed)?;
        let shift = i64::try_from(self.written - Self::HEAD).unwrap_or(i64::MAX);
        for group in metadata.row_groups() {
            let place = i32::try_from(self.groups.len()).unwrap_or(i32::MAX);
            self.groups.push(shifted(group.clone(), shift, place).map_err(failed)?);
        }
        self.file.get_or_insert_with(|| metadata.file_metadata().clone());
        self.written = self.written.saturating_add(bytes);
        Ok(())
    }

    /// The footer of all.
    pub fn tail(self) -> Result<Bytes> {
        let file =
            self.file.ok_or_else(|| Error::new(Reason::InternalError, "no Parquet file was joined"))?;
        let metadata = ParquetMetaDataBuilder::new(file).set_row_groups(self.groups).build();
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &metadata).finish().map_err(failed)?;
        Ok(footer.into())
    }
}

/// A row group that stands so many bytes later in another file, in this place.
fn shifted(group: RowGroupMetaData, shift: i64, place: i32) -> Result<RowGroupMetaData, ParquetError> {
    let offset = group.file_offset();
    let mut builder = group.into_builder();
    let columns = builder.take_columns().into_iter().map(|column| move_column(column, shift));
    builder = builder.set_column_metadata(columns.collect::<Result<_, _>>()?).set_ordinal(place);
    if let Some(offset) = offset {
        builder = builder.set_file_offset(offset + shift);
    }
    builder.build()
}

fn move_column(column: ColumnChunkMetaData, shift: i64) -> Result<ColumnChunkMetaData, ParquetError> {
    let data = column.data_page_offset() + shift;
    let dictionary = column.dictionary_page_offset().map(|offset| offset + shift);
    column.into_builder().set_data_page_offset(data).set_dictionary_page_offset(dictionary).build()
}
