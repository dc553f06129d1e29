//! What must still be as it was when a chunk is read.
//!
//! Under one snapshot, planning has locked what the queries read. Where each chunk has a transaction of its own, nothing is
//! locked between chunks: a table that was rewritten has its rows in other pages than the plan says, and a query may have
//! other columns.

use std::collections::BTreeSet;

use pgexport_api::job::Strategy;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::describe::{columns, explain};
use super::{Chunk, Plan, Rows, SplitTable, rewritten};
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::Stage;

/// How long a chunk in a transaction of its own waits for its locks: somebody may be altering a table.
const LOCK_TIMEOUT: &str = "30s";
/// How long a chunk under a snapshot does. Its holder has the same locks, so a chunk waits only behind somebody who waits for
/// the holder, which waits for the chunk: the server does not see that nobody can go on.
const LOCK_TIMEOUT_HELD: &str = "10s";

const TABLE: &str = "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid), $1 FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)";

const TABLES: &str = "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid), c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)";

/// Whether the query has locked this table, and it has this file.
const SAME: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted AND l.relation = $1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
  AND pg_catalog.pg_relation_filenode($1) IS NOT DISTINCT FROM $2";

/// The tables that chunks read by pages, which planning has locked.
pub(super) async fn split_tables(
    session: &Session,
    order: &RunOrder,
    chunks: &[Chunk],
) -> Result<Vec<SplitTable>> {
    let mut tables = Vec::new();
    for (index, dataset) in (0_u32..).zip(&order.datasets) {
        let doing = format!("data set {}", dataset.name);
        let named = dataset.chunking.table.as_ref().filter(|_| dataset.chunking.strategy == Strategy::Table);
        if let Some(table) = named {
            let rows = session.query(Stage::Plan, &doing, TABLE, &[(&table.name, Type::TEXT)]).await?;
            tables.extend(found(session, &doing, index, &rows)?);
        }
        let oids: BTreeSet<u32> = chunks
            .iter()
            .filter(|chunk| chunk.dataset == index)
            .flat_map(|chunk| chunk.rows.ranged())
            .map(|part| part.oid)
            .collect();
        if !oids.is_empty() {
            let oids: Vec<u32> = oids.into_iter().collect();
            let rows = session.query(Stage::Plan, &doing, TABLES, &[(&oids, Type::OID_ARRAY)]).await?;
            tables.extend(found(session, &doing, index, &rows)?);
        }
    }
    Ok(tables)
}

fn found(session: &Session, doing: &str, dataset: u32, rows: &[Row]) -> Result<Vec<SplitTable>> {
    let table = |row: &Row| {
        Ok(SplitTable { dataset, oid: row.try_get(0)?, file: row.try_get(1)?, name: row.try_get(2)? })
    };
    let tables: Result<Vec<_>, _> = rows.iter().map(table).collect();
    tables.map_err(|error| session.error(error, Stage::Plan, doing))
}

/// Locks what a chunk's query reads, until its transaction ends, and makes sure that the plan is still right for it.
///
/// # Errors
/// [`Reason::PlanOutdated`] where the plan is not; [`Reason::DatabaseError`] where a lock is not to be had.
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
    let changed = |message: String| Err(Error::new(Reason::PlanOutdated, message));
    for table in plan.tables.iter().filter(|table| table.dataset == chunk.dataset && reads(chunk, table)) {
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

/// Whether a chunk reads pages of a table: of several, those of some.
fn reads(chunk: &Chunk, table: &SplitTable) -> bool {
    match &chunk.rows {
        rows @ Rows::OfParts { .. } => rows.ranged().any(|part| part.oid == table.oid),
        _ => true,
    }
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
