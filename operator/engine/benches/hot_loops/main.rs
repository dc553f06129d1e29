//! What the worker does with every byte: run by `cargo bench -p pgexport-engine`. Throughput is of what goes in.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends at once")]
#![allow(missing_docs, reason = "of what Criterion's macros make")]

mod copy;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgexport_api::job::{Compression, Format, FormatType, Strategy};
use pgexport_engine::decode::Shape;
use pgexport_engine::encode::{Batch, Encoder};
use pgexport_engine::output::{Crc64NvmeHasher, Packer, Role};
use pgexport_engine::plan::PlannedDataset;
use pgexport_engine::sql::{Values, substitute};
use pgexport_engine::transfer::Records;
use sha2::{Digest, Sha256};

/// How much comes from a connection at once.
const PIECE: usize = 64 << 10;
const ROWS: usize = 20_000;

fn format(format_type: FormatType) -> Format {
    Format { format_type, csv: None, parquet: None }
}

fn encoded(format: &Format, shapes: &[Option<Shape>], stream: &[u8]) -> Vec<Batch> {
    let mut encoder = Encoder::new(format, &copy::columns(shapes), shapes).unwrap();
    let mut batches = Vec::new();
    for mut piece in stream.chunks(PIECE) {
        while !piece.is_empty() {
            batches.extend(encoder.push(&mut piece).unwrap());
        }
    }
    batches.extend(encoder.finish().unwrap());
    batches
}

/// From COPY's binary format to each of ours.
fn encode(criterion: &mut Criterion) {
    let shapes = copy::mixed_shapes();
    let stream = copy::mixed(ROWS);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(stream.len() as u64)).sample_size(20);
    for (name, format_type) in [
        ("csv", FormatType::Csv),
        ("ndjson", FormatType::Ndjson),
        ("json", FormatType::Json),
        ("parquet, record batches", FormatType::Parquet),
    ] {
        let format = format(format_type);
        group.bench_function(name, |bencher| bencher.iter(|| encoded(&format, &shapes, black_box(&stream))));
    }
    let format = format(FormatType::Parquet);
    let batches = encoded(&format, &shapes, &stream);
    let dataset = PlannedDataset {
        name: "rows".to_owned(),
        columns: copy::columns(&shapes),
        shapes,
        query_sha256: String::new(),
        csv_header: None,
        strategy: Strategy::None,
        reason: None,
        from: None,
        values: Vec::new(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    group.bench_function("parquet, file of record batches", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut packer = Packer::new(&format, Compression::None, &dataset, Role::Delivered).unwrap();
                let mut bytes = 0;
                for batch in &batches {
                    bytes += packer.batch(batch.clone()).await.unwrap().iter().map(Bytes::len).sum::<usize>();
                }
                bytes + packer.finish().await.unwrap().iter().map(Bytes::len).sum::<usize>()
            })
        });
    });
    group.finish();
}

/// The search for what needs an escape or quotes, in texts of several kinds.
fn escape(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("escape");
    group.sample_size(20);
    for (kind, text) in [
        ("words", "in review"),
        ("sentences", "Bucket allows public read access to all of its objects"),
        ("JSON", r#"{"region": "eu-west-1", "tags": ["a", "b"], "score": 12.5, "note": "of some length"}"#),
    ] {
        let stream = copy::texts(text, (4 << 20) / text.len());
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for (name, format_type) in [("csv", FormatType::Csv), ("ndjson", FormatType::Ndjson)] {
            let (format, shapes) = (format(format_type), copy::text_shapes());
            group.bench_function(format!("{kind}, {name}"), |bencher| {
                bencher.iter(|| encoded(&format, &shapes, black_box(&stream)));
            });
        }
    }
    group.finish();
}

/// Lines of JSON that a database wrote, made the rows of an array.
fn reframe(criterion: &mut Criterion) {
    let row = format!("{{\"id\":{},\"text\":\"{}\"}}\n", 12_345, "x".repeat(480));
    let piece = Bytes::from(row.repeat((256 << 10) / row.len()));
    let mut group = criterion.benchmark_group("reframe");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function("NDJSON to a JSON array", |bencher| {
        bencher.iter(|| {
            let mut records = Records::new(&format(FormatType::Json));
            records.push(black_box(piece.clone())).unwrap()
        });
    });
    group.bench_function("lines counted", |bencher| {
        bencher.iter(|| {
            let mut records = Records::new(&format(FormatType::Ndjson));
            records.push(black_box(piece.clone())).unwrap()
        });
    });
    group.bench_function("a copy of the same bytes", |bencher| {
        bencher.iter(|| Bytes::copy_from_slice(black_box(&piece)));
    });
    group.finish();
}

/// What every byte of a file goes through.
fn checksum(criterion: &mut Criterion) {
    let part = vec![7_u8; 8 << 20];
    let mut group = criterion.benchmark_group("checksum");
    group.throughput(Throughput::Bytes(part.len() as u64)).sample_size(20);
    group.bench_function("CRC64NVME", |bencher| {
        bencher.iter(|| {
            let mut hasher = Crc64NvmeHasher::default();
            hasher.update(black_box(&part));
            hasher.checksum()
        });
    });
    group.bench_function("SHA-256", |bencher| bencher.iter(|| Sha256::digest(black_box(&part))));
    group.finish();
}

/// Placeholders found in a long query.
fn lexer(criterion: &mut Criterion) {
    let sql = "SELECT f.id, 'it''s', E'a\\'b', $$ :no $$, f.tags[1:2] -- :no\n FROM findings f\n\
               WHERE f.tenant_id = :tenant AND f.seen_at >= :since::timestamptz /* :no */ AND f.score > 0.5e3\n"
        .repeat(100);
    let values = Values::from([
        ("tenant".to_owned(), "(CAST('7' AS uuid))".to_owned()),
        ("since".to_owned(), "(CAST('2026-01-01' AS date))".to_owned()),
    ]);
    let mut group = criterion.benchmark_group("lexer");
    group.throughput(Throughput::Bytes(sql.len() as u64));
    group.bench_function("substitute", |bencher| bencher.iter(|| substitute(black_box(&sql), &values)));
    group.finish();
}

criterion_group!(hot_loops, encode, escape, reframe, checksum, lexer);
criterion_main!(hot_loops);
