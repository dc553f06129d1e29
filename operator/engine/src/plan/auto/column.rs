//! A query that is split by none of its tables: by an indexed column of its result, where each chunk costs its share.

use pgexport_api::job::Strategy;
use tokio_postgres::types::{ToSql, Type};

use super::super::Rows;
use super::super::column::ranges;
use super::size::chunks;
use super::table::Named;
use super::{Split, Subject};
use crate::error::Result;
use crate::source::error::Stage;
use crate::sql::{TypeName, identifier};

/// All chunks together may cost so many times what the whole costs: connections read side by side, and the whole may be read
/// by several of the server's processes.
const WORTH: f64 = 3.0;
/// One chunk may cost such a part of what the whole costs: otherwise most of it is done again for each.
const SHARE: f64 = 0.75;
/// What costs less, in the planner's unit (a page that is read in turn), is not split.
const CHEAP: f64 = 2048.0;

/// Columns of tables by which an index is in order, whose values have one order everywhere, and of which statistics have
/// bounds; those of the largest table first.
const INDEXED: &str = "
SELECT u.place::pg_catalog.int4, pg_catalog.format_type(a.atttypid, -1), s.histogram_bounds::pg_catalog.text,
  (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(t.relid)) / pg_catalog.current_setting('block_size')::pg_catalog.int8
   FROM pg_catalog.pg_partition_tree(c.oid) t)::pg_catalog.int8,
  pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
  n.nspname::pg_catalog.text || '.' || c.relname::pg_catalog.text
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS u(relation, number, place)
JOIN pg_catalog.pg_class c ON c.oid = u.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND s.inherited = (c.relkind = 'p')
WHERE c.relkind IN ('r', 'm', 'p') AND y.typtype IN ('b', 'e') AND y.typcategory <> 'A' AND a.attcollation = y.typcollation
  AND s.histogram_bounds IS NOT NULL
  AND EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree')
ORDER BY 4 DESC NULLS LAST, 5 DESC, 1 LIMIT 8";

/// Splits the query by a column, where that pays.
pub(super) async fn split(subject: &Subject<'_>, tables: &[Named]) -> Result<Option<Split>> {
    let described = subject.described;
    let whole = described.plan.total_cost;
    // What a view stands for is not read here: it may be other rows each time.
    if whole < CHEAP || tables.iter().any(|named| named.table.kind == "v") {
        return Ok(None);
    }
    for candidate in candidates(subject).await? {
        let count = chunks(candidate.pages, subject.parallelism, subject.budget);
        if count < 2 {
            continue;
        }
        let bounds = thinned(&candidate.bounds, count);
        let quoted = format!("q.{}", identifier(&candidate.column));
        let rows = ranges(&quoted, &candidate.type_name, &bounds);
        let Some(Rows::OfResult { condition }) = rows.get(rows.len() / 2) else { continue };
        let sql = format!("SELECT * FROM (\n{}\n) q WHERE {condition}", subject.query.sql);
        let Some(plan) = subject.plan_of(&sql).await? else { continue };
        #[allow(clippy::cast_precision_loss, reason = "it is compared with an estimate")]
        let all = plan.total_cost * rows.len() as f64;
        if all > WORTH * whole || plan.total_cost > SHARE * whole {
            continue;
        }
        let reason =
            format!("by ranges of {}, a column of {} that has an index", candidate.column, candidate.table);
        return Ok(Some(Split { rows, strategy: Strategy::Column, reason, from: None }));
    }
    Ok(None)
}

struct Candidate {
    column: String,
    type_name: String,
    table: String,
    pages: u64,
    /// In their order.
    bounds: Vec<String>,
}

/// Columns of the result that are a table's, have a name of their own, an index and statistics.
async fn candidates(subject: &Subject<'_>) -> Result<Vec<Candidate>> {
    let (session, doing, described) = (subject.session, subject.doing, subject.described);
    let is_alone = |name: &str| described.columns.iter().filter(|column| column.name == name).count() == 1;
    let origins: Vec<(&str, u32, i16)> = described
        .columns
        .iter()
        .zip(&described.origins)
        .filter(|(column, _)| is_alone(&column.name))
        .filter_map(|(column, origin)| origin.map(|(table, number)| (column.name.as_str(), table, number)))
        .collect();
    let tables: Vec<u32> = origins.iter().map(|(_, table, _)| *table).collect();
    let numbers: Vec<i16> = origins.iter().map(|(_, _, number)| *number).collect();
    let parameters: &[(&(dyn ToSql + Sync), Type)] =
        &[(&tables, Type::OID_ARRAY), (&numbers, Type::INT2_ARRAY)];
    let found = session.query(Stage::Plan, doing, INDEXED, parameters).await?;
    let mut candidates = Vec::with_capacity(found.len());
    for row in &found {
        let read = || {
            let place: i32 = row.try_get(0)?;
            let pages = row.try_get::<_, Option<i64>>(3)?.unwrap_or_default().max(row.try_get(4)?);
            Ok((place, row.try_get(1)?, row.try_get(2)?, pages, row.try_get(5)?))
        };
        let (place, type_name, histogram, pages, table): (i32, String, String, i64, String) =
            read().map_err(|error: tokio_postgres::Error| session.error(error, Stage::Plan, doing))?;
        let column = usize::try_from(place - 1).ok().and_then(|place| origins.get(place));
        let Some((column, ..)) = column else { continue };
        let Some(bounds) = bounds(subject, &type_name, &histogram).await? else { continue };
        let pages = u64::try_from(pages).unwrap_or_default();
        candidates.push(Candidate { column: (*column).to_owned(), type_name, table, pages, bounds });
    }
    Ok(candidates)
}

/// Bounds of statistics, in the order that the server has now: with another version of a collation it may be another one.
async fn bounds(subject: &Subject<'_>, type_name: &str, histogram: &str) -> Result<Option<Vec<String>>> {
    if TypeName::parse(type_name).is_none() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT b::pg_catalog.text FROM (SELECT DISTINCT u.b FROM pg_catalog.unnest($1::pg_catalog.text::{type_name}[]) AS u(b)) d WHERE b IS NOT NULL ORDER BY d.b"
    );
    let (session, doing) = (subject.session, subject.doing);
    let rows = session.query(Stage::Plan, doing, &sql, &[(&histogram, Type::TEXT)]).await?;
    let bounds = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>();
    bounds.map(Some).map_err(|error| session.error(error, Stage::Plan, doing))
}

/// As many bounds as make so many chunks, evenly.
fn thinned(bounds: &[String], chunks: u32) -> Vec<String> {
    let inner = bounds.get(1..bounds.len().saturating_sub(1)).unwrap_or_default();
    let wanted = (chunks as usize).saturating_sub(1).min(inner.len());
    (0..wanted)
        .filter_map(|number| inner.get((number + 1) * (inner.len() + 1) / (wanted + 1) - 1))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::thinned;

    #[test]
    fn bounds_are_thinned_evenly() {
        let bounds: Vec<String> = (0..=100).map(|bound| format!("{bound}")).collect();
        assert_eq!(thinned(&bounds, 4), ["25", "50", "75"]);
        assert_eq!(thinned(&bounds, 1000).len(), 99);
        assert!(
            thinned(&bounds[..2], 4).is_empty()
                && thinned(&[], 4).is_empty()
                && thinned(&bounds, 1).is_empty()
        );
    }
}
