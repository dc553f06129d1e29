//! Every backend keeps the store's contract; a real S3 server and a folder are tried.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use pgexport_api::reason::Reason;
use pgexport_engine::Result;
use pgexport_engine::output::{Crc64NvmeHasher, FileWriter};
use pgexport_engine::store::{ByteRange, Put, PutMode, Reading, Store};
use sha2::{Digest, Sha256};
use support::{Backend, PREFIX, noise};

const TYPE: &str = "application/octet-stream";

macro_rules! on_every_backend {
    ($($name:ident)+) => {
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::Backend::s3().await).await;
            })+
        }
        mod volume {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::Backend::volume()).await;
            })+
        }
    };
}

on_every_backend! {
    a_file_of_any_size_is_invisible_until_it_is_committed_and_then_whole
    a_file_that_is_given_up_leaves_nothing
    a_file_never_replaces_another_one_and_the_same_bytes_are_as_good
    a_document_is_created_by_exactly_one_of_many
    a_document_can_be_replaced
    only_the_version_that_was_seen_is_replaced_or_removed
    keys_are_listed_in_order_by_prefix_and_deeply
    keys_with_odd_characters_come_back_as_they_are
    what_is_not_there_is_none_or_a_failure_that_names_it
    a_range_is_as_many_of_its_bytes_as_the_file_has
    files_are_removed_in_any_number_and_no_others
    uploads_that_nobody_finished_are_found_by_prefix_and_given_up
    a_probe_leaves_nothing
}

async fn whole(store: &dyn Store, key: &str) -> Result<Vec<u8>> {
    store
        .read(key)
        .await?
        .try_fold(Vec::new(), async |mut all, piece: Bytes| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

async fn a_file_of_any_size_is_invisible_until_it_is_committed_and_then_whole(backend: &Backend) {
    let store = backend.store();
    for size in [0, 1, 5 << 20, 20 << 20] {
        let (key, bytes) = (format!("sizes/{size}"), noise(size));
        let before = backend.visible().await;
        let mut writer = FileWriter::begin(store.as_ref(), &key, TYPE).await.unwrap();
        for piece in bytes.chunks(3_000_001) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let file = writer.finish().await.unwrap();
        assert_eq!(backend.visible().await, before, "{size} bytes before the commit");
        assert_eq!(store.get(&key).await.unwrap(), None, "{size} bytes before the commit");

        file.pending.commit().await.unwrap();
        assert!(whole(store.as_ref(), &key).await.unwrap() == bytes, "{size} bytes after the commit");
        assert_eq!((file.key, file.digest.bytes), (key, size as u64));
        let mut crc = Crc64NvmeHasher::default();
        crc.update(&bytes);
        assert_eq!(file.digest.crc64nvme, crc.checksum());
        let parts: Vec<_> = bytes
            .chunks(8 << 20)
            .map(|part| (part.len() as u64, hex::encode(Sha256::digest(part))))
            .collect();
        let digests: Vec<_> = file.digest.parts.into_iter().map(|part| (part.bytes, part.sha256)).collect();
        assert_eq!(digests, parts);
    }
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

async fn a_file_that_is_given_up_leaves_nothing(backend: &Backend) {
    let store = backend.store();
    store.upload("before the first part", TYPE).await.unwrap().abort().await;

    let mut under_way = FileWriter::begin(store.as_ref(), "under way", TYPE).await.unwrap();
    under_way.write(noise(20 << 20).into()).await.unwrap();
    under_way.abort().await;

    let mut finished = FileWriter::begin(store.as_ref(), "finished", TYPE).await.unwrap();
    finished.write(noise(9 << 20).into()).await.unwrap();
    let finished = finished.finish().await.unwrap();
    assert_eq!(backend.left_behind().await.len(), 1, "the check sees what is left behind");
    finished.pending.abort().await;

    FileWriter::begin(store.as_ref(), "empty", TYPE)
        .await
        .unwrap()
        .finish()
        .await
        .unwrap()
        .pending
        .abort()
        .await;
    assert_eq!(backend.visible().await, Vec::<String>::new());
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

async fn a_file_never_replaces_another_one_and_the_same_bytes_are_as_good(backend: &Backend) {
    let store = backend.store();
    let finished = async |key: &str, bytes: Vec<u8>| {
        let mut writer = FileWriter::begin(store.as_ref(), key, TYPE).await.unwrap();
        writer.write(bytes.into()).await.unwrap();
        writer.finish().await.unwrap().pending
    };
    let big = noise(9 << 20);
    let mut altered = big.clone();
    altered[8_500_000] ^= 1;
    for (key, bytes, others) in [
        ("a/file", b"first".to_vec(), vec![b"FIRST".to_vec(), b"first and more".to_vec(), Vec::new()]),
        ("an empty one", Vec::new(), vec![b"x".to_vec()]),
        ("a big one", big, vec![altered]),
    ] {
        // All are finished before the first is committed, as with workers that know nothing of one another.
        let (first, late) = (finished(key, bytes.clone()).await, finished(key, bytes.clone()).await);
        assert_eq!(first.commit().await.unwrap(), Put::Written, "{key}");
        assert_eq!(late.commit().await.unwrap(), Put::Written, "{key}: its work is done");
        for other in others {
            let error = finished(key, other).await.commit().await.unwrap_err();
            assert_eq!(error.reason(), Reason::StoreError, "{key}: {error}");
            assert!(error.to_string().contains(&format!("{PREFIX}{key} is there already")), "{error}");
        }
        assert!(backend.bytes(key).await == bytes, "{key}");
    }
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

async fn a_document_is_created_by_exactly_one_of_many(backend: &Backend) {
    let store = backend.store();
    let creators =
        (0..8).map(|number: u8| {
            let store = store.clone();
            async move {
                (number, store.put("plan.json", vec![number].into(), TYPE, PutMode::Create).await.unwrap())
            }
        });
    let created: Vec<_> = futures::stream::iter(creators).buffer_unordered(8).collect().await;
    let winners: Vec<u8> =
        created.iter().filter(|(_, put)| *put == Put::Written).map(|(number, _)| *number).collect();
    assert_eq!(winners.len(), 1, "{created:?}");
    assert_eq!(store.get("plan.json").await.unwrap().unwrap(), winners);
    let again = store.put("plan.json", "later".into(), TYPE, PutMode::Create).await.unwrap();
    assert_eq!((again, backend.bytes("plan.json").await), (Put::Exists, winners));
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

async fn a_document_can_be_replaced(backend: &Backend) {
    let store = backend.store();
    for text in ["one", "other"] {
        assert_eq!(
            store.put("deep/er/doc", text.into(), TYPE, PutMode::Replace).await.unwrap(),
            Put::Written
        );
        assert_eq!(store.get("deep/er/doc").await.unwrap().unwrap(), text);
    }
}

async fn only_the_version_that_was_seen_is_replaced_or_removed(backend: &Backend) {
    let store = backend.store();
    let put = async |text: &'static str, mode| store.put("doc", text.into(), TYPE, mode).await.unwrap();
    let version = async || store.document("doc").await.unwrap().unwrap().version;
    put("one", PutMode::Create).await;
    let first = version().await;
    assert_eq!(put("two", PutMode::Over(first.clone())).await, Put::Written);
    assert_eq!(put("late", PutMode::Over(first.clone())).await, Put::Exists);
    assert!(!store.delete_version("doc", &first).await.unwrap());
    assert_eq!(backend.bytes("doc").await, b"two");
    let second = version().await;
    assert!(store.delete_version("doc", &second).await.unwrap());
    assert_eq!(store.get("doc").await.unwrap(), None);
    assert!(store.delete_version("doc", &second).await.unwrap(), "what is gone is no error");
    assert_eq!(put("later", PutMode::Over(second)).await, Put::Exists, "nor is it brought back");
    assert_eq!(store.get("doc").await.unwrap(), None);
}

async fn keys_are_listed_in_order_by_prefix_and_deeply(backend: &Backend) {
    let store = backend.store();
    for key in ["b/2", "b/10", "b/1/x", "bb", "a"] {
        store.put(key, "x".into(), TYPE, PutMode::Create).await.unwrap();
    }
    let unfinished = store.upload("b/0", TYPE).await.unwrap();
    assert_eq!(store.list("b/").await.unwrap(), ["b/1/x", "b/10", "b/2"]);
    assert_eq!(store.list("b").await.unwrap(), ["b/1/x", "b/10", "b/2", "bb"]);
    assert_eq!(store.list("b/1").await.unwrap(), ["b/1/x", "b/10"]);
    assert_eq!(store.list("").await.unwrap().len(), 5);
    assert_eq!(store.list("none/").await.unwrap(), Vec::<String>::new());
    unfinished.abort().await;
}

async fn keys_with_odd_characters_come_back_as_they_are(backend: &Backend) {
    let store = backend.store();
    let key = "day=2026-11-23/a b+c%20d&e'f(g)~h!/grün-雪.json";
    let mut writer = FileWriter::begin(store.as_ref(), key, TYPE).await.unwrap();
    writer.write("odd".into()).await.unwrap();
    writer.finish().await.unwrap().pending.commit().await.unwrap();
    assert_eq!(store.list("day=").await.unwrap(), [key]);
    assert_eq!(whole(store.as_ref(), key).await.unwrap(), b"odd");
    assert_eq!(backend.bytes(key).await, b"odd");
}

async fn what_is_not_there_is_none_or_a_failure_that_names_it(backend: &Backend) {
    let store = backend.store();
    assert_eq!(store.get("none/such").await.unwrap(), None);
    let error = whole(store.as_ref(), "none/such").await.unwrap_err();
    assert_eq!(error.reason(), Reason::StoreError);
    assert!(error.to_string().contains("none/such"), "{error}");
}

async fn a_range_is_as_many_of_its_bytes_as_the_file_has(backend: &Backend) {
    let (store, bytes) = (backend.store(), noise(1_000_000));
    store.put("file", bytes.clone().into(), TYPE, PutMode::Create).await.unwrap();
    store.put("empty", "".into(), TYPE, PutMode::Create).await.unwrap();
    let read = async |key: &str, from: usize, length: Option<u64>| {
        let range = ByteRange { from: from as u64, length };
        let Reading { version, pieces } = store.read_range(key, range).await?;
        let pieces: Vec<Bytes> = pieces.try_collect().await?;
        Ok::<_, pgexport_engine::Error>((version, pieces.concat()))
    };
    let (whole, all) = read("file", 0, None).await.unwrap();
    assert!(all == bytes);
    for from in [0_usize, 1, 300_000, 999_999] {
        for length in [1, 600_000, 1_000_000, u64::MAX] {
            let end = bytes.len().min(from.saturating_add(usize::try_from(length).unwrap()));
            let (version, range) = read("file", from, Some(length)).await.unwrap();
            assert!(range == bytes[from..end] && version == whole, "{length} bytes from {from}");
        }
        assert!(read("file", from, None).await.unwrap().1 == bytes[from..]);
    }
    for (key, from) in [("file", 1_000_000), ("file", 1_000_001), ("empty", 0), ("empty", 1)] {
        for length in [Some(1), None] {
            assert_eq!(read(key, from, length).await.unwrap().1, b"", "{key} from {from}");
        }
    }
    let error = read("none/such", 7, Some(1)).await.unwrap_err();
    assert!(error.to_string().contains("none/such does not exist"), "{error}");
}

async fn files_are_removed_in_any_number_and_no_others(backend: &Backend) {
    let store = backend.store();
    let keys: Vec<String> = (0..1010).map(|number| format!("many/{number}/ä file")).collect();
    for keep in ["many/0/other", "kept"] {
        store.put(keep, "x".into(), TYPE, PutMode::Create).await.unwrap();
    }
    let puts = keys.iter().map(|key| store.put(key, "x".into(), TYPE, PutMode::Create));
    futures::stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await.unwrap();
    for _ in 0..2 {
        store.delete(&keys).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), ["kept", "many/0/other"], "removing twice is no error");
    }
    store.delete(&["many/0/other".to_owned()]).await.unwrap();
    if let Backend::Volume { folder } = backend {
        assert!(!folder.path().join(PREFIX).join("many").exists(), "empty folders go too");
        store.delete(&["kept".to_owned()]).await.unwrap();
        assert!(folder.path().join(PREFIX).is_dir(), "but for the store's own");
    }
}

/// A killed process gives nothing up: forgetting is as near as a test comes.
async fn uploads_that_nobody_finished_are_found_by_prefix_and_given_up(backend: &Backend) {
    let store = backend.store();
    let keys = ["a/file-1.json", "a/deep/file-2.json", "ab/file-3.json", "file-4.json"];
    for key in keys {
        let mut writer = FileWriter::begin(store.as_ref(), key, TYPE).await.unwrap();
        writer.write(noise(9 << 20).into()).await.unwrap();
        std::mem::forget(writer.finish().await.unwrap());
    }
    let found = async |prefix| -> Vec<String> {
        store.uploads(prefix).await.unwrap().into_iter().map(|upload| upload.key).collect()
    };
    assert_eq!(found("a/").await, ["a/deep/file-2.json", "a/file-1.json"]);
    assert_eq!(found("a").await.len(), 3);
    assert_eq!(found("").await.len(), 4);
    assert_eq!(found("none/").await, Vec::<String>::new());
    for upload in store.uploads("a/").await.unwrap() {
        store.abort_upload(&upload).await.unwrap();
        store.abort_upload(&upload).await.unwrap();
    }
    assert_eq!(found("").await, ["ab/file-3.json", "file-4.json"]);
    assert_eq!(backend.left_behind().await.len(), 2);
    assert_eq!(backend.visible().await, Vec::<String>::new());
}

async fn a_probe_leaves_nothing(backend: &Backend) {
    backend.store().probe(false).await.unwrap();
    backend.store().probe(true).await.unwrap();
    assert_eq!(backend.visible().await, Vec::<String>::new());
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

#[tokio::test]
async fn more_open_uploads_than_a_page_holds_are_all_found() {
    let backend = Backend::s3().await;
    let Backend::S3 { peers, bucket } = &backend else { unreachable!() };
    let client = peers.s3.client();
    let begin = async |number: u32| {
        let key = format!("{PREFIX}many/{number}");
        client.create_multipart_upload().bucket(bucket).key(key).send().await.unwrap();
    };
    futures::stream::iter(0..1003).map(begin).buffer_unordered(16).collect::<Vec<()>>().await;
    let found = backend.store().uploads("many/").await.unwrap();
    let keys: std::collections::BTreeSet<&str> = found.iter().map(|upload| upload.key.as_str()).collect();
    assert_eq!((found.len(), keys.len()), (1003, 1003));
}
