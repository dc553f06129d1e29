//! Files that the server copies from the staging to the sink by itself, as no byte of them changes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;

use super::{OutputFile, Transfer};
use crate::error::Result;
use crate::output::{FileDigest, FinishedFile, Framer, part_size};
use crate::staging::{Body, Sidecar};
use crate::store::Copied;

/// Whether the server copies. Once it has refused, it is asked no more.
#[derive(Debug, Default)]
pub(super) struct ServerCopies {
    refused: AtomicBool,
}

impl Transfer<'_> {
    /// Has the server copy a file, where it is one chunk's body as it is; `None` where it has to be read and written.
    pub(super) async fn server_copy(
        &self,
        file: &OutputFile<'_>,
        key: &str,
        media_type: &str,
    ) -> Result<Option<FinishedFile>> {
        let Some((sidecar, digest)) = self.is_body(file) else { return Ok(None) };
        let Some(source) = self.staging.copy_source(sidecar) else { return Ok(None) };
        if self.copies.refused.load(Relaxed) {
            return Ok(None);
        }
        match self.sink.copy(&source, key, media_type, digest, self.stop).await? {
            Copied::Done(pending) => {
                self.progress.read(sidecar.rows, digest.bytes);
                self.progress.copied(digest.bytes);
                self.progress.chunk_transferred();
                Ok(Some(FinishedFile { key: key.to_owned(), digest: digest.clone(), pending }))
            }
            Copied::Refused(why) => {
                if !self.copies.refused.swap(true, Relaxed) {
                    tracing::info!(
                        why,
                        "the sink's server does not copy from the staging: files are read and written"
                    );
                }
                Ok(None)
            }
        }
    }

    /// The chunk whose body is the whole file. One without a byte is written: of nothing there is no copy.
    fn is_body<'a>(&self, file: &'a OutputFile<'_>) -> Option<(&'a Sidecar, &'a FileDigest)> {
        let [sidecar] = file.chunks.as_slice() else { return None };
        let Body::Written(digest) = &sidecar.body else { return None };
        let mut framer = Framer::new(&self.order.format, file.dataset);
        let head = framer.head();
        let joint = if sidecar.rows > 0 { framer.joint() } else { Bytes::new() };
        let is_whole = [head, joint, framer.tail()].iter().all(Bytes::is_empty);
        (is_whole && digest.bytes > 0 && is_cut_like_a_file(digest)).then_some((sidecar, digest))
    }
}

/// Whether the parts that a digest tells of are those that would be told of the file.
fn is_cut_like_a_file(digest: &FileDigest) -> bool {
    let mut left = digest.bytes;
    let parts = (0..).zip(&digest.parts).all(|(number, part)| {
        let size = left.min(part_size(number) as u64);
        left -= size;
        size > 0 && part.bytes == size
    });
    parts && left == 0
}

#[cfg(test)]
mod tests {
    use super::is_cut_like_a_file;
    use crate::output::{Crc64Nvme, FIRST_PART, FileDigest, PartDigest};

    #[test]
    fn a_digest_of_other_parts_is_none_of_a_file() {
        let first = FIRST_PART as u64;
        let digest = |bytes, parts: &[u64]| FileDigest {
            bytes,
            crc64nvme: Crc64Nvme::default(),
            parts: parts.iter().map(|bytes| PartDigest { bytes: *bytes, sha256: String::new() }).collect(),
        };
        for (bytes, parts) in [(0, &[][..]), (7, &[7]), (first, &[first]), (first + 1, &[first, 1])] {
            assert!(is_cut_like_a_file(&digest(bytes, parts)), "{bytes} {parts:?}");
        }
        for (bytes, parts) in [
            (7, &[][..]),
            (7, &[6]),
            (7, &[7, 0]),
            (8, &[4, 4]),
            (first + 1, &[first + 1]),
            (u64::MAX, &[u64::MAX]),
        ] {
            assert!(!is_cut_like_a_file(&digest(bytes, parts)), "{bytes} {parts:?}");
        }
    }
}
