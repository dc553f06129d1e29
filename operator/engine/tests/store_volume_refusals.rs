//! What a volume refuses, and what is refused for it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::os::unix::fs::symlink;

use pgexport_api::order::Target;
use pgexport_api::reason::Reason;
use pgexport_api::sink::Volume;
use pgexport_engine::secret::MemorySecrets;
use pgexport_engine::store::{self, PutMode, Volumes};
use std::sync::Arc;
use support::Backend;
use tempfile::TempDir;

#[tokio::test]
async fn keys_that_lead_out_of_the_folder_are_refused() {
    let backend = Backend::volume();
    let store = backend.store();
    for key in ["../out", "a/../../out", "/etc/passwd", "a//b", "./a", "", "a\0b"] {
        let put = store.put(key, "x".into(), "text/plain", PutMode::Create).await;
        assert_eq!(put.unwrap_err().reason(), Reason::InvalidSpec, "{key:?}");
        assert!(store.upload(key, "text/plain").await.is_err(), "{key:?}");
        assert!(store.get(key).await.is_err(), "{key:?}");
    }
    assert_eq!(backend.visible().await, Vec::<String>::new());
}

#[tokio::test]
async fn symbolic_links_are_not_followed() {
    let backend = Backend::volume();
    let Backend::Volume { folder } = &backend else { unreachable!() };
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    std::fs::create_dir(folder.path().join(support::PREFIX)).unwrap();
    symlink(outside.path(), folder.path().join(support::PREFIX).join("link")).unwrap();
    let store = backend.store();
    let error = store.put("link/file", "x".into(), "text/plain", PutMode::Create).await.unwrap_err();
    assert_eq!(error.reason(), Reason::VolumeUnavailable);
    assert!(error.to_string().contains("from us/link/file"), "{error}");
    assert!(store.get("link/secret").await.is_err());
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_claim_that_is_not_mounted_is_named() {
    let root = TempDir::new().unwrap();
    let target = Target::Volume(Volume { claim_name: "archive".to_owned(), path: String::new() });
    let open = || store::open(&target, Arc::new(MemorySecrets::default()), &Volumes::mounted(root.path()));
    let error = open().unwrap_err();
    assert_eq!((error.reason(), error.to_string().contains("archive")), (Reason::VolumeUnavailable, true));
    std::fs::create_dir(root.path().join("archive")).unwrap();
    let store = open().unwrap();
    store.put("file", "x".into(), "text/plain", PutMode::Create).await.unwrap();
    assert_eq!(store.uri("file"), "volume://archive/file");
    assert_eq!(store.list("").await.unwrap(), ["file"]);
}

#[tokio::test]
async fn a_file_in_the_way_is_named_by_its_path_in_the_claim() {
    let backend = Backend::volume();
    let Backend::Volume { folder } = &backend else { unreachable!() };
    std::fs::write(folder.path().join("from us"), "").unwrap();
    let error = backend.store().put("a/b", "x".into(), "text/plain", PutMode::Create).await.unwrap_err();
    assert_eq!(error.reason(), Reason::VolumeUnavailable);
    assert!(error.to_string().contains("PersistentVolumeClaim exports, from us/a/b"), "{error}");
    assert!(!error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
}
