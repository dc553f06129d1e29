//! The query of a chunk: the user's, with values in the place of placeholders, and a condition that picks the chunk's
//! rows. Pure: every worker makes the same text of the same plan.

use jiff::Timestamp;
use pgexport_api::job::ParameterValue;
use pgexport_api::order::{DatasetOrder, ParameterOrder, RunOrder};
use pgexport_api::reason::Reason;

use super::values::Items;
use super::{Chunk, Plan, Rows};
use crate::error::{Error, Result};
use crate::sql::{CHUNK, SNAPSHOT_TIME, TypeName, Values, cast, substitute};

/// The query of a chunk. It holds the parameters' values: it belongs into no log.
pub fn chunk_query(order: &RunOrder, plan: &Plan, chunk: &Chunk) -> Result<String> {
    let mut values = values(&order.parameters, plan.time)?;
    let planned = plan.datasets.get(chunk.dataset as usize);
    let given = planned.map(|planned| planned.values.as_slice()).unwrap_or_default();
    if let Some(items) = Items::of(&dataset(order, chunk)?.chunking, given)? {
        match chunk.rows {
            Rows::OfValue { item } => items.insert(item as usize, &mut values)?,
            _ => items.insert_null(&mut values),
        }
    }
    query(order, plan, chunk, values)
}

/// The query of a chunk as people are shown it: the parameters stay placeholders.
pub fn chunk_query_with_placeholders(order: &RunOrder, plan: &Plan, chunk: &Chunk) -> Result<String> {
    query(order, plan, chunk, Values::default())
}

fn dataset<'a>(order: &'a RunOrder, chunk: &Chunk) -> Result<&'a DatasetOrder> {
    let dataset = usize::try_from(chunk.dataset).ok().and_then(|dataset| order.datasets.get(dataset));
    dataset.ok_or_else(|| {
        let message = format!(
            "the plan's chunk {} is of data set {}, which the order does not have",
            chunk.part, chunk.dataset
        );
        Error::new(Reason::InternalError, message)
    })
}

fn query(order: &RunOrder, plan: &Plan, chunk: &Chunk, mut values: Values) -> Result<String> {
    let dataset = dataset(order, chunk)?;
    Ok(match &chunk.rows {
        // A chunk's value is among the values.
        Rows::All | Rows::OfValue { .. } => substitute(&dataset.sql, &values).sql,
        Rows::OfNothing => {
            let sql = substitute(&dataset.sql, &values).sql;
            format!("SELECT * FROM (\n{sql}\n) q WHERE false")
        }
        Rows::OfResult { condition } => {
            let sql = substitute(&dataset.sql, &values).sql;
            format!("SELECT * FROM (\n{sql}\n) q WHERE {condition}")
        }
        Rows::OfTable { condition } => {
            values.insert(CHUNK.to_owned(), format!("({condition})"));
            substitute(&dataset.sql, &values).sql
        }
        Rows::OfParts { parts } => {
            let from = plan.datasets.get(chunk.dataset as usize).and_then(|planned| planned.from.as_ref());
            let parted = from.and_then(|from| from.with_parts(&dataset.sql, parts)).ok_or_else(|| {
                let message = format!("data set {}: its plan is not of this query", dataset.name);
                Error::new(Reason::InternalError, message)
            })?;
            substitute(&parted, &values).sql
        }
    })
}

/// What stands for the declared parameters and for the built-in ones, but for [`CHUNK`].
pub(super) fn values(parameters: &[ParameterOrder], snapshot_time: Timestamp) -> Result<Values> {
    let time = (SNAPSHOT_TIME.to_owned(), cast(Some(&snapshot_time.to_string()), "timestamptz"));
    parameters
        .iter()
        .map(|parameter| Ok((parameter.name.clone(), value(parameter)?)))
        .chain([Ok(time)])
        .collect()
}

/// A parameter's value as an expression.
pub(super) fn value(parameter: &ParameterOrder) -> Result<String> {
    let type_name = type_name(parameter)?;
    let text = match &parameter.value {
        ParameterValue::Null => None,
        ParameterValue::Text(text) => Some(text.as_str()),
    };
    Ok(cast(text, type_name.as_str()))
}

/// A parameter's type, if it is written as one.
pub(super) fn type_name(parameter: &ParameterOrder) -> Result<TypeName> {
    TypeName::parse(&parameter.parameter_type).ok_or_else(|| {
        let message =
            format!("parameter {}: {:?} is not a PostgreSQL type", parameter.name, parameter.parameter_type);
        Error::new(Reason::InvalidParameter, message)
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pgexport_api::job::ParameterValue;
    use pgexport_api::order::ParameterOrder;
    use pgexport_api::reason::Reason;

    use super::values;

    fn parameter(name: &str, parameter_type: &str, value: ParameterValue) -> ParameterOrder {
        ParameterOrder {
            name: name.to_owned(),
            parameter_type: parameter_type.to_owned(),
            value,
            sensitive: false,
        }
    }

    #[test]
    fn values_are_casts_in_parentheses() {
        let parameters = [
            parameter("a", "text", ParameterValue::Text("it's \\".to_owned())),
            parameter("b", "int[]", ParameterValue::Null),
        ];
        let values = values(&parameters, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(values["a"], "(CAST('it''s \\' AS text))");
        assert_eq!(values["b"], "(CAST(NULL AS int[]))");
        assert_eq!(values["snapshot_time"], "(CAST('1970-01-01T00:00:00Z' AS timestamptz))");
    }

    #[test]
    fn a_type_that_is_none_is_refused_without_the_value() {
        let parameters = [parameter("a", "int) --", ParameterValue::Text("hunter2".to_owned()))];
        let error = values(&parameters, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidParameter);
        assert!(
            error.to_string().contains("parameter a") && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }
}
