//! A run whose chunks are staged by hand.

use bytes::Bytes;
use pgexport_api::job::{Files, Format, FormatType, Layout, Strategy};
use pgexport_api::order::{DeliveryPath, NamedSink, RunOrder, Target};
use pgexport_api::report::Delivered;
use pgexport_api::source::{Server, ServerRole};
use pgexport_engine::decode::{Scalar, Shape};
use pgexport_engine::output::Compressor;
use pgexport_engine::plan::{Chunk, Column, PLAN_VERSION, Plan, PlannedDataset, Rows, Snapshot};
use pgexport_engine::progress::Progress;
use pgexport_engine::staging::{ChunkRecord, Staging};
use pgexport_engine::store::Put;
use pgexport_engine::{Result, transfer};
use tokio_util::sync::CancellationToken;

use super::Backend;

/// The staging's folder of the run of [`order`].
pub const RUN: &str = "shop/nightly/0b0c1d2e-0000-4000-8000-000000000000/";

/// The staging's folder of the attempt of [`order`].
pub const STAGED: &str = "shop/nightly/0b0c1d2e-0000-4000-8000-000000000000/2/";

/// The files' folder of [`order`].
pub const PATH: &str = "findings/2026-11-23/";

/// A data set's name and the bodies of its chunks.
pub type Dataset<'a> = (&'a str, &'a [&'a str]);

/// An order, attempt 2.
pub fn order(format: FormatType, layout: Layout, sink: Target, staging: Target) -> RunOrder {
    serde_json::from_value(serde_json::json!({
        "run": {
            "namespace": "shop", "name": "nightly", "uid": "0b0c1d2e-0000-4000-8000-000000000000", "attempt": 2,
            "specSha256": "5pec", "created": "2026-11-23T00:00:00Z",
        },
        "source": {"name": "db", "postgres": {
            "host": "db", "database": "db", "user": "u", "passwordSecretRef": {"name": "db", "key": "password"},
        }},
        "sink": NamedSink { name: "acme".to_owned(), target: sink, staging: false },
        "delivery": DeliveryPath::Staged {
            staging: NamedSink { name: "staging".to_owned(), target: staging, staging: true },
        },
        "ifExists": "Fail", "looksAhead": false,
        "path": PATH, "consistency": "Snapshot",
        "datasets": [],
        "parameters": [
            {"name": "tenant", "type": "uuid", "value": {"Text": "7"}}, {"name": "since", "type": "date", "value": "Null"},
        ],
        "format": Format { format_type: format, csv: None, parquet: None },
        "files": Files { layout, name: None },
        "workers": 2, "parallelism": 3,
    }))
    .unwrap()
}

pub fn plan(datasets: &[Dataset<'_>]) -> Plan {
    let chunks = datasets.iter().zip(0..).flat_map(|((_, bodies), dataset)| {
        (0..bodies.len()).map(move |part| Chunk { dataset, part: part.try_into().unwrap(), rows: Rows::All })
    });
    Plan {
        version: PLAN_VERSION,
        time: "2026-11-23T10:00:00Z".parse().unwrap(),
        snapshot: Some(Snapshot {
            id: "00000003-1B-1".to_owned(),
            visible: "1:2:".to_owned(),
            postmaster_start: "2026-11-01T00:00:00Z".parse().unwrap(),
            time: "2026-11-23T10:00:00Z".parse().unwrap(),
            lsn: Some("0/16B3748".to_owned()),
        }),
        server: Server { version: "17.7".to_owned(), role: ServerRole::Primary },
        datasets: datasets
            .iter()
            .map(|(name, _)| PlannedDataset {
                name: (*name).to_owned(),
                columns: vec![Column { name: "id".to_owned(), column_type: "bigint".to_owned() }],
                shapes: vec![Some(Shape::Scalar(Scalar::Int8))],
                query_sha256: "q".to_owned(),
                csv_header: Some("id\n".to_owned()),
                strategy: Strategy::None,
                reason: None,
                from: None,
                values: Vec::new(),
            })
            .collect(),
        chunks: chunks.collect(),
        tables: Vec::new(),
    }
}

/// Puts a plan and all chunks into the staging, whose bodies are given as lines, a row each.
pub async fn stage(backend: &Backend, order: &RunOrder, datasets: &[Dataset<'_>]) -> Staging {
    let staging = Staging::open(backend.store(), order);
    let plan = plan(datasets);
    assert_eq!(staging.create_plan(&plan).await.unwrap(), Put::Written);
    for (index, body) in (0..).zip(datasets.iter().flat_map(|(_, bodies)| *bodies)) {
        let mut writer = staging.writer(&plan, index).await.unwrap();
        writer.write(staged_body(order, body)).await.unwrap();
        let rows = body.lines().count() as u64;
        let record = ChunkRecord {
            chunk: index,
            rows,
            footer: None,
            started: format!("2026-11-23T10:00:{:02}Z", index % 60).parse().unwrap(),
            finished: format!("2026-11-23T10:01:{:02}Z", index % 60).parse().unwrap(),
            worker: index % 2,
        };
        assert_eq!(staging.seal(record, writer.finish().await.unwrap()).await.unwrap(), Put::Written);
    }
    staging
}

/// The bytes that a chunk's rows have in the staging.
pub fn staged_body(order: &RunOrder, lines: &str) -> Bytes {
    let body = match order.format.format_type {
        FormatType::Json => lines.lines().collect::<Vec<_>>().join(",\n"),
        FormatType::Ndjson | FormatType::Csv | FormatType::Parquet => lines.to_owned(),
    };
    let mut compressor = Compressor::new(order.compression).unwrap();
    let begin = compressor.push(body.as_bytes()).unwrap();
    [begin, compressor.finish().unwrap()].concat().into()
}

/// Transfers from one backend to another.
pub async fn transfer(
    order: &RunOrder,
    staging: &Backend,
    sink: &Backend,
    cancel: &CancellationToken,
) -> Result<Delivered> {
    transfer_counting(order, staging, sink, cancel, &Progress::default()).await
}

pub async fn transfer_counting(
    order: &RunOrder,
    staging: &Backend,
    sink: &Backend,
    cancel: &CancellationToken,
    progress: &Progress,
) -> Result<Delivered> {
    transfer::run(order, staging.secrets(), &sink.volumes(), progress, cancel).await
}
