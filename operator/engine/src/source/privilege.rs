//! What a login may do. READ ONLY does not bind functions that run programs or read files, so whoever may write a query may
//! do what these logins may.

use pgexport_api::order::NamedSource;
use pgexport_api::reason::Reason;

use super::Session;
use super::error::Stage;
use crate::error::{Error, Result};

/// How many phrases are told at the most: a report has 3 KiB.
const TOLD: usize = 12;

/// The roles through which the login is more than one that reads and writes tables: superusers, itself included, and those
/// that reach the server's programs and files. It may take any role that it is a member of, directly or not, whether it
/// inherits or not, and whatever role the source's settings give it.
const PRIVILEGED: &str = "
SELECT session_user::pg_catalog.text, r.rolname::pg_catalog.text, r.rolsuper
FROM pg_catalog.pg_roles r
WHERE (r.rolsuper OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', 'rds_superuser'))
  AND pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
ORDER BY r.rolname <> session_user, NOT r.rolsuper, r.rolname
LIMIT 1";

/// What the login may do beyond reading, one phrase a row.
const BEYOND_READING: &str = "
WITH me AS (SELECT * FROM pg_catalog.pg_roles WHERE rolname = session_user),
own AS (
  SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
)
SELECT phrase FROM (
  SELECT 1, 'do anything: it is a superuser' FROM me WHERE rolsuper
  UNION ALL
  SELECT 2, 'act as ' || r.rolname FROM pg_catalog.pg_roles r, me
  WHERE NOT me.rolsuper AND r.oid <> me.oid
    AND (r.rolsuper OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', 'rds_superuser'))
    AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
  UNION ALL
  SELECT 3, what FROM me, LATERAL (VALUES
    (rolcreaterole, 'create roles'), (rolcreatedb, 'create databases'),
    (rolreplication, 'replicate the server'), (rolbypassrls, 'bypass row-level security')) AS has(it, what)
  WHERE NOT rolsuper AND it
  UNION ALL
  SELECT 4, 'create schemas in database ' || pg_catalog.current_database() FROM me
  WHERE NOT rolsuper AND pg_catalog.has_database_privilege(me.oid, pg_catalog.current_database(), 'CREATE')
  UNION ALL
  SELECT 5, 'create objects in schema ' || own.nspname FROM own, me
  WHERE NOT rolsuper AND pg_catalog.has_schema_privilege(me.oid, own.oid, 'CREATE')
  UNION ALL
  SELECT 6, 'write tables in schema ' || own.nspname FROM own, me
  WHERE NOT rolsuper AND pg_catalog.has_schema_privilege(me.oid, own.oid, 'USAGE') AND EXISTS (
    SELECT FROM pg_catalog.pg_class c
    WHERE c.relnamespace = own.oid AND c.relkind IN ('r', 'p', 'v', 'f')
      AND (pg_catalog.has_table_privilege(me.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR pg_catalog.has_any_column_privilege(me.oid, c.oid, 'INSERT, UPDATE')))
) AS may(kind, phrase)
ORDER BY kind, phrase";

/// Refuses a login that may do more than read and write tables, unless the source accepts it.
pub async fn check(session: &Session, source: &NamedSource) -> Result<()> {
    if source.allow_privileged_login {
        return Ok(());
    }
    let doing = "asking what the login may do";
    let rows = session.query(Stage::Run, doing, PRIVILEGED, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let column = |error| session.error(error, Stage::Run, doing);
    let login: &str = row.try_get(0).map_err(column)?;
    let role: &str = row.try_get(1).map_err(column)?;
    let superuser: bool = row.try_get(2).map_err(column)?;
    let is = match (login == role, superuser) {
        (true, _) => "is a superuser".to_owned(),
        (false, true) => format!("is a member of {role}, a superuser"),
        (false, false) => format!("is a member of {role}"),
    };
    let fix = match (login == role, superuser) {
        (true, _) => format!("ALTER ROLE {login} NOSUPERUSER, or name another login"),
        (false, _) => format!(
            "REVOKE {role} FROM {login} (or from the role through which it is a member), or name another login"
        ),
    };
    let message = format!(
        "login {login} {is}: whoever writes a query could run programs, or read and write files, on the server"
    );
    Err(Error::new(Reason::PrivilegedLogin, message)
        .with_hint(format!("{fix}; or set spec.allowPrivilegedLogin of ExportSource {}", source.name)))
}

/// What the login may do beyond reading, as short phrases; the most telling ones where there are many.
pub async fn beyond_reading(session: &Session) -> Result<Vec<String>> {
    let doing = "asking what the login may do";
    let rows = session.query(Stage::Run, doing, BEYOND_READING, &[]).await?;
    let mut phrases = rows
        .iter()
        .map(|row| row.try_get(0).map_err(|error| session.error(error, Stage::Run, doing)))
        .collect::<Result<Vec<String>>>()?;
    if phrases.len() > TOLD {
        let more = phrases.len() - (TOLD - 1);
        phrases.truncate(TOLD - 1);
        phrases.push(format!("{more} more of the kind"));
    }
    Ok(phrases)
}
