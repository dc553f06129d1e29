//! What former workers of a run have left in its database: exports that go on, and exports that are complete.

use std::collections::BTreeMap;
use std::time::Duration;

use pgexport_api::order::RunIdentity;
use pgexport_api::reason::Reason;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};

use super::exporter::Uploaded;
use super::ledger::Ledger;
use super::target::Target;
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::Stage;

/// How often it is looked whether a cancelled export has ended.
const POLL: Duration = Duration::from_millis(500);
/// When an export that a cancel does not end is terminated.
const TERMINATE_AFTER: Duration = Duration::from_secs(15);
/// How long all of them may take to end.
const LONGEST: Duration = Duration::from_mins(1);

const DOING: &str = "looking for exports that go on in the database";

const LOOK: &str = "SELECT run_id, attempt, chunk, backend FROM pgexport.orphans($1)";
const CANCEL: &str = "SELECT result FROM pgexport.cancel($1, $2, $3)";
const MARK_LOST: &str = "SELECT pgexport.mark_lost($1)";

/// For a replica: what its writer's table has. What the replica has of it may be older.
const RUNNING: &str = "
SELECT r.run_id, r.attempt, r.chunk, (r.instance, r.server_address, r.server_port, r.standby, r.pid, r.backend_start,
  r.application_name)::pgexport.backend::pg_catalog.text
FROM pgexport.run r WHERE r.job_uid = $1 AND r.state = 'running'";
/// For a replica: asked there, in the order of what is asked for.
const BACKENDS: &str = "
SELECT pgexport.backend_state(b.backend::pgexport.backend)
FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY b (backend, n) ORDER BY b.n";
const CANCEL_BACKEND: &str = "SELECT pgexport.cancel_backend($1::pgexport.backend, $2)";
const ABANDON: &str = "
SELECT pgexport.abandon($1, 'Its backend is gone from the replica and left no outcome.')";

const FINISHED: &str = "
SELECT chunk, key, query_sha256, rows_uploaded, files_uploaded, bytes_uploaded FROM pgexport.run
WHERE job_uid = $1 AND attempt = $2 AND state = 'succeeded' AND bucket = $3";

/// A run without an outcome.
struct Orphan {
    run_id: i64,
    /// What is true of its server process, as seen from the instance that is exported from.
    backend: String,
    /// The server process itself, where the run is recorded elsewhere than it runs.
    told: Option<String>,
}

/// Ends the run's exports that go on in the database and that `is_wanted` picks by attempt and chunk, and waits until they
/// have. Those that are beyond reach (of another instance, or hidden from this login) are left, and told of in the log.
/// Returns how many it ended.
///
/// # Errors
/// What the database says, and [`Reason::DatabaseError`] where one does not end.
pub async fn end_orphans(
    session: &Session,
    ledger: &Ledger,
    uid: &str,
    is_wanted: impl Fn(u32, u32) -> bool,
) -> Result<usize> {
    let began = Instant::now();
    let mut ended = std::collections::BTreeSet::new();
    loop {
        let orphans = look(session, ledger, uid, &is_wanted).await?;
        let reachable = |orphan: &&Orphan| matches!(orphan.backend.as_str(), "active" | "idle");
        for orphan in orphans.iter().filter(reachable) {
            let is_new = ended.insert(orphan.run_id);
            if is_new {
                tracing::warn!(
                    run_id = orphan.run_id,
                    "a former worker's export goes on in the database; it is ended"
                );
            }
            // One that is idle does nothing for this run any more; its client is gone, or about to be. On a replica, that client
            // may be about to write how it was cancelled.
            let is_idle = orphan.backend == "idle" && (is_new || orphan.told.is_none());
            orphan.end(session, uid, is_idle || began.elapsed() > TERMINATE_AFTER).await?;
        }
        mark_lost(session, ledger, uid, orphans.iter().filter(|orphan| orphan.backend == "gone")).await?;
        if !orphans.iter().any(|orphan| reachable(&orphan)) {
            for orphan in orphans.iter().filter(|orphan| orphan.backend != "gone") {
                tracing::warn!(
                    run_id = orphan.run_id,
                    backend = orphan.backend,
                    "a run has no outcome, and its backend cannot be reached from here"
                );
            }
            return Ok(ended.len());
        }
        if began.elapsed() > LONGEST {
            let message = format!("{} exports of former workers do not end in the database", orphans.len());
            return Err(Error::new(Reason::DatabaseError, message)
                .with_hint("SELECT * FROM pgexport.orphans() shows them; pgexport.cancel(uid, run_id, terminate => true) ends one"));
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Orphan {
    /// Cancels its server process, or terminates it.
    async fn end(&self, session: &Session, uid: &str, terminate: bool) -> Result<()> {
        let ended = if let Some(backend) = &self.told {
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(backend, Type::TEXT), (&terminate, Type::BOOL)];
            session.query(Stage::Run, DOING, CANCEL_BACKEND, &parameters).await
        } else {
            let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                [(&uid, Type::TEXT), (&self.run_id, Type::INT8), (&terminate, Type::BOOL)];
            session.query(Stage::Run, DOING, CANCEL, &parameters).await
        };
        ended.map(drop)
    }
}

async fn mark_lost(
    session: &Session,
    ledger: &Ledger,
    uid: &str,
    gone: impl Iterator<Item = &Orphan>,
) -> Result<()> {
    for orphan in gone {
        if orphan.told.is_none() {
            // All that are gone at once.
            return session.query(Stage::Run, DOING, MARK_LOST, &[(&uid, Type::TEXT)]).await.map(drop);
        }
        ledger.query(session, DOING, ABANDON, &[(&orphan.run_id, Type::INT8)]).await?;
    }
    Ok(())
}

/// The runs without an outcome that are wanted, with what is true of their server processes here.
async fn look(
    session: &Session,
    ledger: &Ledger,
    uid: &str,
    is_wanted: &impl Fn(u32, u32) -> bool,
) -> Result<Vec<Orphan>> {
    let is_elsewhere = matches!(ledger, Ledger::Writer(_));
    let sql = if is_elsewhere { RUNNING } else { LOOK };
    let rows = ledger.query(session, DOING, sql, &[(&uid, Type::TEXT)]).await?;
    let column = |error| session.error(error, Stage::Run, DOING);
    let mut orphans = Vec::new();
    for row in &rows {
        let [attempt, chunk]: [i32; 2] = [row.try_get(1).map_err(column)?, row.try_get(2).map_err(column)?];
        let [attempt, chunk] = [attempt, chunk].map(|number| u32::try_from(number).unwrap_or_default());
        if is_wanted(attempt, chunk) {
            let (run_id, backend): (i64, String) =
                (row.try_get(0).map_err(column)?, row.try_get(3).map_err(column)?);
            let told = is_elsewhere.then(|| backend.clone());
            orphans.push(Orphan { run_id, backend, told });
        }
    }
    if is_elsewhere && !orphans.is_empty() {
        let told: Vec<&str> = orphans.iter().filter_map(|orphan| orphan.told.as_deref()).collect();
        let states = session.query(Stage::Run, DOING, BACKENDS, &[(&told, Type::TEXT_ARRAY)]).await?;
        for (orphan, state) in orphans.iter_mut().zip(&states) {
            orphan.backend = state.try_get(0).map_err(column)?;
        }
    }
    Ok(orphans)
}

/// A chunk that a former worker's export has written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The key in the bucket.
    pub key: String,
    /// SHA-256 over its query, in hexadecimal.
    pub query_sha256: String,
    /// What was written.
    pub uploaded: Uploaded,
}

/// What is complete of an attempt, by chunk.
///
/// # Errors
/// What the database says.
pub async fn finished(
    session: &Session,
    ledger: &Ledger,
    run: &RunIdentity,
    target: &Target,
) -> Result<BTreeMap<u32, Finished>> {
    let doing = "looking for what former workers have exported";
    let attempt = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&run.uid, Type::TEXT), (&attempt, Type::INT4), (&target.bucket, Type::TEXT)];
    let rows = ledger.query(session, doing, FINISHED, &parameters).await?;
    let column = |error| session.error(error, Stage::Run, doing);
    let mut finished = BTreeMap::new();
    for row in &rows {
        let chunk: i32 = row.try_get(0).map_err(column)?;
        let uploaded = Uploaded::new(
            row.try_get(3).map_err(column)?,
            row.try_get(4).map_err(column)?,
            row.try_get(5).map_err(column)?,
        )?;
        let found = Finished {
            key: row.try_get(1).map_err(column)?,
            query_sha256: row.try_get(2).map_err(column)?,
            uploaded,
        };
        finished.insert(u32::try_from(chunk).unwrap_or_default(), found);
    }
    Ok(finished)
}
