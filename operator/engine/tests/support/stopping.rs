//! A store whose process is killed: after so many changes, each request fails, and none is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pgexport_api::reason::Reason;
use pgexport_engine::store::{
    ByteRange, Document, OpenUpload, Put, PutMode, Reading, Store, Upload, Version,
};
use pgexport_engine::{Error, Result};

/// A real store, up to a point.
#[derive(Debug)]
pub struct Stopping {
    store: Arc<dyn Store>,
    left: AtomicUsize,
}

impl Stopping {
    /// Stops before the change with this number, from 0.
    pub fn before(change: usize, store: Arc<dyn Store>) -> Self {
        Self { store, left: AtomicUsize::new(change) }
    }

    fn change(&self) -> Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Error::new(Reason::Interrupted, "killed"))
    }
}

#[async_trait]
impl Store for Stopping {
    fn uri(&self, key: &str) -> String {
        self.store.uri(key)
    }

    async fn document(&self, key: &str) -> Result<Option<Document>> {
        self.store.document(key).await
    }

    async fn put(&self, key: &str, body: Bytes, media_type: &str, mode: PutMode) -> Result<Put> {
        self.change()?;
        self.store.put(key, body, media_type, mode).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.store.list(prefix).await
    }

    async fn read_range(&self, key: &str, range: ByteRange) -> Result<Reading> {
        self.store.read_range(key, range).await
    }

    async fn upload(&self, key: &str, media_type: &str) -> Result<Box<dyn Upload>> {
        self.change()?;
        self.store.upload(key, media_type).await
    }

    async fn delete_version(&self, key: &str, version: &Version) -> Result<bool> {
        self.change()?;
        self.store.delete_version(key, version).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.change()?;
        self.store.delete(keys).await
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        self.store.uploads(prefix).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        self.change()?;
        self.store.abort_upload(upload).await
    }

    async fn probe(&self, reading: bool) -> Result<()> {
        self.store.probe(reading).await
    }
}
