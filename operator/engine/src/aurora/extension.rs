//! What a database has for exports by itself.

use pgexport_api::reason::Reason;
use pgexport_api::source::{AuroraS3, RunTable};
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::Stage;

/// Of the two overloads the one that takes bucket and path is called; `kms_key` came to it with a later version. Catalogs are
/// asked, as naming a schema that one may not use is an error.
const LOOK: &str = "
SELECT e.oid IS NOT NULL, coalesce(e.kms_key, false), coalesce(e.allowed, false), w.granted,
       pg_catalog.pg_is_in_recovery(), current_user::pg_catalog.text,
       (SELECT x.extversion FROM pg_catalog.pg_extension x WHERE x.extname = 'aws_s3'), coalesce(w.present, false)
FROM (VALUES (1)) one (n)
LEFT JOIN LATERAL (
  SELECT p.oid, 'kms_key' = ANY (p.proargnames) AS kms_key,
         pg_catalog.has_schema_privilege(s.oid, 'USAGE') AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS allowed
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = 'aws_s3' AND p.proname = 'query_export_to_s3'
    AND p.proargnames @> ARRAY['query', 'bucket', 'file_path', 'region', 'options']
  ORDER BY 2 DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (
  SELECT pg_catalog.bool_and(
    pg_catalog.has_schema_privilege(s.oid, 'USAGE') AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) AS granted,
    pg_catalog.bool_or(p.proname = 'finish_attempt') AS present
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = 'pgexport' AND p.proname IN ('prepare_run', 'orphans', 'cancel', 'mark_lost', 'finish_run', 'finish_attempt')) w ON true";

/// What a login finds in its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its version; `None` where its functions are there and it is not.
    pub version: Option<String>,
    /// Whether it takes `kms_key`.
    pub kms_key: bool,
    /// Whether runs are recorded.
    pub run_table: RunTable,
}

impl Extension {
    /// Looks for the extension and for the table of runs.
    ///
    /// # Errors
    /// [`Reason::ExtensionUnavailable`] where the extension is not installed, or may not be called, or takes no `kms_key`
    /// where that is needed.
    pub async fn find(session: &Session, needs_kms_key: bool) -> Result<Self> {
        let doing = "looking for the extension aws_s3";
        let row = session.one(Stage::Run, doing, LOOK, &[]).await?;
        let column = |error| session.error(error, Stage::Run, doing);
        let installed: bool = row.try_get(0).map_err(column)?;
        let kms_key: bool = row.try_get(1).map_err(column)?;
        let allowed: bool = row.try_get(2).map_err(column)?;
        let role: String = row.try_get(5).map_err(column)?;
        let unavailable = |message: &str, hint: String| {
            Err(Error::new(Reason::ExtensionUnavailable, message).with_hint(hint))
        };
        if !installed {
            return unavailable(
                "the extension aws_s3 is not installed in the source's database",
                "as rds_superuser, on the writer: CREATE EXTENSION aws_s3 CASCADE; only Amazon Aurora and RDS have it: elsewhere set spec.method of the ExportSource to Copy"
                    .to_owned(),
            );
        }
        if !allowed {
            return unavailable(
                &format!("the role {role} may not call aws_s3.query_export_to_s3"),
                format!(
                    "GRANT USAGE ON SCHEMA aws_s3, aws_commons TO {role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_s3, aws_commons TO {role}"
                ),
            );
        }
        if needs_kms_key && !kms_key {
            return unavailable(
                "the installed extension aws_s3 takes no KMS key, and spec.staging.kmsKeyId of the ExportSource names one",
                "as rds_superuser, on the writer: ALTER EXTENSION aws_s3 UPDATE; or remove kmsKeyId"
                    .to_owned(),
            );
        }
        Ok(Self {
            version: row.try_get(6).map_err(column)?,
            kms_key,
            run_table: run_table(&row).map_err(column)?,
        })
    }

    /// For the status.
    #[must_use]
    pub fn told(&self) -> AuroraS3 {
        AuroraS3 { extension: self.version.clone(), kms_key: self.kms_key, run_table: self.run_table }
    }
}

/// The table of runs in the database of this session, which needs no extension.
///
/// # Errors
/// What the database says.
pub(super) async fn find_run_table(session: &Session) -> Result<RunTable> {
    let doing = "looking for the table of runs";
    let row = session.one(Stage::Run, doing, LOOK, &[]).await?;
    run_table(&row).map_err(|error| session.error(error, Stage::Run, doing))
}

fn run_table(row: &Row) -> Result<RunTable, tokio_postgres::Error> {
    let (granted, replica, present): (Option<bool>, bool, bool) =
        (row.try_get(3)?, row.try_get(4)?, row.try_get(7)?);
    Ok(match (granted, replica, present) {
        (None, ..) => RunTable::NotInstalled,
        (Some(false), ..) => RunTable::NotGranted,
        (Some(true), true, _) => RunTable::ReadOnly,
        (Some(true), false, false) => RunTable::Outdated,
        (Some(true), false, true) => RunTable::Ready,
    })
}
