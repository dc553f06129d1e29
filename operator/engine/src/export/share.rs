//! One worker's share of the chunks, over its share of the connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pgexport_api::reason::Reason;
use pgexport_api::size::ByteSize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::chunk_file::{ChunkFile, StoredChunk};
use super::{Context, interrupted};
use crate::error::{Error, Result};
use crate::output::{FileWriter, Packer};
use crate::plan::{self, Plan, PlannedDataset};
use crate::source::{Importer, RateLimit, application_name, privilege};

/// Every `workers`-th chunk, so that the chunks of each data set are spread over all workers.
pub(super) fn chunks_of(worker: u32, workers: u32, chunks: usize) -> Vec<u32> {
    (0..u32::try_from(chunks).unwrap_or(u32::MAX)).filter(|chunk| chunk % workers.max(1) == worker).collect()
}

/// How many connections this worker opens: its part of `parallelism`, and at least one.
pub(super) fn connections_of(worker: u32, workers: u32, parallelism: u32) -> u32 {
    let workers = workers.max(1);
    (parallelism / workers + u32::from(worker < parallelism % workers)).max(1)
}

/// Where a worker's chunks go.
pub(super) trait Destination: Sync {
    /// What is known of a chunk that is kept.
    type Kept: Send;

    /// Begins the file of a chunk.
    fn begin(&self, chunk: u32) -> impl Future<Output = Result<(FileWriter, Packer)>> + Send;

    /// Keeps a chunk whose every row is stored. On an error it has been given up.
    fn keep(&self, chunk: u32, stored: StoredChunk) -> impl Future<Output = Result<Self::Kept>> + Send;
}

/// Exports chunks side by side, and returns what is known of each. After the first error, or when `stop` is cancelled, the
/// chunks that are under way are given up: their queries are cancelled, their files aborted.
pub(super) async fn export<D: Destination>(
    context: &Context,
    plan: &Plan,
    chunks: &[u32],
    destination: &D,
    stop: &CancellationToken,
) -> Result<Vec<(u32, D::Kept)>> {
    let rate = context.order.source.limits.max_rate.map(ByteSize::bytes);
    let rate = rate.map(|rate| RateLimit::new(rate / u64::from(context.order.workers.max(1))));
    let share = Share { chunks, next: AtomicUsize::new(0), rate };
    side_by_side(context, chunks.len(), stop, || stream(context, plan, &share, destination, stop)).await
}

/// Runs as many streams as this worker has connections, and returns what they do. After the first error, `stop` is
/// cancelled.
pub(super) async fn side_by_side<K, S>(
    context: &Context,
    chunks: usize,
    stop: &CancellationToken,
    stream: impl Fn() -> S,
) -> Result<Vec<K>>
where
    S: Future<Output = Result<Vec<K>>>,
{
    let connections =
        connections_of(context.worker, context.order.workers, context.order.parallelism) as usize;
    let mut streams = FuturesUnordered::new();
    for _ in 0..connections.min(chunks) {
        streams.push(stream());
    }
    let mut kept = Vec::with_capacity(chunks);
    let mut failure: Option<Error> = None;
    while let Some(ended) = streams.next().await {
        match ended {
            Ok(chunks) => kept.extend(chunks),
            Err(error) => {
                stop.cancel();
                failure = Some(more_telling(failure, error));
            }
        }
    }
    failure.map_or(Ok(kept), Err)
}

/// The first error that is not the consequence of another one.
pub(super) fn more_telling(former: Option<Error>, error: Error) -> Error {
    match former {
        Some(former) if former.reason() != Reason::Interrupted => former,
        _ => error,
    }
}

/// What the connections of a worker share.
struct Share<'a> {
    chunks: &'a [u32],
    /// The place of the next chunk that nobody has taken.
    next: AtomicUsize,
    rate: Option<RateLimit>,
}

/// One connection: takes chunk after chunk until none is left. While the end of a chunk's file is on its way to the store, the
/// rows of the next chunk are read, so that the database need not wait for the store.
async fn stream<D: Destination>(
    context: &Context,
    plan: &Plan,
    share: &Share<'_>,
    destination: &D,
    stop: &CancellationToken,
) -> Result<Vec<(u32, D::Kept)>> {
    let mut kept = Vec::new();
    let mut connection: Option<Importer> = None;
    let uploading = Arc::new(Semaphore::new(1));
    let mut full: Option<(u32, ChunkFile)> = None;
    loop {
        let next = async {
            let Some(&chunk) = share.chunks.get(share.next.fetch_add(1, Ordering::Relaxed)) else {
                return Ok(None);
            };
            let importer = ready(context, plan, chunk, &mut connection, stop).await?;
            let (writer, packer) = destination.begin(chunk).await.map_err(|error| error.with_chunk(chunk))?;
            let file = ChunkFile::new(writer, packer, Arc::clone(&uploading));
            let file = read(context, plan, chunk, importer, share.rate.as_ref(), file, stop).await;
            Ok(Some((chunk, file.map_err(|error| error.with_chunk(chunk))?)))
        };
        let former = async {
            let Some((chunk, file)) = full.take() else { return Ok(None) };
            let done = keep(context, chunk, file, destination, stop).await;
            Ok(Some((chunk, done.map_err(|error| error.with_chunk(chunk))?)))
        };
        match tokio::join!(or_stop(stop, next), or_stop(stop, former)) {
            (Ok(next), Ok(former)) => {
                kept.extend(former);
                full = next;
            }
            (Ok(next), Err(error)) => {
                if let Some((_, file)) = next {
                    file.abort().await;
                }
                return Err(error);
            }
            (Err(error), former) => return Err(more_telling(former.err(), error)),
        }
        if full.is_none() {
            break;
        }
    }
    if let Some(importer) = connection {
        importer.finish().await;
    }
    Ok(kept)
}

/// After an error nothing else needs to go on.
async fn or_stop<T>(stop: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = work.await;
    if done.is_err() {
        stop.cancel();
    }
    done
}

/// The stream's connection, for this chunk.
async fn ready<'a>(
    context: &Context,
    plan: &Plan,
    chunk: u32,
    connection: &'a mut Option<Importer>,
    stop: &CancellationToken,
) -> Result<&'a mut Importer> {
    if stop.is_cancelled() {
        return Err(interrupted());
    }
    let importer = if let Some(mut importer) = connection.take() {
        importer.rename(connection_name(context, chunk));
        importer
    } else {
        tokio::select! {
            importer = join(context, plan, chunk) => importer?,
            () = stop.cancelled() => return Err(interrupted()),
        }
    };
    Ok(connection.insert(importer))
}

async fn join(context: &Context, plan: &Plan, chunk: u32) -> Result<Importer> {
    let (connector, name) = (&context.connector, connection_name(context, chunk));
    let Some(snapshot) = &plan.snapshot else {
        let importer = Importer::connect(connector, &name).await?;
        privilege::check(importer.session(), &context.order.source).await?;
        return Ok(importer);
    };
    Importer::join(connector, snapshot, &name).await
}

/// Locks what the chunk's query reads, in the snapshot or in a transaction of its own.
async fn lock(plan: &Plan, chunk: u32, query: &str, importer: &mut Importer) -> Result<()> {
    let (planned, _) = plan.chunk(chunk)?;
    if plan.snapshot.is_none() {
        importer.begin_anew().await?;
    }
    importer.pin().await?;
    plan::lock(importer.session(), plan, planned, query).await
}

/// Tells people who look into `pg_stat_activity` which chunk is read.
pub(super) fn connection_name(context: &Context, chunk: u32) -> String {
    application_name(&context.order.run, &format!("{chunk:05}"))
}

/// Reads a chunk's rows into its file. On an error the file has been given up.
async fn read(
    context: &Context,
    plan: &Plan,
    chunk: u32,
    importer: &mut Importer,
    rate: Option<&RateLimit>,
    mut file: ChunkFile,
    stop: &CancellationToken,
) -> Result<ChunkFile> {
    // The store may be slow, and the server too: whatever is waited for, a stop is obeyed.
    let filled = tokio::select! {
        filled = async {
            let (planned, dataset) = plan.chunk(chunk)?;
            let query = plan::chunk_query(&context.order, plan, planned)?;
            lock(plan, chunk, &query, importer).await?;
            fill(context, &query, dataset, importer, rate, &mut file).await
        } => filled,
        () = stop.cancelled() => Err(interrupted()),
    };
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            file.abort().await;
            Err(error)
        }
    }
}

async fn fill(
    context: &Context,
    query: &str,
    dataset: &PlannedDataset,
    importer: &mut Importer,
    rate: Option<&RateLimit>,
    file: &mut ChunkFile,
) -> Result<()> {
    let mut rows = importer.copy(query, &context.order.format, dataset).await?;
    file.head().await?;
    let mut paid = 0;
    while let Some(batch) = rows.next().await {
        let (batch, written) = (batch?, file.bytes());
        if let Some(rate) = rate {
            // More comes while this is paid for.
            let taken = rows.taken();
            rate.pay(taken - paid).await;
            paid = taken;
        }
        context.progress.read(batch.rows, 0);
        file.write(batch).await?;
        context.progress.read(0, file.bytes() - written);
    }
    let written = file.bytes();
    file.tail().await?;
    context.progress.read(0, file.bytes() - written);
    Ok(())
}

/// Waits until all of a chunk's file is stored, and keeps it. On an error it has been given up.
async fn keep<D: Destination>(
    context: &Context,
    chunk: u32,
    mut file: ChunkFile,
    destination: &D,
    stop: &CancellationToken,
) -> Result<D::Kept> {
    let stored = stop.run_until_cancelled(file.flush()).await;
    if let Err(error) = stored.unwrap_or_else(|| Err(interrupted())) {
        file.abort().await;
        return Err(error);
    }
    let kept = destination.keep(chunk, file.finish().await?).await?;
    context.progress.chunk_exported();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_belongs_to_one_worker() {
        for workers in 1..5 {
            let mut all: Vec<u32> = (0..workers).flat_map(|worker| chunks_of(worker, workers, 17)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..17).collect::<Vec<_>>(), "{workers} workers");
        }
    }

    #[test]
    fn connections_add_up_to_the_parallelism() {
        for workers in 1..6 {
            for parallelism in workers..12 {
                let sum: u32 = (0..workers).map(|worker| connections_of(worker, workers, parallelism)).sum();
                assert_eq!(sum, parallelism, "{workers} workers");
            }
        }
        assert_eq!(connections_of(3, 4, 1), 1, "a worker has at least one");
    }

    #[test]
    fn the_cause_is_told_rather_than_its_consequences() {
        let error = more_telling(Some(interrupted()), Error::new(Reason::DataError, "division by zero"));
        assert_eq!(error.reason(), Reason::DataError);
        let error = more_telling(Some(error), interrupted());
        assert_eq!(error.reason(), Reason::DataError);
    }
}
