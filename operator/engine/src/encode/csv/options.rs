//! The options of `COPY … (FORMAT csv)`.

use pgexport_api::job::Csv;

use crate::sql::{identifier, literal};

/// The options, without HEADER.
pub(in crate::encode) fn options(csv: Option<&Csv>) -> String {
    let mut options = vec!["FORMAT csv".to_owned()];
    let Some(csv) = csv else { return options.concat() };
    let characters =
        [("DELIMITER", &csv.delimiter), ("QUOTE", &csv.quote), ("ESCAPE", &csv.escape), ("NULL", &csv.null)];
    for (name, value) in characters {
        if let Some(value) = value {
            options.push(format!("{name} {}", literal(value)));
        }
    }
    match csv.force_quote.as_slice() {
        [] => {}
        [all] if all == "*" => options.push("FORCE_QUOTE *".to_owned()),
        columns => {
            let columns: Vec<_> = columns.iter().map(|column| identifier(column)).collect();
            options.push(format!("FORCE_QUOTE ({})", columns.join(", ")));
        }
    }
    options.join(", ")
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::Csv;

    use super::options;

    #[test]
    fn only_what_is_given_is_asked_for() {
        assert_eq!(options(None), "FORMAT csv");
        assert_eq!(options(Some(&Csv::default())), "FORMAT csv");
        let csv = Csv {
            header: false,
            delimiter: Some(";".to_owned()),
            quote: Some("'".to_owned()),
            escape: Some("\\".to_owned()),
            null: Some("NULL".to_owned()),
            force_quote: vec!["a".to_owned(), "B\"".to_owned()],
        };
        assert_eq!(
            options(Some(&csv)),
            "FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'NULL', FORCE_QUOTE (\"a\", \"B\"\"\")"
        );
        let all = Csv { force_quote: vec!["*".to_owned()], ..Csv::default() };
        assert_eq!(options(Some(&all)), "FORMAT csv, FORCE_QUOTE *");
    }
}
