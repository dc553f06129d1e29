//! Where the table of runs is written: in the database that is exported from, or, where that is a replica, on its writer.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;
use pgexport_api::source::RunTable;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::extension::{Extension, find_run_table};
use crate::error::{Error, Result};
use crate::secret::Secrets;
use crate::source::error::Stage;
use crate::source::{Connector, Session};

/// How long a writer that went away while exports are under way is asked again: a failover takes about that long.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause in between.
const PAUSE: Duration = Duration::from_secs(2);

/// Parameters of a statement.
type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// Where runs are recorded.
#[derive(Clone, Debug)]
pub enum Ledger {
    /// In the database that is exported from.
    Here,
    /// On the writer of the replica that is exported from.
    Writer(Arc<Writer>),
}

/// What a database has for exports by itself, and where they are recorded.
#[derive(Clone, Debug)]
pub struct Found {
    /// The extension, with the table of runs where that is.
    pub extension: Extension,
    /// Where runs are recorded; `None` where they are not.
    pub ledger: Option<Ledger>,
}

/// The connection to a writer, made anew where it broke. Statements take their turns on it: a worker has one.
#[derive(Debug)]
pub struct Writer {
    connector: Connector,
    application_name: String,
    session: Mutex<Option<Session>>,
}

/// Looks for the extension, and for where runs are recorded. On a replica whose source names a writer, that is asked; its
/// connections show there by `application_name`.
///
/// # Errors
/// As of [`Extension::find`], and what keeps the writer from being asked: where a source says that its runs are recorded,
/// none begins that nobody would see.
pub async fn find(
    session: &Session,
    source: &NamedSource,
    secrets: Arc<dyn Secrets>,
    application_name: &str,
) -> Result<Found> {
    let mut extension = Extension::find(session, source.kms_key_id.is_some()).await?;
    if let (RunTable::ReadOnly, Some(writer)) = (extension.run_table, source.writer()) {
        let writer = Writer {
            connector: Connector::new(&writer, secrets),
            application_name: application_name.to_owned(),
            session: Mutex::default(),
        };
        extension.run_table = writer.run_table().await.map_err(|error| of_writer(&error))?;
        let ledger = (extension.run_table == RunTable::Ready).then(|| Ledger::Writer(Arc::new(writer)));
        return Ok(Found { extension, ledger });
    }
    // A former version has all that a run needs here.
    let records = matches!(extension.run_table, RunTable::Ready | RunTable::Outdated);
    Ok(Found { extension, ledger: records.then_some(Ledger::Here) })
}

impl Found {
    /// Where attempts are recorded: where runs are, but for a former version.
    #[must_use]
    pub fn attempts(self) -> Option<Ledger> {
        self.ledger.filter(|_| self.extension.run_table == RunTable::Ready)
    }
}

impl Ledger {
    /// The rows of a statement on the tables of the schema `pgexport`; `here` leads to the database that is exported from. It may
    /// be run again when the writer's answer to it was lost.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn query(
        &self,
        here: &Session,
        doing: &str,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Vec<Row>> {
        match self {
            Self::Here => here.query(Stage::Run, doing, sql, parameters).await,
            Self::Writer(writer) => writer.query(doing, sql, parameters).await,
        }
    }

    /// The one row of a statement, likewise.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn one(
        &self,
        here: &Session,
        doing: &str,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Row> {
        let mut rows = self.query(here, doing, sql, parameters).await?;
        rows.pop()
            .ok_or_else(|| Error::new(Reason::InternalError, format!("{doing}: the server returned nothing")))
    }

    /// Ends the connection to the writer, if there is one and nobody else uses it.
    pub async fn close(self) {
        if let Self::Writer(writer) = self
            && let Some(writer) = Arc::into_inner(writer)
            && let Some(session) = writer.session.into_inner()
        {
            session.close().await;
        }
    }
}

impl Writer {
    /// The rows of a statement. Where the connection breaks, or the writer is another one now, it is made anew and the statement run
    /// again, for a while.
    pub(super) async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Vec<Row>> {
        let began = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            match self.ask(doing, sql, parameters).await {
                Err(error) if may_pass(&error) && began.elapsed() < PATIENCE => {
                    tracing::warn!(%error, doing, "the writer did not answer; it is asked again");
                }
                answer => return answer.map_err(|error| of_writer(&error)),
            }
            tokio::time::sleep(std::mem::replace(&mut pause, PAUSE)).await;
        }
    }

    async fn ask(&self, doing: &str, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>> {
        let mut session = self.session.lock().await;
        let open = match session.take() {
            Some(open) => open,
            None => self.connector.connect(&self.application_name).await?,
        };
        let rows = open.query(Stage::Run, doing, sql, parameters).await;
        if !rows.as_ref().is_err_and(may_pass) {
            *session = Some(open);
        }
        rows
    }

    async fn run_table(&self) -> Result<RunTable> {
        let mut session = self.session.lock().await;
        let open = self.connector.connect(&self.application_name).await?;
        let run_table = find_run_table(&open).await?;
        *session = Some(open);
        Ok(run_table)
    }
}

/// Whether another connection, a moment later, may have another answer. A former writer takes no changes.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::DatabaseUnreachable
            | Reason::ConnectionLost
            | Reason::TooManyConnections
            | Reason::QueryWrites
    )
}

/// Says that it is the writer that does not do what it should.
fn of_writer(error: &Error) -> Error {
    let failure = error.to_failure();
    let (reason, hint) = match failure.reason {
        // Not the query's fault.
        Reason::QueryWrites => (Reason::DatabaseError, None),
        reason => (reason, failure.hint),
    };
    let advice =
        "correct spec.runLedger of the ExportSource, or remove it: then the replica's runs are not recorded";
    let hint = hint.map_or_else(|| advice.to_owned(), |hint| format!("{hint}; or {advice}"));
    let error =
        Error::new(reason, format!("the writer that records runs: {}", failure.message)).with_hint(hint);
    match failure.sql_state {
        Some(sql_state) => error.with_sql_state(sql_state),
        None => error,
    }
}
