//! Method `AuroraS3`: this worker's share of the chunks, written to the staging by the database itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use pgexport_api::source::RunTable;
use pgexport_failpoint as failpoint;
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use super::share::{connection_name, more_telling, side_by_side};
use super::{Context, interrupted};
use crate::aurora::{
    Exporter, Finished, Ledger, Request, Target, Uploaded, end_orphans, finished, ledger, still_as_planned,
};
use crate::encode::{DatabaseStatement, database_statement};
use crate::error::{Error, Result};
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::source::error::Stage;
use crate::source::{Session, application_name, privilege};
use crate::staging::{ChunkRecord, Staging, Unseen};
use crate::store::Put;

/// How often it is looked how far the database is.
const LOOK: Duration = Duration::from_secs(2);
/// Every so many looks, it is looked which objects there are of the exports of which the database shows nothing.
const LOOKS_PER_LISTING: u32 = 15;
/// About what the extension puts into an object before it begins the next one.
const OBJECT_BYTES: u64 = 6 << 30;

/// What COPY has done so far, which the extension is built on.
const COPIES: &str = "
SELECT pid, tuples_processed, bytes_processed FROM pg_catalog.pg_stat_progress_copy
WHERE pid = ANY ($1) AND tuples_processed IS NOT NULL";

/// All that the connections of a worker share.
struct Share<'a> {
    context: &'a Context,
    plan: &'a Plan,
    staging: &'a Staging,
    target: Target,
    /// Where runs are recorded, if they are.
    ledger: Option<Ledger>,
    /// Whether what begins now is recorded.
    records: bool,
    /// What former workers have finished in this attempt, by chunk.
    finished: BTreeMap<u32, Finished>,
    meter: Meter,
    stop: &'a CancellationToken,
}

/// Has the database export chunks side by side. What a former worker of this run left running is ended first, and what it
/// left complete is taken over. After the first error, or when `stop` is cancelled, exports under way are cancelled and
/// waited for.
pub(super) async fn export(
    context: &Context,
    plan: &Plan,
    staging: &Staging,
    chunks: &[u32],
    stop: &CancellationToken,
) -> Result<()> {
    let preparing = prepare(context, plan, staging, chunks, stop);
    let prepared = stop.run_until_cancelled(preparing).await;
    let (watch, mut share) = prepared.unwrap_or_else(|| Err(interrupted()))?;
    let next = AtomicUsize::new(0);
    let exporting = side_by_side(context, chunks.len(), stop, || share.stream(chunks, &next));
    let exported = tokio::select! {
        exported = exporting => exported,
        never = share.watch(&watch) => match never {},
    };
    if let Some(ledger) = share.ledger.take() {
        ledger.close().await;
    }
    watch.close().await;
    exported.map(drop)
}

async fn prepare<'a>(
    context: &'a Context,
    plan: &'a Plan,
    staging: &'a Staging,
    chunks: &[u32],
    stop: &'a CancellationToken,
) -> Result<(Session, Share<'a>)> {
    let order = &context.order;
    let target = Target::of(order)?;
    let watch =
        context.connector.connect(&application_name(&order.run, &format!("watch{}", context.worker))).await?;
    privilege::check(&watch, &order.source).await?;
    let name = application_name(&order.run, &format!("ledger{}", context.worker));
    let ledger::Found { extension, ledger } =
        ledger::find(&watch, &order.source, Arc::clone(&context.secrets), &name).await?;
    if let Some(missing) = missing(extension.run_table, order.source.run_ledger.is_some()) {
        tracing::warn!(run_table = ?extension.run_table, "not all is recorded in the schema pgexport: {missing}");
    }
    // The former version does not see that a table is rewritten between a chunk's snapshot and its lock.
    let records = plan.snapshot.is_some() || extension.run_table != RunTable::Outdated;
    let mut complete = BTreeMap::new();
    if let Some(ledger) = &ledger {
        // What goes on of former attempts is of no use; of this one, another pod of this worker may have begun it.
        let attempt = order.run.attempt;
        end_orphans(&watch, ledger, &order.run.uid, |begun, chunk| {
            begun < attempt || begun == attempt && chunks.contains(&chunk)
        })
        .await?;
        complete = finished(&watch, ledger, &order.run, &target).await?;
        complete.retain(|chunk, _| chunks.contains(chunk));
        if plan.snapshot.is_none() {
            for &chunk in complete.keys() {
                let (planned, _) = plan.chunk(chunk)?;
                let query = plan::chunk_query(order, plan, planned)?;
                let checked = still_as_planned(&watch, plan, planned, &query).await;
                checked.map_err(|error| error.with_chunk(chunk))?;
            }
        }
    }
    let meter = Meter { progress: Arc::clone(&context.progress), running: Mutex::default() };
    Ok((watch, Share { context, plan, staging, target, ledger, records, finished: complete, meter, stop }))
}

/// What keeps runs or attempts from being recorded.
const fn missing(run_table: RunTable, has_writer: bool) -> Option<&'static str> {
    match (run_table, has_writer) {
        (RunTable::Ready, _) => None,
        (RunTable::NotInstalled, _) => Some("install it by `pgexport sql install`"),
        (RunTable::NotGranted, _) => Some("GRANT pgexport_worker to the source's user"),
        (RunTable::ReadOnly, false) => Some("the database is a replica, and spec.runLedger names no writer"),
        (RunTable::ReadOnly, true) => Some("spec.runLedger names a replica, and no writer"),
        (RunTable::Outdated, _) => Some("it is of an earlier version; upgrade it by `pgexport sql install`"),
    }
}

impl Share<'_> {
    /// One connection: takes chunk after chunk until none is left.
    async fn stream(&self, chunks: &[u32], next: &AtomicUsize) -> Result<Vec<()>> {
        let mut connection: Option<Exporter> = None;
        let mut failure: Option<Error> = None;
        while let Some(&chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.is_cancelled() {
                failure = Some(more_telling(failure, interrupted()));
                break;
            }
            if let Err(error) = self.chunk(chunk, &mut connection).await {
                failure = Some(more_telling(failure, error.with_chunk(chunk)));
                break;
            }
            self.context.progress.chunk_exported();
        }
        if let Some(exporter) = connection {
            exporter.finish().await;
        }
        failure.map_or(Ok(Vec::new()), Err)
    }

    async fn chunk(&self, chunk: u32, connection: &mut Option<Exporter>) -> Result<()> {
        let order = &self.context.order;
        let (planned, dataset) = self.plan.chunk(chunk)?;
        let query = plan::chunk_query(order, self.plan, planned)?;
        let statement = database_statement(&query, &order.format, &dataset.shapes);
        let started = Timestamp::now();
        if let Some((key, uploaded)) = self.taken_over(chunk, &statement) {
            tracing::info!(chunk, "a former worker's export is complete; it is taken over");
            self.context.progress.read(u64::from(uploaded.rows), uploaded.bytes);
            return self.seal(chunk, started, key, uploaded).await;
        }
        let name = connection_name(self.context, chunk);
        let exporter = if let Some(exporter) = connection {
            exporter.rename(name);
            exporter
        } else {
            let ledger = self.ledger.as_ref().filter(|_| self.records);
            let connecting = Exporter::connect(&self.context.connector, self.plan, ledger, &name);
            let connected = self.stop.run_until_cancelled(connecting).await;
            connection.insert(connected.unwrap_or_else(|| Err(interrupted()))?)
        };
        let key = self.staging.unseen_key(self.plan, chunk)?;
        let uploaded = self.upload(chunk, exporter, &query, &statement, &key).await?;
        failpoint::hit("aurora::uploaded", &key).await;
        self.seal(chunk, started, key, uploaded).await
    }

    /// What a former worker has exported of this chunk, by the same query, to the place that this attempt reads.
    fn taken_over(&self, chunk: u32, statement: &DatabaseStatement) -> Option<(String, Uploaded)> {
        let found = self.finished.get(&chunk)?;
        let key = found.key.strip_prefix(&self.target.prefix)?;
        let same = found.query_sha256 == hex::encode(Sha256::digest(&statement.query));
        (same && self.staging.is_body(key)).then(|| (key.to_owned(), found.uploaded))
    }

    async fn upload(
        &self,
        chunk: u32,
        exporter: &mut Exporter,
        query: &str,
        statement: &DatabaseStatement,
        key: &str,
    ) -> Result<Uploaded> {
        let (planned, dataset) = self.plan.chunk(chunk)?;
        let request = Request {
            run: &self.context.order.run,
            dataset: &dataset.name,
            chunk,
            chunks: u32::try_from(self.plan.chunks.len()).unwrap_or(u32::MAX),
            statement,
            key: &format!("{}{key}", self.target.prefix),
        };
        self.meter.begin(exporter.pid(), key);
        let uploaded = exporter.export(self.plan, planned, query, &self.target, &request, self.stop).await;
        self.meter.end(exporter.pid(), uploaded.as_ref().ok());
        uploaded
    }

    async fn seal(&self, chunk: u32, started: Timestamp, key: String, uploaded: Uploaded) -> Result<()> {
        let Uploaded { rows, objects, bytes } = uploaded;
        let worker = self.context.worker;
        let finished = Timestamp::now();
        let record = ChunkRecord { chunk, rows: u64::from(rows), footer: None, started, finished, worker };
        if self.staging.seal_unseen(record, key, Unseen { bytes, objects }).await? == Put::Exists {
            tracing::warn!(
                chunk,
                "another pod of this worker has exported this chunk too; its sidecar stands"
            );
        }
        Ok(())
    }

    /// Looks how far the database is, for ever. What it cannot see, it goes without.
    async fn watch(&self, session: &Session) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            ticks.tick().await;
            looks = looks.wrapping_add(1);
            let running = self.meter.running();
            if running.is_empty() {
                continue;
            }
            let pids: Vec<i32> = running.keys().copied().collect();
            let seen = copies(session, &pids).await.unwrap_or_default();
            for (pid, (rows, bytes)) in &seen {
                self.meter.saw(*pid, *rows, *bytes);
            }
            if looks.is_multiple_of(LOOKS_PER_LISTING) {
                for (pid, key) in running.iter().filter(|(pid, _)| !seen.contains_key(pid)) {
                    // All that are there but the last are full.
                    let objects =
                        self.staging.objects(key).await.unwrap_or_default().saturating_sub(1) as u64;
                    self.meter.saw(*pid, 0, objects * OBJECT_BYTES);
                }
            }
        }
    }
}

/// Rows and bytes of the exports of these server processes, where the server shows them.
async fn copies(session: &Session, pids: &[i32]) -> Result<BTreeMap<i32, (u64, u64)>> {
    let doing = "looking how far the database is";
    let rows = session.query(Stage::Run, doing, COPIES, &[(&pids, Type::INT4_ARRAY)]).await?;
    let column = |error| session.error(error, Stage::Run, doing);
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    let mut seen = BTreeMap::new();
    for row in &rows {
        let rows_and_bytes =
            (number(row.try_get(1).map_err(column)?), number(row.try_get(2).map_err(column)?));
        seen.insert(row.try_get(0).map_err(column)?, rows_and_bytes);
    }
    Ok(seen)
}

/// Counts what the database does by itself.
struct Meter {
    progress: Arc<Progress>,
    running: Mutex<BTreeMap<i32, Running>>,
}

/// What was counted of an export so far.
struct Running {
    key: String,
    rows: u64,
    bytes: u64,
}

impl Meter {
    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of the exports under way, by server process.
    fn running(&self) -> BTreeMap<i32, String> {
        self.locked().iter().map(|(pid, running)| (*pid, running.key.clone())).collect()
    }

    fn begin(&self, pid: i32, key: &str) {
        self.locked().insert(pid, Running { key: key.to_owned(), rows: 0, bytes: 0 });
    }

    fn saw(&self, pid: i32, rows: u64, bytes: u64) {
        if let Some(running) = self.locked().get_mut(&pid) {
            self.progress.read(rows.saturating_sub(running.rows), bytes.saturating_sub(running.bytes));
            running.rows = running.rows.max(rows);
            running.bytes = running.bytes.max(bytes);
        }
    }

    fn end(&self, pid: i32, uploaded: Option<&Uploaded>) {
        if let Some(uploaded) = uploaded {
            self.saw(pid, u64::from(uploaded.rows), uploaded.bytes);
        }
        self.locked().remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_is_not_counted_again() {
        let meter = Meter { progress: Arc::default(), running: Mutex::default() };
        let counted = || {
            let seen = meter.progress.snapshot();
            (seen.rows, seen.bytes)
        };
        meter.begin(7, "a");
        meter.saw(7, 10, 100);
        meter.saw(7, 30, 300);
        meter.saw(7, 20, 200);
        assert_eq!(counted(), (30, 300));
        meter.saw(8, 10, 100);
        assert_eq!(counted(), (30, 300), "nobody exports there");
        meter.end(7, Some(&Uploaded { rows: 40, objects: 1, bytes: 400 }));
        assert_eq!(counted(), (40, 400));
        meter.begin(7, "b");
        meter.end(7, None);
        assert_eq!(counted(), (40, 400));
    }
}
