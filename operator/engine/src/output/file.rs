//! A file on its way to a store: cut into parts, hashed, uploaded.

use bytes::Bytes;
use pgexport_api::reason::Reason;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::buffer;
use super::checksum::{Crc64Nvme, Crc64NvmeHasher};
use super::part::part_size;
use crate::error::{Error, Result};
use crate::store::{Pending, Store, Upload};

/// A file of at most this many bytes is held in as many; a longer one, in parts as they are cut.
const SMALL: usize = 1 << 20;

/// What a file's bytes are.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileDigest {
    /// How many.
    pub bytes: u64,
    /// The checksum over all.
    pub crc64nvme: Crc64Nvme,
    /// The parts, in order. They are cut by [`part_size`], wherever they are written to.
    pub parts: Vec<PartDigest>,
}

/// What a part's bytes are.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PartDigest {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A file whose every byte is stored, and which nobody sees until [`Pending::commit`].
#[derive(Debug)]
pub struct FinishedFile {
    /// Its key.
    pub key: String,
    /// What is in it.
    pub digest: FileDigest,
    /// Commits or aborts it.
    pub pending: Box<dyn Pending>,
}

/// Writes a file in bounded memory: the part that is being filled, those that travel
/// ([`crate::store::PARTS_IN_FLIGHT`]), and one that is being hashed. That is at most four times [`part_size`]: 32 MiB for
/// files of up to 6 GiB.
///
/// Like an [`Upload`], it has to be finished or aborted, also after an error.
#[derive(Debug)]
pub struct FileWriter {
    key: String,
    upload: Box<dyn Upload>,
    /// The part that is being filled.
    part: Vec<u8>,
    /// Parts that were cut.
    cut: u32,
    bytes: u64,
    hashes: Hashes,
}

impl FileWriter {
    /// Begins a file.
    pub async fn begin(store: &dyn Store, key: &str, media_type: &str) -> Result<Self> {
        Ok(Self {
            key: key.to_owned(),
            upload: store.upload(key, media_type).await?,
            part: Vec::new(),
            cut: 0,
            bytes: 0,
            hashes: Hashes::default(),
        })
    }

    /// Writes bytes. Waits when more is written than the store takes.
    pub async fn write(&mut self, mut data: Bytes) -> Result<()> {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        while !data.is_empty() {
            let size = part_size(self.cut);
            let piece = data.split_to(data.len().min(size.saturating_sub(self.part.len())));
            // Small files stay small in memory; a second part will most likely be a whole one.
            if self.part.capacity() < size && (self.cut > 0 || self.part.len() + piece.len() > SMALL) {
                let small = std::mem::replace(&mut self.part, buffer::take(size));
                self.part.extend_from_slice(&small);
            }
            self.part.extend_from_slice(&piece);
            if self.part.len() >= size {
                self.cut().await?;
            }
        }
        Ok(())
    }

    /// Whether writing this would fill a part, which then travels.
    #[must_use]
    pub fn fills_part(&self, data: &Bytes) -> bool {
        self.part.len().saturating_add(data.len()) >= part_size(self.cut)
    }

    /// Bytes that were written so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends what is left of the file. Waits for room in the store's queue, like [`FileWriter::write`]; after it only
    /// [`FileWriter::flush`], [`FileWriter::finish`] and [`FileWriter::abort`] make sense.
    pub async fn send(&mut self) -> Result<()> {
        if self.part.is_empty() { Ok(()) } else { self.cut().await }
    }

    /// Waits until all that was written is stored; after it only [`FileWriter::finish`] and [`FileWriter::abort`] make sense.
    /// Unlike `finish` it leaves the file to whoever stops waiting, to abort it.
    pub async fn flush(&mut self) -> Result<()> {
        self.send().await?;
        self.upload.settle().await
    }

    /// Waits until all is stored. On an error the file has been given up.
    pub async fn finish(mut self) -> Result<FinishedFile> {
        match self.end().await {
            Ok((crc64nvme, parts)) => {
                let digest = FileDigest { bytes: self.bytes, crc64nvme, parts };
                Ok(FinishedFile { key: self.key, digest, pending: self.upload.finish().await? })
            }
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Gives up, and removes what was stored.
    pub async fn abort(self) {
        self.upload.abort().await;
    }

    async fn end(&mut self) -> Result<(Crc64Nvme, Vec<PartDigest>)> {
        self.send().await?;
        self.hashes.end().await
    }

    async fn cut(&mut self) -> Result<()> {
        let part = buffer::shared(std::mem::take(&mut self.part));
        self.cut = self.cut.saturating_add(1);
        self.hashes.add(part.clone()).await?;
        self.upload.part(part).await
    }
}

/// Hashes parts on a thread of their own, one after the other: SHA-256 would hold up the encoder.
#[derive(Debug, Default)]
struct Hashes {
    crc: Crc64NvmeHasher,
    parts: Vec<PartDigest>,
    running: Option<JoinHandle<(Crc64NvmeHasher, PartDigest)>>,
}

impl Hashes {
    async fn add(&mut self, part: Bytes) -> Result<()> {
        self.settle().await?;
        let mut crc = self.crc;
        self.running = Some(tokio::task::spawn_blocking(move || {
            crc.update(&part);
            (crc, PartDigest { bytes: part.len() as u64, sha256: hex::encode(Sha256::digest(&part)) })
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        if let Some(running) = self.running.take() {
            let (crc, part) = running.await.map_err(|error| {
                Error::new(Reason::InternalError, "hashing a part broke off").with_source(error)
            })?;
            self.crc = crc;
            self.parts.push(part);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(Crc64Nvme, Vec<PartDigest>)> {
        self.settle().await?;
        Ok((self.crc.checksum(), std::mem::take(&mut self.parts)))
    }
}
