//! A folder of a claimed volume, or of a laptop. Files are written beside their place under a hidden name, and
//! renamed.

mod folder;
mod unfinished;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::StreamExt;
use pgexport_api::reason::Reason;
use pgexport_api::sink::Volume;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinError;
use tokio_util::io::ReaderStream;

use self::folder::Folder;
use self::upload::VolumeUpload;
use super::{ByteRange, Document, OpenUpload, Put, PutMode, Reading, Store, Upload, Version};
use crate::error::{Error, Result};

/// The size of the pieces that files are read in.
const PIECE: usize = 256 << 10;

/// A folder.
#[derive(Clone, Debug)]
pub(super) struct VolumeStore(Arc<Folder>);

impl VolumeStore {
    /// A folder in the claim whose own folder is `base`.
    pub(super) fn new(volume: &Volume, base: PathBuf) -> Result<Self> {
        Ok(Self(Arc::new(Folder::new(volume, base)?)))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.0.clone();
        joined(tokio::task::spawn_blocking(move || work(&folder))).await
    }
}

/// The result of work on a thread where waiting is allowed.
async fn joined<T>(work: impl Future<Output = Result<Result<T>, JoinError>>) -> Result<T> {
    work.await
        .map_err(|error| Error::new(Reason::InternalError, "work on a volume broke off").with_source(error))?
}

#[async_trait]
impl Store for VolumeStore {
    fn uri(&self, key: &str) -> String {
        self.0.uri(key)
    }

    async fn document(&self, key: &str) -> Result<Option<Document>> {
        let key = key.to_owned();
        self.run(move |folder| folder.document(&key)).await
    }

    async fn put(&self, key: &str, body: Bytes, _media_type: &str, mode: PutMode) -> Result<Put> {
        let key = key.to_owned();
        self.run(move |folder| folder.put(&key, &body, &mode)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.list(&prefix)).await
    }

    /// A file that has taken the place of another is told by its bytes alone.
    async fn read_range(&self, key: &str, range: ByteRange) -> Result<Reading> {
        let path = key.to_owned();
        let file = self
            .run(move |folder| folder.open_at(&path, range.from))
            .await?
            .ok_or_else(|| super::missing(&self.uri(key)))?;
        let (folder, path) = (self.0.clone(), self.0.relative(key));
        let bytes = tokio::fs::File::from_std(file).take(range.length.unwrap_or(u64::MAX));
        let pieces = ReaderStream::with_capacity(bytes, PIECE);
        let pieces = pieces.map(move |piece| piece.map_err(|error| folder.failed("reading", &path, error)));
        Ok(Reading { version: None, pieces: pieces.boxed() })
    }

    async fn upload(&self, key: &str, _media_type: &str) -> Result<Box<dyn Upload>> {
        let path = key.to_owned();
        let file = self.run(move |folder| folder.begin(&path)).await?;
        Ok(Box::new(VolumeUpload::new(self.clone(), key.to_owned(), file)))
    }

    async fn delete_version(&self, key: &str, version: &Version) -> Result<bool> {
        let (key, version) = (key.to_owned(), version.clone());
        self.run(move |folder| folder.remove_version(&key, &version)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        let keys = keys.to_vec();
        self.run(move |folder| keys.iter().try_for_each(|key| folder.remove(key))).await
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.uploads(&prefix)).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        let hidden = upload.id.clone();
        self.run(move |folder| folder.remove(&hidden)).await
    }

    async fn probe(&self, reading: bool) -> Result<()> {
        self.run(move |folder| folder.probe(reading)).await
    }
}
