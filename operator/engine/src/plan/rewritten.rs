//! Tables that were rewritten after the snapshot was taken.
//!
//! TRUNCATE, CLUSTER, VACUUM FULL, REFRESH MATERIALIZED VIEW and some forms of ALTER TABLE give a table a new file, whose
//! rows are not those of the snapshot (<https://www.postgresql.org/docs/current/mvcc-caveats.html>). Planning took a lock
//! on each table that keeps that from happening until the holder ends; this finds what happened before the lock.

use pgexport_api::reason::Reason;

use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::Stage;

/// Compares, for each table that is locked by this session, the file in the snapshot's catalog with the file as it is. A
/// table that the snapshot's catalog does not have is new. (An index may be new.)
const REWRITTEN: &str = "
SELECT l.relation::pg_catalog.regclass::pg_catalog.text
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND CASE WHEN c.oid IS NULL THEN pg_catalog.pg_get_indexdef(l.relation) IS NULL
           WHEN c.relkind IN ('r', 'm') THEN c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
           ELSE false END
LIMIT 1";

/// Fails with [`Reason::RelationRewritten`] where a planned table was rewritten.
pub(super) async fn check(session: &Session) -> Result<()> {
    let doing = "comparing tables with the snapshot";
    let rows = session.query(Stage::Plan, doing, REWRITTEN, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let table: &str = row.try_get(0).map_err(|error| session.error(error, Stage::Plan, doing))?;
    let message = format!(
        "table {table} was made or rewritten (as TRUNCATE and CLUSTER do) just after the snapshot was taken"
    );
    Err(Error::new(Reason::RelationRewritten, message)
        .with_hint("nothing: the next attempt takes a new snapshot"))
}
