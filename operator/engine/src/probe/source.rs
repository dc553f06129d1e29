//! Trying a source: everything that an export needs of the server before it knows the query.

use std::sync::Arc;

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;
use pgexport_api::source::{AuroraS3, Method, Server};

use crate::aurora::ledger;
use crate::error::{Error, Result};
use crate::secret::Secrets;
use crate::source::{Connector, error::Stage, privilege};

/// The name of the probe's connection in `pg_stat_activity`.
const APPLICATION_NAME: &str = "pgexport/probe";

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The server.
    pub server: Server,
    /// What the login may do beyond reading, as short phrases.
    pub login_may: Vec<String>,
    /// What it has for exports by itself, where that is the source's method.
    pub aurora_s3: Option<AuroraS3>,
}

/// Connects as an export does (host, TLS, login, version, encoding, settings, privileges), and reads once, READ ONLY.
pub async fn probe(source: &NamedSource, secrets: Arc<dyn Secrets>) -> Result<Probed> {
    let connector = Connector::new(&source.postgres, Arc::clone(&secrets));
    let session = connector.connect(APPLICATION_NAME).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    session.batch(Stage::Run, "beginning a transaction", begin).await?;
    privilege::check(&session, source).await?;
    let login_may = privilege::beyond_reading(&session).await?;
    let aurora_s3 = match source.method {
        Method::Copy => None,
        Method::AuroraS3 => {
            let ledger::Found { extension, ledger } =
                ledger::find(&session, source, secrets, APPLICATION_NAME).await?;
            if let Some(ledger) = ledger {
                ledger.close().await;
            }
            Some(extension.told())
        }
    };
    session.batch(Stage::Run, "ending the transaction", "ROLLBACK").await?;
    let server = session.server().cloned();
    session.close().await;
    let server =
        server.ok_or_else(|| Error::new(Reason::InternalError, "the server was not asked who it is"))?;
    Ok(Probed { server, login_may, aurora_s3 })
}
