//! The schema `pgexport`: installing and removing it.

use std::sync::Arc;

use pgexport_api::reason::Reason;
use pgexport_api::source::Postgres;
use tokio_postgres::types::Type;

use crate::error::{Error, Result};
use crate::secret::Secrets;
use crate::source::error::{ServerMessage, Stage, reason};
use crate::source::{Connector, Session};
use crate::sql::identifier;

/// The script that installs the schema and upgrades it, as psql reads it.
pub const INSTALL: &str = include_str!("../../../../sql/pgexport.sql");

/// The script that removes it.
pub const UNINSTALL: &str = include_str!("../../../../sql/uninstall.sql");

const NAME: &str = "pgexport/sql";

const VERSION: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'pgexport' AND c.relname = 'migration')";

/// Whether a login may call the extension; NULL where that is not installed.
const MAY_EXPORT: &str = "
SELECT pg_catalog.bool_and(pg_catalog.has_schema_privilege($1, n.oid, 'USAGE') AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE'))
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'aws_s3' AND p.proname = 'query_export_to_s3'";

/// What an installation has found and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The version that was there before.
    pub before: Option<i32>,
    /// The version that is there now.
    pub version: i32,
    /// Whether the login of the exports may call `aws_s3`; `None` where that is not installed.
    pub may_export: Option<bool>,
}

/// Installs the schema, or brings it up to date, and lets `login` use it. Running it again changes nothing.
///
/// # Errors
/// What the server says, with what to do.
pub async fn install(postgres: &Postgres, secrets: Arc<dyn Secrets>, login: &str) -> Result<Installed> {
    let session = Connector::new(postgres, secrets).connect(NAME).await?;
    let before = version(&session).await?;
    run(&session, "installing the schema pgexport", &plain(INSTALL)).await?;
    let grant = format!("GRANT pgexport_worker TO {}", identifier(login));
    run(&session, &format!("granting pgexport_worker to {login}"), &grant).await?;
    let missing = || Error::new(Reason::InternalError, "the script has installed no version");
    let version = version(&session).await?.ok_or_else(missing)?;
    let doing = "asking what the login may do";
    let row = session.one(Stage::Run, doing, MAY_EXPORT, &[(&login, Type::NAME)]).await?;
    let may_export = row.try_get(0).map_err(|error| session.error(error, Stage::Run, doing))?;
    session.close().await;
    Ok(Installed { before, version, may_export })
}

/// Removes the schema with its table of runs, and the roles where nothing else names them. Returns the version that was
/// there.
///
/// # Errors
/// What the server says, such as that runs may be going on.
pub async fn uninstall(postgres: &Postgres, secrets: Arc<dyn Secrets>) -> Result<Option<i32>> {
    let session = Connector::new(postgres, secrets).connect(NAME).await?;
    let before = version(&session).await?;
    run(&session, "removing the schema pgexport", &plain(UNINSTALL)).await?;
    session.close().await;
    Ok(before)
}

async fn version(session: &Session) -> Result<Option<i32>> {
    let doing = "asking for the version of the schema pgexport";
    let column = |error| session.error(error, Stage::Run, doing);
    let there: bool = session.one(Stage::Run, doing, VERSION, &[]).await?.try_get(0).map_err(column)?;
    if !there {
        return Ok(None);
    }
    let sql = "SELECT pg_catalog.max(version) FROM pgexport.migration";
    session.one(Stage::Run, doing, sql, &[]).await?.try_get(0).map_err(column)
}

/// Runs a script of ours: what it raises holds no values, and says what to do.
async fn run(session: &Session, doing: &str, sql: &str) -> Result<()> {
    let ran = session.watched(session.client().batch_execute(sql)).await;
    ran.map_err(|error| {
        let Some(said) = ServerMessage::of(&error) else { return session.error(error, Stage::Run, doing) };
        let reason = match reason(&said.sql_state, Stage::Run) {
            // The scripts' own refusals.
            Reason::DataError => Reason::DatabaseError,
            reason => reason,
        };
        let hint = said.hint.unwrap_or_else(|| match reason {
            Reason::PermissionDenied => {
                "name by --user a superuser, or on Aurora and RDS a role with CREATEROLE and CREATE on the database".to_owned()
            }
            Reason::QueryWrites => "name the writer by --host: a replica takes no changes".to_owned(),
            reason => reason.hint().to_owned(),
        });
        Error::new(reason, format!("{doing}: {}", said.message)).with_sql_state(said.sql_state).with_hint(hint)
    })
}

/// A script without psql's own commands.
fn plain(script: &str) -> String {
    script.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::{INSTALL, UNINSTALL, plain};

    #[test]
    fn scripts_are_transactions_without_commands_of_psql() {
        for script in [INSTALL, UNINSTALL] {
            let plain = plain(script);
            assert!(plain.contains("\nBEGIN;\n") && plain.trim_end().ends_with("COMMIT;"));
            assert!(!plain.lines().any(|line| line.trim_start().starts_with('\\')));
        }
    }
}
