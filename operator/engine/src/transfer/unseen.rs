//! Bodies that a database wrote by itself, made what a worker would have written.

use bytes::Bytes;
use futures::TryStreamExt as _;
use pgexport_api::job::{Format, FormatType};
use pgexport_api::reason::Reason;

use super::records::Records;
use super::{Cut, Transfer};
use crate::encode::{Batch, Payload, RecordEncoder};
use crate::error::{Error, Result};
use crate::output::{FileWriter, Framer, Packer, Role};
use crate::plan::PlannedDataset;
use crate::staging::{Sidecar, Unseen};

/// A chunk whose body the database wrote.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) sidecar: &'a Sidecar,
    pub(super) unseen: Unseen,
    pub(super) dataset: &'a PlannedDataset,
}

/// Where the chunk goes.
pub(super) struct Out<'a> {
    pub(super) framer: &'a mut Framer,
    pub(super) cut: &'a mut Cut,
    pub(super) writer: &'a mut FileWriter,
}

/// What is not written yet of a chunk.
pub(super) struct Ended {
    /// How many rows it has.
    pub(super) rows: u64,
    /// Its last bytes.
    pub(super) left: Vec<Bytes>,
    /// How many of them are a Parquet file's footer.
    pub(super) footer: usize,
}

impl Transfer<'_> {
    /// Makes of what the database wrote by itself what a worker would have written, counts its rows, and writes all but the last
    /// bytes.
    pub(super) async fn unseen(&self, chunk: Chunk<'_>, role: Role, out: &mut Out<'_>) -> Result<Ended> {
        let Chunk { sidecar, unseen, dataset } = chunk;
        let mut body = self.staging.body(sidecar);
        let mut rows = Rows::new(&self.order.format, dataset)?;
        let mut packer = Packer::new(&self.order.format, self.order.compression, dataset, role)?;
        let mut bytes = 0;
        while let Some(piece) = body.try_next().await? {
            let piece: Bytes = piece;
            if bytes == 0 && !piece.is_empty() {
                self.frame(out.framer.joint(), out.writer).await?;
            }
            bytes += piece.len() as u64;
            self.progress.read(0, piece.len() as u64);
            for batch in rows.push(piece)? {
                for ready in packer.batch(batch).await? {
                    out.writer.write(out.cut.piece(ready)).await?;
                }
            }
        }
        let (batches, rows) = rows.finish()?;
        for batch in batches {
            for ready in packer.batch(batch).await? {
                out.writer.write(out.cut.piece(ready)).await?;
            }
        }
        let left = packer.finish().await?;
        if rows % (1 << 32) != sidecar.rows {
            let message = format!(
                "{} holds {rows} rows in {} objects, and the database says that it has written {} (modulo 2^32)",
                self.staging.uri(sidecar),
                unseen.objects,
                sidecar.rows
            );
            return Err(Error::new(Reason::ChecksumMismatch, message)
                .with_hint("look for whoever else writes to the staging"));
        }
        if bytes != unseen.bytes {
            // Rows are what counts; what the extension means by its bytes is not documented.
            tracing::warn!(
                chunk = sidecar.chunk,
                bytes,
                told = unseen.bytes,
                "the database told of another number of bytes than it has written"
            );
        }
        self.progress.read(rows, 0);
        self.progress.chunk_transferred();
        let footer = packer.footer().and_then(|footer| usize::try_from(footer).ok()).unwrap_or_default();
        Ok(Ended { rows, left, footer })
    }
}

/// A body's rows, which come in pieces of any size.
enum Rows {
    /// As the format has them.
    Text(Records),
    /// As the database sends them to whoever encodes them.
    Sent(Box<RecordEncoder>),
}

impl Rows {
    fn new(format: &Format, dataset: &PlannedDataset) -> Result<Self> {
        if format.format_type == FormatType::Parquet {
            return Ok(Self::Sent(Box::new(RecordEncoder::new(format, &dataset.columns, &dataset.shapes)?)));
        }
        Ok(Self::Text(Records::new(format)))
    }

    fn push(&mut self, piece: Bytes) -> Result<Vec<Batch>> {
        match self {
            Self::Text(records) => Ok(vec![Batch { rows: 0, data: Payload::Bytes(records.push(piece)?) }]),
            Self::Sent(encoder) => encoder.push(&piece),
        }
    }

    /// The last batches, and how many rows there were.
    fn finish(self) -> Result<(Vec<Batch>, u64)> {
        match self {
            Self::Text(records) => Ok((Vec::new(), records.finish()?)),
            Self::Sent(encoder) => encoder.finish(),
        }
    }
}
