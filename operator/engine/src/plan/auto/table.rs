//! The tables that a query names, and where.

use tokio_postgres::Row;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::{ToSql, Type};

use super::super::FromItem;
use super::super::explain::Node;
use super::Subject;
use crate::error::Result;
use crate::source::error::Stage;
use crate::sql::{Name, Outline, identifier};

/// What there is to know of tables of these schemas and names; those without a schema are on the search path.
const TABLES: &str = "
SELECT u.place::pg_catalog.int4, c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, a.amname = 'heap',
  pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8,
  EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
  pg_catalog.row_security_active(c.oid), pg_catalog.has_table_privilege(c.oid, 'SELECT'),
  ARRAY(SELECT t.attname::pg_catalog.text FROM pg_catalog.pg_attribute t
    WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped ORDER BY t.attnum)
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS u(schema, name, place)
JOIN pg_catalog.pg_class c ON c.relname = u.name AND c.relkind IN ('r', 'm', 'p', 'v', 'f')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE CASE WHEN u.schema IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = u.schema END
ORDER BY u.place";

/// A name that no table has.
const NOWHERE: &str = "pgexport_nowhere";

/// More names that may be tables' are not tried.
const MAX_TRIES: usize = 200;

/// A table, a view, or one of several tables that a partitioned one consists of.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: u32,
    schema: String,
    name: String,
    pub(super) kind: String,
    /// Its pages, where its rows lie in pages of its own.
    pub(super) pages: Option<u64>,
    pub(super) has_children: bool,
    pub(super) has_policies: bool,
    pub(super) may_select: bool,
    pub(super) columns: Vec<String>,
}

/// A table and where a query names it in FROM.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) table: Table,
    pub(super) name: Name,
}

impl Table {
    fn of(row: &Row) -> Result<(i32, Self), tokio_postgres::Error> {
        let kind: String = row.try_get(4)?;
        let is_heap = row.try_get::<_, Option<bool>>(5)?.unwrap_or_default();
        let pages = row.try_get::<_, Option<i64>>(6)?.unwrap_or_default();
        let pages =
            (is_heap && matches!(kind.as_str(), "r" | "m")).then(|| u64::try_from(pages).unwrap_or_default());
        let table = Self {
            oid: row.try_get(1)?,
            schema: row.try_get(2)?,
            name: row.try_get(3)?,
            kind,
            pages,
            has_children: row.try_get(7)?,
            has_policies: row.try_get(8)?,
            may_select: row.try_get(9)?,
            columns: row.try_get(10)?,
        };
        Ok((row.try_get(0)?, table))
    }

    /// Its name as SQL has it.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// Its name as people have it.
    pub(super) fn said(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Named {
    /// Its place in the ExportJob's query, called by its name, or by the alias that stands behind it.
    pub(super) fn place(&self, subject: &Subject<'_>, has_alias: bool) -> FromItem {
        let Name { place, only, star, .. } = &self.name;
        FromItem {
            start: subject.query.origin(only.unwrap_or(place.start)),
            end: subject.query.origin(star.unwrap_or(place.end)),
            alias: (!has_alias).then(|| identifier(&self.name.name)),
            columns: None,
        }
    }
}

/// The tables and views that a query reads by name, each as often as it does. `None`: there are too many to be tried.
pub(super) async fn named(subject: &Subject<'_>, outline: &Outline) -> Result<Option<Vec<Named>>> {
    let schemas: Vec<Option<&str>> = outline.names.iter().map(|name| name.schema.as_deref()).collect();
    let names: Vec<&str> = outline.names.iter().map(|name| name.name.as_str()).collect();
    let found = find(subject, &schemas, &names).await?;
    if found.len() > MAX_TRIES {
        return Ok(None);
    }
    let mut readable = Vec::new();
    for (place, table) in found {
        let Some(name) = outline.names.get(place) else { continue };
        if stands_in_from(subject, name).await? {
            readable.push(Named { table, name: name.clone() });
        }
    }
    Ok(Some(readable))
}

/// The tables of scans, in their order.
pub(super) async fn of_scans(subject: &Subject<'_>, scans: &[&Node]) -> Result<Vec<Table>> {
    let schemas: Vec<Option<&str>> = scans.iter().map(|scan| scan.schema.as_deref()).collect();
    let names: Vec<&str> = scans.iter().map(|scan| scan.relation.as_deref().unwrap_or_default()).collect();
    Ok(find(subject, &schemas, &names).await?.into_iter().map(|(_, table)| table).collect())
}

/// What there is of these names, by their places.
async fn find(
    subject: &Subject<'_>,
    schemas: &[Option<&str>],
    names: &[&str],
) -> Result<Vec<(usize, Table)>> {
    let (session, doing) = (subject.session, subject.doing);
    let parameters: &[(&(dyn ToSql + Sync), Type)] =
        &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
    let rows = session.query(Stage::Plan, doing, TABLES, parameters).await?;
    rows.iter()
        .map(|row| {
            let (place, table) = Table::of(row).map_err(|error| session.error(error, Stage::Plan, doing))?;
            Ok((usize::try_from(place - 1).unwrap_or(usize::MAX), table))
        })
        .collect()
}

/// Has the server parse the query with another name in this place: where it then misses a table, at this place, one stands.
async fn stands_in_from(subject: &Subject<'_>, name: &Name) -> Result<bool> {
    let (session, doing, sql) = (subject.session, subject.doing, &subject.query.sql);
    let (Some(before), Some(after)) = (sql.get(..name.place.start), sql.get(name.place.end..)) else {
        return Ok(false);
    };
    session.batch(Stage::Plan, doing, "SAVEPOINT name").await?;
    let other = format!("{before}{NOWHERE}{after}");
    let Err(error) = session.watched(session.client().prepare(&other)).await else {
        session.batch(Stage::Plan, doing, "RELEASE SAVEPOINT name").await?;
        return Ok(false);
    };
    // Counted in characters, from 1.
    let place = before.chars().count() + 1;
    let misses_it = match error.as_db_error() {
        None => return Err(session.error(error, Stage::Plan, doing)),
        Some(said) => {
            said.code().code() == "42P01"
                && said.routine() == Some("parserOpenTable")
                && matches!(said.position(), Some(ErrorPosition::Original(at)) if *at as usize == place)
        }
    };
    session.batch(Stage::Plan, doing, "ROLLBACK TO SAVEPOINT name").await?;
    Ok(misses_it)
}
