//! One snapshot for many connections: one exports it and holds it, the others import it.

use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use pgexport_api::reason::Reason;
use pgexport_api::source::Server;

use super::connect::Connector;
use super::error::Stage;
use super::session::Session;
use super::tap::Outlet;
use crate::error::{Error, Result};
use crate::plan::Snapshot;

/// How long planning waits for a lock: somebody who alters a table holds it for that long.
const LOCK_TIMEOUT: &str = "30s";

/// The connection that exported the snapshot. The snapshot can be imported while this lives.
#[derive(Debug)]
pub struct Holder {
    session: Session,
    snapshot: Snapshot,
    server: Server,
    application_name: String,
}

impl Holder {
    /// Connects, begins a transaction and exports its snapshot.
    pub async fn begin(connector: &Connector, application_name: &str) -> Result<Self> {
        Self::begin_on(connector.connect(application_name).await?, application_name).await
    }

    /// Begins a transaction on a connection, and exports its snapshot.
    pub(crate) async fn begin_on(session: Session, application_name: &str) -> Result<Self> {
        let greeting = greeting(&session)?;
        let lsn = lsn(&session).await;
        session.batch(Stage::Run, "beginning the snapshot's transaction", &begin(&session, true)).await?;
        let doing = "exporting the snapshot";
        let row = session
            .one(
                Stage::Run,
                doing,
                "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_snapshot()::pg_catalog.text,
                        pg_catalog.transaction_timestamp()",
                &[],
            )
            .await?;
        let column = |error| session.error(error, Stage::Run, doing);
        let snapshot = Snapshot {
            id: row.try_get(0).map_err(column)?,
            visible: row.try_get(1).map_err(column)?,
            postmaster_start: greeting.1,
            time: row.try_get(2).map_err(column)?,
            lsn,
        };
        Ok(Self { session, snapshot, server: greeting.0, application_name: application_name.to_owned() })
    }

    /// The snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until the connection breaks, and with it the snapshot: [`Reason::SnapshotLost`].
    pub async fn closed(&self) -> Error {
        let cause = self.session.closed().await.to_failure();
        let error = Error::new(
            Reason::SnapshotLost,
            format!("the connection that held the snapshot is gone: {}", cause.message),
        );
        match cause.sql_state {
            Some(sql_state) => error.with_sql_state(sql_state),
            None => error,
        }
    }

    /// Lets the snapshot go, also while a statement of a plan that was given up still runs.
    pub async fn finish(self) {
        self.session.roll_back().await;
        self.session.close().await;
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// Pins the settings again, after something of the user's ran.
    pub(crate) async fn pin(&self) -> Result<()> {
        self.session.pin(&self.application_name).await
    }
}

/// A connection that sees the holder's snapshot, and copies rows of it.
#[derive(Debug)]
pub struct Importer {
    pub(super) session: Session,
    /// The name under which the server shows it.
    pub(super) application_name: String,
    /// Whether a copy failed or was dropped midway, so that its transaction is of no use any more.
    pub(super) spent: AtomicBool,
    /// Where the rows of a copy come out; none while one is under way.
    pub(super) outlet: Option<Outlet>,
}

impl Importer {
    /// An importer on a connection that has begun nothing.
    pub(super) fn on(mut session: Session, application_name: &str) -> Result<Self> {
        let outlet = session
            .outlet
            .take()
            .ok_or_else(|| Error::new(Reason::InternalError, "a session has two importers"))?;
        let application_name = application_name.to_owned();
        Ok(Self { session, application_name, spent: AtomicBool::new(false), outlet: Some(outlet) })
    }

    /// Connects, and begins a transaction with the snapshot.
    ///
    /// # Errors
    /// [`Reason::SnapshotLost`] where nobody holds the snapshot any more, [`Reason::WrongInstance`] where the connection
    /// leads to another instance than the holder's.
    pub async fn join(connector: &Connector, snapshot: &Snapshot, application_name: &str) -> Result<Self> {
        let session = connector.connect(application_name).await?;
        check_instance(&session, snapshot)?;
        if !snapshot.id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(Error::new(
                Reason::InternalError,
                "the plan's snapshot id is not one of PostgreSQL's",
            ));
        }
        let import = format!("{}; SET TRANSACTION SNAPSHOT '{}'", begin(&session, false), snapshot.id);
        let doing = "importing the snapshot";
        session.batch(Stage::Run, doing, &import).await.map_err(|error| lost(error, snapshot))?;
        let sql = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";
        let row = session.one(Stage::Run, doing, sql, &[]).await?;
        let visible: &str = row.try_get(0).map_err(|error| session.error(error, Stage::Run, doing))?;
        if visible != snapshot.visible {
            return Err(Error::new(
                Reason::WrongInstance,
                "this connection sees another snapshot under the id of the holder's: it leads to another instance",
            ));
        }
        Self::on(session, application_name)
    }

    /// The name under which the server shows the next copy.
    pub fn rename(&mut self, application_name: String) {
        self.application_name = application_name;
    }

    /// Pins the settings again, before what depends on them.
    pub(crate) async fn pin(&self) -> Result<()> {
        self.session.pin(&self.application_name).await
    }

    /// The connection, to cancel what it runs.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Ends the transaction and the connection.
    pub async fn finish(self) {
        self.session.roll_back().await;
        self.session.close().await;
    }
}

/// Ids of snapshots are not unique over instances: an import could succeed with another one's.
pub(crate) fn check_instance(session: &Session, snapshot: &Snapshot) -> Result<()> {
    if greeting(session)?.1 == snapshot.postmaster_start {
        return Ok(());
    }
    Err(Error::new(
        Reason::WrongInstance,
        "this connection leads to another server process than the one that holds the snapshot: to another instance, or to the same one after a restart",
    ))
}

/// What the server says of a snapshot that is gone differs by version: an invalid identifier (to 16), an object that does
/// not exist (from 17), or an exporter that is no longer running.
pub(crate) fn lost(error: Error, snapshot: &Snapshot) -> Error {
    let sql_state = error.to_failure().sql_state;
    match sql_state.as_deref() {
        Some(state @ ("22023" | "42704" | "55000")) => {
            Error::new(Reason::SnapshotLost, format!("nobody holds the snapshot {} any more", snapshot.id))
                .with_sql_state(state)
        }
        _ => error,
    }
}

/// The statements that begin a transaction. It may idle: while the holder waits for the others, and an importer for its
/// sink; and it may last as long as all chunks together. So no timeout for either ends it, whether the source's settings
/// make it or the login's. A statement of the holder's may last too: it computes the bounds of chunks.
pub(super) fn begin(session: &Session, holder: bool) -> String {
    let mut sql =
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0"
            .to_owned();
    if holder {
        sql.push_str("; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '");
        sql.push_str(LOCK_TIMEOUT);
        sql.push('\'');
    }
    if session.has_transaction_timeout() {
        sql.push_str("; SET LOCAL transaction_timeout = 0");
    }
    sql
}

fn greeting(session: &Session) -> Result<(Server, Timestamp)> {
    let greeting = session.greeting.as_ref();
    greeting
        .map(|greeting| (greeting.server.clone(), greeting.postmaster_start))
        .ok_or_else(|| Error::new(Reason::InternalError, "the session has not asked the server who it is"))
}

/// The log position just before the snapshot. Asked before the transaction, which a refusal would abort; some servers,
/// such as Aurora's readers, do not tell.
async fn lsn(session: &Session) -> Option<String> {
    let sql = "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                            ELSE pg_catalog.pg_current_wal_lsn() END)::pg_catalog.text";
    let row = session.one(Stage::Run, "asking for the log position", sql, &[]).await.ok()?;
    row.try_get(0).ok()
}
