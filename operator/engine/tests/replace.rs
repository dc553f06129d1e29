//! A delivery takes the place of an earlier one: a reader sees one of them whole, or none, wherever it is stopped, and
//! whoever comes next ends it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod support;

use std::sync::Arc;

use pgexport_api::job::{FormatType, IfExists, Layout};
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_engine::cleanup;
use pgexport_engine::manifest::{
    Arrival, Earlier, Export, File, Manifest, PlacedFile, Success, arrive, replace, seal,
};
use pgexport_engine::output::{FileDigest, FileWriter};
use pgexport_engine::store::{PutMode, Store};
use sha2::{Digest, Sha256};
use support::run::{PATH, order, plan, stage, transfer};
use support::stopping::Stopping;
use support::{Backend, PREFIX};
use tokio_util::sync::CancellationToken;

const TYPE: &str = "application/octet-stream";
const THEIRS: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const OURS: &str = "bbbbbbbb-0000-4000-8000-000000000000";
const FOREIGN: &str = "not pgexport's.json";

fn job(backend: &Backend, uid: &str, attempt: u32, if_exists: IfExists) -> RunOrder {
    let target = backend.target();
    let mut order = order(FormatType::Json, Layout::PerChunk, target.clone(), target);
    uid.clone_into(&mut order.run.uid);
    order.run.attempt = attempt;
    order.run.spec_sha256 = format!("spec of {uid}");
    order.if_exists = if_exists;
    order
}

fn name(order: &RunOrder, part: u32) -> String {
    format!("findings-{part:05}-{}.json", order.token())
}

/// Data files that are committed, and their manifest.
async fn committed(store: &dyn Store, order: &RunOrder, parts: u32) -> Manifest {
    let mut placed = Vec::new();
    for part in 0..parts {
        let path = name(order, part);
        let mut writer = FileWriter::begin(store, &format!("{PATH}{path}"), TYPE).await.unwrap();
        writer.write(path.clone().into()).await.unwrap();
        let finished = writer.finish().await.unwrap();
        finished.pending.commit().await.unwrap();
        let digest: FileDigest = finished.digest;
        placed.push(PlacedFile { dataset: 0, part, file: File { path, rows: 1, digest } });
    }
    let plan = plan(&[("findings", &[""])]);
    let time = plan.time;
    Manifest::new(order, &plan, Export { chunks: parts, started: time, finished: time }, placed)
}

/// What a delivery of this order would replace.
async fn earlier(store: &dyn Store, order: &RunOrder) -> Earlier {
    match arrive(store, order).await.unwrap() {
        Arrival::Open(Some(earlier)) => earlier,
        other => panic!("{other:?}"),
    }
}

/// Another one's finished delivery of three files, and a file that is nobody's.
async fn delivered(backend: &Backend) {
    let store = backend.store();
    let order = job(backend, THEIRS, 1, IfExists::Fail);
    let manifest = committed(store.as_ref(), &order, 3).await;
    seal(store.as_ref(), PATH, &manifest, None).await.unwrap();
    store.put(&format!("{PATH}{FOREIGN}"), "x".into(), TYPE, PutMode::Create).await.unwrap();
}

/// Whose finished delivery a reader sees; every file that its manifest names is there.
async fn seen(backend: &Backend) -> Option<String> {
    let store = backend.store();
    let success = store.get(&format!("{PATH}_SUCCESS")).await.unwrap()?;
    let success = Success::read(&success).unwrap();
    let text = store.get(&format!("{PATH}_manifest.json")).await.unwrap().unwrap();
    assert_eq!(success.manifest_sha256, hex::encode(Sha256::digest(&text)));
    let visible = backend.visible().await;
    for path in Manifest::read(&text).unwrap().paths() {
        assert!(visible.contains(&format!("{PREFIX}{PATH}{path}")), "{path} is missing");
    }
    Some(success.uid)
}

/// The location holds this order's delivery, and what is nobody's, and no more.
async fn holds_only(backend: &Backend, order: &RunOrder, parts: u32) {
    assert_eq!(seen(backend).await.as_deref(), Some(order.run.uid.as_str()));
    let mut expected: Vec<String> = (0..parts).map(|part| name(order, part)).collect();
    expected.extend(["_SUCCESS", "_manifest.json", FOREIGN].map(str::to_owned));
    let mut expected: Vec<String> = expected.iter().map(|name| format!("{PREFIX}{PATH}{name}")).collect();
    expected.sort();
    assert_eq!(backend.visible().await, expected);
}

#[tokio::test]
async fn a_transfer_replaces_another_ones_delivery_and_nothing_of_it_stays() {
    for sink in [Backend::s3().await, Backend::volume()] {
        delivered(&sink).await;
        let staging = Backend::s3().await;
        let mut ours = order(FormatType::Json, Layout::PerChunk, sink.target(), staging.target());
        stage(&staging, &ours, &[("findings", &["{\"id\":1}\n", "{\"id\":2}\n"])]).await;
        let never = CancellationToken::new();
        let error = transfer(&ours, &staging, &sink, &never).await.unwrap_err();
        assert_eq!(error.reason(), Reason::OutputExists);
        ours.if_exists = IfExists::Replace;
        let first = transfer(&ours, &staging, &sink, &never).await.unwrap();
        holds_only(&sink, &ours, 2).await;
        assert_eq!(
            transfer(&ours, &staging, &sink, &never).await.unwrap(),
            first,
            "a rerun finds it delivered"
        );
        // Nothing is there to be replaced, and it is delivered all the same.
        sink.store()
            .delete(&["_SUCCESS", "_manifest.json"].map(|name| format!("{PATH}{name}")))
            .await
            .unwrap();
        assert_eq!(transfer(&ours, &staging, &sink, &never).await.unwrap().files, 2);
        holds_only(&sink, &ours, 2).await;
    }
}

/// Stops the replacing before each of its steps, and returns how many there are.
async fn stopped(backend: &Backend, step: usize) -> bool {
    delivered(backend).await;
    let ours = job(backend, OURS, 1, IfExists::Replace);
    let store: Arc<dyn Store> = Arc::new(Stopping::before(step, backend.store()));
    let manifest = committed(backend.store().as_ref(), &ours, 2).await;
    let earlier = earlier(store.as_ref(), &ours).await;
    let ended = replace(store.as_ref(), PATH, manifest, &earlier).await;
    let reader_sees = seen(backend).await;
    if step == 0 {
        assert_eq!(reader_sees.as_deref(), Some(THEIRS), "the earlier one stays until all is there");
    }
    ended.is_err()
}

#[tokio::test]
async fn wherever_it_is_stopped_the_next_try_ends_it() {
    for volume in [false, true] {
        for next_attempt in [1, 2] {
            let mut step = 0;
            loop {
                let backend = if volume { Backend::volume() } else { Backend::s3().await };
                if !stopped(&backend, step).await {
                    break;
                }
                let store = backend.store();
                let ours = job(&backend, OURS, next_attempt, IfExists::Replace);
                match arrive(store.as_ref(), &ours).await.unwrap() {
                    Arrival::Open(Some(earlier)) => {
                        let manifest = committed(store.as_ref(), &ours, 2).await;
                        replace(store.as_ref(), PATH, manifest, &earlier).await.unwrap();
                        let Arrival::Delivered(told) = arrive(store.as_ref(), &ours).await.unwrap() else {
                            panic!("a later one finds it delivered")
                        };
                        assert_eq!(told.files, 2);
                    }
                    Arrival::Delivered(told) => assert_eq!(told.files, 2),
                    Arrival::Open(None) => panic!("nothing is seen"),
                }
                if next_attempt == 2 {
                    cleanup(&backend, &ours).await;
                }
                // Past the third step the first attempt has delivered.
                let attempt = if step == 3 { 1 } else { next_attempt };
                holds_only(&backend, &job(&backend, OURS, attempt, IfExists::Replace), 2).await;
                step += 1;
            }
            assert_eq!(step, 4, "_SUCCESS goes, the manifest and _SUCCESS come, the surplus goes");
        }
    }
}

async fn cleanup(backend: &Backend, order: &RunOrder) -> pgexport_api::report::Cleaned {
    let mut order = order.clone();
    order.delivery = pgexport_api::order::DeliveryPath::Direct;
    let never = CancellationToken::new();
    cleanup::run(&order.cleanup(), backend.secrets(), &backend.volumes(), &never).await.unwrap()
}

#[tokio::test]
async fn wherever_it_is_stopped_for_good_the_cleanup_leaves_what_a_reader_may_see() {
    for step in 0..4 {
        let backend = Backend::s3().await;
        assert!(stopped(&backend, step).await);
        let ours = job(&backend, OURS, 1, IfExists::Replace);
        let cleaned = cleanup(&backend, &ours).await;
        let visible = backend.visible().await;
        let names = |order: &RunOrder, parts: u32| {
            (0..parts)
                .filter(|part| visible.contains(&format!("{PREFIX}{PATH}{}", name(order, *part))))
                .count()
        };
        let theirs = names(&job(&backend, THEIRS, 1, IfExists::Fail), 3);
        match step {
            0 => assert_eq!(seen(&backend).await.as_deref(), Some(THEIRS)),
            1 | 2 => assert_eq!(seen(&backend).await, None, "step {step}"),
            _ => holds_only(&backend, &ours, 2).await,
        }
        if step < 3 {
            assert_eq!((theirs, names(&ours, 2)), (3, 0), "step {step}: no file of another run is removed");
        }
        // Readers do not see what was there any more: that is told, and what it was.
        let told = match step {
            1 => Some("without its _SUCCESS"),
            2 => Some("findings-00002-aaaaaaaa-1.json"),
            _ => None,
        };
        assert_eq!(cleaned.remains.is_some(), told.is_some(), "{step}: {cleaned:?}");
        assert!(cleaned.remains.unwrap_or_default().contains(told.unwrap_or_default()), "step {step}");
    }
}

#[tokio::test]
async fn whoever_comes_late_replaces_nothing_newer() {
    for (volume, is_past_the_first_step) in [(false, false), (false, true), (true, false), (true, true)] {
        let backend = if volume { Backend::volume() } else { Backend::s3().await };
        delivered(&backend).await;
        let store = backend.store();
        if is_past_the_first_step {
            store.delete(&[format!("{PATH}_SUCCESS")]).await.unwrap();
        }
        let late = job(&backend, OURS, 1, IfExists::Replace);
        let before = earlier(store.as_ref(), &late).await;
        let manifest = committed(store.as_ref(), &late, 1).await;

        let newer = job(&backend, "cccccccc-0000-4000-8000-000000000000", 1, IfExists::Replace);
        let found = earlier(store.as_ref(), &newer).await;
        let newest = committed(store.as_ref(), &newer, 2).await;
        replace(store.as_ref(), PATH, newest, &found).await.unwrap();

        let error = replace(store.as_ref(), PATH, manifest, &before).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StoreError, "{error}");
        assert!(error.to_string().contains("was written to while"), "{error}");
        cleanup(&backend, &late).await;
        holds_only(&backend, &newer, 2).await;
    }
}

#[tokio::test]
async fn a_former_job_of_the_same_name_and_spec_is_replaced_too() {
    let backend = Backend::volume();
    delivered(&backend).await;
    let mut again = job(&backend, OURS, 1, IfExists::Replace);
    again.run.spec_sha256 = format!("spec of {THEIRS}");
    let store = backend.store();
    let found = earlier(store.as_ref(), &again).await;
    let manifest = committed(store.as_ref(), &again, 1).await;
    replace(store.as_ref(), PATH, manifest, &found).await.unwrap();
    holds_only(&backend, &again, 1).await;
}

#[tokio::test]
async fn what_is_not_known_is_not_replaced() {
    let backend = Backend::volume();
    let store = backend.store();
    let ours = job(&backend, OURS, 1, IfExists::Replace);
    store.put(&format!("{PATH}_SUCCESS"), "".into(), TYPE, PutMode::Create).await.unwrap();
    let error = arrive(store.as_ref(), &ours).await.unwrap_err();
    assert_eq!(error.reason(), Reason::OutputExists, "Spark's has no manifest: its files are not known");

    // A manifest that is not ours: its files stay, whatever it says.
    let backend = Backend::volume();
    delivered(&backend).await;
    let store = backend.store();
    let manifest = format!("{PATH}_manifest.json");
    store
        .put(&manifest, r#"{"files": ["not pgexport's.json"]}"#.into(), TYPE, PutMode::Replace)
        .await
        .unwrap();
    let before = backend.visible().await;
    let found = earlier(store.as_ref(), &ours).await;
    let manifest = committed(store.as_ref(), &ours, 1).await;
    replace(store.as_ref(), PATH, manifest, &found).await.unwrap();
    assert_eq!(seen(&backend).await.as_deref(), Some(OURS));
    assert_eq!(backend.visible().await.len(), before.len() + 1);
}
