//! What former workers of a run have left in its database: exports that go on, and exports that are complete.

use std::collections::BTreeMap;
use std::time::Duration;

use pgexport_api::order::RunIdentity;
use pgexport_api::reason::Reason;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::exporter::Uploaded;
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

const FINISHED: &str = "
SELECT chunk, key, query_sha256, rows_uploaded, files_uploaded, bytes_uploaded FROM pgexport.run
WHERE job_uid = $1 AND attempt = $2 AND state = 'succeeded' AND bucket = $3";

/// A run without an outcome.
struct Orphan {
    run_id: i64,
    backend: String,
}

/// Ends the run's exports that go on in the database and that `is_wanted` picks by attempt and chunk, and waits until they
/// have. Those that are beyond reach (of another instance, or hidden from this login) are left, and told of in the log.
/// Returns how many it ended.
///
/// # Errors
/// What the database says, and [`Reason::DatabaseError`] where one does not end.
pub async fn end_orphans(
    session: &Session,
    uid: &str,
    is_wanted: impl Fn(u32, u32) -> bool,
) -> Result<usize> {
    let began = Instant::now();
    let mut ended = std::collections::BTreeSet::new();
    loop {
        let orphans = look(session, uid, &is_wanted).await?;
        let reachable = |orphan: &&Orphan| matches!(orphan.backend.as_str(), "active" | "idle");
        for orphan in orphans.iter().filter(reachable) {
            if ended.insert(orphan.run_id) {
                tracing::warn!(
                    run_id = orphan.run_id,
                    "a former worker's export goes on in the database; it is ended"
                );
            }
            // One that is idle does nothing for this run any more; its client is gone, or about to be.
            let terminate = orphan.backend == "idle" || began.elapsed() > TERMINATE_AFTER;
            session
                .query(
                    Stage::Run,
                    DOING,
                    CANCEL,
                    &[(&uid, Type::TEXT), (&orphan.run_id, Type::INT8), (&terminate, Type::BOOL)],
                )
                .await?;
        }
        if orphans.iter().any(|orphan| orphan.backend == "gone") {
            session.query(Stage::Run, DOING, MARK_LOST, &[(&uid, Type::TEXT)]).await?;
        }
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

async fn look(session: &Session, uid: &str, is_wanted: &impl Fn(u32, u32) -> bool) -> Result<Vec<Orphan>> {
    let rows = session.query(Stage::Run, DOING, LOOK, &[(&uid, Type::TEXT)]).await?;
    let column = |error| session.error(error, Stage::Run, DOING);
    let mut orphans = Vec::new();
    for row in &rows {
        let [attempt, chunk]: [i32; 2] = [row.try_get(1).map_err(column)?, row.try_get(2).map_err(column)?];
        let [attempt, chunk] = [attempt, chunk].map(|number| u32::try_from(number).unwrap_or_default());
        if is_wanted(attempt, chunk) {
            let (run_id, backend) = (row.try_get(0).map_err(column)?, row.try_get(3).map_err(column)?);
            orphans.push(Orphan { run_id, backend });
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
pub async fn finished(
    session: &Session,
    run: &RunIdentity,
    target: &Target,
) -> Result<BTreeMap<u32, Finished>> {
    let doing = "looking for what former workers have exported";
    let attempt = i32::try_from(run.attempt).unwrap_or(i32::MAX);
    let rows = session
        .query(
            Stage::Run,
            doing,
            FINISHED,
            &[(&run.uid, Type::TEXT), (&attempt, Type::INT4), (&target.bucket, Type::TEXT)],
        )
        .await?;
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
