//! What memory a worker needs: to export, a function of its connections, the parts of uploads and the format; to transfer, of
//! the files at a time, their parts and what is read ahead.

use std::fmt;

use pgexport_api::job::{Compression, Format, FormatType};
use pgexport_api::progress::human_bytes;

use crate::output::FIRST_PART;
use crate::store::{PARTS_IN_FLIGHT, RANGE, RANGES_IN_FLIGHT};

const MEBIBYTE: u64 = 1 << 20;
/// The process: code, runtime, TLS and clients.
const PROCESS: u64 = 24 * MEBIBYTE;
/// What comes from the server and waits, and a batch that is decoded and encoded.
const ROWS: u64 = MEBIBYTE;
/// A compressor's window and tables, and the batch that it has.
const COMPRESSOR: u64 = 4 * MEBIBYTE;
/// Beside a row group: the batches of rows it is filled from, and each column's page, dictionary and compressor. Measured with
/// twenty columns of values that do not repeat.
const COLUMNS: u64 = 16 * MEBIBYTE;

/// The memory of a worker, in bytes, while values and files are of usual sizes: a value of more than 4 MiB that has to be held
/// (for Parquet, of more than 1 MiB) comes on top, for one connection at a time, and the parts of files of more than 6 GiB are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the worker does.
    pub work: Work,
    /// How many files it writes at a time.
    pub files: u32,
    /// For each: the part of an upload that is filled, one that is hashed, and those that travel.
    pub parts: u64,
    /// For each: what comes from where it is read.
    pub input: u64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It makes files of rows: its input is what the format and the compression hold of those.
    Encode,
    /// It makes files of staged chunks: its input is what is read ahead.
    Transfer,
}

/// The parts of a file that is being written.
const PARTS: u64 = (PARTS_IN_FLIGHT as u64 + 2) * FIRST_PART as u64;

impl Memory {
    /// Of the worker that has the most connections, to encode what comes from each.
    #[must_use]
    pub fn of(format: &Format, compression: Compression, parallelism: u32, workers: u32) -> Self {
        let input = match (format.format_type, compression) {
            (FormatType::Parquet, _) => format.parquet.unwrap_or_default().row_group_bytes.bytes() + COLUMNS,
            (_, Compression::None) => ROWS,
            (_, Compression::Gzip | Compression::Zstd) => ROWS + COMPRESSOR,
        };
        let files = parallelism.div_ceil(workers.max(1)).max(1);
        Self { work: Work::Encode, files, parts: PARTS, input }
    }

    /// Of the transfer of chunks that workers have written.
    #[must_use]
    pub fn of_transfer(parallelism: u32) -> Self {
        let input = RANGES_IN_FLIGHT as u64 * RANGE as u64;
        Self { work: Work::Transfer, files: parallelism.max(1), parts: PARTS, input }
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let each = self.parts.saturating_add(self.input);
        PROCESS.saturating_add(each.saturating_mul(u64::from(self.files)))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, files, parts, input } = *self;
        let (worker, source, held) = match work {
            Work::Encode => ("a worker", "connections", "of rows"),
            Work::Transfer => ("the transfer", "files", "read ahead"),
        };
        let [all, process, parts, input] = [self.bytes(), PROCESS, parts, input].map(human_bytes);
        write!(
            formatter,
            "{all}B {worker}: {process}B, and for each of {files} {source} {parts}B of parts and {input}B {held}"
        )
    }
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Compression, Format, FormatType, Parquet};
    use serde_json::json;

    use super::{MEBIBYTE, Memory};

    fn mebibytes(format_type: FormatType, compression: Compression, parallelism: u32, workers: u32) -> u64 {
        let format = Format { format_type, csv: None, parquet: None };
        Memory::of(&format, compression, parallelism, workers).bytes() / MEBIBYTE
    }

    #[test]
    fn memory_grows_with_connections_and_with_what_each_holds() {
        assert_eq!(mebibytes(FormatType::Csv, Compression::None, 4, 1), 24 + 4 * 33);
        assert_eq!(
            mebibytes(FormatType::Csv, Compression::None, 5, 2),
            24 + 3 * 33,
            "the worker that has more"
        );
        assert_eq!(mebibytes(FormatType::Ndjson, Compression::Zstd, 1, 1), 24 + 37);
        assert_eq!(mebibytes(FormatType::Parquet, Compression::None, 4, 1), 24 + 4 * 56);
        let parquet: Parquet = serde_json::from_value(json!({"rowGroupBytes": "64Mi"})).unwrap();
        let format = Format { format_type: FormatType::Parquet, csv: None, parquet: Some(parquet) };
        let memory = Memory::of(&format, Compression::None, 4, 1);
        assert_eq!(memory.bytes() / MEBIBYTE, 24 + 4 * 112);
        assert_eq!(
            memory.to_string(),
            "472MiB a worker: 24MiB, and for each of 4 connections 32MiB of parts and 80MiB of rows"
        );
    }

    #[test]
    fn a_transfer_of_four_files_at_a_time_needs_less_than_256_mib() {
        assert_eq!(
            Memory::of_transfer(4).to_string(),
            "216MiB the transfer: 24MiB, and for each of 4 files 32MiB of parts and 16MiB read ahead"
        );
    }
}
