//! The transfer: from staging to the sink, file by file, each byte checked on its way.

mod records;
mod server_copy;
mod unseen;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use pgexport_api::job::{FormatType, Layout};
use pgexport_api::order::{DeliveryPath, RunOrder};
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;
use pgexport_failpoint as failpoint;
use tokio_util::sync::CancellationToken;

pub use self::records::Records;
use self::server_copy::ServerCopies;
use self::unseen::{Chunk, Ended, Out};
use crate::error::{Error, Result};
use crate::export::expect;
use crate::manifest::{Arrival, DeliveredFile, Delivery, Export, arrive, total};
use crate::output::{
    Crc64NvmeHasher, FileDigest, FileWriter, FinishedFile, Framer, ParquetJoiner, Role, compressed,
    file_name, media_type,
};
use crate::plan::{Plan, PlannedDataset};
use crate::progress::Progress;
use crate::secret::Secrets;
use crate::staging::{Body, Sidecar, Staging};
use crate::store::{self, FileSequence, ReadAhead, Store, Volumes};

/// How many missing chunks a message names.
const NAMED: usize = 10;

/// Delivers what a staged export left in its staging. It can be run again at any time: it then writes the same bytes, or
/// finds them delivered.
///
/// Files are transferred `parallelism` at a time, each in the memory of one [`FileWriter`], and of what makes of a database's
/// rows what the format wants; what workers have written is read ahead, in the room of [`ReadAhead`]. When it fails or is
/// cancelled, no upload stays open, and nothing is visible unless the commit had begun.
pub async fn run(
    order: &RunOrder,
    secrets: Arc<dyn Secrets>,
    volumes: &Volumes,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Delivered> {
    let DeliveryPath::Staged { staging } = &order.delivery else {
        return Err(Error::new(Reason::InternalError, "a direct delivery has nothing to transfer"));
    };
    let sink = store::open(&order.sink.target, secrets.clone(), volumes)?;
    let earlier = match arrive(sink.as_ref(), order).await? {
        Arrival::Delivered(delivered) => return Ok(delivered),
        Arrival::Open(earlier) => earlier,
    };
    let staging = Staging::open(store::open(&staging.target, secrets, volumes)?, order);
    let (plan, sidecars) = complete(&staging).await?;
    progress.planned(u32::try_from(sidecars.len()).unwrap_or(u32::MAX));
    failpoint::hit("transfer::begun", &order.run.uid).await;

    let mark = staging.mark().await?;
    let delivery = Delivery::new(sink.clone(), order, earlier, Some(staging.clone()));
    let stop = cancel.child_token();
    let parallelism = order.parallelism.max(1) as usize;
    let transfer = Transfer {
        order,
        staging: &staging,
        sink,
        delivery: &delivery,
        progress,
        stop: &stop,
        copies: ServerCopies::default(),
        ahead: ReadAhead::new(parallelism),
    };
    let files = files(order.files.layout, &plan, &sidecars);
    let mut files = stream::iter(files.iter().map(|file| transfer.file(file))).buffer_unordered(parallelism);
    let mut transferred = Ok(());
    let mut counted = Vec::with_capacity(sidecars.len());
    while let Some(result) = files.next().await {
        match result {
            Ok(rows) => counted.extend(rows),
            Err(error) => {
                // The others give up their uploads.
                stop.cancel();
                transferred = transferred.and(Err(error));
            }
        }
    }
    drop(files);
    if cancel.is_cancelled() {
        transferred = Err(interrupted());
    }
    // Of what the database wrote by itself, rows are known only now.
    let transferred = transferred.and_then(|()| expect::check_rows(order, &plan, counted));
    if let Err(error) = transferred {
        delivery.abort().await;
        return Err(error);
    }
    let delivered = delivery.commit(order, &plan, export(&plan, &sidecars), cancel).await?;
    if let Err(error) = staging.unmark(mark).await {
        // Only what the cleanup can say of a sink that it may not look into gets less exact.
        tracing::warn!(%error, "the mark of this transfer stays in the staging");
    }
    Ok(delivered)
}

/// The plan, and the sidecars of all its chunks.
async fn complete(staging: &Staging) -> Result<(Plan, Vec<Sidecar>)> {
    let plan = staging
        .plan()
        .await?
        .ok_or_else(|| Error::new(Reason::InternalError, "the staging holds no plan"))?;
    let sidecars = staging.sidecars().await?;
    let mut found = sidecars.iter().map(|sidecar| sidecar.chunk).peekable();
    let missing: Vec<String> = (0..)
        .zip(&plan.chunks)
        .filter(|(chunk, _)| found.next_if_eq(chunk).is_none())
        .map(|(chunk, _): (u32, _)| chunk.to_string())
        .collect();
    if missing.is_empty() && sidecars.len() == plan.chunks.len() {
        return Ok((plan, sidecars));
    }
    let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > NAMED { ", …" } else { "" };
    let message = format!(
        "the staging holds {} of {} chunks; these are missing: {named}{more}",
        sidecars.len(),
        plan.chunks.len()
    );
    Err(Error::new(Reason::InternalError, message))
}

/// A data file, and the chunks whose bodies make it.
struct OutputFile<'a> {
    index: u32,
    dataset: &'a PlannedDataset,
    part: u32,
    chunks: Vec<&'a Sidecar>,
}

/// All data files. `sidecars` are those of all chunks, by index.
fn files<'a>(layout: Layout, plan: &'a Plan, sidecars: &'a [Sidecar]) -> Vec<OutputFile<'a>> {
    let mut files = Vec::new();
    for (index, dataset) in (0..).zip(&plan.datasets) {
        let chunks = plan.chunks.iter().zip(sidecars).filter(|(chunk, _)| chunk.dataset == index);
        match layout {
            Layout::Single => {
                files.push(OutputFile {
                    index,
                    dataset,
                    part: 0,
                    chunks: chunks.map(|(_, sidecar)| sidecar).collect(),
                });
            }
            Layout::PerChunk => files.extend(chunks.map(|(chunk, sidecar)| OutputFile {
                index,
                dataset,
                part: chunk.part,
                chunks: vec![sidecar],
            })),
        }
    }
    files
}

fn export(plan: &Plan, sidecars: &[Sidecar]) -> Export {
    let time = plan.time;
    Export {
        chunks: u32::try_from(sidecars.len()).unwrap_or(u32::MAX),
        started: sidecars.iter().map(|sidecar| sidecar.started).min().unwrap_or(time),
        finished: sidecars.iter().map(|sidecar| sidecar.finished).max().unwrap_or(time),
    }
}

struct Transfer<'a> {
    order: &'a RunOrder,
    staging: &'a Staging,
    sink: Arc<dyn Store>,
    delivery: &'a Delivery,
    progress: &'a Progress,
    stop: &'a CancellationToken,
    copies: ServerCopies,
    ahead: ReadAhead,
}

impl Transfer<'_> {
    /// Delivers a file, and returns how many rows each of its chunks has.
    async fn file(&self, file: &OutputFile<'_>) -> Result<Vec<(u32, u64)>> {
        if self.stop.is_cancelled() {
            return Err(interrupted());
        }
        let RunOrder { files, format, compression, .. } = self.order;
        let (format, token) = (format.format_type, self.order.token());
        let value = file.dataset.value(file.part);
        let name = file_name(files, format, *compression, &file.dataset.name, file.part, value, &token);
        let key = self.delivery.key(&name);
        let media_type = media_type(format, *compression);
        if let Some(finished) = self.server_copy(file, &key, media_type).await? {
            let counted: Vec<_> = file.chunks.iter().map(|sidecar| (sidecar.chunk, sidecar.rows)).collect();
            self.deliver(file, finished, &counted);
            return Ok(counted);
        }
        let mut writer = FileWriter::begin(self.sink.as_ref(), &key, media_type).await?;
        let copied = self.stop.run_until_cancelled(self.copy(file, &mut writer)).await;
        match copied.unwrap_or_else(|| Err(interrupted())) {
            Ok(counted) => {
                self.deliver(file, writer.finish().await?, &counted);
                Ok(counted)
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    fn deliver(&self, file: &OutputFile<'_>, finished: FinishedFile, counted: &[(u32, u64)]) {
        let rows = total(counted.iter().map(|(_, rows)| *rows));
        self.delivery.add(DeliveredFile { dataset: file.index, part: file.part, rows, file: finished });
    }

    async fn copy(&self, file: &OutputFile<'_>, writer: &mut FileWriter) -> Result<Vec<(u32, u64)>> {
        let mut counted: Vec<_> = file.chunks.iter().map(|sidecar| (sidecar.chunk, sidecar.rows)).collect();
        if self.order.format.format_type == FormatType::Parquet && file.chunks.len() > 1 {
            return self.join(file, writer).await;
        }
        let mut bodies = self.staging.bodies(&file.chunks, &self.ahead);
        let mut framer = Framer::new(&self.order.format, file.dataset);
        self.frame(framer.head(), writer).await?;
        for (sidecar, (_, rows)) in file.chunks.iter().zip(&mut counted) {
            match &sidecar.body {
                Body::Written(digest) => {
                    if sidecar.rows > 0 {
                        self.frame(framer.joint(), writer).await?;
                    }
                    let mut cut = Cut::new(0, u64::MAX);
                    self.chunk(sidecar, digest, &mut bodies, &mut cut, writer).await?;
                }
                Body::Unseen(unseen) => {
                    let chunk = Chunk { sidecar, unseen: *unseen, dataset: file.dataset };
                    let mut cut = Cut::new(0, u64::MAX);
                    let mut out = Out { framer: &mut framer, cut: &mut cut, writer: &mut *writer };
                    let ended = self.unseen(chunk, Role::Whole, &mut out).await;
                    let ended = ended.map_err(|error| error.with_chunk(sidecar.chunk))?;
                    for left in ended.left {
                        writer.write(left).await?;
                    }
                    *rows = ended.rows;
                }
            }
        }
        self.frame(framer.tail(), writer).await?;
        Ok(counted)
    }

    /// Makes a Parquet file of those of several chunks.
    async fn join(&self, file: &OutputFile<'_>, writer: &mut FileWriter) -> Result<Vec<(u32, u64)>> {
        let mut bodies = self.staging.bodies(&file.chunks, &self.ahead);
        let mut joiner = ParquetJoiner::default();
        let mut counted = Vec::with_capacity(file.chunks.len());
        writer.write(ParquetJoiner::head()).await?;
        for sidecar in &file.chunks {
            let added = match &sidecar.body {
                Body::Written(digest) => {
                    let mut cut = Cut::row_groups(sidecar, digest);
                    self.chunk(sidecar, digest, &mut bodies, &mut cut, writer).await?;
                    joiner.add(cut.kept, &cut.rest).map(|()| sidecar.rows)
                }
                Body::Unseen(unseen) => {
                    let chunk = Chunk { sidecar, unseen: *unseen, dataset: file.dataset };
                    self.join_unseen(chunk, &mut joiner, writer).await
                }
            };
            counted.push((sidecar.chunk, added.map_err(|error| error.with_chunk(sidecar.chunk))?));
        }
        writer.write(joiner.tail()?).await?;
        Ok(counted)
    }

    /// Makes row groups of what the database wrote by itself, and counts its rows.
    async fn join_unseen(
        &self,
        chunk: Chunk<'_>,
        joiner: &mut ParquetJoiner,
        writer: &mut FileWriter,
    ) -> Result<u64> {
        let mut framer = Framer::new(&self.order.format, chunk.dataset);
        let mut cut = Cut::new(ParquetJoiner::HEAD, u64::MAX);
        let mut out = Out { framer: &mut framer, cut: &mut cut, writer: &mut *writer };
        let Ended { rows, left, footer } = self.unseen(chunk, Role::Part, &mut out).await?;
        let mut left = left.concat();
        let footer = left.split_off(left.len().saturating_sub(footer));
        writer.write(cut.piece(left.into())).await?;
        joiner.add(cut.kept, &footer)?;
        Ok(rows)
    }

    /// Writes what stands around bodies, as a member or frame of its own where these are compressed.
    async fn frame(&self, piece: Bytes, writer: &mut FileWriter) -> Result<()> {
        writer.write(compressed(self.order.compression, piece)?).await
    }

    async fn chunk(
        &self,
        sidecar: &Sidecar,
        digest: &FileDigest,
        bodies: &mut FileSequence,
        cut: &mut Cut,
        writer: &mut FileWriter,
    ) -> Result<()> {
        self.checked(sidecar, digest, bodies, cut, writer)
            .await
            .map_err(|error| error.with_chunk(sidecar.chunk))
    }

    /// Copies what `cut` keeps of a chunk's body, the next one of `bodies`, and checks all of it.
    async fn checked(
        &self,
        sidecar: &Sidecar,
        digest: &FileDigest,
        bodies: &mut FileSequence,
        cut: &mut Cut,
        writer: &mut FileWriter,
    ) -> Result<()> {
        let mut crc = Crc64NvmeHasher::default();
        let mut bytes = 0;
        while let Some(piece) = bodies.next().await? {
            bytes += piece.len() as u64;
            crc.update(&piece);
            self.progress.read(0, piece.len() as u64);
            writer.write(cut.piece(piece)).await?;
        }
        if bytes != digest.bytes || crc.checksum() != digest.crc64nvme {
            let message = format!(
                "{} has {bytes} bytes with CRC64NVME {}, and its sidecar says {} and {}",
                self.staging.uri(sidecar),
                crc.checksum(),
                digest.bytes,
                digest.crc64nvme
            );
            return Err(Error::new(Reason::ChecksumMismatch, message)
                .with_hint("look for whoever else writes to the staging, or a proxy that alters requests"));
        }
        self.progress.read(sidecar.rows, 0);
        self.progress.chunk_transferred();
        Ok(())
    }
}

/// Which bytes of a body are copied.
struct Cut {
    /// How many at its beginning are not.
    skip: u64,
    /// How many follow that are.
    keep: u64,
    /// How many were.
    kept: u64,
    /// What follows those.
    rest: Vec<u8>,
}

impl Cut {
    const fn new(skip: u64, keep: u64) -> Self {
        Self { skip, keep, kept: 0, rest: Vec::new() }
    }

    /// The row groups of a Parquet file.
    fn row_groups(sidecar: &Sidecar, digest: &FileDigest) -> Self {
        let around = sidecar.footer.unwrap_or_default().saturating_add(ParquetJoiner::HEAD);
        Self::new(ParquetJoiner::HEAD, digest.bytes.saturating_sub(around))
    }

    /// What is copied of the next piece.
    fn piece(&mut self, mut piece: Bytes) -> Bytes {
        let skipped = up_to(self.skip, &piece);
        drop(piece.split_to(skipped));
        self.skip -= skipped as u64;
        let kept = piece.split_to(up_to(self.keep - self.kept, &piece));
        self.kept += kept.len() as u64;
        self.rest.extend_from_slice(&piece);
        kept
    }
}

/// So many, but no more than a piece has.
fn up_to(count: u64, piece: &Bytes) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(piece.len())
}

fn interrupted() -> Error {
    Error::new(Reason::Interrupted, "the transfer was stopped before it was done")
}
