//! Parquet files: made of record batches, and of one another.

mod join;
mod varied;
mod writer;

pub use join::ParquetJoiner;
pub(super) use writer::ParquetWriter;

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use pgexport_api::job::Parquet;
    use pgexport_api::size::ByteSize;
    use std::sync::Arc;

    use super::{ParquetJoiner, ParquetWriter};

    fn batch(values: Vec<i32>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from(values));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    /// A file that is to be joined, and how long its footer is.
    fn part(values: &[Vec<i32>]) -> (Vec<u8>, usize) {
        let parquet = Parquet { row_group_bytes: ByteSize::mebibytes(1), ..Parquet::default() };
        let schema = batch(Vec::new()).schema().as_ref().clone();
        let mut writer = ParquetWriter::new(&parquet, schema, true);
        let mut pieces = Vec::new();
        for values in values {
            pieces.extend(writer.push(&batch(values.clone())).unwrap());
        }
        let (end, footer) = writer.finish().unwrap();
        pieces.extend(end);
        (pieces.concat(), usize::try_from(footer).unwrap())
    }

    #[test]
    fn joined_files_hold_their_row_groups_in_order() {
        let noise =
            |from: i32| (from..from + 400_000).map(|i| i.wrapping_mul(-1_640_531_527)).collect::<Vec<_>>();
        let parts = [vec![noise(0), noise(1)], Vec::new(), vec![vec![7, 8]]];
        let mut joiner = ParquetJoiner::default();
        let mut file = ParquetJoiner::head().to_vec();
        for values in &parts {
            let (part, footer) = part(values);
            let (groups, footer) = part[4..].split_at(part.len() - 4 - footer);
            file.extend_from_slice(groups);
            joiner.add(groups.len() as u64, footer).unwrap();
        }
        file.extend_from_slice(&joiner.tail().unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        let groups = reader.metadata().row_groups();
        assert_eq!(groups.len(), 3);
        assert!((0..).zip(groups).all(|(place, group)| group.ordinal() == Some(place)));
        assert!(groups.iter().all(|group| group.column(0).page_encoding_stats_mask().is_some()));
        let found: Vec<i32> = reader
            .build()
            .unwrap()
            .flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int32Type>().values().to_vec())
            .collect();
        assert!(found == parts.concat().concat());
    }

    #[test]
    fn a_footer_that_is_none_is_refused() {
        for footer in [&b""[..], b"PAR1", b"12345678PAR1"] {
            assert!(ParquetJoiner::default().add(0, footer).is_err());
        }
        assert!(ParquetJoiner::default().tail().is_err());
    }
}
