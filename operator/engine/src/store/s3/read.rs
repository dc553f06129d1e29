//! Reading an object, or a range of one, as a stream that survives broken connections.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use pgexport_api::reason::Reason;

use super::error::Action;
use super::{S3Store, client, status};
use crate::error::{Error, Result};
use crate::store::{self, ByteRange, Store, Version};

/// How often reading goes on after a connection broke.
const RESUMES: u32 = 3;

struct Resuming {
    store: S3Store,
    key: String,
    etag: Option<String>,
    body: ByteStream,
    /// What of the object is still to be read.
    left: ByteRange,
    /// How many bytes are still to come, as the first answer has told.
    length: Option<u64>,
    resumes: u32,
}

/// A range of an object's bytes.
pub(super) async fn range(store: S3Store, key: String, range: ByteRange) -> Result<store::Reading> {
    let object = found(&store, &key, object(&store, &key, range).await?)?;
    let version = object.e_tag.clone().map(Version);
    let resuming = Resuming {
        etag: object.e_tag,
        length: object.content_length.and_then(|length| length.try_into().ok()),
        body: object.body,
        store,
        key,
        left: range,
        resumes: RESUMES,
    };
    let pieces = stream::try_unfold(resuming, |mut resuming| async move {
        Ok(resuming.next().await?.map(|piece| (piece, resuming)))
    });
    Ok(store::Reading { version, pieces: pieces.boxed() })
}

impl Resuming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    let bytes = piece.len() as u64;
                    self.left.from = self.left.from.saturating_add(bytes);
                    self.left.length = self.left.length.map(|length| length.saturating_sub(bytes));
                    self.length = self.length.map(|length| length.saturating_sub(bytes));
                    return Ok(Some(piece));
                }
                None => return Ok(None),
                Some(Err(error)) => {
                    // What fails after the last byte is the checksum.
                    let whole = self.length == Some(0) || self.left.length == Some(0);
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
        let object = found(&self.store, &self.key, object(&self.store, &self.key, self.left).await?)?;
        if object.e_tag != self.etag {
            return Err(store::replaced(&self.store.uri(&self.key)));
        }
        self.body = object.body;
        Ok(())
    }
}

/// An object's answer to a request for a range; `None` where there is no object. It has no bytes where it ends before the range begins.
pub(super) async fn object(store: &S3Store, key: &str, range: ByteRange) -> Result<Option<GetObjectOutput>> {
    let full = store.key(key);
    let request = store
        .client
        .get_object()
        .bucket(&store.place.bucket)
        .key(&full)
        .set_expected_bucket_owner(store.place.owner.clone());
    let Some(header) = header(range) else { return answered(store, &full, request.send().await) };
    let request = request.range(header).customize().config_override(client::reading_range());
    match request.send().await {
        Ok(object) if object.content_range.is_none() && !is_within(&object, range) => {
            let message =
                format!("{} was sent as a whole, where a range of it was asked for", store.uri(key));
            Err(Error::new(Reason::StoreError, message).with_hint("use a server that knows ranges"))
        }
        Err(error) if status(&error) == Some(416) => Ok(Some(GetObjectOutput::builder().build())),
        answer => answered(store, &full, answer),
    }
}

/// Whether an object that was sent as a whole is what the range has of it.
fn is_within(object: &GetObjectOutput, range: ByteRange) -> bool {
    let bytes = object.content_length.and_then(|length| u64::try_from(length).ok());
    range.from == 0 && bytes.zip(range.length).is_some_and(|(bytes, length)| bytes <= length)
}

fn answered(
    store: &S3Store,
    key: &str,
    answer: Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>,
) -> Result<Option<GetObjectOutput>> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(SdkError::ServiceError(answer)) if answer.err().is_no_such_key() => Ok(None),
        Err(error) => Err(store.failed(Action::Get, key, &error)),
    }
}

/// A range as the header `Range` has it; `None` where it is all.
/// <https://www.rfc-editor.org/rfc/rfc9110#name-byte-ranges>
fn header(range: ByteRange) -> Option<String> {
    let ByteRange { from, length } = range;
    // Servers take no number of more than 63 bits, and no object has as many bytes.
    match length.filter(|length| i64::try_from(from.saturating_add(*length)).is_ok()) {
        Some(length) => Some(format!("bytes={from}-{}", from.saturating_add(length).saturating_sub(1))),
        None if from > 0 => Some(format!("bytes={from}-")),
        None => None,
    }
}

fn found(store: &S3Store, key: &str, object: Option<GetObjectOutput>) -> Result<GetObjectOutput> {
    object.ok_or_else(|| store::missing(&store.uri(key)))
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
