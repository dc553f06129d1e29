//! Parameters, tried on the server one by one, so that a bad one is named before it makes some query fail.

use pgexport_api::order::ParameterOrder;
use pgexport_api::reason::Reason;

use super::query::{type_name, value};
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage, reason};

/// Checks that the type exists and that the value is of it.
pub(super) async fn check(session: &Session, parameter: &ParameterOrder) -> Result<()> {
    let name = &parameter.name;
    let type_name = type_name(parameter)?;
    let doing = format!("parameter {name}");
    // Parsed only: a domain may not allow the NULL.
    let parse = format!("SELECT CAST(NULL AS {type_name})");
    session.watched(session.client().prepare(&parse)).await.map_err(|error| {
        refused(session, error, &doing, |said| match said.sql_state.get(..2) {
            // A message of this class names the type, as nothing else is in the statement.
            Some("42" | "0A" | "3F") => format!("parameter {name}: {}", said.message),
            _ => format!("parameter {name}: {type_name} is not a type that it can have"),
        })
    })?;
    let evaluate = format!("SELECT {} IS NULL", value(parameter)?);
    session.watched(session.client().query_typed(&evaluate, &[])).await.map_err(|error| {
        refused(session, error, &doing, |_| {
            format!("parameter {name}: its value is not one of type {type_name}")
        })
    })?;
    Ok(())
}

/// The parameter is at fault for what the server calls a bad statement or bad data. The server's message quotes the value.
fn refused(
    session: &Session,
    error: tokio_postgres::Error,
    doing: &str,
    message: impl FnOnce(&ServerMessage) -> String,
) -> Error {
    match ServerMessage::of(&error) {
        Some(said)
            if matches!(reason(&said.sql_state, Stage::Plan), Reason::InvalidQuery | Reason::DataError) =>
        {
            Error::new(Reason::InvalidParameter, message(&said)).with_sql_state(said.sql_state)
        }
        _ => session.error(error, Stage::Plan, doing),
    }
}
