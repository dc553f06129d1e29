//! Staged: each chunk becomes an object of the staging, and a sidecar that tells of it.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::{Consistency, Layout};
use pgexport_api::order::NamedSink;
use pgexport_api::reason::Reason;
use pgexport_api::report::Exported;
use pgexport_api::source::Method;
use tokio_util::sync::CancellationToken;

use super::chunk_file::StoredChunk;
use super::share::{self, Destination};
use super::{Context, aurora, begin, expect, export_while_held, interrupted, per_chunk};
use crate::error::{Error, Result};
use crate::manifest::total;
use crate::output::{FileWriter, Packer, Role};
use crate::plan::Plan;
use crate::source::Holder;
use crate::staging::{ChunkRecord, Sidecar, Staging};
use crate::store::{self, Put};

/// How often worker 0 looks for the others' sidecars, and the others for the plan.
const POLL: Duration = Duration::from_secs(1);

/// Worker 0: plans, holds the snapshot, exports its share, and leaves last.
pub(super) async fn lead(context: &Context, staging: &NamedSink) -> Result<Exported> {
    let staging = open(context, staging)?;
    match context.order.consistency {
        Consistency::Snapshot => lead_snapshot(context, &staging).await,
        Consistency::PerChunk => per_chunk::lead(context, &staging).await,
    }
}

async fn lead_snapshot(context: &Context, staging: &Staging) -> Result<Exported> {
    if let Some(plan) = staging.plan().await? {
        // A former pod of this worker planned, and its snapshot went with it. If every chunk was there by then, only
        // its report is missing.
        let sidecars = staging.sidecars().await?;
        if sidecars.len() == plan.chunks.len() {
            return totals(context, &plan, &sidecars);
        }
        return Err(Error::new(
            Reason::SnapshotLost,
            "worker 0 was restarted, and the snapshot that it held is gone",
        ));
    }
    let (holder, plan) = begin(context).await?;
    let ended = held(context, &holder, staging, &plan).await;
    holder.finish().await;
    ended
}

/// Everything that needs the snapshot.
async fn held(context: &Context, holder: &Holder, staging: &Staging, plan: &Plan) -> Result<Exported> {
    if staging.create_plan(plan).await? == Put::Exists {
        return Err(Error::new(Reason::SnapshotLost, "another pod of worker 0 has planned this attempt"));
    }
    // From here on the attempt stands and falls with this pod.
    let exported = async {
        let chunks = share::chunks_of(0, context.order.workers, plan.chunks.len());
        let stop = context.cancel.child_token();
        let export = export_chunks(context, staging, plan, &chunks, &stop);
        export_while_held(holder, &stop, export).await?;
        tracing::info!("this worker's chunks are exported; waiting for the others'");
        tokio::select! {
            others = all_finished(context, staging, plan) => others?,
            error = holder.closed() => return Err(error),
        }
        totals(context, plan, &staging.sidecars().await?)
    };
    exported.await
}

/// Waits until every chunk of every worker is finished.
pub(super) async fn all_finished(context: &Context, staging: &Staging, plan: &Plan) -> Result<()> {
    while staging.finished().await?.len() < plan.chunks.len() {
        staging.check_planned().await?;
        pause(context).await?;
    }
    Ok(())
}

/// Any other worker: exports what is left of its share.
pub(super) async fn follow(context: &Context, staging: &NamedSink) -> Result<()> {
    let staging = open(context, staging)?;
    let plan = loop {
        if let Some(plan) = staging.plan().await? {
            break plan;
        }
        pause(context).await?;
    };
    export_rest(context, &staging, &plan).await
}

/// Exports what is left of this worker's share.
pub(super) async fn export_rest(context: &Context, staging: &Staging, plan: &Plan) -> Result<()> {
    context.progress.planned(u32::try_from(plan.chunks.len()).unwrap_or(u32::MAX));
    let finished = staging.finished().await?;
    let mut chunks = share::chunks_of(context.worker, context.order.workers, plan.chunks.len());
    chunks.retain(|chunk| {
        let done = finished.contains(chunk);
        if done {
            context.progress.chunk_exported();
        }
        !done
    });
    let stop = context.cancel.child_token();
    export_chunks(context, staging, plan, &chunks, &stop).await
}

/// Exports chunks by the source's method.
async fn export_chunks(
    context: &Context,
    staging: &Staging,
    plan: &Plan,
    chunks: &[u32],
    stop: &CancellationToken,
) -> Result<()> {
    match context.order.source.method {
        // Boxed, as it is a large future, and most exports are not by this method.
        Method::AuroraS3 => Box::pin(aurora::export(context, plan, staging, chunks, stop)).await,
        Method::Copy => {
            share::export(context, plan, chunks, &Chunks { context, plan, staging }, stop).await.map(drop)
        }
    }
}

fn open(context: &Context, staging: &NamedSink) -> Result<Staging> {
    let store = store::open(&staging.target, Arc::clone(&context.secrets), &context.volumes)?;
    Ok(Staging::open(store, &context.order))
}

async fn pause(context: &Context) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(POLL) => Ok(()),
        () = context.cancel.cancelled() => Err(interrupted()),
    }
}

/// What worker 0 reports, if it is as expected.
pub(super) fn totals(context: &Context, plan: &Plan, sidecars: &[Sidecar]) -> Result<Exported> {
    // Those that nobody has counted are looked at again when they are.
    let rows = sidecars.iter().map(|sidecar| (sidecar.chunk, sidecar.most_rows()));
    expect::check_rows(&context.order, plan, rows)?;
    Ok(Exported {
        chunks: u32::try_from(plan.chunks.len()).unwrap_or(u32::MAX),
        rows: total(sidecars.iter().map(|sidecar| sidecar.rows)),
        bytes: total(sidecars.iter().map(Sidecar::bytes)),
        snapshot_time: plan.snapshot.as_ref().map(|snapshot| snapshot.time),
        chunking: plan.chunking(),
    })
}

/// Objects of the staging.
struct Chunks<'a> {
    context: &'a Context,
    plan: &'a Plan,
    staging: &'a Staging,
}

impl Destination for Chunks<'_> {
    type Kept = ();

    async fn begin(&self, chunk: u32) -> Result<(FileWriter, Packer)> {
        let (_, dataset) = self.plan.chunk(chunk)?;
        let order = &self.context.order;
        let role = if order.files.layout == Layout::Single { Role::Part } else { Role::Whole };
        let packer = Packer::new(&order.format, order.compression, dataset, role)?;
        Ok((self.staging.writer(self.plan, chunk).await?, packer))
    }

    async fn keep(&self, chunk: u32, stored: StoredChunk) -> Result<()> {
        let StoredChunk { file, rows, footer, started, finished } = stored;
        let record = ChunkRecord { chunk, rows, footer, started, finished, worker: self.context.worker };
        if self.staging.seal(record, file).await? == Put::Exists {
            tracing::warn!(
                chunk,
                "another pod of this worker has exported this chunk too; its sidecar stands"
            );
        }
        Ok(())
    }
}
