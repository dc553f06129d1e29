//! An export on a replica, where nothing can be written: its row is committed on the writer before and after.

use sha2::{Digest, Sha256};
use tokio_postgres::types::{ToSql, Type};

use super::error::DOING;
use super::exporter::{Request, Uploaded};
use super::ledger::Ledger;
use super::run_table::{ended, twice};
use super::target::Target;
use crate::error::Result;
use crate::source::Session;
use crate::source::error::Stage;

/// Activity is remembered for a transaction, and this one may last over several exports, each with a name of its own.
const FORGET: &str = "SELECT pg_catalog.pg_stat_clear_snapshot()";

const THIS_BACKEND: &str = "SELECT pgexport.this_backend()::pg_catalog.text";

/// It may be run again: the key is new for each try of a chunk.
const BEGIN: &str = "
SELECT coalesce(
  (SELECT r.run_id FROM pgexport.run r
   WHERE r.job_uid = $1 AND r.attempt = $2 AND r.chunk = $4 AND r.bucket = $6 AND r.key = $7 AND r.state = 'running'),
  pgexport.begin_run(
    job_uid => $1, attempt => $2, dataset => $3, chunk => $4, query_sha256 => $5, bucket => $6, key => $7, chunks => $8,
    backend => $9::pgexport.backend))";

const EXPORT: &str = "
SELECT o.state, o.rows_uploaded, o.files_uploaded, o.bytes_uploaded, o.sqlstate, o.message, o.detail, o.hint, o::pg_catalog.text
FROM pgexport.export(
  query => $1, bucket => $2, key => $3, region => $4, options => $5, kms_key => $6, expected_snapshot => $7) o";

const FINISH: &str = "SELECT pgexport.finish_run($1, $2::pgexport.outcome)";

/// For an export whose server process was ended, which is the one thing that it cannot tell by itself.
const GIVE_UP: &str = "
SELECT pgexport.finish_run($1, (
  'failed', NULL, NULL, NULL, NULL, NULL, $2, $3, NULL, NULL, NULL)::pgexport.outcome)";

/// Exports in the transaction that is open on `here`. Where the outcome cannot be written, the export counts all the same: a
/// chunk's sidecar says what is delivered.
pub(super) async fn export(
    here: &Session,
    ledger: &Ledger,
    target: &Target,
    expected_snapshot: Option<&str>,
    request: &Request<'_>,
) -> Result<Uploaded> {
    let run_id = begin(here, ledger, target, request).await?;
    let called = call(here, target, expected_snapshot, request).await;
    let doing = "writing a run's outcome";
    let finished = match &called {
        Ok((_, outcome)) => {
            let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&run_id, Type::INT8), (outcome, Type::TEXT)];
            ledger.query(here, doing, FINISH, &parameters).await
        }
        Err(error) => {
            let failure = error.to_failure();
            // Where only the connection broke, the export may go on: whoever comes next looks for its server process.
            let Some(sql_state) = &failure.sql_state else {
                return called.and_then(|(uploaded, _)| uploaded);
            };
            let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                [(&run_id, Type::INT8), (sql_state, Type::TEXT), (&failure.message, Type::TEXT)];
            ledger.query(here, doing, GIVE_UP, &parameters).await
        }
    };
    if let Err(error) = finished {
        tracing::warn!(run_id, %error, "the outcome of a run is not in pgexport.run; the chunk's sidecar has it");
    }
    called.and_then(|(uploaded, _)| uploaded)
}

async fn begin(here: &Session, ledger: &Ledger, target: &Target, request: &Request<'_>) -> Result<i64> {
    here.query(Stage::Run, DOING, FORGET, &[]).await?;
    let doing = "asking for the server process";
    let row = here.one(Stage::Run, doing, THIS_BACKEND, &[]).await?;
    let backend: String = row.try_get(0).map_err(|error| here.error(error, Stage::Run, doing))?;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (attempt, chunk, chunks) =
        (number(request.run.attempt), number(request.chunk), number(request.chunks));
    let sha256 = hex::encode(Sha256::digest(&request.statement.query));
    let parameters: [(&(dyn ToSql + Sync), Type); 9] = [
        (&request.run.uid, Type::TEXT),
        (&attempt, Type::INT4),
        (&request.dataset, Type::TEXT),
        (&chunk, Type::INT4),
        (&sha256, Type::TEXT),
        (&target.bucket, Type::TEXT),
        (&request.key, Type::TEXT),
        (&chunks, Type::INT4),
        (&backend, Type::TEXT),
    ];
    let doing = "recording a run";
    let begun = ledger.one(here, doing, BEGIN, &parameters).await;
    let row = begun.map_err(|error| match error.to_failure().sql_state.as_deref() {
        Some("23505") => twice(),
        _ => error,
    })?;
    row.try_get(0).map_err(|error| here.error(error, Stage::Run, doing))
}

/// What the export wrote, or why it did not, and all of it as text for the table. The outer error: the statement itself failed.
async fn call(
    here: &Session,
    target: &Target,
    expected_snapshot: Option<&str>,
    request: &Request<'_>,
) -> Result<(Result<Uploaded>, String)> {
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&request.statement.query, Type::TEXT),
        (&target.bucket, Type::TEXT),
        (&request.key, Type::TEXT),
        (&target.region, Type::TEXT),
        (&request.statement.options, Type::TEXT),
        (&target.kms_key, Type::TEXT),
        (&expected_snapshot, Type::TEXT),
    ];
    let row = here.one(Stage::Run, DOING, EXPORT, &parameters).await?;
    let text = row.try_get(8).map_err(|error| here.error(error, Stage::Run, DOING))?;
    Ok((ended(here, target, &row), text))
}
