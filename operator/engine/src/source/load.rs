//! Whether a database is fit to be exported from now.

use std::time::Duration;

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;

use super::Session;
use super::error::Stage;
use crate::error::{Error, Result};

/// Seconds that a replica lags behind: since the commit that it has replayed last, unless it has replayed all that it has
/// received. NULL on a primary, and on a replica that has replayed nothing yet.
const LAG: &str = "
SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL
  WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0
  ELSE EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END::pg_catalog.float8";

/// What servers answer that do not know a lag, such as Aurora's readers: they do not support the function, have none, or let nobody
/// call it.
const UNKNOWN: [&str; 3] = ["0A000", "42883", "42501"];

/// How often a lag is looked at before it counts: what has just arrived after a quiet time makes a replica seem to lag for as
/// long as that was quiet.
const LOOKS: u32 = 3;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// How many other sessions are at work, and whether the login sees them all.
const ACTIVE: &str = "
SELECT pg_catalog.count(*), pg_catalog.pg_has_role(session_user, 'pg_read_all_stats', 'USAGE')
FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'client backend' AND state <> 'idle' AND state NOT LIKE 'idle in transaction%'
  AND pid <> pg_catalog.pg_backend_pid() AND application_name NOT LIKE 'pgexport/%'";

/// Refuses while one of the source's limits is passed.
///
/// # Errors
/// [`Reason::DatabaseBusy`], [`Reason::PermissionDenied`] where the login does not see the other sessions,
/// [`Reason::UnsupportedServer`] where the server does not tell how far it lags.
pub async fn check(session: &Session, source: &NamedSource) -> Result<()> {
    if let Some(most) = source.limits.max_replica_lag {
        lag(session, most.into(), &source.name).await?;
    }
    if let Some(most) = source.limits.max_active_sessions {
        active(session, most, &source.name).await?;
    }
    Ok(())
}

async fn lag(session: &Session, most: Duration, source: &str) -> Result<()> {
    let mut looks = 1;
    loop {
        let Some(lag) = seconds_behind(session, source).await?.filter(|lag| *lag > most.as_secs_f64()) else {
            return Ok(());
        };
        if looks == LOOKS {
            let message = format!(
                "the replica lags {lag:.0} s behind, and limits.maxReplicaLag of ExportSource {source} is {most:?}"
            );
            return Err(Error::new(Reason::DatabaseBusy, message));
        }
        looks += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn seconds_behind(session: &Session, source: &str) -> Result<Option<f64>> {
    let doing = "asking how far the replica lags";
    let row = session.one(Stage::Connect, doing, LAG, &[]).await.map_err(|error| {
        let sql_state = error.to_failure().sql_state;
        let Some(sql_state) = sql_state.filter(|state| UNKNOWN.contains(&state.as_str())) else {
            return error;
        };
        let message = format!("limits.maxReplicaLag of ExportSource {source}: {error}");
        Error::new(Reason::UnsupportedServer, message)
            .with_sql_state(sql_state)
            .with_hint("remove limits.maxReplicaLag: this server does not tell how far it lags")
    })?;
    row.try_get(0).map_err(|error| session.error(error, Stage::Connect, doing))
}

async fn active(session: &Session, most: u32, source: &str) -> Result<()> {
    let doing = "counting the sessions at work";
    let row = session.one(Stage::Connect, doing, ACTIVE, &[]).await?;
    let column = |error| session.error(error, Stage::Connect, doing);
    let count: i64 = row.try_get(0).map_err(column)?;
    if !row.try_get::<_, bool>(1).map_err(column)? {
        let message = format!(
            "limits.maxActiveSessions of ExportSource {source}: the login does not see what other sessions do"
        );
        return Err(Error::new(Reason::PermissionDenied, message)
            .with_hint("GRANT pg_read_all_stats to the source's user, or remove limits.maxActiveSessions"));
    }
    if count <= i64::from(most) {
        return Ok(());
    }
    let message = format!(
        "{count} other sessions are at work, and limits.maxActiveSessions of ExportSource {source} is {most}"
    );
    Err(Error::new(Reason::DatabaseBusy, message))
}
