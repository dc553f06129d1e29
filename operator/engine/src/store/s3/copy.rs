//! Files that the server copies by itself, from a bucket to another one's upload: no byte of them travels.

use std::ops::RangeInclusive;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::upload_part_copy::UploadPartCopyError;
use aws_sdk_s3::types::CompletedPart;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pgexport_api::reason::Reason;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::Action;
use super::upload::{PATIENCE, PendingUpload, S3Upload};
use super::{S3Store, client, status};
use crate::error::{Error, Result};
use crate::output::{Crc64Nvme, FileDigest};
use crate::store::{Copied, CopySource, PARTS_IN_FLIGHT, Upload as _};

/// The most bytes of one part: S3 takes 5 GiB, and parts that are copied side by side are copied sooner.
const PART: u64 = 512 << 20;

/// A part's number, its length, and what the server says of it.
type Part = (u64, CompletedPart);

/// Copies a file into an upload that is left to be committed. Whatever else becomes of it, no upload stays open.
pub(super) async fn copy(
    store: S3Store,
    source: &CopySource,
    key: String,
    media_type: &str,
    digest: &FileDigest,
    cancel: &CancellationToken,
) -> Result<Copied> {
    let mut copying = Copying {
        upload: S3Upload::new(store, key, media_type.to_owned()),
        travelling: JoinSet::new(),
        parts: Vec::new(),
    };
    let done = cancel.run_until_cancelled(copying.all(source, digest)).await;
    match done {
        Some(Ok(id)) => Ok(Copied::Done(Box::new(copying.pending(id, digest)))),
        Some(Err(why)) => {
            // Nobody is in a hurry: what the server still copies would stay in the bucket if it came after the abort.
            cancel.run_until_cancelled(copying.settle()).await;
            copying.abort().await;
            Ok(Copied::Refused(why))
        }
        None => {
            copying.abort().await;
            Err(Error::new(Reason::Interrupted, "a copy was stopped before it was complete"))
        }
    }
}

struct Copying {
    upload: S3Upload,
    travelling: JoinSet<Result<Part, String>>,
    parts: Vec<Part>,
}

impl Copying {
    /// Copies all parts, and checks what the server says of them: the checksum of all of them together has to be the file's.
    async fn all(&mut self, source: &CopySource, digest: &FileDigest) -> Result<String, String> {
        let id = self.upload.id().await.map_err(|error| error.to_string())?;
        for (number, range) in (1..).zip(ranges(digest.bytes)) {
            while self.travelling.len() >= PARTS_IN_FLIGHT {
                self.settle_one().await?;
            }
            let (store, key) = self.upload.place();
            self.travelling.spawn(part(store, key, id.clone(), number, source.clone(), range));
        }
        while !self.travelling.is_empty() {
            self.settle_one().await?;
        }
        self.parts.sort_unstable_by_key(|(_, part)| part.part_number);
        match checksum(&self.parts) {
            Some(found) if found == digest.crc64nvme => Ok(id),
            Some(found) => Err(format!("what it has copied has CRC64NVME {found}, not {}", digest.crc64nvme)),
            None => Err("it does not tell the CRC64NVME of what it has copied".to_owned()),
        }
    }

    async fn settle_one(&mut self) -> Result<(), String> {
        if let Some(part) = self.travelling.join_next().await {
            self.parts.push(part.map_err(|error| error.to_string())??);
        }
        Ok(())
    }

    fn pending(self, id: String, digest: &FileDigest) -> PendingUpload {
        let parts = self.parts.into_iter().map(|(_, part)| part).collect();
        self.upload.pending(id, digest.bytes, digest.crc64nvme, parts)
    }

    /// Waits until no part is being copied any more, whatever becomes of it.
    async fn settle(&mut self) {
        while self.travelling.join_next().await.is_some() {}
    }

    /// Gives up. Parts that are being copied get a while: one that is done after the abort would stay in the bucket.
    async fn abort(mut self) {
        let _ = tokio::time::timeout(PATIENCE, self.settle()).await;
        self.travelling.shutdown().await;
        Box::new(self.upload).abort().await;
    }
}

/// The checksum of all parts, from those that the server tells of each.
fn checksum(parts: &[Part]) -> Option<Crc64Nvme> {
    parts.iter().try_fold(Crc64Nvme::default(), |before, (bytes, part)| {
        Some(before.followed_by(part.checksum_crc64_nvme()?.parse().ok()?, *bytes))
    })
}

async fn part(
    store: S3Store,
    key: String,
    id: String,
    number: i32,
    source: CopySource,
    range: RangeInclusive<u64>,
) -> Result<Part, String> {
    let bytes = range.end() - range.start() + 1;
    let answer = store
        .client
        .upload_part_copy()
        .bucket(&store.place.bucket)
        .key(&key)
        .upload_id(id)
        .part_number(number)
        .copy_source(encoded(&source))
        .copy_source_range(format!("bytes={}-{}", range.start(), range.end()))
        .set_expected_bucket_owner(store.place.owner.clone())
        .set_expected_source_bucket_owner(source.owner)
        .customize()
        .config_override(client::copying(bytes))
        .send()
        .await;
    let part = answer.map_err(|error| refusal(&store, &key, &error))?.copy_part_result;
    let part = part.ok_or_else(|| "it does not tell what it has copied".to_owned())?;
    let completed = CompletedPart::builder()
        .part_number(number)
        .set_e_tag(part.e_tag)
        .set_checksum_crc64_nvme(part.checksum_crc64_nvme);
    Ok((bytes, completed.build()))
}

/// What a refusal is about is the server's to tell: rights on the other bucket, the key that it is encrypted with, a server that
/// copies nothing.
fn refusal(store: &S3Store, key: &str, error: &SdkError<UploadPartCopyError, HttpResponse>) -> String {
    match (status(error), error.code()) {
        (Some(status), Some(code)) => format!("{code} (HTTP status {status})"),
        (Some(status), None) => format!("HTTP status {status}"),
        (None, _) => store.failed(Action::Put, key, error).to_string(),
    }
}

/// The ranges of bytes that parts are made of.
fn ranges(bytes: u64) -> impl Iterator<Item = RangeInclusive<u64>> {
    // Of the longest files: 10,000 parts make 5 TiB.
    let size = PART.max(bytes.div_ceil(u64::from(crate::output::MAX_PARTS)));
    (0..bytes.div_ceil(size)).map(move |part| part * size..=((part + 1) * size).min(bytes) - 1)
}

/// Bucket and key, as the header has them.
fn encoded(source: &CopySource) -> String {
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    format!("{}/{}", source.bucket, utf8_percent_encode(&source.key, KEPT))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::CompletedPart;

    use super::{PART, checksum, encoded, ranges};
    use crate::output::Crc64NvmeHasher;
    use crate::store::CopySource;

    #[test]
    fn parts_are_all_bytes_in_their_order_and_as_many_as_s3_takes() {
        for bytes in [1, PART - 1, PART, PART + 1, 3 * PART, 5 << 40] {
            let ranges: Vec<_> = ranges(bytes).collect();
            assert_eq!((*ranges[0].start(), *ranges[ranges.len() - 1].end()), (0, bytes - 1), "{bytes}");
            assert!(ranges.windows(2).all(|pair| pair[0].end() + 1 == *pair[1].start()), "{bytes}");
            let lengths: Vec<_> = ranges.iter().map(|range| range.end() - range.start() + 1).collect();
            assert!(lengths.len() <= 10_000 && lengths.iter().all(|length| *length <= 5 << 30), "{bytes}");
            assert!(lengths[..lengths.len() - 1].iter().all(|length| *length >= 5 << 20), "{bytes}");
        }
        assert_eq!(ranges(0).count(), 0);
    }

    #[test]
    fn the_checksum_of_a_file_is_that_of_its_parts_in_their_order() {
        let file: Vec<u8> = (0..=250).cycle().take(10_007).collect();
        let of = |bytes: &[u8]| {
            let mut hasher = Crc64NvmeHasher::default();
            hasher.update(bytes);
            hasher.checksum()
        };
        let part = |bytes: &[u8]| {
            let checksum = of(bytes).to_string();
            (bytes.len() as u64, CompletedPart::builder().checksum_crc64_nvme(checksum).build())
        };
        let mut parts: Vec<_> = file.chunks(4096).map(part).collect();
        assert_eq!(checksum(&parts), Some(of(&file)));
        parts.swap(0, 1);
        assert_ne!(checksum(&parts), Some(of(&file)));
        parts[1].1 = CompletedPart::builder().build();
        assert_eq!(checksum(&parts), None, "a part of which nothing is known");
    }

    #[test]
    fn sources_are_named_as_in_a_url() {
        let source = CopySource {
            endpoint: None,
            region: "eu-west-1".to_owned(),
            bucket: "b.c".to_owned(),
            key: "from us/v=a%2Fb/é+?#.csv".to_owned(),
            owner: None,
        };
        assert_eq!(encoded(&source), "b.c/from%20us/v%3Da%252Fb/%C3%A9%2B%3F%23.csv");
    }
}
