//! The statements that make the server send what is encoded.

use pgexport_api::job::{Format, FormatType};

use super::csv;
use crate::decode::Shape;

/// The statement that makes the server send a query's rows in the form that [`super::Encoder`] takes: COPY's binary
/// format. A column whose values are not decoded comes as the text that the format has for it.
#[must_use]
pub fn copy_statement(query: &str, format: &Format, shapes: &[Option<Shape>]) -> String {
    if shapes.iter().all(Option::is_some) {
        return format!("COPY (\n{query}\n) TO STDOUT (FORMAT binary)");
    }
    // The columns get names of ours: theirs may repeat.
    let names: Vec<_> = (1..=shapes.len()).map(|number| format!("c{number}")).collect();
    let values: Vec<_> =
        names.iter().zip(shapes).map(|(name, shape)| value(name, shape.as_ref(), format)).collect();
    format!(
        "COPY (SELECT {} FROM (\n{query}\n) q({})) TO STDOUT (FORMAT binary)",
        values.join(", "),
        names.join(", ")
    )
}

fn value(name: &str, shape: Option<&Shape>, format: &Format) -> String {
    match (shape, format.format_type) {
        (Some(_), _) => format!("q.{name}"),
        // `concat` makes the text that COPY makes, and `::text` does not; but it makes an empty one of NULL. `num_nulls`,
        // as a composite of NULLs IS NULL and yet has a text.
        (None, FormatType::Csv | FormatType::Parquet) => {
            format!("CASE WHEN pg_catalog.num_nulls(q.{name}) = 0 THEN pg_catalog.concat(q.{name}) END")
        }
        (None, FormatType::Json | FormatType::Ndjson) => format!("pg_catalog.to_json(q.{name})"),
    }
}

/// What a database is told that writes a query's rows to S3 by itself: the bytes are those that [`super::Encoder`] makes of
/// what [`copy_statement`] sends, each row a line.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseStatement {
    /// The query that is to be written.
    pub query: String,
    /// The options of its COPY.
    pub options: String,
}

/// The statement by which a database writes rows by itself; `None` for a format that it does not have.
///
/// JSON is written as CSV with characters around it that JSON does not have, so that nothing is quoted or escaped; COPY's
/// text format would double backslashes. Line ends within a row, which only `json` values have, become spaces. `replace`
/// takes rows that `translate` does not: that wants four times the memory.
#[must_use]
pub fn database_statement(query: &str, format: &Format) -> Option<DatabaseStatement> {
    let (query, options) = match format.format_type {
        FormatType::Csv => (query.to_owned(), csv::options(format.csv.as_ref())),
        FormatType::Json | FormatType::Ndjson => (
            format!(
                "SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.row_to_json(q.*)::pg_catalog.text, pg_catalog.chr(10), ' '), pg_catalog.chr(13), ' ') FROM (\n{query}\n) q"
            ),
            r"FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01'".to_owned(),
        ),
        FormatType::Parquet => return None,
    };
    // Else it would be the session's, which a query can change.
    Some(DatabaseStatement { query, options: format!("{options}, ENCODING 'UTF8'") })
}

impl std::fmt::Debug for DatabaseStatement {
    /// Without the query, which holds values.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DatabaseStatement").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The statement that makes the server send nothing but the header line of a query's CSV.
#[must_use]
pub fn header_statement(query: &str, format: &Format) -> Option<String> {
    let csv = match format.format_type {
        FormatType::Csv => format.csv.as_ref(),
        FormatType::Json | FormatType::Ndjson | FormatType::Parquet => return None,
    };
    let options = csv::options(csv);
    Some(format!("COPY (SELECT * FROM (\n{query}\n) q LIMIT 0) TO STDOUT ({options}, HEADER true)"))
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{Format, FormatType};

    use super::{copy_statement, database_statement};
    use crate::decode::{Scalar, Shape};

    #[test]
    fn a_database_writes_text_by_itself() {
        let format = |format_type| Format { format_type, csv: None, parquet: None };
        let csv = database_statement("SELECT 1", &format(FormatType::Csv)).unwrap();
        assert_eq!((csv.query.as_str(), csv.options.as_str()), ("SELECT 1", "FORMAT csv, ENCODING 'UTF8'"));
        let json = database_statement("SELECT 1 -- one", &format(FormatType::Json)).unwrap();
        assert!(json.query.ends_with("FROM (\nSELECT 1 -- one\n) q"), "{}", json.query);
        assert_eq!(json.options, r"FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01', ENCODING 'UTF8'");
        assert!(database_statement("SELECT 1", &format(FormatType::Parquet)).is_none());
    }

    #[test]
    fn only_columns_that_are_not_decoded_are_asked_for_as_text() {
        let format = |format_type| Format { format_type, csv: None, parquet: None };
        let known = Some(Shape::Scalar(Scalar::Int4));
        assert_eq!(
            copy_statement("SELECT 1 -- one", &format(FormatType::Csv), std::slice::from_ref(&known)),
            "COPY (\nSELECT 1 -- one\n) TO STDOUT (FORMAT binary)"
        );
        assert_eq!(
            copy_statement("SELECT 1, 2", &format(FormatType::Csv), &[known.clone(), None]),
            "COPY (SELECT q.c1, CASE WHEN pg_catalog.num_nulls(q.c2) = 0 THEN pg_catalog.concat(q.c2) END FROM (\nSELECT 1, 2\n) q(c1, c2)) TO STDOUT (FORMAT binary)"
        );
        assert_eq!(
            copy_statement("SELECT 1, 2", &format(FormatType::Json), &[None, known]),
            "COPY (SELECT pg_catalog.to_json(q.c1), q.c2 FROM (\nSELECT 1, 2\n) q(c1, c2)) TO STDOUT (FORMAT binary)"
        );
    }
}
