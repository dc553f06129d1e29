//! A query as the server understands it: one statement, which returns rows and does not write.

use pgexport_api::reason::Reason;
use tokio_postgres::types::Type;

use super::Column;
use super::explain::{Explained, Node};
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage};
use crate::sql::{CHUNK, Substituted};

/// What the server says of a query.
#[derive(Debug)]
pub(super) struct Described {
    /// The columns of its result.
    pub(super) columns: Vec<Column>,
    /// The types' oids, in the same order; a domain's is that of its base type.
    pub(super) types: Vec<u32>,
    /// The types' modifiers, such as a numeric's digits.
    pub(super) modifiers: Vec<i32>,
    /// The columns of tables that they are, by the tables' oids and the columns' numbers.
    pub(super) origins: Vec<Option<(u32, i16)>>,
    /// Its plan.
    pub(super) plan: Node,
}

/// Has the query parsed alone, planned (which locks what it reads against being altered), and parsed in the place where it
/// will stand.
pub(super) async fn describe(session: &Session, doing: &str, query: &Substituted) -> Result<Described> {
    if query.sql.is_empty() {
        return Err(Error::new(Reason::InvalidQuery, format!("{doing}: the query is empty")));
    }
    // Alone: what would close the parentheses that it will stand in, or open another statement, is a syntax error here.
    let statement = session
        .watched(session.client().prepare(&query.sql))
        .await
        .map_err(|error| explain_syntax(session, error, doing, query))?;
    if !statement.params().is_empty() {
        let message = format!(
            "{doing}: the query names $1; parameters are written :name, and given in spec.parameters"
        );
        return Err(Error::new(Reason::InvalidQuery, message));
    }
    check_embedded(session, doing, query).await?;
    let plan = explain(session, doing, &query.sql).await?;
    if plan.writes() {
        return Err(writes(doing));
    }
    if statement.columns().is_empty() {
        return Err(Error::new(Reason::InvalidQuery, format!("{doing}: the query returns no columns")));
    }
    let types: Vec<u32> = statement.columns().iter().map(|column| column.type_().oid()).collect();
    let modifiers = statement.columns().iter().map(tokio_postgres::Column::type_modifier).collect();
    let origins =
        statement.columns().iter().map(|column| column.table_oid().zip(column.column_id())).collect();
    let columns = columns(session, doing, &statement).await?;
    Ok(Described { columns, types, modifiers, origins, plan })
}

/// The columns of a statement's result.
pub(super) async fn columns(
    session: &Session,
    doing: &str,
    statement: &tokio_postgres::Statement,
) -> Result<Vec<Column>> {
    let types: Vec<u32> = statement.columns().iter().map(|column| column.type_().oid()).collect();
    let modifiers: Vec<i32> = statement.columns().iter().map(tokio_postgres::Column::type_modifier).collect();
    let names = session
        .query(
            Stage::Plan,
            doing,
            "SELECT pg_catalog.format_type(t, m) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS c(t, m, n) ORDER BY n",
            &[(&types, Type::OID_ARRAY), (&modifiers, Type::INT4_ARRAY)],
        )
        .await?;
    statement
        .columns()
        .iter()
        .zip(names)
        .map(|(column, row)| {
            let column_type = row.try_get(0).map_err(|error| session.error(error, Stage::Plan, doing))?;
            Ok(Column { name: column.name().to_owned(), column_type })
        })
        .collect()
}

/// Has the query parsed where it will stand, in FROM, which takes queries only and none that write. What is refused there
/// is looked at once more, to tell statements that write from other ones. That needs no right to write: planning does, and
/// an exporter that lacks it would be told to ask for it.
async fn check_embedded(session: &Session, doing: &str, query: &Substituted) -> Result<()> {
    session.batch(Stage::Plan, doing, "SAVEPOINT embedded").await?;
    let embedded = format!("SELECT * FROM (\n{}\n) q", query.sql);
    let Err(refusal) = session.watched(session.client().prepare(&embedded)).await else {
        return session.batch(Stage::Plan, doing, "RELEASE SAVEPOINT embedded").await;
    };
    let refused = matches!(ServerMessage::of(&refusal), Some(said) if matches!(said.sql_state.as_str(), "42601" | "0A000"));
    if !refused {
        return Err(session.error(refusal, Stage::Plan, doing));
    }
    session.batch(Stage::Plan, doing, "ROLLBACK TO SAVEPOINT embedded").await?;
    match explain(session, doing, &query.sql).await {
        Ok(plan) if !plan.writes() => Err(not_a_query(session, refusal, doing)),
        Ok(_) => Err(writes(doing)),
        Err(error) if matches!(error.reason(), Reason::PermissionDenied | Reason::QueryWrites) => {
            Err(writes(doing))
        }
        Err(error) => Err(error),
    }
}

fn writes(doing: &str) -> Error {
    Error::new(Reason::QueryWrites, format!("{doing}: the query writes or locks rows; exports run READ ONLY"))
}

/// The plan of a query that was parsed alone before.
pub(super) async fn explain(session: &Session, doing: &str, query: &str) -> Result<Node> {
    let sql = format!("EXPLAIN (VERBOSE, FORMAT JSON) {query}");
    let rows = session
        .watched(session.client().query_typed(&sql, &[]))
        .await
        .map_err(|error| not_a_query(session, error, doing))?;
    let unreadable =
        || Error::new(Reason::InternalError, format!("{doing}: the server's plan cannot be read"));
    let json: serde_json::Value =
        rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|_| unreadable())?;
    let mut explained: Vec<Explained> = serde_json::from_value(json).map_err(|_| unreadable())?;
    // A rule may make more than one plan of a statement that writes; one that reads has one.
    let plan = explained.pop().ok_or_else(unreadable)?.plan;
    Ok(explained.into_iter().fold(plan, |mut plan, other| {
        plan.plans.push(other.plan);
        plan
    }))
}

/// A syntax error in the query, with what it probably comes from.
fn explain_syntax(
    session: &Session,
    error: tokio_postgres::Error,
    doing: &str,
    query: &Substituted,
) -> Error {
    let Some(said) = ServerMessage::of(&error).filter(|said| said.sql_state == "42601") else {
        return session.error(error, Stage::Plan, doing);
    };
    if query.undeclared.contains(CHUNK) {
        let message = format!("{doing}: the query names :chunk, which goes with chunking strategy Table");
        return Error::new(Reason::ChunkingRefused, message).with_sql_state(said.sql_state);
    }
    if let Some(name) = query.undeclared.first() {
        let message = format!("{doing}: the query names :{name}, which spec.parameters does not give");
        return Error::new(Reason::InvalidParameter, message).with_sql_state(said.sql_state);
    }
    let error = session.error(error, Stage::Plan, doing);
    if let Some(name) = query.bracketed.first() {
        return error.with_hint(format!("inside [...] a placeholder needs parentheses, as :{name} could be the end of a slice: write (:{name})"));
    }
    if query.has_more_statements() {
        return error.with_hint("give one statement; each further query is a data set of its own");
    }
    error
}

/// What parses alone, and neither under EXPLAIN nor in FROM, is a statement of another kind.
fn not_a_query(session: &Session, error: tokio_postgres::Error, doing: &str) -> Error {
    match ServerMessage::of(&error) {
        Some(said) if matches!(said.sql_state.as_str(), "42601" | "26000") => {
            let message = format!("{doing}: this statement is no query; write SELECT, WITH, VALUES or TABLE");
            Error::new(Reason::InvalidQuery, message).with_sql_state(said.sql_state)
        }
        _ => session.error(error, Stage::Plan, doing),
    }
}
