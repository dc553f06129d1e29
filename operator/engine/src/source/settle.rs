//! Whether all rows of a window are there to be seen: a transaction that began before the window's end may commit long after it,
//! with rows whose time, set by `now()`, belongs to the window.

use std::time::Duration;

use jiff::Timestamp;
use pgexport_api::job::Window;
use pgexport_api::reason::Reason;
use tokio_postgres::types::Type;

use super::Session;
use super::error::Stage;
use crate::error::{Error, Result};

/// How long a worker waits by itself. After that, it is tried again with backoff until `deadlines.start`.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether the server can write, the time by its clock, and whether the login sees when transactions began.
const SERVER: &str = "
SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.clock_timestamp(),
  pg_catalog.pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')";

/// Transactions in this database that began before an instant: what may write, and has not said otherwise. Of prepared ones is
/// known when they were prepared, not when they began, so each of them counts. pgexport's own only read.
const OPEN: &str = "
SELECT pg_catalog.count(*), pg_catalog.min(began) FROM (
  SELECT xact_start FROM pg_catalog.pg_stat_activity
  WHERE datname = pg_catalog.current_database() AND xact_start < $1 AND pid <> pg_catalog.pg_backend_pid()
    AND backend_type NOT IN ('walsender', 'autovacuum worker') AND application_name NOT LIKE 'pgexport/%'
  UNION ALL
  SELECT prepared FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
) AS open (began)";

/// Waits until the rows of `window` are there to be seen. On a hot standby nothing can be asked: it sees no transactions of the
/// primary's that are open.
///
/// # Errors
/// [`Reason::WindowNotSettled`] when `patience` is over, [`Reason::PermissionDenied`] where the login does not see when transactions
/// began.
pub async fn wait(session: &Session, window: &Window, patience: Duration) -> Result<()> {
    let end = window.end.0;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let Some(why) = unsettled(session, end).await? else { return Ok(()) };
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::new(Reason::WindowNotSettled, format!("the window ends at {end}, and {why}")));
        }
        tracing::debug!(%end, why, "the window is not settled");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is not settled yet.
async fn unsettled(session: &Session, end: Timestamp) -> Result<Option<String>> {
    let doing = "asking whether the window is settled";
    let row = session.one(Stage::Connect, doing, SERVER, &[]).await?;
    let column = |error| session.error(error, Stage::Connect, doing);
    let clock: Timestamp = row.try_get(1).map_err(column)?;
    if clock < end {
        return Ok(Some(format!("it is {clock} by the server's clock")));
    }
    if row.try_get(0).map_err(column)? {
        return Ok(None);
    }
    if !row.try_get::<_, bool>(2).map_err(column)? {
        return Err(Error::new(
            Reason::PermissionDenied,
            "the ExportJob has a window, and the login does not see when other sessions' transactions began",
        )
        .with_hint("GRANT pg_read_all_stats to the source's user"));
    }
    let row = session.one(Stage::Connect, doing, OPEN, &[(&end, Type::TIMESTAMPTZ)]).await?;
    let count: i64 = row.try_get(0).map_err(column)?;
    let began: Option<Timestamp> = row.try_get(1).map_err(column)?;
    Ok(began.filter(|_| count > 0).map(|began| {
        format!("{count} transactions are open that may have begun before it, the oldest since {began}")
    }))
}
