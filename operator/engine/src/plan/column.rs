//! Chunks by ranges of a column of the result.

use pgexport_api::job::ColumnChunking;
use pgexport_api::reason::Reason;
use tokio_postgres::types::Type;

use super::Rows;
use super::describe::Described;
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage};
use crate::sql::{cast, identifier};

/// What is asked of the column's type.
const TYPE: &str =
    "SELECT pg_catalog.format_type(oid, -1), typtype::pg_catalog.text, typcategory::pg_catalog.text
FROM pg_catalog.pg_type WHERE oid = $1";

/// Reads the column once, and splits at its quantiles. The query runs.
pub(super) async fn rows(
    session: &Session,
    doing: &str,
    query: &str,
    described: &Described,
    chunking: &ColumnChunking,
) -> Result<Vec<Rows>> {
    let name = &chunking.name;
    let refused = |why: String| {
        Error::new(Reason::ChunkingRefused, format!("{doing}: column {name} cannot split it: {why}"))
    };
    let found: Vec<_> =
        described.columns.iter().zip(&described.types).filter(|(column, _)| column.name == *name).collect();
    let (column, oid) = match found.as_slice() {
        [one] => *one,
        [] => {
            let names: Vec<_> = described.columns.iter().map(|column| column.name.as_str()).collect();
            return Err(refused(format!("the query returns {}", names.join(", "))));
        }
        _ => return Err(refused("the query returns more than one of that name".to_owned())),
    };
    if described.plan.is_limited() {
        return Err(refused("which rows a LIMIT keeps may differ from chunk to chunk".to_owned()));
    }
    if chunking.chunks < 2 {
        return Ok(vec![Rows::All]);
    }
    let row = session.one(Stage::Plan, doing, TYPE, &[(oid, Type::OID)]).await?;
    let text =
        |index| row.try_get::<_, &str>(index).map_err(|error| session.error(error, Stage::Plan, doing));
    let (type_name, kind, category) = (text(0)?, text(1)?, text(2)?);
    if matches!(kind, "c" | "p") || category == "A" {
        return Err(refused(format!(
            "values of type {} are not ranges' bounds; choose a column of a scalar type",
            column.column_type
        )));
    }
    let fractions: Vec<f64> =
        (1..chunking.chunks).map(|part| f64::from(part) / f64::from(chunking.chunks)).collect();
    let quoted = identifier(name);
    // `bounds.b`, not `b`: that would be the text, in the order of texts.
    let sql = format!(
        "SELECT bounds.b::pg_catalog.text FROM (SELECT DISTINCT pg_catalog.unnest(pg_catalog.percentile_disc($1) WITHIN GROUP (ORDER BY q.{quoted})) AS b \
         FROM (\n{query}\n) q) bounds WHERE bounds.b IS NOT NULL ORDER BY bounds.b"
    );
    let bounds = session
        .watched(session.client().query_typed(&sql, &[(&fractions, Type::FLOAT8_ARRAY)]))
        .await
        .map_err(|error| match ServerMessage::of(&error) {
            // No ordering operator; no collation; no array of such.
            Some(said)
                if matches!(said.sql_state.as_str(), "42883" | "42P22" | "42P21" | "42704" | "42804") =>
            {
                refused(format!("type {} has no order", column.column_type)).with_sql_state(said.sql_state)
            }
            _ => session.error(error, Stage::Run, doing),
        })?;
    let bounds = bounds
        .iter()
        .map(|row| row.try_get::<_, String>(0).map_err(|error| session.error(error, Stage::Plan, doing)))
        .collect::<Result<Vec<_>>>()?;
    Ok(ranges(&format!("q.{quoted}"), type_name, &bounds))
}

/// The conditions between bounds. Every row is in one of them: NULLs, and what is below all bounds, in the first.
pub(super) fn ranges(column: &str, type_name: &str, bounds: &[String]) -> Vec<Rows> {
    let below = |bound: &String| format!("{column} < {}", cast(Some(bound), type_name));
    let from = |bound: &String| format!("{column} >= {}", cast(Some(bound), type_name));
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return vec![Rows::All] };
    let mut conditions = vec![format!("({} OR {column} IS NULL)", below(first))];
    conditions.extend(
        bounds
            .iter()
            .zip(bounds.iter().skip(1))
            .map(|(low, high)| format!("{} AND {}", from(low), below(high))),
    );
    conditions.push(from(last));
    conditions.into_iter().map(|condition| Rows::OfResult { condition }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::ranges;

    #[test]
    fn ranges_touch_and_are_open_at_both_ends() {
        let bounds = ["1".to_owned(), "it's".to_owned()];
        let conditions: Vec<_> = ranges("q.\"a\"", "text", &bounds)
            .into_iter()
            .map(|rows| match rows {
                Rows::OfResult { condition } => condition,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            conditions,
            [
                "(q.\"a\" < (CAST('1' AS text)) OR q.\"a\" IS NULL)",
                "q.\"a\" >= (CAST('1' AS text)) AND q.\"a\" < (CAST('it''s' AS text))",
                "q.\"a\" >= (CAST('it''s' AS text))",
            ]
        );
        assert_eq!(ranges("q.\"a\"", "text", &[]), [Rows::All]);
    }
}
