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
    let (names, values) = values(shapes, format);
    format!("COPY (SELECT {values} FROM (\n{query}\n) q{names}) TO STDOUT (FORMAT binary)")
}

/// Names for a query's columns, and what is asked for of each. The names are ours: theirs may repeat.
fn values(shapes: &[Option<Shape>], format: &Format) -> (String, String) {
    let names: Vec<_> = (1..=shapes.len()).map(|number| format!("c{number}")).collect();
    let values: Vec<_> =
        names.iter().zip(shapes).map(|(name, shape)| value(name, shape.as_ref(), format)).collect();
    let list = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
    (list, values.join(", "))
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

/// What a database is told that writes a query's rows to S3 by itself, each as a line.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseStatement {
    /// The query that is to be written.
    pub query: String,
    /// The options of its COPY.
    pub options: String,
}

/// The statement by which a database writes rows by itself. Of CSV, JSON and NDJSON the bytes are those that
/// [`super::Encoder`] makes of what [`copy_statement`] sends; of Parquet, [`super::RecordEncoder`] makes what it makes.
///
/// JSON is written as CSV with characters around it that JSON does not have, so that nothing is quoted or escaped; COPY's
/// text format would double backslashes. Line ends within a row, which only `json` values have, become spaces. `replace`
/// takes rows that `translate` does not: that wants four times the memory.
///
/// For Parquet a row is the base64 of what `record_send` makes of it: of each value the bytes that COPY's binary format has.
/// COPY's own could not be put together from several objects: the extension does not say where it begins a new one.
#[must_use]
pub fn database_statement(query: &str, format: &Format, shapes: &[Option<Shape>]) -> DatabaseStatement {
    let (query, options) = match format.format_type {
        FormatType::Csv => (query.to_owned(), csv::options(format.csv.as_ref())),
        FormatType::Json | FormatType::Ndjson => (
            format!(
                "SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.row_to_json(q.*)::pg_catalog.text, pg_catalog.chr(10), ' '), pg_catalog.chr(13), ' ') FROM (\n{query}\n) q"
            ),
            r"FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01'".to_owned(),
        ),
        FormatType::Parquet => {
            let (names, values) = values(shapes, format);
            let query = format!(
                "SELECT pg_catalog.encode(pg_catalog.record_send(ROW({values})), 'base64') FROM (\n{query}\n) q{names}"
            );
            (query, "FORMAT text".to_owned())
        }
    };
    // Else it would be the session's, which a query can change.
    DatabaseStatement { query, options: format!("{options}, ENCODING 'UTF8'") }
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
    fn a_database_writes_lines_by_itself() {
        let format = |format_type| Format { format_type, csv: None, parquet: None };
        let known = [Some(Shape::Scalar(Scalar::Int4)), None];
        let csv = database_statement("SELECT 1", &format(FormatType::Csv), &known);
        assert_eq!((csv.query.as_str(), csv.options.as_str()), ("SELECT 1", "FORMAT csv, ENCODING 'UTF8'"));
        let json = database_statement("SELECT 1 -- one", &format(FormatType::Json), &known);
        assert!(json.query.ends_with("FROM (\nSELECT 1 -- one\n) q"), "{}", json.query);
        assert_eq!(json.options, r"FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01', ENCODING 'UTF8'");
        let parquet = database_statement("SELECT 1, 2 -- two", &format(FormatType::Parquet), &known);
        assert_eq!(
            parquet.query,
            "SELECT pg_catalog.encode(pg_catalog.record_send(ROW(q.c1, CASE WHEN pg_catalog.num_nulls(q.c2) = 0 THEN pg_catalog.concat(q.c2) END)), 'base64') FROM (\nSELECT 1, 2 -- two\n) q(c1, c2)"
        );
        assert_eq!(parquet.options, "FORMAT text, ENCODING 'UTF8'");
        let empty = database_statement("SELECT", &format(FormatType::Parquet), &[]);
        assert!(empty.query.ends_with("ROW()), 'base64') FROM (\nSELECT\n) q"), "{}", empty.query);
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
