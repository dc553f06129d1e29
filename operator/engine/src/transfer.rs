//! The transfer: from staging to the sink, file by file, each byte checked on its way.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use pgexport_api::job::Layout;
use pgexport_api::order::{DeliveryPath, RunOrder};
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;
use pgexport_failpoint as failpoint;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::manifest::{Arrival, DeliveredFile, Delivery, Export, arrive};
use crate::output::{Crc64NvmeHasher, FileWriter, Framer, file_name};
use crate::plan::{Plan, PlannedDataset};
use crate::progress::Progress;
use crate::secret::Secrets;
use crate::staging::{Sidecar, Staging};
use crate::store::{self, Store, Volumes};

/// How many missing chunks a message names.
const NAMED: usize = 10;

/// Delivers what a staged export left in its staging. It can be run again at any time: it then writes the same bytes, or
/// finds them delivered.
///
/// Files are transferred `parallelism` at a time, each in the memory of one [`FileWriter`]. When it fails or is cancelled, no
/// upload stays open, and nothing is visible unless the commit had begun.
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
    let transfer = Transfer { order, staging: &staging, sink, delivery: &delivery, progress, stop: &stop };
    let files = files(order.files.layout, &plan, &sidecars);
    let mut files = stream::iter(files.iter().map(|file| transfer.file(file)))
        .buffer_unordered(order.parallelism.max(1) as usize);
    let mut transferred = Ok(());
    while let Some(result) = files.next().await {
        if result.is_err() {
            // The others give up their uploads.
            stop.cancel();
        }
        transferred = transferred.and(result);
    }
    drop(files);
    if cancel.is_cancelled() {
        transferred = Err(interrupted());
    }
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
}

impl Transfer<'_> {
    async fn file(&self, file: &OutputFile<'_>) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(interrupted());
        }
        let RunOrder { files, format, .. } = self.order;
        let name = file_name(files, format.format_type, &file.dataset.name, file.part, &self.order.token());
        let key = self.delivery.key(&name);
        let mut writer = FileWriter::begin(self.sink.as_ref(), &key, format.format_type.media_type()).await?;
        let copied = self.stop.run_until_cancelled(self.copy(file, &mut writer)).await;
        match copied.unwrap_or_else(|| Err(interrupted())) {
            Ok(()) => {
                let rows = file.chunks.iter().map(|chunk| chunk.rows).sum();
                let finished = writer.finish().await?;
                self.delivery.add(DeliveredFile {
                    dataset: file.index,
                    part: file.part,
                    rows,
                    file: finished,
                });
                Ok(())
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    async fn copy(&self, file: &OutputFile<'_>, writer: &mut FileWriter) -> Result<()> {
        let mut framer = Framer::new(&self.order.format, file.dataset);
        writer.write(framer.head()).await?;
        for sidecar in &file.chunks {
            self.chunk(sidecar, &mut framer, writer)
                .await
                .map_err(|error| error.with_chunk(sidecar.chunk))?;
        }
        writer.write(framer.tail()).await
    }

    async fn chunk(&self, sidecar: &Sidecar, framer: &mut Framer, writer: &mut FileWriter) -> Result<()> {
        let mut body = self.staging.body(sidecar).await?;
        let mut crc = Crc64NvmeHasher::default();
        let mut bytes = 0;
        while let Some(piece) = body.try_next().await? {
            let piece: Bytes = piece;
            bytes += piece.len() as u64;
            crc.update(&piece);
            self.progress.read(0, piece.len() as u64);
            writer.write(framer.body(piece)).await?;
        }
        if bytes != sidecar.body.bytes || crc.checksum() != sidecar.body.crc64nvme {
            let message = format!(
                "{} has {bytes} bytes with CRC64NVME {}, and its sidecar says {} and {}",
                self.staging.uri(sidecar),
                crc.checksum(),
                sidecar.body.bytes,
                sidecar.body.crc64nvme
            );
            return Err(Error::new(Reason::ChecksumMismatch, message)
                .with_hint("look for whoever else writes to the staging, or a proxy that alters requests"));
        }
        self.progress.read(sidecar.rows, 0);
        self.progress.chunk_transferred();
        Ok(())
    }
}

fn interrupted() -> Error {
    Error::new(Reason::Interrupted, "the transfer was stopped before it was done")
}
