//! Chunks by ranges of pages of one table in the query.

use pgexport_api::job::TableChunking;
use pgexport_api::reason::Reason;
use tokio_postgres::types::Type;

use super::Rows;
use super::describe::{Described, explain};
use super::explain::obstacle;
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage};
use crate::sql::{CHUNK, Substituted, Values, identifier, substitute};

const TABLE: &str = "
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, a.amname::pg_catalog.text,
       pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE c.oid = pg_catalog.to_regclass($1)";

/// A table that can be split by pages.
#[derive(Debug)]
struct Table {
    schema: String,
    name: String,
    pages: u64,
}

/// The condition that stands for `:chunk` while the query is understood.
pub(super) const WHOLE: &str = "(TRUE)";

/// The condition of a chunk without rows.
const NOTHING: &str = "(FALSE)";

/// Checks that the query says once where the condition stands.
pub(super) fn check_placeholder(doing: &str, query: &Substituted) -> Result<()> {
    let why = match query.replaced.get(CHUNK).copied().unwrap_or_default() {
        1 => return Ok(()),
        0 => "strategy Table needs the placeholder :chunk where the condition on the table shall stand, as in WHERE :chunk AND …".to_owned(),
        many => format!("the placeholder :chunk stands {many} times; a table can be split once"),
    };
    Err(Error::new(Reason::ChunkingRefused, format!("{doing}: {why}")))
}

/// Splits the table's pages. `query` was described with [`WHOLE`] in the place of `:chunk`.
pub(super) async fn rows(
    session: &Session,
    doing: &str,
    sql: &str,
    values: &Values,
    described: &Described,
    chunking: &TableChunking,
) -> Result<Vec<Rows>> {
    let refused = |why: String| {
        Error::new(
            Reason::ChunkingRefused,
            format!("{doing}: table {} cannot split it: {why}", chunking.name),
        )
    };
    let table = find(session, doing, chunking, &refused).await?;
    let alias = match &chunking.alias {
        Some(alias) => fold(session, doing, alias, &refused).await?,
        None => table.name.clone(),
    };
    let column = format!("{}.ctid", identifier(&alias));
    let chunks = u64::from(chunking.chunks).clamp(1, table.pages.max(1));
    // A range in the middle, to see what the server makes of it.
    let trial = format!("({column} >= '(0,0)'::tid AND {column} < '({},0)'::tid)", (table.pages / 2).max(1));
    let with = |condition: String| {
        let mut values = values.clone();
        values.insert(CHUNK.to_owned(), condition);
        substitute(sql, &values).sql
    };
    let query = with(trial);
    session.watched(session.client().prepare(&query)).await.map_err(|error| match ServerMessage::of(&error) {
        Some(said) if matches!(said.sql_state.as_str(), "42P01" | "42703" | "42P10") => refused(format!(
            "where :chunk stands there is no {alias}; give the table's alias in the query as chunking.table.alias ({})",
            said.message
        ))
        .with_sql_state(said.sql_state),
        _ => session.error(error, Stage::Plan, doing),
    })?;
    let split = explain(session, doing, &query).await?;
    // A row that a chunk's condition does not hold for must not come with that chunk. So where the condition holds for no
    // row, the server need not read the table; under OR or NOT it must.
    let nothing = explain(session, doing, &with(NOTHING.to_owned())).await?;
    let spills = nothing
        .ways_to(&table.schema, &table.name, &alias)
        .iter()
        .any(|way| !way.iter().any(|node| node.is_never_run()));
    let must_hold = || {
        refused(
            ":chunk must hold for every row: it stands under OR or NOT; put the rest in parentheses and write … AND :chunk"
                .to_owned(),
        )
    };
    let (before, after) = (
        described.plan.ways_to(&table.schema, &table.name, &alias),
        split.ways_to(&table.schema, &table.name, &alias),
    );
    match (before.as_slice(), after.as_slice()) {
        // The server found without reading the table that nothing is to be read.
        ([], []) => return Ok(vec![Rows::OfTable { condition: "TRUE".to_owned() }]),
        ([way], [split]) => {
            if let Some(obstacle) = obstacle(way) {
                return Err(refused(format!(
                    "in the query's plan stands, above the table: {obstacle}. The parts together would not be the whole"
                )));
            }
            let scan = split.last().copied().cloned().unwrap_or_default();
            let conditions = [&scan.tid_condition, &scan.filter];
            if !conditions
                .iter()
                .any(|condition| condition.as_ref().is_some_and(|text| text.contains("ctid")))
            {
                return Err(refused(
                    "the condition does not restrict it: :chunk stands best in WHERE, with AND".to_owned(),
                ));
            }
            if spills {
                return Err(must_hold());
            }
            if scan.tid_condition.is_none() && chunks > 1 {
                tracing::warn!(
                    table = chunking.name,
                    scan = scan.kind,
                    "each chunk reads more than its pages: the server prefers another way to the table"
                );
            }
        }
        ([], _) | (_, []) if spills => return Err(must_hold()),
        ([], _) | (_, []) => {
            return Err(refused(
                "with the condition, the server reads other tables than without it".to_owned(),
            ));
        }
        _ => {
            return Err(refused(format!(
                "the query reads it more than once as {alias}; give it an alias of its own"
            )));
        }
    }
    Ok(ranges(&column, table.pages, chunks))
}

/// The table, if its rows lie in pages of its own.
async fn find(
    session: &Session,
    doing: &str,
    chunking: &TableChunking,
    refused: &impl Fn(String) -> Error,
) -> Result<Table> {
    let rows = session.watched(session.client().query_typed(TABLE, &[(&chunking.name, Type::TEXT)])).await;
    let rows = rows.map_err(|error| match ServerMessage::of(&error) {
        Some(said) if said.sql_state.starts_with("42") && said.sql_state != "42501" => {
            refused("it is not a table's name".to_owned()).with_sql_state(said.sql_state)
        }
        _ => session.error(error, Stage::Plan, doing),
    })?;
    let Some(row) = rows.first() else {
        return Err(refused("there is none of this name on the search path".to_owned()));
    };
    let column = |error| session.error(error, Stage::Plan, doing);
    let kind: &str = row.try_get(2).map_err(column)?;
    let method: Option<&str> = row.try_get(3).map_err(column)?;
    let parent: bool = row.try_get(5).map_err(column)?;
    let why = match (kind, method) {
        ("r", _) if parent => {
            "it has children that inherit from it, whose rows are elsewhere; choose strategy Column"
        }
        ("r" | "m", Some("heap")) => {
            let pages: i64 = row.try_get(4).map_err(column)?;
            return Ok(Table {
                schema: row.try_get(0).map_err(column)?,
                name: row.try_get(1).map_err(column)?,
                pages: u64::try_from(pages).unwrap_or_default(),
            });
        }
        ("r" | "m", _) => "its access method is not heap",
        ("p", _) => {
            "it is partitioned, and its rows are in its partitions; name a partition, or choose strategy Column"
        }
        ("v", _) => "it is a view; name the table under it, or choose strategy Column",
        ("f", _) => "it is a foreign table; choose strategy Column",
        _ => "it is neither a table nor a materialized view",
    };
    Err(refused(why.to_owned()))
}

/// A name as SQL writes it, without quotes and folded.
async fn fold(
    session: &Session,
    doing: &str,
    name: &str,
    refused: &impl Fn(String) -> Error,
) -> Result<String> {
    let bad = || refused(format!("{name} is not an alias"));
    let rows = session
        .watched(session.client().query_typed("SELECT pg_catalog.parse_ident($1)", &[(&name, Type::TEXT)]))
        .await;
    let rows = rows.map_err(|error| match ServerMessage::of(&error) {
        Some(said) if said.sql_state.starts_with("22") => bad(),
        _ => session.error(error, Stage::Plan, doing),
    })?;
    let parts: Vec<String> =
        rows.first().ok_or_else(bad)?.try_get(0).map_err(|error| session.error(error, Stage::Plan, doing))?;
    match parts.as_slice() {
        [alias] => Ok(alias.clone()),
        _ => Err(bad()),
    }
}

/// The conditions on pages. The first and the last are open: the table may have grown since, and rows are where they are.
fn ranges(column: &str, pages: u64, chunks: u64) -> Vec<Rows> {
    let bound = |chunk: u64| u128::from(pages) * u128::from(chunk) / u128::from(chunks);
    (0..chunks)
        .map(|chunk| {
            let from = (chunk > 0).then(|| format!("{column} >= '({},0)'::tid", bound(chunk)));
            let below = (chunk + 1 < chunks).then(|| format!("{column} < '({},0)'::tid", bound(chunk + 1)));
            let condition = match (from, below) {
                (None, None) => "TRUE".to_owned(),
                (Some(one), None) | (None, Some(one)) => one,
                (Some(from), Some(below)) => format!("{from} AND {below}"),
            };
            Rows::OfTable { condition }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::ranges;

    #[test]
    fn ranges_of_pages_touch_and_are_open_at_both_ends() {
        let conditions: Vec<_> = ranges("f.ctid", 10, 3)
            .into_iter()
            .map(|rows| match rows {
                Rows::OfTable { condition } => condition,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            conditions,
            [
                "f.ctid < '(3,0)'::tid",
                "f.ctid >= '(3,0)'::tid AND f.ctid < '(6,0)'::tid",
                "f.ctid >= '(6,0)'::tid",
            ]
        );
        assert_eq!(ranges("f.ctid", 0, 1), [Rows::OfTable { condition: "TRUE".to_owned() }]);
        assert_eq!(ranges("f.ctid", u64::from(u32::MAX), 10_000).len(), 10_000);
    }
}
