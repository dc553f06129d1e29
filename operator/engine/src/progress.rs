//! Counters that a worker keeps while it works.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use pgexport_api::progress::WorkerProgress;

/// Counters, shared by all tasks of a worker.
#[derive(Debug, Default)]
pub struct Progress {
    chunks: AtomicU32,
    chunks_exported: AtomicU32,
    chunks_transferred: AtomicU32,
    rows: AtomicU64,
    bytes: AtomicU64,
    bytes_copied: AtomicU64,
}

impl Progress {
    /// Sets how many chunks the whole run has.
    pub fn planned(&self, chunks: u32) {
        self.chunks.store(chunks, Relaxed);
    }

    /// Adds rows and bytes that were read.
    pub fn read(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Adds bytes that a store's server has copied by itself.
    pub fn copied(&self, bytes: u64) {
        self.bytes_copied.fetch_add(bytes, Relaxed);
    }

    /// Bytes that a store's server has copied by itself.
    #[must_use]
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied.load(Relaxed)
    }

    /// Counts a chunk that is exported.
    pub fn chunk_exported(&self) {
        self.chunks_exported.fetch_add(1, Relaxed);
    }

    /// Counts a chunk that is transferred.
    pub fn chunk_transferred(&self) {
        self.chunks_transferred.fetch_add(1, Relaxed);
    }

    /// What the counters say now.
    #[must_use]
    pub fn snapshot(&self) -> WorkerProgress {
        WorkerProgress {
            chunks: self.chunks.load(Relaxed),
            chunks_exported: self.chunks_exported.load(Relaxed),
            chunks_transferred: self.chunks_transferred.load(Relaxed),
            rows: self.rows.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}
