//! From batches of rows to a file's bytes, beside the streams that read them.

use bytes::Bytes;
use pgexport_api::job::{Compression, Format, FormatType};
use pgexport_api::reason::Reason;
use tokio::task::JoinHandle;

use super::compress::Compressor;
use super::frame::Framer;
use super::parquet::ParquetWriter;
use crate::encode::{Batch, Payload, schema};
use crate::error::{Error, Result};
use crate::plan::PlannedDataset;

/// What becomes of a chunk's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is delivered as it is.
    Delivered,
    /// It is staged, and a file is made of it alone.
    Whole,
    /// It is staged, and joined to others.
    Part,
}

/// Makes the bytes of a chunk's file: frames the rows, where the file is delivered as it is, and compresses or encodes them.
/// That is done on a thread of its own while the next batch is read, so what is given is mostly of the batch before.
#[derive(Debug)]
pub struct Packer {
    framer: Option<Framer>,
    /// Whether a row has come.
    begun: bool,
    work: Work,
    footer: Option<u64>,
}

#[derive(Debug)]
enum Work {
    /// Bytes are left as they are.
    None,
    /// Nothing is being coded.
    Idle(Coder),
    /// A payload is being coded.
    Running(JoinHandle<Result<(Coder, Vec<Bytes>)>>),
    /// The last bytes have been given, or an error.
    Ended,
}

/// What takes its time.
#[derive(Debug)]
enum Coder {
    Compressor(Compressor),
    Parquet(Box<ParquetWriter>),
}

impl Packer {
    /// For a chunk of this data set.
    pub fn new(
        format: &Format,
        compression: Compression,
        dataset: &PlannedDataset,
        role: Role,
    ) -> Result<Self> {
        let work = match (format.format_type, compression) {
            (FormatType::Parquet, _) => {
                let schema = schema(&dataset.columns, &dataset.shapes);
                let options = format.parquet.unwrap_or_default();
                let writer = ParquetWriter::new(&options, schema, role == Role::Part);
                Work::Idle(Coder::Parquet(Box::new(writer)))
            }
            (_, Compression::None) => Work::None,
            (_, compression) => Work::Idle(Coder::Compressor(Compressor::new(compression)?)),
        };
        let framer = (role == Role::Delivered).then(|| Framer::new(format, dataset));
        Ok(Self { framer, begun: false, work, footer: None })
    }

    /// Takes what the file begins with, and gives bytes that are ready.
    pub async fn head(&mut self) -> Result<Vec<Bytes>> {
        let head = self.framer.as_ref().map(Framer::head).unwrap_or_default();
        self.pack(Payload::Bytes(head)).await
    }

    /// Takes a batch, and gives bytes that are ready.
    pub async fn batch(&mut self, batch: Batch) -> Result<Vec<Bytes>> {
        let mut ready = Vec::new();
        if !self.begun {
            self.begun = true;
            let joint = self.framer.as_mut().map(Framer::joint).unwrap_or_default();
            ready = self.pack(Payload::Bytes(joint)).await?;
        }
        ready.extend(self.pack(batch.data).await?);
        Ok(ready)
    }

    /// Takes what the file ends with, and gives all that is left.
    pub async fn finish(&mut self) -> Result<Vec<Bytes>> {
        let tail = self.framer.as_ref().map(Framer::tail).unwrap_or_default();
        let mut left = self.pack(Payload::Bytes(tail)).await?;
        if let Some((coder, ready)) = self.settle().await? {
            left.extend(ready);
            let ending = tokio::task::spawn_blocking(move || coder.finish());
            let (end, footer) = ending.await.unwrap_or_else(|error| Err(broken(error)))?;
            left.extend(end);
            self.footer = footer;
        }
        Ok(left)
    }

    /// How long a Parquet file's footer is, once it is finished.
    #[must_use]
    pub const fn footer(&self) -> Option<u64> {
        self.footer
    }

    async fn pack(&mut self, data: Payload) -> Result<Vec<Bytes>> {
        if matches!(&data, Payload::Bytes(bytes) if bytes.is_empty()) {
            return Ok(Vec::new());
        }
        let Some((mut coder, ready)) = self.settle().await? else {
            return match data {
                Payload::Bytes(bytes) => Ok(vec![bytes]),
                Payload::Records(_) => Err(misplaced()),
            };
        };
        self.work = Work::Running(tokio::task::spawn_blocking(move || {
            let ready = coder.push(&data)?;
            Ok((coder, ready))
        }));
        Ok(ready)
    }

    /// Waits for what is being coded. None: nothing ever is.
    async fn settle(&mut self) -> Result<Option<(Coder, Vec<Bytes>)>> {
        match std::mem::replace(&mut self.work, Work::Ended) {
            Work::None => {
                self.work = Work::None;
                Ok(None)
            }
            Work::Idle(coder) => Ok(Some((coder, Vec::new()))),
            Work::Running(running) => running.await.unwrap_or_else(|error| Err(broken(error))).map(Some),
            Work::Ended => Err(Error::new(Reason::InternalError, "a file was written to after its end")),
        }
    }
}

impl Coder {
    fn push(&mut self, data: &Payload) -> Result<Vec<Bytes>> {
        match (self, data) {
            (Self::Compressor(compressor), Payload::Bytes(bytes)) => Ok(vec![compressor.push(bytes)?]),
            (Self::Parquet(writer), Payload::Records(records)) => writer.push(records),
            _ => Err(misplaced()),
        }
    }

    /// The last bytes, and how many of them are a footer.
    fn finish(self) -> Result<(Vec<Bytes>, Option<u64>)> {
        match self {
            Self::Compressor(compressor) => Ok((vec![compressor.finish()?], None)),
            Self::Parquet(writer) => writer.finish().map(|(end, footer)| (end, Some(footer))),
        }
    }
}

fn misplaced() -> Error {
    Error::new(Reason::InternalError, "rows are of another format than their file")
}

fn broken(error: tokio::task::JoinError) -> Error {
    Error::new(Reason::InternalError, "making a file's bytes broke off").with_source(error)
}
