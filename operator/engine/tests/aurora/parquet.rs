//! Parquet, which the transfer makes of what the database has written, read back.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgexport_api::job::{Format, FormatType, Parquet};
use pgexport_api::reason::Reason;
use pgexport_api::size::ByteSize;
use serde_json::{Value, json};

use super::room::{Room, format, merge, settings, told};

/// In row groups as small as they may be.
fn small() -> Format {
    let parquet = Some(Parquet { row_group_bytes: ByteSize::mebibytes(1), ..Parquet::default() });
    Format { parquet, ..format(FormatType::Parquet) }
}

/// The rows of a file, of a number and a text each, and how many row groups it has.
fn read(file: &[u8]) -> (Vec<(i64, Option<String>)>, usize) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
    let groups = reader.metadata().num_row_groups();
    let mut rows = Vec::new();
    for batch in reader.build().unwrap().map(Result::unwrap) {
        let (numbers, texts) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        rows.extend(numbers.values().iter().copied().zip(texts.iter().map(|text| text.map(str::to_owned))));
    }
    (rows, groups)
}

fn chunked(sql: &str) -> Value {
    let table = json!({"name": "findings", "alias": "f", "chunks": 6});
    json!({"datasets": [{"name": "findings", "sql": sql, "chunking": {"strategy": "Table", "table": table}}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_there_in_one_file_and_in_many() {
    let room = Room::new("aurora_parquet").await;
    // More than a row group has, compressed.
    let noise = "(SELECT string_agg(md5(f.seq::text || i), '') FROM generate_series(1, 12) i) AS noise";
    let sql = &format!(
        "SELECT f.seq, f.title, f.description, f.attributes, f.raw, {noise} FROM findings f WHERE :chunk"
    );
    let server = room.admin.query("SELECT seq, title FROM findings ORDER BY seq", &[]).await.unwrap();
    let wanted: Vec<(i64, Option<String>)> = server.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut whole = json!({"datasets": [{"name": "findings", "sql": sql.replace(":chunk", "true"), "chunking": {"strategy": "None"}}]});
    merge(&mut whole, &settings(&json!({"aws_s3.file_bytes": "300000", "aws_s3.split_rows": "on"})));
    for (layout, with, files, groups) in
        [("PerChunk", chunked(sql), 6, 6), ("Single", chunked(sql), 1, 6), ("PerChunk", whole, 1, 2)]
    {
        let mut with = with;
        merge(&mut with, &json!({"files": {"layout": layout}}));
        let order = room.order("AuroraS3", &small(), &[], &with);
        let delivered = room.deliver(&order).await.unwrap();
        assert!(delivered.keys().all(|name| name.ends_with(".parquet")), "{:?}", delivered.keys());
        let read: Vec<_> = delivered.values().map(|file| read(file)).collect();
        let found = read.iter().map(|(_, groups)| groups).sum::<usize>();
        assert!((delivered.len(), found >= groups) == (files, true), "{layout}: {found} row groups");
        let mut rows: Vec<_> = read.into_iter().flat_map(|(rows, _)| rows).collect();
        rows.sort_unstable();
        assert!(rows == wanted, "{layout}");
    }
    room.assert_quiet().await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_result_is_a_file_of_its_columns() {
    let room = Room::new("aurora_parquet_empty").await;
    let sql = "SELECT f.seq, f.title FROM findings f WHERE f.title = 'there is none' AND :chunk";
    for (layout, knob, files) in [("PerChunk", "on", 6), ("Single", "off", 1)] {
        let mut with = settings(&json!({"aws_s3.empty_file": knob}));
        merge(&mut with, &chunked(sql));
        merge(&mut with, &json!({"files": {"layout": layout}}));
        let delivered = room.deliver(&room.order("AuroraS3", &small(), &[], &with)).await.unwrap();
        assert_eq!(delivered.len(), files);
        for file in delivered.values() {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
            let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(
                (names, reader.metadata().file_metadata().num_rows()),
                (vec!["seq".to_owned(), "title".to_owned()], 0)
            );
        }
    }
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_100_megabytes_passes() {
    let room = Room::new("aurora_parquet_wide").await;
    let queries = [("wide", "SELECT 7::bigint AS n, repeat('0123456789', 10000000) AS t")];
    let order = room.order("AuroraS3", &format(FormatType::Parquet), &queries, &json!({}));
    let file = room.deliver(&order).await.unwrap().into_values().next().unwrap();
    let (rows, _) = read(&file);
    assert!(rows == [(7, Some("0123456789".repeat(10_000_000)))]);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_parquet_does_not_have_is_refused_as_by_copy() {
    let room = Room::new("aurora_parquet_unfit").await;
    for (sql, column) in [
        ("SELECT 1 AS n, date 'infinity' AS due", "due"),
        ("SELECT ARRAY[[1, 2], [3, 4]] AS matrix", "matrix"),
    ] {
        let mut told = Vec::new();
        for method in ["Copy", "AuroraS3"] {
            let order = room.order(method, &format(FormatType::Parquet), &[("unfit", sql)], &json!({}));
            let failure = room.failure(&order).await;
            assert_eq!((failure.reason, failure.chunk), (Reason::DataError, Some(0)), "{method}");
            assert!(failure.message.contains(column), "{}", failure.message);
            told.push((failure.message, failure.hint));
        }
        assert_eq!(told[0], told[1]);
    }
    assert!(room.peers.s3.list(&room.customer, "").await.unwrap().is_empty(), "nothing is delivered");
    room.assert_quiet().await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_or_cut_is_noticed() {
    let room = Room::new("aurora_parquet_cut").await;
    let queries = [("rows", "SELECT seq, title FROM findings")];
    let with = settings(&json!({"aws_s3.file_bytes": "100000"}));
    for (cut, wanted) in [(false, Reason::StoreError), (true, Reason::ChecksumMismatch)] {
        let order = room.order("AuroraS3", &format(FormatType::Parquet), &queries, &with);
        room.export(&order).await.unwrap();
        let keys = room.staged(&order).await;
        let second = keys.iter().find(|key| key.ends_with("_part2")).unwrap();
        let client = room.peers.s3.client();
        if cut {
            let body = room.peers.s3.get(&room.staging, second).await.unwrap();
            let half = body[..body.len() / 2].to_vec();
            client.put_object().bucket(&room.staging).key(second).body(half.into()).send().await.unwrap();
        } else {
            client.delete_object().bucket(&room.staging).key(second).send().await.unwrap();
        }
        assert_eq!(told(&room.transfer(&order).await.unwrap_err()).reason, wanted);
    }
    let with = settings(&json!({"aws_s3.extra_rows": "5"}));
    let order = room.order("AuroraS3", &format(FormatType::Parquet), &queries, &with);
    let failure = room.failure(&order).await;
    assert_eq!(failure.reason, Reason::ChecksumMismatch);
    for part in ["10000 rows", "10005"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    room.done().await;
}
