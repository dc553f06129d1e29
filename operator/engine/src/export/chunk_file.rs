//! A chunk's file on its way to the store.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::encode::Batch;
use crate::error::Result;
use crate::output::{FileWriter, FinishedFile, Packer};

/// A chunk's file while it is written.
///
/// The files of one connection share the memory of one [`FileWriter`]: the next one fills its first part while the last parts of
/// the former one travel, and sends none before those are stored.
#[derive(Debug)]
pub(super) struct ChunkFile {
    writer: FileWriter,
    packer: Packer,
    rows: u64,
    started: Timestamp,
    /// Has room for one file.
    uploading: Arc<Semaphore>,
    /// Held from the first part on.
    turn: Option<OwnedSemaphorePermit>,
}

/// A chunk whose every row is stored, and which nobody sees yet.
#[derive(Debug)]
pub(super) struct StoredChunk {
    pub(super) file: FinishedFile,
    pub(super) rows: u64,
    /// How many of its last bytes are a Parquet footer.
    pub(super) footer: Option<u64>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

impl ChunkFile {
    /// `uploading` is that of the connection.
    pub(super) fn new(writer: FileWriter, packer: Packer, uploading: Arc<Semaphore>) -> Self {
        Self { writer, packer, rows: 0, started: Timestamp::now(), uploading, turn: None }
    }

    /// Bytes that were written so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Writes what stands before the rows.
    pub(super) async fn head(&mut self) -> Result<()> {
        let ready = self.packer.head().await?;
        self.store(ready).await
    }

    pub(super) async fn write(&mut self, batch: Batch) -> Result<()> {
        self.rows = self.rows.saturating_add(batch.rows);
        let ready = self.packer.batch(batch).await?;
        self.store(ready).await
    }

    /// Writes what stands behind the rows, and sends the last part.
    pub(super) async fn tail(&mut self) -> Result<()> {
        let left = self.packer.finish().await?;
        self.store(left).await?;
        self.take_turn().await;
        self.writer.send().await
    }

    /// Waits until all is stored; after it only [`ChunkFile::finish`] and [`ChunkFile::abort`] make sense.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await
    }

    /// On an error the file has been given up.
    pub(super) async fn finish(self) -> Result<StoredChunk> {
        let file = self.writer.finish().await?;
        let (rows, footer, started) = (self.rows, self.packer.footer(), self.started);
        Ok(StoredChunk { file, rows, footer, started, finished: Timestamp::now() })
    }

    pub(super) async fn abort(self) {
        self.writer.abort().await;
    }

    async fn store(&mut self, ready: Vec<Bytes>) -> Result<()> {
        for piece in ready {
            if self.writer.fills_part(&piece) {
                self.take_turn().await;
            }
            self.writer.write(piece).await?;
        }
        Ok(())
    }

    async fn take_turn(&mut self) {
        if self.turn.is_none() {
            // It is never closed.
            self.turn = Arc::clone(&self.uploading).acquire_owned().await.ok();
        }
    }
}
