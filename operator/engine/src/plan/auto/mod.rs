//! Strategy Auto: what splits a query. Its tokens tell what may be in it, and the server's parser and planner what is.
//!
//! A query is split only where that is known to be right. Whatever is not known leaves it one chunk, and the reason is told.

mod column;
mod pages;
mod size;
mod table;

use pgexport_api::job::{Layout, Strategy};
use pgexport_api::order::{DeliveryPath, RunOrder};
use tokio_postgres::types::{ToSql, Type};

use super::describe::{Described, explain};
use super::explain::Node;
use super::{FromItem, Rows};
use crate::error::Result;
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage};
use crate::sql::{Outline, Substituted, Values, outline, substitute};

/// How a data set is split.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) rows: Vec<Rows>,
    pub(super) strategy: Strategy,
    /// Why like this. It holds names of tables and columns, and no values.
    pub(super) reason: String,
    pub(super) from: Option<FromItem>,
}

impl Split {
    fn one(reason: impl Into<String>) -> Self {
        Self { rows: vec![Rows::All], strategy: Strategy::None, reason: reason.into(), from: None }
    }
}

/// A query, and who is asked of it.
#[derive(Clone, Copy)]
struct Subject<'a> {
    session: &'a Session,
    /// For messages.
    doing: &'a str,
    /// As the ExportJob writes it.
    sql: &'a str,
    values: &'a Values,
    query: &'a Substituted,
    described: &'a Described,
    /// How many chunks are read at a time.
    parallelism: u32,
    /// How many chunks there may be.
    budget: u32,
}

/// What is volatile: functions of these names; those of one argument that is a row, which may be written as its column; and
/// the functions of operators.
const VOLATILE: &str = "
SELECT p.proname::pg_catalog.text, NULL::pg_catalog.text FROM pg_catalog.pg_proc p
WHERE p.provolatile = 'v' AND (p.proname = ANY ($1) OR (p.proname = ANY ($2) AND p.pronargs = 1
  AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0] AND t.typtype IN ('c', 'p'))))
UNION ALL
SELECT p.proname::pg_catalog.text, o.oprname::pg_catalog.text
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode WHERE p.provolatile = 'v'
ORDER BY 1";

/// Functions of one moment, transaction or connection, beside those that are volatile.
const OF_NOW: [&str; 9] = [
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "age",
    "current_setting",
    "pg_backend_pid",
    "txid_current_if_assigned",
    "pg_current_xact_id_if_assigned",
    "inet_client_port",
];

/// The same, as words of SQL.
const WORDS_OF_NOW: [&str; 5] =
    ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];

/// Columns that a table has and a subquery has not.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Splits a data set's query, of which `query` was made with `values`.
pub(super) async fn split(
    session: &Session,
    doing: &str,
    order: &RunOrder,
    sql: &str,
    values: &Values,
    query: &Substituted,
    described: &Described,
) -> Result<Split> {
    if order.files.layout == Layout::Single && order.delivery == DeliveryPath::Direct {
        return Ok(Split::one(
            "one file that is delivered Direct is one chunk; delivery.mode Staged joins chunks",
        ));
    }
    let datasets = u32::try_from(order.datasets.len()).unwrap_or(u32::MAX);
    let budget = (pgexport_api::job::MAX_CHUNKS / datasets.max(1)).max(1);
    let parallelism = order.parallelism;
    let subject = Subject { session, doing, sql, values, query, described, parallelism, budget };
    let outline = outline(&query.sql);
    if outline.may_be_ordered {
        return Ok(Split::one("ORDER BY: an order is promised for one chunk"));
    }
    if let Some(what) = subject.changing(&outline).await? {
        return Ok(Split::one(format!("{what}: chunks would not see the same")));
    }
    let Some(tables) = table::named(&subject, &outline).await? else {
        return Ok(Split::one("the query is too long to be looked through"));
    };
    let why = match pages::split(&subject, &outline, &tables).await? {
        Ok(split) => return Ok(split),
        Err(why) => why,
    };
    Ok(column::split(&subject, &tables).await?.unwrap_or_else(|| Split::one(why)))
}

impl Subject<'_> {
    /// What makes the rows other ones from one chunk to the next.
    async fn changing(&self, outline: &Outline) -> Result<Option<String>> {
        if let Some(kind) = self.described.plan.arbitrary() {
            return Ok(Some(format!("{kind} in its plan")));
        }
        if outline.has_distinct_on {
            return Ok(Some("DISTINCT ON".to_owned()));
        }
        if outline.has_relative_date {
            return Ok(Some("a date such as 'today'".to_owned()));
        }
        let function = OF_NOW.iter().find(|function| outline.calls.contains(**function));
        let word = WORDS_OF_NOW.iter().find(|word| outline.words.contains(**word));
        if let Some(word) = function.or(word) {
            return Ok(Some((*word).to_owned()));
        }
        let (session, doing) = (self.session, self.doing);
        let calls: Vec<&String> = outline.calls.iter().collect();
        let attributes: Vec<&String> = outline.attributes.iter().collect();
        let parameters: &[(&(dyn ToSql + Sync), Type)] =
            &[(&calls, Type::TEXT_ARRAY), (&attributes, Type::TEXT_ARRAY)];
        for row in session.query(Stage::Plan, doing, VOLATILE, parameters).await? {
            let failed = |error| session.error(error, Stage::Plan, doing);
            let (function, operator): (String, Option<String>) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if operator.is_none_or(|operator| outline.symbols.contains(&operator)) {
                return Ok(Some(format!("{function}, which is volatile")));
            }
        }
        Ok(None)
    }

    /// The plan of another form of the query, if the server takes it and its result has the same columns.
    async fn plan_of(&self, sql: &str) -> Result<Option<Node>> {
        let (session, doing) = (self.session, self.doing);
        session.batch(Stage::Plan, doing, "SAVEPOINT form").await?;
        let planning = async {
            let statement = session.watched(session.client().prepare(sql)).await?;
            let same = statement.columns().len() == self.described.columns.len()
                && statement
                    .columns()
                    .iter()
                    .zip(&self.described.columns)
                    .all(|(new, old)| new.name() == old.name)
                && statement.columns().iter().map(|new| new.type_().oid()).eq(self
                    .described
                    .types
                    .iter()
                    .copied())
                && statement.columns().iter().map(tokio_postgres::Column::type_modifier).eq(self
                    .described
                    .modifiers
                    .iter()
                    .copied());
            Ok(same)
        };
        let same = match planning.await {
            Ok(same) => same,
            Err(error) if is_refusal(&error) => {
                session.batch(Stage::Plan, doing, "ROLLBACK TO SAVEPOINT form").await?;
                return Ok(None);
            }
            Err(error) => return Err(session.error(error, Stage::Plan, doing)),
        };
        // What is locked by planning stays locked.
        let plan = if same { Some(explain(session, doing, sql).await?) } else { None };
        session.batch(Stage::Plan, doing, "RELEASE SAVEPOINT form").await?;
        Ok(plan)
    }

    /// The plan of the query with something else in a table's place.
    async fn plan_with(&self, parted: Option<String>) -> Result<Option<Node>> {
        match parted {
            Some(parted) => self.plan_of(&substitute(&parted, self.values).sql).await,
            None => Ok(None),
        }
    }
}

/// Whether the server understood, and says that this is no query.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    ServerMessage::of(error).is_some_and(|said| said.sql_state.starts_with("42"))
}
