//! A table in a query's FROM, and parts of it in its place.

use serde::{Deserialize, Serialize};

/// What a part of the table is called in the query of a chunk, so that it is told from all else in the plan.
pub(super) const PART: &str = "pgexport_part";

/// The place of a table in the ExportJob's query.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FromItem {
    /// Where its name begins, in bytes; with ONLY, where that does.
    pub start: usize,
    /// Where its name ends.
    pub end: usize,
    /// What the query calls it where it has no alias: its quoted name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The quoted names of its columns, as its partitions may have them in another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
}

/// A part of a table: all of it, or a range of its pages.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TablePart {
    /// Its quoted name, with its schema.
    pub table: String,
    /// Its oid.
    pub oid: u32,
    /// The condition on its pages; all of them without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl FromItem {
    /// The query with parts in the table's place. `None`: it is another query.
    pub(super) fn with_parts(&self, sql: &str, parts: &[TablePart]) -> Option<String> {
        let columns = self.columns.as_deref().unwrap_or("*");
        let parts: Vec<String> = parts
            .iter()
            .map(|part| {
                let condition = part
                    .condition
                    .as_ref()
                    .map(|condition| format!(" WHERE {condition}"))
                    .unwrap_or_default();
                format!("SELECT {columns} FROM ONLY {} AS {PART}{condition}", part.table)
            })
            .collect();
        self.with(sql, &parts.join(" UNION ALL "))
    }

    /// The query with another query in the table's place.
    pub(super) fn with(&self, sql: &str, subquery: &str) -> Option<String> {
        let (before, after) = (sql.get(..self.start)?, sql.get(self.end..)?);
        let alias = self.alias.as_ref().map(|alias| format!(" AS {alias}")).unwrap_or_default();
        Some(format!("{before}({subquery}){alias}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{FromItem, TablePart};

    #[test]
    fn parts_stand_where_the_table_stood() {
        let sql = "SELECT * FROM t WHERE x";
        let from = FromItem { start: 14, end: 15, alias: Some("\"t\"".to_owned()), columns: None };
        let part = |condition: Option<&str>| TablePart {
            table: "\"s\".\"t\"".to_owned(),
            oid: 1,
            condition: condition.map(str::to_owned),
        };
        assert_eq!(
            from.with_parts(sql, &[part(Some("c"))]).unwrap(),
            "SELECT * FROM (SELECT * FROM ONLY \"s\".\"t\" AS pgexport_part WHERE c) AS \"t\" WHERE x"
        );
        let from = FromItem { alias: None, columns: Some("\"a\"".to_owned()), ..from };
        assert_eq!(
            from.with_parts("SELECT * FROM t AS u", &[part(None), part(Some("c"))]).unwrap(),
            "SELECT * FROM (SELECT \"a\" FROM ONLY \"s\".\"t\" AS pgexport_part UNION ALL \
             SELECT \"a\" FROM ONLY \"s\".\"t\" AS pgexport_part WHERE c) AS u"
        );
        assert_eq!(from.with_parts("short", &[part(None)]), None);
    }
}
