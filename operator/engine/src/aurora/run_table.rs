//! The table of runs in the schema `pgexport`, as far as one export needs it.

use pgexport_api::reason::Reason;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::{DOING, Said, classify};
use super::exporter::{Request, Uploaded};
use super::target::Target;
use crate::error::{Error, Result};
use crate::plan::Snapshot;
use crate::source::error::Stage;
use crate::source::{Session, lost};

const PREPARE: &str = "
SELECT run_id, statement FROM pgexport.prepare_run(
  job_uid => $1, attempt => $2, dataset => $3, chunk => $4, chunks => $5, query => $6, bucket => $7, key => $8, region => $9,
  options => $10, kms_key => $11, snapshot => $12, expected_snapshot => $13)";

const OUTCOME: &str = "
SELECT state, rows_uploaded, files_uploaded, bytes_uploaded, sqlstate, message, detail, hint FROM pgexport.run WHERE run_id = $1";

/// For a run whose statement failed as a whole, so that nothing wrote its outcome.
const GIVE_UP: &str = "
SELECT pgexport.finish_run($1, (
  'failed', NULL, NULL, NULL, NULL, NULL, $2, 'the statement failed as a whole', NULL, NULL, NULL)::pgexport.outcome)";

/// Exports, with a row for it committed before and after.
pub(super) async fn export(
    session: &Session,
    target: &Target,
    snapshot: Option<&Snapshot>,
    request: &Request<'_>,
) -> Result<Uploaded> {
    let (run_id, statement) = prepare(session, target, snapshot, request).await?;
    if let Err(error) = session.batch(Stage::Run, DOING, &statement).await {
        let sql_state = error.to_failure().sql_state;
        // There may be no row yet, or no connection.
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&run_id, Type::INT8), (&sql_state, Type::TEXT)];
        let _ = session.query(Stage::Run, "giving a run up", GIVE_UP, parameters).await;
        return Err(match (sql_state.as_deref(), snapshot) {
            (Some("23505"), _) => twice(),
            (_, Some(snapshot)) => lost(error, snapshot),
            (_, None) => error,
        });
    }
    outcome(session, target, run_id).await
}

/// The statement that does all of it, which PostgreSQL takes only alone and outside of a transaction.
async fn prepare(
    session: &Session,
    target: &Target,
    snapshot: Option<&Snapshot>,
    request: &Request<'_>,
) -> Result<(i64, String)> {
    let doing = "preparing an export by the database";
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (attempt, chunk, chunks) =
        (number(request.run.attempt), number(request.chunk), number(request.chunks));
    let (id, visible) = (snapshot.map(|snapshot| &snapshot.id), snapshot.map(|snapshot| &snapshot.visible));
    let parameters: &[(&(dyn ToSql + Sync), Type)] = &[
        (&request.run.uid, Type::TEXT),
        (&attempt, Type::INT4),
        (&request.dataset, Type::TEXT),
        (&chunk, Type::INT4),
        (&chunks, Type::INT4),
        (&request.statement.query, Type::TEXT),
        (&target.bucket, Type::TEXT),
        (&request.key, Type::TEXT),
        (&target.region, Type::TEXT),
        (&request.statement.options, Type::TEXT),
        (&target.kms_key, Type::TEXT),
        (&id, Type::TEXT),
        (&visible, Type::TEXT),
    ];
    let row = session.one(Stage::Run, doing, PREPARE, parameters).await?;
    let column = |error| session.error(error, Stage::Run, doing);
    Ok((row.try_get(0).map_err(column)?, row.try_get(1).map_err(column)?))
}

async fn outcome(session: &Session, target: &Target, run_id: i64) -> Result<Uploaded> {
    let doing = "reading a run's outcome";
    let row = session.one(Stage::Run, doing, OUTCOME, &[(&run_id, Type::INT8)]).await?;
    ended(session, target, &row)
}

/// What a row tells that has state, numbers and error of an outcome.
pub(super) fn ended(session: &Session, target: &Target, row: &Row) -> Result<Uploaded> {
    let column = |error| session.error(error, Stage::Run, "reading a run's outcome");
    let state: &str = row.try_get(0).map_err(column)?;
    if state != "succeeded" {
        let said = Said {
            sql_state: row.try_get::<_, Option<String>>(4).map_err(column)?.unwrap_or_default(),
            message: row.try_get::<_, Option<String>>(5).map_err(column)?.unwrap_or_default(),
            detail: row.try_get(6).map_err(column)?,
            hint: row.try_get(7).map_err(column)?,
        };
        tracing::debug!(state, sql_state = said.sql_state, "an export by the database has ended");
        return Err(classify(&said, target));
    }
    Uploaded::new(
        row.try_get(1).map_err(column)?,
        row.try_get(2).map_err(column)?,
        row.try_get(3).map_err(column)?,
    )
}

/// The table's unique indexes keep a chunk from being exported twice in an attempt, and an object from two writers.
pub(super) fn twice() -> Error {
    let message = "another run exports this chunk in this attempt, or has exported it";
    Error::new(Reason::DatabaseError, message)
        .with_sql_state("23505")
        .with_hint("SELECT * FROM pgexport.status('…') with the ExportJob's uid tells which; another attempt writes anew")
}
