//! Reading an object as a stream that survives broken connections.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use pgexport_api::reason::Reason;

use super::S3Store;
use crate::error::{Error, Result};
use crate::store::Store;

/// How often reading goes on after a connection broke.
const RESUMES: u32 = 3;

struct Reading {
    store: S3Store,
    key: String,
    body: ByteStream,
    etag: Option<String>,
    offset: u64,
    length: Option<u64>,
    resumes: u32,
}

pub(super) async fn stream(store: S3Store, key: String) -> Result<BoxStream<'static, Result<Bytes>>> {
    let object = found(&store, &key, store.object(&key, 0).await?)?;
    let reading = Reading {
        etag: object.e_tag,
        length: object.content_length.and_then(|length| length.try_into().ok()),
        body: object.body,
        store,
        key,
        offset: 0,
        resumes: RESUMES,
    };
    Ok(stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|piece| (piece, reading)))
    })
    .boxed())
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    self.offset = self.offset.saturating_add(piece.len() as u64);
                    return Ok(Some(piece));
                }
                None => return Ok(None),
                Some(Err(error)) => {
                    // What fails after the last byte is the checksum.
                    let whole = self.length.is_some_and(|length| self.offset >= length);
                    if whole || self.resumes == 0 {
                        return Err(broken(&self.store.uri(&self.key), &error));
                    }
                    self.resumes -= 1;
                    self.resume().await?;
                }
            }
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let object = found(&self.store, &self.key, self.store.object(&self.key, self.offset).await?)?;
        if object.e_tag != self.etag {
            let message = format!("{} was replaced while it was read", self.store.uri(&self.key));
            return Err(Error::new(Reason::StoreError, message));
        }
        self.body = object.body;
        Ok(())
    }
}

fn found(store: &S3Store, key: &str, object: Option<GetObjectOutput>) -> Result<GetObjectOutput> {
    object.ok_or_else(|| crate::store::missing(&store.uri(key)))
}

/// What a body that ends in an error means.
pub(super) fn broken(uri: &str, error: &ByteStreamError) -> Error {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let reason = if text.to_ascii_lowercase().contains("checksum") {
        Reason::ChecksumMismatch
    } else {
        Reason::StoreError
    };
    Error::new(reason, format!("reading {uri} broke off: {text}"))
}
