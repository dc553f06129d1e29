//! The log of attempts beside the table of runs, for people: nothing rests on it.

use pgexport_api::order::RunIdentity;
use pgexport_api::reason::Reason;
use pgexport_api::report::Failure;
use tokio_postgres::types::{ToSql, Type};

use super::ledger::Ledger;
use crate::error::Result;
use crate::source::Session;
use crate::source::error::Stage;

const THIS_BACKEND: &str = "SELECT pgexport.this_backend()::pg_catalog.text";

const BEGIN: &str = "SELECT pgexport.begin_attempt($1, $2, $3, $4::pgexport.backend)";

const FINISH: &str = "
SELECT pgexport.finish_attempt(
  job_uid => $1, attempt => $2, state => $3, reason => $4, sqlstate => $5, message => $6, chunk => $7)";

const LOST: &str = "
SELECT pgexport.finish_attempt(
  job_uid => $1, attempt => NULL, state => 'lost', message => 'The job has ended, and this attempt had left no outcome.')";

/// Records that an attempt begins on the database that `here` leads to. Former ones that have left no outcome are lost.
///
/// # Errors
/// What the database says.
pub async fn begin(here: &Session, ledger: &Ledger, run: &RunIdentity) -> Result<()> {
    let doing = "recording an attempt";
    let row = here.one(Stage::Run, doing, THIS_BACKEND, &[]).await?;
    let backend: String = row.try_get(0).map_err(|error| here.error(error, Stage::Run, doing))?;
    let (attempt, job) = (number(run.attempt), format!("{}/{}", run.namespace, run.name));
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&run.uid, Type::TEXT), (&attempt, Type::INT4), (&job, Type::TEXT), (&backend, Type::TEXT)];
    ledger.query(here, doing, BEGIN, &parameters).await.map(drop)
}

/// Records how an attempt has ended, unless that is known already.
///
/// # Errors
/// What the database says.
pub async fn finish(
    here: &Session,
    ledger: &Ledger,
    run: &RunIdentity,
    failure: Option<&Failure>,
) -> Result<()> {
    let attempt = number(run.attempt);
    let state = match failure.map(|failure| failure.reason) {
        None => "exported",
        Some(Reason::Interrupted) => "interrupted",
        Some(_) => "failed",
    };
    let reason = failure.map(|failure| failure.reason.as_str());
    let sql_state = failure.and_then(|failure| failure.sql_state.as_deref());
    let message = failure.map(|failure| failure.message.as_str());
    let chunk = failure.and_then(|failure| failure.chunk).map(number);
    let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
        (&run.uid, Type::TEXT),
        (&attempt, Type::INT4),
        (&state, Type::TEXT),
        (&reason, Type::TEXT),
        (&sql_state, Type::TEXT),
        (&message, Type::TEXT),
        (&chunk, Type::INT4),
    ];
    ledger.query(here, "recording an attempt's outcome", FINISH, &parameters).await.map(drop)
}

/// Records that a job has ended: attempts that have left no outcome by now never will.
///
/// # Errors
/// What the database says.
pub async fn close(here: &Session, ledger: &Ledger, uid: &str) -> Result<()> {
    ledger.query(here, "recording lost attempts", LOST, &[(&uid, Type::TEXT)]).await.map(drop)
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
