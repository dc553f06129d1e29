//! What a result must be like, as far as planning can tell: its columns.

use pgexport_api::order::DatasetOrder;
use pgexport_api::reason::Reason;

use super::Column;
use crate::error::{Error, Result};

/// Checks the names of a result's columns. Columns' names are no values of rows: the message tells both lists.
pub(super) fn check_columns(dataset: &DatasetOrder, found: &[Column]) -> Result<()> {
    let Some(expected) = dataset.expect.as_ref().and_then(|expect| expect.columns.as_ref()) else {
        return Ok(());
    };
    let found: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
    if found.iter().eq(expected.iter()) {
        return Ok(());
    }
    let message = format!(
        "data set {}: expect.columns is [{}], and the query returns [{}]",
        dataset.name,
        expected.join(", "),
        found.join(", ")
    );
    Err(Error::new(Reason::ExpectationUnmet, message))
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{DatasetChunking, Expect};
    use pgexport_api::order::DatasetOrder;
    use pgexport_api::reason::Reason;

    use super::super::Column;
    use super::check_columns;

    #[test]
    fn all_columns_are_expected_in_their_order() {
        let found: Vec<Column> =
            ["id", "day"].map(|name| Column { name: name.to_owned(), column_type: "text".to_owned() }).into();
        for (expected, met) in [
            (None, true),
            (Some(vec!["id", "day"]), true),
            (Some(vec!["day", "id"]), false),
            (Some(vec!["id"]), false),
            (Some(vec!["id", "day", "more"]), false),
        ] {
            let columns = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            let dataset = DatasetOrder {
                name: "findings".to_owned(),
                sql: String::new(),
                chunking: DatasetChunking::default(),
                expect: Some(Expect { min_rows: None, columns: columns.clone() }),
            };
            let checked = check_columns(&dataset, &found);
            assert_eq!(checked.is_ok(), met, "{columns:?}");
            if let Err(error) = checked {
                assert_eq!(error.reason(), Reason::ExpectationUnmet);
                assert!(
                    error.to_string().contains("data set findings")
                        && error.to_string().contains("[id, day]"),
                    "{error}"
                );
            }
        }
    }
}
