//! A connection on which the database exports chunks by itself.

use std::time::Duration;

use pgexport_api::order::RunIdentity;
use pgexport_api::reason::Reason;
use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;

use super::error::{DOING, Said, classify};
use super::ledger::Ledger;
use super::target::Target;
use super::{replica, run_table};
use crate::encode::DatabaseStatement;
use crate::error::{Error, Result};
use crate::plan::{self, Chunk, Plan};
use crate::source::error::Stage;
use crate::source::{Connector, Importer, Session, check_instance};

/// How long an export waits for a lock: as the locks of chunks that workers read, it may wait behind somebody who waits for
/// the holder of the snapshot.
const LOCK_TIMEOUT: &str = "10s";
/// How long an export that is cancelled may take to end, and to write that into the table of runs.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// When it is cancelled again: the first request may have come between two statements.
const CANCEL_AGAIN: Duration = Duration::from_secs(4);

/// What is to be exported.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The run and its attempt.
    pub run: &'a RunIdentity,
    /// The data set's name.
    pub dataset: &'a str,
    /// The chunk's index.
    pub chunk: u32,
    /// How many chunks the plan has.
    pub chunks: u32,
    /// The query, and how its rows are written.
    pub statement: &'a DatabaseStatement,
    /// The key in the bucket, prefix included; further parts have names that begin with it.
    pub key: &'a str,
}

/// What the extension says that it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Rows, modulo 2^32: it counts in 32 bits.
    pub rows: u32,
    /// Objects: the key, the key with `_part2`, with `_part3`, and so on.
    pub objects: u32,
    /// Bytes in them.
    pub bytes: u64,
}

/// A connection, and how it exports.
#[derive(Debug)]
pub struct Exporter {
    connection: Connection,
    /// The server process.
    pid: i32,
    application_name: String,
}

#[derive(Debug)]
enum Connection {
    /// It has no transaction: the statement of the table of runs makes its own.
    Recorded(Session),
    /// It is in the transaction in which it calls the extension. With a ledger, each call is told to that before and after.
    Plain(Importer, Option<Ledger>),
}

impl Uploaded {
    pub(super) fn new(rows: Option<i64>, objects: Option<i64>, bytes: Option<i64>) -> Result<Self> {
        let told = (rows, objects.and_then(|it| it.try_into().ok()), bytes.and_then(|it| it.try_into().ok()));
        let (Some(rows), Some(objects), Some(bytes)) = told else {
            return Err(Error::new(
                Reason::StoreError,
                "aws_s3.query_export_to_s3 did not say what it wrote",
            ));
        };
        // Negative ones have wrapped.
        let rows = u32::try_from(rows.rem_euclid(1 << 32)).unwrap_or_default();
        Ok(Self { rows, objects, bytes })
    }
}

impl Exporter {
    /// Connects. With a ledger each export is recorded there, otherwise the extension is called alone.
    ///
    /// # Errors
    /// As of [`Importer::join`].
    pub async fn connect(
        connector: &Connector,
        plan: &Plan,
        ledger: Option<&Ledger>,
        application_name: &str,
    ) -> Result<Self> {
        let connection = match (&plan.snapshot, ledger) {
            (snapshot, Some(Ledger::Here)) => {
                let session = connector.connect(application_name).await?;
                if let Some(snapshot) = snapshot {
                    check_instance(&session, snapshot)?;
                }
                Connection::Recorded(session)
            }
            (Some(snapshot), ledger) => {
                let importer = Importer::join(connector, snapshot, application_name).await?;
                Connection::Plain(importer, ledger.cloned())
            }
            (None, ledger) => {
                let importer = Importer::connect(connector, application_name).await?;
                Connection::Plain(importer, ledger.cloned())
            }
        };
        let mut exporter = Self { connection, pid: 0, application_name: application_name.to_owned() };
        let (session, doing) = (exporter.session(), "asking for the server process");
        let row = session.one(Stage::Run, doing, "SELECT pg_catalog.pg_backend_pid()", &[]).await?;
        exporter.pid = row.try_get(0).map_err(|error| session.error(error, Stage::Run, doing))?;
        Ok(exporter)
    }

    /// The name under which the server shows the next export.
    pub fn rename(&mut self, application_name: String) {
        self.application_name.clone_from(&application_name);
        if let Connection::Plain(importer, _) = &mut self.connection {
            importer.rename(application_name);
        }
    }

    /// The number of its server process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Has the database export a chunk. When `stop` is cancelled, the server is told, and waited for until it has ended.
    ///
    /// # Errors
    /// What the database says, as reasons; [`Reason::Interrupted`] where it was stopped.
    pub async fn export(
        &mut self,
        plan: &Plan,
        chunk: &Chunk,
        query: &str,
        target: &Target,
        request: &Request<'_>,
        stop: &CancellationToken,
    ) -> Result<Uploaded> {
        if let Connection::Plain(importer, _) = &mut self.connection
            && plan.snapshot.is_none()
        {
            importer.begin_anew().await?;
        }
        let this: &Self = self;
        let exporting = async {
            match &this.connection {
                Connection::Recorded(session) => {
                    this.make_settings(session).await?;
                    let uploaded =
                        run_table::export(session, target, plan.snapshot.as_ref(), request).await?;
                    if plan.snapshot.is_none() {
                        still_as_planned(session, plan, chunk, query).await?;
                    }
                    Ok(uploaded)
                }
                Connection::Plain(importer, ledger) => {
                    importer.pin().await?;
                    plan::lock(importer.session(), plan, chunk, query).await?;
                    importer.pin().await?;
                    let session = importer.session();
                    let visible = plan.snapshot.as_ref().map(|snapshot| snapshot.visible.as_str());
                    match ledger {
                        Some(ledger) => replica::export(session, ledger, target, visible, request).await,
                        None => call(session, target, request).await,
                    }
                }
            }
        };
        let mut exporting = std::pin::pin!(exporting);
        tokio::select! {
            uploaded = &mut exporting => return uploaded,
            () = stop.cancelled() => {}
        }
        let ending = async {
            loop {
                let _ = this.session().cancel().await;
                if tokio::time::timeout(CANCEL_AGAIN, &mut exporting).await.is_ok() {
                    return;
                }
            }
        };
        if tokio::time::timeout(CANCEL_TIMEOUT, ending).await.is_err() {
            tracing::warn!(pid = this.pid, "the database has not ended a cancelled export yet");
        }
        Err(Error::new(Reason::Interrupted, "the worker was stopped before it was done"))
    }

    /// Ends the connection.
    pub async fn finish(self) {
        match self.connection {
            Connection::Recorded(session) => session.close().await,
            Connection::Plain(importer, _) => importer.finish().await,
        }
    }

    const fn session(&self) -> &Session {
        match &self.connection {
            Connection::Recorded(session) => session,
            Connection::Plain(importer, _) => importer.session(),
        }
    }

    /// What is pinned, which a query can change, and how long the transactions of an export may wait and last.
    async fn make_settings(&self, session: &Session) -> Result<()> {
        session.pin(&self.application_name).await?;
        let mut sql = format!("SELECT pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', false)");
        if session.has_transaction_timeout() {
            sql.push_str(", pg_catalog.set_config('transaction_timeout', '0', false)");
        }
        session.query(Stage::Run, "making the settings of an export", &sql, &[]).await.map(drop)
    }
}

/// Whether the plan is still right for a chunk that was exported in a transaction that is over. A table that is rewritten gets
/// another file, and never its former one: where it has the planned one after the export, it had it all the while.
///
/// # Errors
/// As of [`plan::lock`].
pub async fn still_as_planned(session: &Session, plan: &Plan, chunk: &Chunk, query: &str) -> Result<()> {
    let doing = "looking whether the plan is still right";
    session.batch(Stage::Run, doing, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    plan::lock(session, plan, chunk, query).await?;
    session.batch(Stage::Run, doing, "ROLLBACK").await
}

/// Calls the extension in the transaction that is open. What is not given is left out: whether it takes NULL is not
/// documented.
async fn call(session: &Session, target: &Target, request: &Request<'_>) -> Result<Uploaded> {
    let kms_key = if target.kms_key.is_some() { ", kms_key => $6" } else { "" };
    let sql = format!(
        "SELECT rows_uploaded, files_uploaded, bytes_uploaded FROM aws_s3.query_export_to_s3(
           query => $1, bucket => $2, file_path => $3, region => $4, options => $5{kms_key})"
    );
    let all: [(&(dyn ToSql + Sync), Type); 6] = [
        (&request.statement.query, Type::TEXT),
        (&target.bucket, Type::TEXT),
        (&request.key, Type::TEXT),
        (&target.region, Type::TEXT),
        (&request.statement.options, Type::TEXT),
        (&target.kms_key, Type::TEXT),
    ];
    let parameters = if target.kms_key.is_some() { &all[..] } else { &all[..5] };
    let called = session.watched(session.client().query_typed(&sql, parameters)).await;
    let rows = called.map_err(|error| match error.as_db_error() {
        Some(said) => classify(
            &Said {
                sql_state: said.code().code().to_owned(),
                message: said.message().to_owned(),
                detail: said.detail().map(str::to_owned),
                hint: said.hint().map(str::to_owned),
            },
            target,
        ),
        None => session.error(error, Stage::Run, DOING),
    })?;
    let column = |error| session.error(error, Stage::Run, DOING);
    let Some(row) = rows.first() else { return Uploaded::new(None, None, None) };
    Uploaded::new(
        row.try_get(0).map_err(column)?,
        row.try_get(1).map_err(column)?,
        row.try_get(2).map_err(column)?,
    )
}

#[cfg(test)]
mod tests {
    use super::Uploaded;

    #[test]
    fn counts_that_have_wrapped_are_told_modulo_their_width() {
        let rows = |rows| Uploaded::new(Some(rows), Some(1), Some(9)).unwrap().rows;
        assert_eq!(rows(5), 5);
        assert_eq!(rows(-1_894_967_296), 2_400_000_000);
        assert_eq!(rows(2_400_000_000), 2_400_000_000);
        assert_eq!(rows((1 << 32) + 7), 7);
    }

    #[test]
    fn an_answer_without_numbers_is_none() {
        assert!(Uploaded::new(None, Some(1), Some(1)).is_err());
        assert!(Uploaded::new(Some(1), Some(-1), Some(1)).is_err());
        assert!(Uploaded::new(Some(1), Some(1), None).is_err());
    }
}
