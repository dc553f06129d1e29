//! Amazon S3, and servers that speak its protocol.

mod client;
mod copy;
mod credentials;
mod error;
mod read;
mod remove;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::{Bytes, BytesMut};
use pgexport_api::sink::S3;
use tokio_util::sync::CancellationToken;

use self::error::{Action, Place};
use super::{
    ByteRange, Copied, CopySource, Document, MAX_DOCUMENT, OpenUpload, Put, PutMode, Reading, Store, Upload,
    Version,
};
use crate::error::{Error, Result};
use crate::output::FileDigest;
use crate::secret::Secrets;

/// The key that probes begin to write. It never becomes visible, and it is always the same, so that a probe that fails
/// again says the same again.
const PROBE: &str = ".pgexport-probe";

/// How often a conditional put is tried when S3 says that another one is under way.
const CONFLICT_ATTEMPTS: u32 = 4;

/// The first wait between these tries; each later one is twice as long.
const CONFLICT_WAIT: Duration = Duration::from_millis(200);

/// A bucket and a prefix in it.
#[derive(Clone)]
pub(super) struct S3Store {
    client: Client,
    place: Arc<Place>,
    prefix: String,
    /// Over TLS the payload is not signed, since CRC64NVME and TLS guard it already: SHA-256 costs three times as much.
    unsigned_payload: bool,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Store")
            .field("place", &self.place)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Makes the client. No request is sent.
    pub(super) fn open(s3: &S3, secrets: Arc<dyn Secrets>) -> Result<Self> {
        Ok(Self {
            client: client::new(s3, secrets)?,
            place: Arc::new(Place {
                bucket: s3.bucket.clone(),
                region: s3.region.clone(),
                endpoint: s3.endpoint.clone(),
                secret: s3.credentials_secret_ref.as_ref().map(|secret| secret.name.clone()),
                owner: s3.expected_bucket_owner.clone(),
            }),
            prefix: s3.prefix.clone(),
            unsigned_payload: s3.endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https://")),
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A full key as a URI.
    fn uri_of(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }

    /// What a failed request on a full key means.
    fn failed<E>(&self, action: Action, key: &str, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.place.classify(action, key, error)
    }

    async fn keys(&self, prefix: &str, limit: Option<i32>) -> Result<Vec<String>> {
        let full = self.key(prefix);
        let mut keys = Vec::new();
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.place.bucket)
            .prefix(&full)
            .set_expected_bucket_owner(self.place.owner.clone())
            .set_max_keys(limit)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed(Action::List, &full, &error))?;
            let page = page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
            keys.extend(page.filter_map(|key| key.strip_prefix(&self.prefix).map(str::to_owned)));
            if limit.is_some() {
                break;
            }
        }
        // Amazon's directory buckets list in no order.
        keys.sort_unstable();
        Ok(keys)
    }
}

#[async_trait]
impl Store for S3Store {
    fn uri(&self, key: &str) -> String {
        self.uri_of(&self.key(key))
    }

    async fn document(&self, key: &str) -> Result<Option<Document>> {
        let Some(mut object) = read::object(self, key, ByteRange::ALL).await? else { return Ok(None) };
        let mut document = BytesMut::new();
        while let Some(piece) = object.body.next().await {
            document.extend_from_slice(&piece.map_err(|error| read::broken(&self.uri(key), &error))?);
            if document.len() > MAX_DOCUMENT {
                return Err(super::too_long(&self.uri(key)));
            }
        }
        let version = Version(object.e_tag.unwrap_or_default());
        Ok(Some(Document { body: document.freeze(), version }))
    }

    async fn put(&self, key: &str, body: Bytes, media_type: &str, mode: PutMode) -> Result<Put> {
        let key = self.key(key);
        let mut wait = CONFLICT_WAIT;
        let mut attempt = 1;
        let if_match = match &mode {
            PutMode::Over(Version(tag)) => Some(tag.clone()),
            PutMode::Create | PutMode::Replace => None,
        };
        loop {
            let request = self
                .client
                .put_object()
                .bucket(&self.place.bucket)
                .key(&key)
                .body(body.clone().into())
                .content_type(media_type)
                .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                .set_expected_bucket_owner(self.place.owner.clone())
                .set_if_none_match((mode == PutMode::Create).then(|| "*".to_owned()))
                .set_if_match(if_match.clone())
                .customize();
            let request = if self.unsigned_payload { request.disable_payload_signing() } else { request };
            let Err(error) = request.send().await else { return Ok(Put::Written) };
            match status(&error) {
                Some(412) if mode != PutMode::Replace => return Ok(Put::Exists),
                // The version is gone.
                Some(404) if if_match.is_some() && error.code() == Some("NoSuchKey") => {
                    return Ok(Put::Exists);
                }
                Some(409) if mode != PutMode::Replace && attempt < CONFLICT_ATTEMPTS => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
                _ => return Err(self.failed(Action::Put, &key, &error)),
            }
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.keys(prefix, None).await
    }

    async fn read_range(&self, key: &str, range: ByteRange) -> Result<Reading> {
        read::range(self.clone(), key.to_owned(), range).await
    }

    async fn upload(&self, key: &str, media_type: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::S3Upload::new(self.clone(), self.key(key), media_type.to_owned())))
    }

    fn copy_source(&self, key: &str) -> Option<CopySource> {
        Some(CopySource {
            endpoint: self.place.endpoint.clone(),
            region: self.place.region.clone(),
            bucket: self.place.bucket.clone(),
            key: self.key(key),
            owner: self.place.owner.clone(),
        })
    }

    async fn copy(
        &self,
        source: &CopySource,
        key: &str,
        media_type: &str,
        digest: &FileDigest,
        cancel: &CancellationToken,
    ) -> Result<Copied> {
        if (&source.endpoint, &source.region) != (&self.place.endpoint, &self.place.region) {
            return Ok(Copied::Refused("they are on different servers or in different regions".to_owned()));
        }
        if digest.bytes == 0 {
            return Ok(Copied::Refused("there is nothing to copy".to_owned()));
        }
        copy::copy(self.clone(), source, self.key(key), media_type, digest, cancel).await
    }

    async fn delete_version(&self, key: &str, version: &Version) -> Result<bool> {
        match self.document(key).await? {
            None => Ok(true),
            Some(document) if document.version != *version => Ok(false),
            Some(_) => remove::delete_version(self, &self.key(key), version).await,
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        remove::delete(self, keys).await
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        remove::uploads(self, prefix).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        upload::abort(self, &self.key(&upload.key), &upload.id).await
    }

    async fn probe(&self, reading: bool) -> Result<()> {
        let mut upload =
            upload::S3Upload::new(self.clone(), self.key(PROBE), "application/octet-stream".to_owned());
        let stored = match upload.part(Bytes::from_static(b"pgexport")).await {
            Ok(()) => upload.settle().await,
            Err(error) => Err(error),
        };
        let aborted = upload.try_abort().await;
        // The first failure says more than that of the abort.
        stored.and(aborted)?;
        if reading {
            self.keys("", Some(1)).await?;
            read::object(self, PROBE, ByteRange::ALL).await?;
        }
        Ok(())
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    match error {
        SdkError::ServiceError(answer) => Some(answer.raw().status().as_u16()),
        _ => None,
    }
}
