//! Parquet exports: a file a chunk, and chunks joined to one file.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgexport_api::job::{Files, Format, FormatType, Layout, Parquet};
use pgexport_api::order::RunOrder;
use pgexport_api::report::Outcome;
use pgexport_api::size::ByteSize;
use pgexport_engine::{export, transfer};

use super::{ALL, Room};

/// Without what Parquet does not have: infinite dates, and arrays of several dimensions.
const COLUMNS: &str = "f.seq, f.title, f.id, f.severity, f.description, f.score, f.cost, \
                       CASE WHEN array_ndims(f.tags) = 1 THEN f.tags END AS tags, f.ports::text, f.attributes, f.raw, \
                       f.first_seen, f.fixed, f.cvss, f.risk, f.fingerprint, f.source_ip";

/// The values of the first column of a file, which are the rows' numbers, and of the second one.
fn rows(file: &[u8]) -> Vec<(i64, Option<String>)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap);
    let rows = batches.flat_map(|batch| {
        let numbers = batch.column(0).as_primitive::<Int64Type>().clone();
        let texts = batch.column(1).as_string::<i32>().clone();
        let texts: Vec<_> = texts.iter().map(|text| text.map(str::to_owned)).collect();
        numbers.values().to_vec().into_iter().zip(texts).collect::<Vec<_>>()
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_files_hold_every_row_direct_staged_and_joined() {
    let sql = ALL.replace("f.*", COLUMNS);
    for (staged, layout, files) in
        [(false, Layout::PerChunk, 6), (true, Layout::PerChunk, 6), (true, Layout::Single, 1)]
    {
        let room = Room::new("parquet").await;
        let parquet = Some(Parquet { row_group_bytes: ByteSize::mebibytes(1), ..Parquet::default() });
        let order = RunOrder {
            format: Format { format_type: FormatType::Parquet, csv: None, parquet },
            files: Files { layout, name: None },
            workers: 1,
            ..room.order(&sql, staged)
        };
        let context = room.context(order.clone(), 0);
        let delivered = match export::run(context.clone()).await.unwrap() {
            Outcome::Delivered(delivered) => delivered,
            Outcome::Exported(exported) => {
                assert_eq!(
                    context.progress.snapshot().bytes,
                    exported.bytes,
                    "progress counts what is stored"
                );
                transfer::run(&order, context.secrets, &context.volumes, &context.progress, &context.cancel)
                    .await
                    .unwrap()
            }
            other => panic!("one worker tells the totals: {other:?}"),
        };
        let found = room.delivered().await;
        assert_eq!((found.len(), delivered.files), (files, u32::try_from(files).unwrap()));
        assert_eq!(delivered.bytes, found.iter().map(|(_, file)| file.len() as u64).sum::<u64>());
        assert!(found.iter().all(|(key, _)| key.ends_with(".parquet")));
        let mut exported: Vec<_> = found.iter().flat_map(|(_, file)| rows(file)).collect();
        exported.sort_unstable();
        let admin = room.database.admin().await.unwrap();
        let wanted = admin.query("SELECT seq, title FROM findings ORDER BY seq", &[]).await.unwrap();
        let wanted: Vec<_> = wanted.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert!(exported == wanted, "{layout:?}, staged: {staged}");
        if layout == Layout::Single {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(found[0].1.clone())).unwrap();
            assert!(reader.metadata().num_row_groups() >= 6, "row groups are joined as they are");
        }
        room.assert_quiet().await;
        room.database.drop_database().await.unwrap();
    }
}
