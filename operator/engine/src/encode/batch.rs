//! Bytes on their way out.

use arrow_array::RecordBatch;
use bytes::Bytes;

/// A batch is handed on when it has this many bytes: enough to make its cost small, few enough to be forgotten.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// Encoded rows of a chunk. A batch ends with a row, but for rows that are larger than a batch: those come in several.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The rows.
    pub data: Payload,
    /// How many rows end in it.
    pub rows: u64,
}

/// Rows on their way to a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// The bytes that they are in it.
    Bytes(Bytes),
    /// What becomes a part of a Parquet file.
    Records(RecordBatch),
}

impl Batch {
    /// The same rows. `guard` is dropped with the last of their bytes.
    pub(crate) fn guarded(self, guard: impl Send + 'static) -> Self {
        let Self { data, rows } = self;
        let data = match data {
            Payload::Bytes(bytes) => Payload::Bytes(Bytes::from_owner(Guarded { bytes, _guard: guard })),
            Payload::Records(records) => Payload::Records(records),
        };
        Self { data, rows }
    }
}

struct Guarded<G> {
    bytes: Bytes,
    _guard: G,
}

impl<G> AsRef<[u8]> for Guarded<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What becomes the next batch.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) data: Vec<u8>,
    pub(super) rows: u64,
    /// Where bytes begin that may still change.
    pub(super) open: Option<usize>,
}

impl Output {
    fn settled(&self) -> usize {
        self.open.unwrap_or(self.data.len())
    }

    /// How many bytes may still change.
    pub(super) fn held(&self) -> usize {
        self.data.len() - self.settled()
    }

    /// Whether there is a batch worth handing on.
    pub(super) fn is_full(&self) -> bool {
        self.settled() >= BATCH_BYTES
    }

    /// Makes room for a batch, so that it is filled without being moved.
    pub(super) fn reserve(&mut self) {
        if self.data.capacity() == 0 {
            self.data.reserve_exact(BATCH_BYTES + BATCH_BYTES / 8);
        }
    }

    /// All that is settled.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let rest = self.data.split_off(self.settled());
        self.open = self.open.map(|_| 0);
        let data = std::mem::replace(&mut self.data, rest);
        let rows = std::mem::take(&mut self.rows);
        (!data.is_empty()).then(|| Batch { data: Payload::Bytes(data.into()), rows })
    }
}
