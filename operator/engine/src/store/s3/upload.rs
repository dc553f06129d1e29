//! Multipart uploads.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use bytes::Bytes;
use pgexport_api::reason::Reason;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::error::Action;
use super::{S3Store, client, status};
use crate::error::{Error, Result};
use crate::output::{Crc64Nvme, Crc64NvmeHasher};
use crate::store::{PARTS_IN_FLIGHT, Pending, Put, PutMode, Store, Upload, other_bytes};

/// How long an abort waits for parts that are on their way: one that arrives after the abort would stay in the bucket.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A multipart upload. It is created with its first part, so that an empty file costs one request.
#[derive(Debug)]
pub(super) struct S3Upload {
    store: S3Store,
    /// The full key.
    key: String,
    media_type: String,
    id: Option<String>,
    /// The request for the id, in a task of its own: its answer must not be lost with a caller who gives up, or nobody
    /// could abort the upload.
    creating: Option<JoinHandle<Result<String>>>,
    parts: i32,
    bytes: u64,
    crc: Crc64NvmeHasher,
    stored: Vec<CompletedPart>,
    travelling: JoinSet<Result<CompletedPart>>,
}

impl S3Upload {
    pub(super) fn new(store: S3Store, key: String, media_type: String) -> Self {
        Self {
            store,
            key,
            media_type,
            id: None,
            creating: None,
            parts: 0,
            bytes: 0,
            crc: Crc64NvmeHasher::default(),
            stored: Vec::new(),
            travelling: JoinSet::new(),
        }
    }

    pub(super) async fn id(&mut self) -> Result<String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let creating = self.creating.get_or_insert_with(|| {
            tokio::spawn(create(self.store.clone(), self.key.clone(), self.media_type.clone()))
        });
        let created = creating.await;
        self.creating = None;
        let id = created.map_err(|error| {
            Error::new(Reason::InternalError, "the beginning of an upload broke off").with_source(error)
        })??;
        Ok(self.id.insert(id).clone())
    }

    /// The store, and the full key in it.
    pub(super) fn place(&self) -> (S3Store, String) {
        (self.store.clone(), self.key.clone())
    }

    /// What is left to be committed, where the parts are stored by others.
    pub(super) fn pending(
        self,
        id: String,
        bytes: u64,
        crc64nvme: Crc64Nvme,
        parts: Vec<CompletedPart>,
    ) -> PendingUpload {
        PendingUpload { store: self.store, key: self.key, id, bytes, crc64nvme: crc64nvme.to_string(), parts }
    }

    fn take(&mut self, part: Result<Result<CompletedPart>, JoinError>) -> Result<()> {
        let part = part.map_err(|error| {
            Error::new(Reason::InternalError, "the upload of a part broke off").with_source(error)
        })?;
        self.stored.push(part?);
        Ok(())
    }

    /// Gives up, and says whether the store let us.
    pub(super) async fn try_abort(mut self) -> Result<()> {
        let settled = tokio::time::timeout(PATIENCE, self.settle()).await.unwrap_or(Ok(()));
        self.travelling.shutdown().await;
        if self.creating.is_some() {
            // If this fails there is no upload.
            let _ = tokio::time::timeout(PATIENCE, self.id()).await;
        }
        if let Some(creating) = self.creating.take() {
            tracing::warn!(key = self.key, "an upload may be left behind: the store has not answered yet");
            tokio::spawn(async move {
                if let Ok(Ok(id)) = creating.await {
                    let _ = abort(&self.store, &self.key, &id).await;
                }
            });
            return settled;
        }
        let Some(id) = &self.id else { return settled };
        abort(&self.store, &self.key, id).await?;
        settled
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&mut self, body: Bytes) -> Result<()> {
        let id = self.id().await?;
        while self.travelling.len() >= PARTS_IN_FLIGHT {
            if let Some(part) = self.travelling.join_next().await {
                self.take(part)?;
            }
        }
        self.crc.update(&body);
        self.bytes = self.bytes.saturating_add(body.len() as u64);
        self.parts = self.parts.saturating_add(1);
        self.travelling.spawn(store_part(self.store.clone(), self.key.clone(), id, self.parts, body));
        Ok(())
    }

    /// Waits for every part, also after one has failed; the first failure counts.
    async fn settle(&mut self) -> Result<()> {
        let mut settled = Ok(());
        while let Some(part) = self.travelling.join_next().await {
            settled = settled.and(self.take(part));
        }
        settled
    }

    async fn finish(mut self: Box<Self>) -> Result<Box<dyn Pending>> {
        if let Err(error) = self.settle().await {
            self.abort().await;
            return Err(error);
        }
        let Self { store, key, media_type, id, bytes, crc, mut stored, .. } = *self;
        stored.sort_unstable_by_key(|part| part.part_number);
        Ok(match id {
            None => Box::new(PendingEmpty { store, key, media_type }),
            Some(id) => Box::new(PendingUpload {
                store,
                key,
                id,
                bytes,
                crc64nvme: crc.checksum().to_string(),
                parts: stored,
            }),
        })
    }

    async fn abort(self: Box<Self>) {
        // A part's failure is why the caller gives up, and known to it.
        let _ = self.try_abort().await;
    }
}

async fn create(store: S3Store, key: String, media_type: String) -> Result<String> {
    let created = store
        .client
        .create_multipart_upload()
        .bucket(&store.place.bucket)
        .key(&key)
        .content_type(media_type)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .set_expected_bucket_owner(store.place.owner.clone())
        .send()
        .await
        .map_err(|error| store.failed(Action::Put, &key, &error))?;
    created.upload_id.ok_or_else(|| {
        Error::new(Reason::StoreError, format!("the store began an upload of {key} without an id"))
    })
}

async fn store_part(
    store: S3Store,
    key: String,
    id: String,
    number: i32,
    body: Bytes,
) -> Result<CompletedPart> {
    let settings = client::carrying(body.len());
    let request = store
        .client
        .upload_part()
        .bucket(&store.place.bucket)
        .key(&key)
        .upload_id(id)
        .part_number(number)
        .body(body.into())
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .set_expected_bucket_owner(store.place.owner.clone())
        .customize()
        .config_override(settings);
    let request = if store.unsigned_payload { request.disable_payload_signing() } else { request };
    let part = request.send().await.map_err(|error| store.failed(Action::Put, &key, &error))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(part.e_tag)
        .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
        .build())
}

/// Gives up an upload by its full key and its id.
pub(super) async fn abort(store: &S3Store, key: &str, id: &str) -> Result<()> {
    let answer = store
        .client
        .abort_multipart_upload()
        .bucket(&store.place.bucket)
        .key(key)
        .upload_id(id)
        .set_expected_bucket_owner(store.place.owner.clone())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        // Somebody else removed it, such as a lifecycle rule.
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) => {
            let error = store.failed(Action::Abort, key, &error);
            tracing::warn!(key, %error, "an unfinished upload is left behind");
            Err(error)
        }
    }
}

/// An upload whose every part is stored.
#[derive(Debug)]
pub(super) struct PendingUpload {
    store: S3Store,
    key: String,
    id: String,
    bytes: u64,
    crc64nvme: String,
    parts: Vec<CompletedPart>,
}

#[async_trait]
impl Pending for PendingUpload {
    async fn commit(mut self: Box<Self>) -> Result<Put> {
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.parts))).build();
        let answer = self
            .store
            .client
            .complete_multipart_upload()
            .bucket(&self.store.place.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .checksum_crc64_nvme(&self.crc64nvme)
            .checksum_type(ChecksumType::FullObject)
            .if_none_match("*")
            .set_expected_bucket_owner(self.store.place.owner.clone())
            .customize()
            .config_override(client::completing())
            .send()
            .await;
        let Err(error) = answer else { return Ok(Put::Written) };
        // Either may hide that an earlier try was done, and its answer lost.
        let committed = match status(&error) {
            Some(404) => match compare(&self.store, &self.key, self.bytes, &self.crc64nvme).await {
                Ok(Compared::Same) => return Ok(Put::Written),
                _ => Err(self.store.failed(Action::Put, &self.key, &error)),
            },
            Some(412) => match compare(&self.store, &self.key, self.bytes, &self.crc64nvme).await {
                Ok(Compared::Same) => Ok(Put::Written),
                Ok(Compared::Other) => Err(other_bytes(&self.store.uri_of(&self.key))),
                Ok(Compared::Unknown) => Ok(Put::Exists),
                Err(error) => Err(error),
            },
            _ => Err(self.store.failed(Action::Put, &self.key, &error)),
        };
        self.abort().await;
        committed
    }

    async fn abort(self: Box<Self>) {
        // It has been logged, and there is nothing else to do.
        let _ = abort(&self.store, &self.key, &self.id).await;
    }
}

/// What is known of an object that is there already.
enum Compared {
    Same,
    Other,
    /// The store does not say: it takes the right to read, and a server that keeps checksums.
    Unknown,
}

async fn compare(store: &S3Store, key: &str, bytes: u64, crc64nvme: &str) -> Result<Compared> {
    let head = store
        .client
        .head_object()
        .bucket(&store.place.bucket)
        .key(key)
        .set_expected_bucket_owner(store.place.owner.clone())
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await;
    let object = match head {
        Ok(object) => object,
        Err(error) if matches!(status(&error), Some(403 | 404)) => return Ok(Compared::Unknown),
        Err(error) => return Err(store.failed(Action::Get, key, &error)),
    };
    let length = object.content_length.and_then(|length| u64::try_from(length).ok());
    Ok(match (length, object.checksum_crc64_nvme) {
        (Some(length), _) if length != bytes => Compared::Other,
        (Some(0), _) => Compared::Same,
        (_, Some(checksum)) if checksum == crc64nvme => Compared::Same,
        (_, Some(_)) => Compared::Other,
        (_, None) => Compared::Unknown,
    })
}

/// An empty file: a multipart upload has at least one part, and a part at least one byte.
#[derive(Debug)]
struct PendingEmpty {
    store: S3Store,
    /// The full key.
    key: String,
    media_type: String,
}

#[async_trait]
impl Pending for PendingEmpty {
    async fn commit(self: Box<Self>) -> Result<Put> {
        let key = self.key.strip_prefix(&self.store.prefix).unwrap_or(&self.key);
        let put = self.store.put(key, Bytes::new(), &self.media_type, PutMode::Create).await?;
        if put == Put::Written {
            return Ok(put);
        }
        let nothing = Crc64NvmeHasher::default().checksum().to_string();
        match compare(&self.store, &self.key, 0, &nothing).await? {
            Compared::Same => Ok(Put::Written),
            Compared::Other => Err(other_bytes(&self.store.uri_of(&self.key))),
            Compared::Unknown => Ok(Put::Exists),
        }
    }

    async fn abort(self: Box<Self>) {}
}
