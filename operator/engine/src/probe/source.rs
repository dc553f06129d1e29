//! Trying a source: everything that an export needs of the server before it knows the query.

use std::sync::Arc;

use pgexport_api::reason::Reason;
use pgexport_api::source::{Postgres, Server};

use crate::error::{Error, Result};
use crate::secret::Secrets;
use crate::source::{Connector, error::Stage};

/// The name of the probe's connection in `pg_stat_activity`.
const APPLICATION_NAME: &str = "pgexport/probe";

/// Connects as an export does (host, TLS, login, version, encoding, settings), and reads once, READ ONLY.
pub async fn probe(postgres: &Postgres, secrets: Arc<dyn Secrets>) -> Result<Server> {
    let session = Connector::new(postgres, secrets).connect(APPLICATION_NAME).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    session.batch(Stage::Run, "beginning a transaction", begin).await?;
    session.one(Stage::Run, "reading", "SELECT 1", &[]).await?;
    session.batch(Stage::Run, "ending the transaction", "ROLLBACK").await?;
    let server = session.server().cloned();
    session.close().await;
    server.ok_or_else(|| Error::new(Reason::InternalError, "the server was not asked who it is"))
}
