//! What a run has left is removed, in a real S3 server and in folders; nothing else is.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "cleanup/retention.rs"]
mod retention;
mod support;

use std::collections::BTreeMap;

use pgexport_api::job::{FormatType, Layout};
use pgexport_api::order::RunOrder;
use pgexport_api::report::Cleaned;
use pgexport_engine::cleanup;
use pgexport_engine::output::FileWriter;
use pgexport_engine::progress::Progress;
use pgexport_engine::staging::Staging;
use pgexport_engine::store::{Put, PutMode, Store, Volumes};
use pgexport_peers::{Account, WRITE_ONLY};
use support::run::{Dataset, PATH, order, stage, transfer, transfer_counting};
use support::{Backend, PREFIX, noise, secrets};
use tokio_util::sync::CancellationToken;

const TYPE: &str = "application/octet-stream";
const ONE: &[Dataset<'static>] = &[("findings", &["{\"id\":1}\n", "{\"id\":2}\n"])];

fn never() -> CancellationToken {
    CancellationToken::new()
}

fn at(name: &str) -> String {
    format!("{PREFIX}{PATH}{name}")
}

/// A staging, a sink, and an order from one to the other, attempt 2.
async fn room(sink: Backend) -> (Backend, Backend, RunOrder) {
    let staging = Backend::s3().await;
    let order = order(FormatType::Json, Layout::PerChunk, sink.target(), staging.target());
    (staging, sink, order)
}

/// Cleans up, and again: the second time there is nothing left to do.
async fn clean(order: &RunOrder, staging: &Backend, sink: &Backend) -> Cleaned {
    let once =
        async || cleanup::run(&order.cleanup(), staging.secrets(), &sink.volumes(), &never()).await.unwrap();
    let cleaned = once().await;
    assert_eq!(once().await, Cleaned::default(), "nothing is left");
    assert_eq!(staging.visible().await, Vec::<String>::new());
    assert_eq!(staging.left_behind().await, Vec::<String>::new());
    cleaned
}

async fn put(store: &dyn Store, key: &str) {
    assert_eq!(store.put(key, "x".into(), TYPE, PutMode::Create).await.unwrap(), Put::Written);
}

/// Begins an upload, as a process that is killed leaves it.
async fn leave_open(store: &dyn Store, key: &str, bytes: usize) {
    let mut writer = FileWriter::begin(store, key, TYPE).await.unwrap();
    writer.write(noise(bytes).into()).await.unwrap();
    std::mem::forget(writer.finish().await.unwrap());
}

#[tokio::test]
async fn what_killed_attempts_left_goes_and_what_is_others_stays() {
    for sink in [Backend::s3().await, Backend::volume()] {
        let (staging, sink, order) = room(sink).await;
        stage(&staging, &order, ONE).await;
        leave_open(
            staging.store().as_ref(),
            &format!("{}1/data/findings/00000-ab.ndjson", support::run::RUN),
            9,
        )
        .await;
        let store = sink.store();
        for own in ["findings-00000-0b0c1d2e-1.json", "day=1/findings-00000-0b0c1d2e-2.json"] {
            leave_open(store.as_ref(), &format!("{PATH}{own}"), 9 << 20).await;
            put(store.as_ref(), &format!("{PATH}{own}.done")).await;
        }
        let others = [
            "another/findings-0b0c1d2e-1.json",
            "findings/2026-11-23/findings-00000-0b0c1d2e-12.json",
            "findings/2026-11-23/findings-00000-ffffffff-1.json",
            "findings/2026-11-23/from the customer.json",
        ];
        for other in others {
            put(store.as_ref(), other).await;
            leave_open(store.as_ref(), &format!("{other}.open"), 9).await;
        }
        let cleaned = clean(&order, &staging, &sink).await;
        // In the staging a plan, two bodies and two sidecars.
        assert_eq!((cleaned.objects, cleaned.uploads, cleaned.remains), (5 + 2, 1 + 2, None));
        assert_eq!(sink.visible().await, others.map(|other| format!("{PREFIX}{other}")));
        assert_eq!(sink.left_behind().await.len(), others.len());
    }
}

#[tokio::test]
async fn a_killed_transfer_leaves_nothing_once_it_is_cleaned_up() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let big = format!("{}\n", "x".repeat(1000)).repeat(30_000);
    stage(&staging, &order, &[("findings", &[&big, &big]), ("assets", &[&big])]).await;
    let progress = Progress::default();
    let killed = async {
        while progress.snapshot().bytes < 12 << 20 || sink.left_behind().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let token = never();
    tokio::select! {
        ended = transfer_counting(&order, &staging, &sink, &token, &progress) => panic!("{ended:?}"),
        () = killed => {}
    }
    assert!(!sink.left_behind().await.is_empty(), "the test sees what is left behind");
    let cleaned = clean(&order, &staging, &sink).await;
    assert!(cleaned.uploads > 0, "{cleaned:?}");
    assert_eq!(sink.left_behind().await, Vec::<String>::new());
    assert_eq!(sink.visible().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_delivered_stays_and_what_an_earlier_attempt_left_beside_it_goes() {
    for sink in [Backend::s3().await, Backend::volume()] {
        let (staging, sink, order) = room(sink).await;
        stage(&staging, &order, ONE).await;
        transfer(&order, &staging, &sink, &never()).await.unwrap();
        let delivered = sink.visible().await;
        let store = sink.store();
        for own in ["findings-00000-0b0c1d2e-1.json", "findings-00002-0b0c1d2e-2.json"] {
            put(store.as_ref(), &format!("{PATH}{own}")).await;
            leave_open(store.as_ref(), &format!("{PATH}{own}.open"), 9).await;
        }
        let cleaned = clean(&order, &staging, &sink).await;
        assert_eq!((cleaned.objects, cleaned.uploads, cleaned.remains), (6 + 2, 2, None));
        assert_eq!(sink.visible().await, delivered);
        assert_eq!(sink.left_behind().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_delivery_that_was_never_sealed_goes_with_its_manifest() {
    for sink in [Backend::s3().await, Backend::volume()] {
        let (staging, sink, order) = room(sink).await;
        stage(&staging, &order, ONE).await;
        transfer(&order, &staging, &sink, &never()).await.unwrap();
        let store = sink.store();
        store.delete(&[format!("{PATH}_SUCCESS")]).await.unwrap();
        if let Backend::Volume { .. } = &sink {
            leave_open(store.as_ref(), &format!("{PATH}_SUCCESS"), 9).await;
        }
        clean(&order, &staging, &sink).await;
        assert_eq!(sink.visible().await, Vec::<String>::new());
        assert_eq!(sink.left_behind().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn another_runs_delivery_at_the_location_stays() {
    for sealed in [true, false] {
        let (staging, sink, theirs) = room(Backend::s3().await).await;
        stage(&staging, &theirs, ONE).await;
        transfer(&theirs, &staging, &sink, &never()).await.unwrap();
        let store = sink.store();
        if !sealed {
            store.delete(&[format!("{PATH}_SUCCESS")]).await.unwrap();
        }
        let before = sink.visible().await;
        let mut ours = theirs.clone();
        "ffffffff-0000-4000-8000-000000000000".clone_into(&mut ours.run.uid);
        put(store.as_ref(), &format!("{PATH}findings-00000-ffffffff-2.json")).await;
        let order = ours.cleanup();
        let cleaned = cleanup::run(&order, staging.secrets(), &sink.volumes(), &never()).await.unwrap();
        assert_eq!(cleaned, Cleaned { objects: 1, ..Cleaned::default() });
        assert_eq!(sink.visible().await, before);
        assert_eq!(staging.visible().await.len(), 6, "its staging is its own");
    }
}

#[tokio::test]
async fn a_delivery_whose_manifest_is_gone_is_not_touched() {
    let (staging, sink, order) = room(Backend::volume()).await;
    stage(&staging, &order, ONE).await;
    transfer(&order, &staging, &sink, &never()).await.unwrap();
    let store = sink.store();
    let manifest = format!("{PATH}_manifest.json");
    store.put(&manifest, "{}".into(), TYPE, PutMode::Replace).await.unwrap();
    let before = sink.visible().await;
    let cleaned = cleanup::run(&order.cleanup(), staging.secrets(), &sink.volumes(), &never()).await.unwrap();
    assert_eq!(sink.visible().await, before);
    // No transfer of this run has ended badly, so nothing can be left.
    assert_eq!(cleaned.remains, None);
    let _mark = Staging::open(staging.store(), &order).mark().await.unwrap();
    let cleaned = cleanup::run(&order.cleanup(), staging.secrets(), &sink.volumes(), &never()).await.unwrap();
    assert!(cleaned.remains.unwrap().contains("_manifest.json is not the one"));
    assert_eq!(sink.visible().await, before);
}

/// The secrets of an account that may do these actions in the sink, and all that a staging needs.
async fn account(staging: &Backend, sink: &Backend, actions: &[&str]) -> Account {
    let (Backend::S3 { peers, bucket: staging }, Backend::S3 { bucket: sink, .. }) = (staging, sink) else {
        unreachable!()
    };
    let account = peers.s3.create_account("writer").await.unwrap();
    peers.s3.allow(sink, &account, actions).await.unwrap();
    peers.s3.allow(staging, &account, &["s3:*"]).await.unwrap();
    account
}

#[tokio::test]
async fn where_only_writing_is_allowed_it_is_told_what_may_be_left_and_how_to_let_it_be_removed() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let account = account(&staging, &sink, &WRITE_ONLY).await;
    let none = Volumes::folders(BTreeMap::new());
    let clean = async |order: &RunOrder| {
        cleanup::run(&order.cleanup(), secrets(&account), &none, &never()).await.unwrap()
    };
    let left = format!("{PATH}findings-00000-0b0c1d2e-2.json");
    leave_open(sink.store().as_ref(), &left, 9).await;

    let staged = stage(&staging, &order, ONE).await;
    let cleaned = clean(&order).await;
    assert_eq!((cleaned.objects, cleaned.remains), (5, None), "no transfer was ever begun");

    let _mark = staged.mark().await.unwrap();
    let cleaned = clean(&order).await;
    assert_eq!(cleaned.objects, 1);
    let remains = cleaned.remains.unwrap();
    for word in [
        &at(""),
        "0b0c1d2e-",
        "s3:ListBucketMultipartUploads",
        "s3:DeleteObject",
        "s3:GetObject",
        "lifecycle",
    ] {
        assert!(remains.contains(word), "{word:?} is not in: {remains}");
    }
    assert_eq!(staging.visible().await, Vec::<String>::new(), "the staging is cleaned all the same");
    assert_eq!(sink.left_behind().await.len(), 1);

    let mut direct = order.clone();
    direct.delivery = pgexport_api::order::DeliveryPath::Direct;
    assert!(clean(&direct).await.remains.is_some(), "without a staging nobody knows");
}

#[tokio::test]
async fn what_may_be_listed_and_not_removed_is_told() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let rights = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetObject"];
    let account = account(&staging, &sink, &rights).await;
    let none = Volumes::folders(BTreeMap::new());
    let clean = async || {
        let mut order = order.clone();
        order.delivery = pgexport_api::order::DeliveryPath::Direct;
        cleanup::run(&order.cleanup(), secrets(&account), &none, &never()).await.unwrap()
    };
    assert_eq!(clean().await, Cleaned::default(), "where nothing is, nothing remains");
    put(sink.store().as_ref(), &format!("{PATH}findings-00000-0b0c1d2e-2.json")).await;
    let cleaned = clean().await;
    assert_eq!(cleaned.objects, 0);
    assert!(cleaned.remains.unwrap().contains("s3:DeleteObject"));
    assert_eq!(sink.visible().await.len(), 1);
}

#[tokio::test]
async fn a_transfer_that_has_delivered_leaves_no_mark() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let account = account(&staging, &sink, &WRITE_ONLY).await;
    stage(&staging, &order, ONE).await;
    transfer(&order, &staging, &sink, &never()).await.unwrap();
    let none = Volumes::folders(BTreeMap::new());
    let cleaned = cleanup::run(&order.cleanup(), secrets(&account), &none, &never()).await.unwrap();
    assert_eq!(cleaned.remains, None);
}

#[tokio::test]
async fn a_store_that_is_not_there_fails_the_cleanup() {
    let (staging, sink, mut order) = room(Backend::s3().await).await;
    if let pgexport_api::order::Target::S3(s3) = &mut order.sink.target {
        "no-such-bucket".clone_into(&mut s3.bucket);
    }
    let ended = cleanup::run(&order.cleanup(), staging.secrets(), &sink.volumes(), &never()).await;
    assert_eq!(ended.unwrap_err().reason(), pgexport_api::reason::Reason::BucketNotFound);
}
