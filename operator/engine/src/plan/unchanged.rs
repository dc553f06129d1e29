//! What must still be as it was when a chunk is read.
//!
//! Under one snapshot, planning has locked what the queries read. Where each chunk has a transaction of its own, nothing is
//! locked between chunks: a table that was rewritten has its rows in other pages than the plan says, and a query may have
//! other columns.

use pgexport_api::job::Strategy;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use tokio_postgres::types::Type;

use super::describe::{columns, explain};
use super::{Chunk, Plan, SplitTable, rewritten};
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::Stage;

/// How long a chunk in a transaction of its own waits for its locks: somebody may be altering a table.
const LOCK_TIMEOUT: &str = "30s";
/// How long a chunk under a snapshot does. Its holder has the same locks, so a chunk waits only behind somebody who waits for
/// the holder, which waits for the chunk: the server does not see that nobody can go on.
const LOCK_TIMEOUT_HELD: &str = "10s";

/// What to do where the plan is not right any more. It stays with the run, so another attempt does not help.
const HINT: &str = "export again with a new ExportJob, at another time than such maintenance; what is finished is of the table as it was";

const TABLE: &str = "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid) FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)";

/// Whether the query has locked this table, and it has this file.
const SAME: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted AND l.relation = $1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
  AND pg_catalog.pg_relation_filenode($1) IS NOT DISTINCT FROM $2";

/// The tables that are split by pages, which planning has locked.
pub(super) async fn split_tables(session: &Session, order: &RunOrder) -> Result<Vec<SplitTable>> {
    let mut tables = Vec::new();
    for (dataset, order) in (0_u32..).zip(&order.datasets) {
        let Some(table) =
            order.chunking.table.as_ref().filter(|_| order.chunking.strategy == Strategy::Table)
        else {
            continue;
        };
        let doing = format!("data set {}", order.name);
        let row = session.one(Stage::Plan, &doing, TABLE, &[(&table.name, Type::TEXT)]).await?;
        let column = |error| session.error(error, Stage::Plan, &doing);
        tables.push(SplitTable {
            dataset,
            name: table.name.clone(),
            oid: row.try_get(0).map_err(column)?,
            file: row.try_get(1).map_err(column)?,
        });
    }
    Ok(tables)
}

/// Locks what a chunk's query reads, until its transaction ends, and makes sure that the plan is still right for it.
///
/// # Errors
/// [`Reason::RelationRewritten`] where the plan is not; [`Reason::DatabaseError`] where a lock is not to be had.
pub async fn lock(session: &Session, plan: &Plan, chunk: &Chunk, query: &str) -> Result<()> {
    let dataset = plan.datasets.get(chunk.dataset as usize).ok_or_else(|| {
        Error::new(Reason::InternalError, format!("data set {} is not in the plan", chunk.dataset))
    })?;
    let doing = format!("data set {}", dataset.name);
    let timeout = if plan.snapshot.is_some() { LOCK_TIMEOUT_HELD } else { LOCK_TIMEOUT };
    lock_within(session, &doing, query, timeout).await?;
    if plan.snapshot.is_some() {
        return Ok(());
    }
    rewritten::check(session).await?;
    let changed = |message: String| Err(Error::new(Reason::RelationRewritten, message).with_hint(HINT));
    for table in plan.tables.iter().filter(|table| table.dataset == chunk.dataset) {
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&table.oid, Type::OID), (&table.file, Type::OID)];
        let row = session.one(Stage::Run, &doing, SAME, parameters).await?;
        let same: bool = row.try_get(0).map_err(|error| session.error(error, Stage::Run, &doing))?;
        if !same {
            return changed(format!(
                "{doing}: table {} was rewritten (as TRUNCATE and CLUSTER do) or replaced while its chunks were read one by one",
                table.name
            ));
        }
    }
    let statement = session
        .watched(session.client().prepare(query))
        .await
        .map_err(|error| session.error(error, Stage::Run, &doing))?;
    if columns(session, &doing, &statement).await? != dataset.columns {
        return changed(format!("{doing}: the query has other columns now than when it was planned"));
    }
    Ok(())
}

/// Plans the query, which locks what it reads.
async fn lock_within(session: &Session, doing: &str, query: &str, timeout: &str) -> Result<()> {
    let sql = "SELECT pg_catalog.current_setting('lock_timeout')";
    let column = |error| session.error(error, Stage::Run, doing);
    let former: String = session.one(Stage::Run, doing, sql, &[]).await?.try_get(0).map_err(column)?;
    set_lock_timeout(session, doing, timeout).await?;
    explain(session, doing, query).await.map_err(|error| {
        if error.to_failure().sql_state.as_deref() == Some("55P03") {
            error.with_hint(
                "look for who waits to alter, truncate or refresh what is exported; this attempt gives way, and the next one comes after",
            )
        } else {
            error
        }
    })?;
    set_lock_timeout(session, doing, &former).await
}

async fn set_lock_timeout(session: &Session, doing: &str, value: &str) -> Result<()> {
    let sql = "SELECT pg_catalog.set_config('lock_timeout', $1, true)";
    session.query(Stage::Run, doing, sql, &[(&value, Type::TEXT)]).await.map(drop)
}
