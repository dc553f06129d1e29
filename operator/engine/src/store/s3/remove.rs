//! Removing objects, and finding uploads that were left open.

use aws_sdk_s3::error::{ErrorMetadata, ProvideErrorMetadata};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use pgexport_api::reason::Reason;

use super::error::Action;
use super::{S3Store, status};
use crate::error::{Error, Result};
use crate::store::{OpenUpload, Version};

/// How many keys a request takes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const BATCH: usize = 1000;

pub(super) async fn delete(store: &S3Store, keys: &[String]) -> Result<()> {
    let keys: Vec<String> = keys.iter().map(|key| store.key(key)).collect();
    for batch in keys.chunks(BATCH) {
        if !delete_batch(store, batch).await? {
            for key in batch {
                delete_one(store, key).await?;
            }
        }
    }
    Ok(())
}

/// Removes up to [`BATCH`] objects by their full keys; `false` where the server knows no such request.
async fn delete_batch(store: &S3Store, keys: &[String]) -> Result<bool> {
    let invalid = |error| {
        Error::new(Reason::InternalError, "a request to remove objects cannot be made").with_source(error)
    };
    let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
    let objects = objects.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
    let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(invalid)?;
    let answer = store
        .client
        .delete_objects()
        .bucket(&store.place.bucket)
        .delete(delete)
        .set_expected_bucket_owner(store.place.owner.clone())
        .send()
        .await;
    let failures = match answer {
        Ok(answer) => answer.errors.unwrap_or_default(),
        Err(error) if matches!(status(&error), Some(405 | 501)) => return Ok(false),
        Err(error) => {
            let first = keys.first().map_or("", String::as_str);
            return Err(store.failed(Action::Delete, first, &error));
        }
    };
    match failures.iter().find(|failure| failure.code() != Some("NoSuchKey")) {
        None => Ok(true),
        Some(failure) => {
            let mut said = ErrorMetadata::builder();
            if let Some(code) = failure.code() {
                said = said.code(code);
            }
            if let Some(message) = failure.message() {
                said = said.message(message);
            }
            Err(store.place.refused_key(Action::Delete, failure.key().unwrap_or_default(), &said.build()))
        }
    }
}

/// Removes an object by its full key, if it is still this version.
pub(super) async fn delete_version(store: &S3Store, key: &str, version: &Version) -> Result<bool> {
    let Version(tag) = version;
    let answer = store
        .client
        .delete_object()
        .bucket(&store.place.bucket)
        .key(key)
        .if_match(tag)
        .set_expected_bucket_owner(store.place.owner.clone())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("NoSuchKey") => Ok(true),
        Err(error) if status(&error) == Some(412) => Ok(false),
        // The server does not know the condition.
        Err(error) if status(&error) == Some(501) => delete_one(store, key).await.map(|()| true),
        Err(error) => Err(store.failed(Action::Delete, key, &error)),
    }
}

async fn delete_one(store: &S3Store, key: &str) -> Result<()> {
    let answer = store
        .client
        .delete_object()
        .bucket(&store.place.bucket)
        .key(key)
        .set_expected_bucket_owner(store.place.owner.clone())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
        Err(error) => Err(store.failed(Action::Delete, key, &error)),
    }
}

pub(super) async fn uploads(store: &S3Store, prefix: &str) -> Result<Vec<OpenUpload>> {
    let full = store.key(prefix);
    let mut uploads = Vec::new();
    let mut after = (None, None);
    loop {
        let page = store
            .client
            .list_multipart_uploads()
            .bucket(&store.place.bucket)
            .prefix(&full)
            .set_key_marker(after.0.clone())
            .set_upload_id_marker(after.1.clone())
            .set_expected_bucket_owner(store.place.owner.clone())
            .send()
            .await;
        let page = match page {
            Ok(page) => page,
            // versitygw does not take back the id that it gave: the listing goes on at the next key.
            Err(error) if after.1.is_some() && error.code() == Some("InvalidArgument") => {
                after.1 = None;
                continue;
            }
            Err(error) => return Err(store.failed(Action::ListUploads, &full, &error)),
        };
        uploads.extend(page.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
            // Some servers ignore the prefix.
            let key = upload.key?.strip_prefix(&full).map(|rest| format!("{prefix}{rest}"))?;
            Some(OpenUpload { key, id: upload.upload_id? })
        }));
        let next = (page.next_key_marker, page.next_upload_id_marker);
        // A server that does not know the markers would send the same page for ever.
        if page.is_truncated != Some(true) || next == after {
            break;
        }
        after = next;
    }
    uploads.sort_unstable();
    Ok(uploads)
}
