//! Transfers from a staging on a real S3 server to a bucket and to a folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "transfer/altered.rs"]
mod altered;
#[path = "transfer/read_ahead.rs"]
mod read_ahead;
#[path = "transfer/server_copy.rs"]
mod server_copy;
mod support;

use std::sync::Arc;

use pgexport_api::job::{Compression, FormatType, Layout};
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_engine::manifest::Manifest;
use pgexport_engine::output::Crc64NvmeHasher;
use pgexport_engine::progress::Progress;
use pgexport_engine::secret::Secrets;
use pgexport_engine::staging::Staging;
use pgexport_engine::store::PutMode;
use pgexport_engine::transfer;
use pgexport_peers::WRITE_ONLY;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::run::{Dataset, PATH, STAGED, order, plan, stage, transfer, transfer_counting};
use support::{Backend, PREFIX, decompressed, secrets};
use tokio_util::sync::CancellationToken;

const TWO: &[Dataset<'static>] =
    &[("findings", &["{\"id\":1}\n{\"id\":2}\n", "", "{\"id\":3}\n"]), ("assets", &["", ""])];

/// A staging, a sink, and an order from one to the other whose chunks are staged.
async fn staged(
    sink: Backend,
    format: FormatType,
    layout: Layout,
    datasets: &[Dataset<'_>],
) -> (Backend, Backend, RunOrder) {
    let staging = Backend::s3().await;
    let order = order(format, layout, sink.target(), staging.target());
    stage(&staging, &order, datasets).await;
    (staging, sink, order)
}

fn at(name: &str) -> String {
    format!("{PREFIX}{PATH}{name}")
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test]
async fn json_chunks_become_one_document_a_data_set_in_a_bucket_and_in_a_folder() {
    for sink in [Backend::s3().await, Backend::volume()] {
        let (staging, sink, order) = staged(sink, FormatType::Json, Layout::Single, TWO).await;
        let delivered = transfer(&order, &staging, &sink, &never()).await.unwrap();
        let names = ["_SUCCESS", "_manifest.json", "assets-0b0c1d2e-2.json", "findings-0b0c1d2e-2.json"];
        assert_eq!(sink.visible().await, names.map(at));
        let findings = sink.bytes(&format!("{PATH}{}", names[3])).await;
        assert_eq!(
            serde_json::from_slice::<Value>(&findings).unwrap(),
            json!([{"id": 1}, {"id": 2}, {"id": 3}])
        );
        let assets = sink.bytes(&format!("{PATH}{}", names[2])).await;
        assert_eq!(serde_json::from_slice::<Value>(&assets).unwrap(), json!([]));
        assert_eq!((delivered.chunks, delivered.files, delivered.rows), (5, 2, 3));
        assert_eq!(delivered.bytes, (findings.len() + assets.len()) as u64);
        assert_eq!(delivered.snapshot_time, Some(plan(TWO).time));
        assert_eq!(sink.left_behind().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn csv_files_have_one_header_each_and_empty_ones_too() {
    let datasets: &[Dataset<'_>] = &[("findings", &["1\n2\n", "", "3\n"]), ("assets", &[""])];
    let (staging, sink, order) = staged(Backend::volume(), FormatType::Csv, Layout::Single, datasets).await;
    transfer(&order, &staging, &sink, &never()).await.unwrap();
    assert_eq!(sink.bytes(&format!("{PATH}findings-0b0c1d2e-2.csv")).await, b"id\n1\n2\n3\n");
    assert_eq!(sink.bytes(&format!("{PATH}assets-0b0c1d2e-2.csv")).await, b"id\n");
}

#[tokio::test]
async fn each_chunk_becomes_a_file_of_its_own() {
    let (staging, sink, order) = staged(Backend::s3().await, FormatType::Ndjson, Layout::PerChunk, TWO).await;
    let progress = Progress::default();
    let delivered = transfer_counting(&order, &staging, &sink, &never(), &progress).await.unwrap();
    assert_eq!(
        sink.bytes(&format!("{PATH}findings-00000-0b0c1d2e-2.ndjson")).await,
        b"{\"id\":1}\n{\"id\":2}\n"
    );
    assert_eq!(sink.bytes(&format!("{PATH}findings-00001-0b0c1d2e-2.ndjson")).await, b"");
    assert_eq!(sink.bytes(&format!("{PATH}findings-00002-0b0c1d2e-2.ndjson")).await, b"{\"id\":3}\n");
    assert_eq!((delivered.files, sink.visible().await.len()), (5, 7));
    let counted = progress.snapshot();
    assert_eq!((counted.chunks, counted.chunks_transferred, counted.rows, counted.bytes), (5, 5, 3, 27));
}

#[tokio::test]
async fn compressed_chunks_are_joined_as_they_are() {
    for (format, datasets, findings, assets) in [
        (FormatType::Json, TWO, "[\n{\"id\":1},\n{\"id\":2},\n{\"id\":3}\n]\n", "[]\n"),
        (FormatType::Ndjson, TWO, "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n", ""),
        (
            FormatType::Csv,
            &[("findings", &["1\n2\n", "", "3\n"][..]), ("assets", &[""])],
            "id\n1\n2\n3\n",
            "id\n",
        ),
    ] {
        for (compression, media_type) in
            [(Compression::Gzip, "application/gzip"), (Compression::Zstd, "application/zstd")]
        {
            let (staging, sink) = (Backend::s3().await, Backend::s3().await);
            let order = order(format, Layout::Single, sink.target(), staging.target());
            let order = RunOrder { compression, ..order };
            stage(&staging, &order, datasets).await;
            let delivered = transfer(&order, &staging, &sink, &never()).await.unwrap();
            let mut bytes = 0;
            for (name, wanted) in [("findings", findings), ("assets", assets)] {
                let (format, compressed) = (format.extension(), compression.extension().unwrap());
                let name = format!("{PATH}{name}-0b0c1d2e-2.{format}.{compressed}");
                let file = sink.bytes(&name).await;
                assert_eq!(String::from_utf8(decompressed(compression, &file)).unwrap(), wanted, "{name}");
                let Backend::S3 { peers, bucket } = &sink else { unreachable!() };
                let key = format!("{PREFIX}{name}");
                let head = peers.s3.client().head_object().bucket(bucket).key(key).send().await.unwrap();
                assert_eq!((head.content_type(), head.content_encoding()), (Some(media_type), None));
                bytes += file.len() as u64;
            }
            assert_eq!((delivered.rows, delivered.bytes), (3, bytes));
            let manifest: Value =
                serde_json::from_slice(&sink.bytes(&format!("{PATH}_manifest.json")).await).unwrap();
            assert_eq!(manifest["compression"], json!(compression));
        }
    }
}

#[tokio::test]
async fn the_manifest_says_what_is_there_and_success_says_which_manifest() {
    let big = format!("{}\n", "x".repeat(1000)).repeat(9000);
    let datasets: &[Dataset<'_>] = &[("findings", &[&big, "1\n"])];
    let (staging, sink, order) = staged(Backend::s3().await, FormatType::Csv, Layout::Single, datasets).await;
    let delivered = transfer(&order, &staging, &sink, &never()).await.unwrap();

    let text = sink.bytes(&format!("{PATH}_manifest.json")).await;
    assert_eq!(delivered.manifest_sha256, hex::encode(Sha256::digest(&text)));
    let Backend::S3 { bucket, .. } = &sink else { unreachable!() };
    assert_eq!(delivered.manifest, format!("s3://{bucket}/{}", at("_manifest.json")));
    let success: Value = serde_json::from_slice(&sink.bytes(&format!("{PATH}_SUCCESS")).await).unwrap();
    assert_eq!(
        (&success["uid"], &success["manifestSha256"]),
        (&json!(order.run.uid), &json!(delivered.manifest_sha256))
    );

    let manifest: Manifest = serde_json::from_slice(&text).unwrap();
    let file = &manifest.datasets[0].files[0];
    let bytes = sink.bytes(&format!("{PATH}{}", file.path)).await;
    let mut crc = Crc64NvmeHasher::default();
    crc.update(&bytes);
    assert_eq!(
        (file.rows, file.digest.bytes, file.digest.crc64nvme),
        (9001, bytes.len() as u64, crc.checksum())
    );
    let parts: Vec<_> = bytes.chunks(8 << 20).map(|part| hex::encode(Sha256::digest(part))).collect();
    assert_eq!(file.digest.parts.iter().map(|part| part.sha256.clone()).collect::<Vec<_>>(), parts);
    assert_eq!(parts.len(), 2);
    let json: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        json["parameters"],
        json!([
            {"name": "tenant", "type": "uuid", "value": "7"}, {"name": "since", "type": "date", "value": null},
        ])
    );
    assert_eq!(
        json["snapshot"],
        json!({"time": "2026-11-23T10:00:00Z", "lsn": "0/16B3748", "id": "00000003-1B-1"})
    );
    assert_eq!(
        (&json["started"], &json["finished"]),
        (&json!("2026-11-23T10:00:00Z"), &json!("2026-11-23T10:01:01Z"))
    );
}

#[tokio::test]
async fn what_is_delivered_is_found_delivered_and_what_was_lost_is_written_the_same() {
    let (staging, sink, order) = staged(Backend::volume(), FormatType::Json, Layout::Single, TWO).await;
    let first = transfer(&order, &staging, &sink, &never()).await.unwrap();
    let manifest = sink.bytes(&format!("{PATH}_manifest.json")).await;
    let Backend::Volume { folder } = &sink else { unreachable!() };
    let data = folder.path().join(at("findings-0b0c1d2e-2.json"));

    std::fs::remove_file(&data).unwrap();
    assert_eq!(transfer(&order, &staging, &sink, &never()).await.unwrap(), first);
    assert!(!data.exists(), "a delivery that is finished is not touched");

    for lost in ["_SUCCESS", "_manifest.json"] {
        std::fs::remove_file(folder.path().join(at("_SUCCESS"))).unwrap();
        if lost == "_manifest.json" {
            std::fs::remove_file(folder.path().join(at(lost))).unwrap();
        }
        assert_eq!(transfer(&order, &staging, &sink, &never()).await.unwrap(), first, "{lost}");
        assert_eq!(sink.bytes(&format!("{PATH}_manifest.json")).await, manifest, "{lost}");
    }
    assert!(data.exists());
}

#[tokio::test]
async fn a_cancelled_transfer_leaves_nothing() {
    let big = format!("{}\n", "x".repeat(1000)).repeat(30_000);
    let datasets: &[Dataset<'_>] = &[("findings", &[&big, &big]), ("assets", &[&big])];
    let (staging, sink, order) =
        staged(Backend::s3().await, FormatType::Json, Layout::Single, datasets).await;
    let (cancel, progress) = (never(), Progress::default());
    let watch = async {
        while progress.snapshot().bytes < 12 << 20 || sink.left_behind().await.is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(transfer_counting(&order, &staging, &sink, &cancel, &progress), watch);
    assert_eq!(result.unwrap_err().reason(), Reason::Interrupted);
    assert_eq!(sink.left_behind().await, Vec::<String>::new());
    assert_eq!(sink.visible().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_is_not_what_its_sidecar_says_is_noticed() {
    let (staging, sink, order) = staged(Backend::s3().await, FormatType::Json, Layout::Single, TWO).await;
    let staged = Staging::open(staging.store(), &order);
    let body = staged.sidecar(2).await.unwrap().unwrap().key;
    assert!(body.starts_with(&format!("{STAGED}data/findings/00002-")), "{body}");
    assert_eq!(staging.bytes(&body).await, b"{\"id\":3}");
    staging.store().put(&body, "{\"id\":4}".into(), "x/y", PutMode::Replace).await.unwrap();
    let error = transfer(&order, &staging, &sink, &never()).await.unwrap_err();
    assert_eq!((error.reason(), error.to_failure().chunk), (Reason::ChecksumMismatch, Some(2)));
    assert!(error.to_string().contains(&body), "{error}");
    assert_eq!(sink.left_behind().await, Vec::<String>::new());
    assert_eq!(sink.visible().await, Vec::<String>::new());
}

#[tokio::test]
async fn missing_chunks_are_named() {
    let staging = Backend::s3().await;
    let sink = Backend::volume();
    let order = order(FormatType::Json, Layout::Single, sink.target(), staging.target());
    let error = transfer(&order, &staging, &sink, &never()).await.unwrap_err();
    assert!(error.to_string().contains("no plan"), "{error}");
    stage(&staging, &order, TWO).await;
    let Backend::S3 { peers, bucket } = &staging else { unreachable!() };
    let sidecar = format!("{PREFIX}{STAGED}chunks/00001.json");
    peers.s3.client().delete_object().bucket(bucket).key(sidecar).send().await.unwrap();
    let error = transfer(&order, &staging, &sink, &never()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InternalError);
    assert!(error.to_string().contains("4 of 5 chunks; these are missing: 1"), "{error}");
}

/// A sink that grants an account only writing, and a staging that grants it all.
async fn write_only(staging: &Backend, sink: &Backend) -> Arc<dyn Secrets> {
    let (Backend::S3 { peers, bucket: staging }, Backend::S3 { bucket: sink, .. }) = (staging, sink) else {
        unreachable!()
    };
    let account = peers.s3.create_account("writer").await.unwrap();
    peers.s3.allow(sink, &account, &WRITE_ONLY).await.unwrap();
    peers.s3.allow(staging, &account, &["s3:*"]).await.unwrap();
    secrets(&account)
}

#[tokio::test]
async fn a_killed_transfer_goes_on_where_only_writing_is_allowed() {
    let (staging, sink, order) = staged(Backend::s3().await, FormatType::Json, Layout::PerChunk, TWO).await;
    let secrets = write_only(&staging, &sink).await;
    let deliver = async || {
        transfer::run(&order, secrets.clone(), &sink.volumes(), &Progress::default(), &never()).await.unwrap()
    };
    let first = deliver().await;
    let all = sink.visible().await;
    // Killed before it reported, before `_SUCCESS`, before the manifest, and between two data files.
    for lost in [
        &[][..],
        &["_SUCCESS"],
        &["_SUCCESS", "_manifest.json"],
        &["_SUCCESS", "_manifest.json", "assets-00001-0b0c1d2e-2.json"],
    ] {
        let lost: Vec<String> = lost.iter().map(|name| format!("{PATH}{name}")).collect();
        sink.store().delete(&lost).await.unwrap();
        assert_eq!(sink.visible().await.len(), all.len() - lost.len());
        assert_eq!(deliver().await, first, "{lost:?}");
        assert_eq!(sink.visible().await, all, "{lost:?}");
        assert_eq!(sink.left_behind().await, Vec::<String>::new(), "{lost:?}");
    }
}

#[tokio::test]
async fn where_only_writing_is_allowed_anothers_delivery_is_never_taken_for_its_own() {
    for theirs in ["_manifest.json", "_SUCCESS"] {
        let (staging, sink, order) = staged(Backend::s3().await, FormatType::Json, Layout::Single, TWO).await;
        let secrets = write_only(&staging, &sink).await;
        let key = format!("{PATH}{theirs}");
        sink.store().put(&key, "theirs".into(), "x/y", PutMode::Create).await.unwrap();
        for _ in 0..2 {
            let error =
                transfer::run(&order, secrets.clone(), &sink.volumes(), &Progress::default(), &never())
                    .await
                    .unwrap_err();
            assert_eq!(error.reason(), Reason::OutputExists, "{theirs}: {error}");
            assert!(error.to_string().contains("cannot be told"), "{theirs}: {error}");
        }
        assert_eq!(sink.bytes(&key).await, b"theirs");
        assert!(theirs == "_SUCCESS" || !sink.visible().await.contains(&at("_SUCCESS")));
    }
}
