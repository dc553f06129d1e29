//! Values for placeholders in queries.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ValuesChunking;

/// A value for the placeholder `:name`. It is put into the query as `(CAST('…' AS type))`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.name in ['chunk', 'snapshot_time', 'value'])").message("parameters: chunk, snapshot_time and value are built in; choose another name"))]
pub struct Parameter {
    /// The placeholder's name, without the colon.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_]*$"))]
    pub name: String,
    /// The PostgreSQL type, such as `uuid`, `timestamptz`, `numeric(10,2)` or `text[]`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r#"^[A-Za-z_"][A-Za-z0-9_ ".,()]*(\[\])?$"#))]
    pub parameter_type: String,
    /// A string, a number or a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
    /// An array's elements: strings, numbers, booleans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), schema_with = "any_values")]
    pub values: Option<Vec<Value>>,
    /// SQL's NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
    /// A value that is known when the run is due. Only in an ExportSchedule's `jobTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// See [`Parameter::value_from`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom {
    /// Start, which belongs to the run's window, or End, which does not: `seen_at >= :start AND seen_at < :end`. Choose the type
    /// `timestamptz`.
    pub window: WindowEdge,
}

/// See [`ValueFrom::window`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum WindowEdge {
    Start,
    End,
}

/// OpenAPI has no structural schema for "string, number or boolean", and CEL does not see a field without a type: what
/// else is given is refused by [`Parameter::text`], and that exactly one of the three is given by [`crate::crd`].
fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"description": "A string, a number or a boolean.", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "An array's elements: strings, numbers, booleans.",
        "type": "array", "maxItems": 1000, "items": {"x-kubernetes-preserve-unknown-fields": true}
    })
}

/// A parameter's value in the text form that PostgreSQL's input functions read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParameterValue {
    /// SQL's NULL.
    Null,
    /// A scalar, or an array in PostgreSQL's array syntax.
    Text(String),
}

/// A parameter that is not what a schema can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// An object or an array where a scalar is wanted.
    #[error(
        "parameters[{name}]: a value is a string, a number or a boolean; use values for an array and isNull for NULL"
    )]
    NotScalar {
        /// The parameter's name.
        name: String,
    },
    /// None, or more than one, of `value`, `values` and `isNull`.
    #[error("parameters[{name}]: give exactly one of value, values and isNull: true")]
    NotOne {
        /// The parameter's name.
        name: String,
    },
    /// `values` for a type that is no array.
    #[error("parameters[{name}]: values needs an array type, such as text[]")]
    NotArray {
        /// The parameter's name.
        name: String,
    },
    /// `valueFrom`, which only a schedule can answer.
    #[error(
        "parameters[{name}]: valueFrom stands in an ExportSchedule's jobTemplate only; give a value here"
    )]
    OnlyScheduled {
        /// The parameter's name.
        name: String,
    },
    /// PostgreSQL's text cannot hold a zero byte.
    #[error("parameters[{name}]: the value holds a zero byte, which PostgreSQL's text cannot hold")]
    ZeroByte {
        /// The parameter's name.
        name: String,
    },
}

impl Parameter {
    /// The value as PostgreSQL's input functions read it.
    pub fn text(&self) -> Result<ParameterValue, ParameterError> {
        if self.value_from.is_some() {
            return Err(ParameterError::OnlyScheduled { name: self.name.clone() });
        }
        let value = match (&self.value, &self.values, self.is_null.unwrap_or(false)) {
            (Some(value), None, false) => self.scalar(value)?,
            (None, Some(_), false) if !self.parameter_type.ends_with("[]") => {
                return Err(ParameterError::NotArray { name: self.name.clone() });
            }
            (None, Some(values), false) => {
                let elements = values
                    .iter()
                    .map(|value| self.scalar(value).map(|text| quote_element(&text)))
                    .collect::<Result<Vec<_>, _>>()?;
                format!("{{{}}}", elements.join(","))
            }
            (None, None, true) => return Ok(ParameterValue::Null),
            _ => return Err(ParameterError::NotOne { name: self.name.clone() }),
        };
        if value.contains('\0') {
            return Err(ParameterError::ZeroByte { name: self.name.clone() });
        }
        Ok(ParameterValue::Text(value))
    }

    fn scalar(&self, value: &Value) -> Result<String, ParameterError> {
        scalar(&self.name, value)
    }
}

/// A scalar as PostgreSQL's input functions read it.
fn scalar(name: &str, value: &Value) -> Result<String, ParameterError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(ParameterError::NotScalar { name: name.to_owned() })
        }
    }
}

impl ValuesChunking {
    /// The items as PostgreSQL's input functions read them.
    pub fn texts(&self) -> Result<Vec<String>, ParameterError> {
        let name = &self.parameter;
        self.items
            .iter()
            .map(|item| match scalar(name, item)? {
                text if text.contains('\0') => Err(ParameterError::ZeroByte { name: name.clone() }),
                text => Ok(text),
            })
            .collect()
    }
}

/// An array's element as `array_in` reads it: always quoted, so that `NULL`, braces and commas stay what they are.
fn quote_element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(fields: &Value) -> Result<ParameterValue, ParameterError> {
        let mut parameter = json!({"name": "p", "type": "text[]"});
        parameter.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value::<Parameter>(parameter).unwrap().text()
    }

    #[test]
    fn scalars_become_their_text() {
        for (value, wanted) in [
            (json!("it's"), "it's"),
            (json!(1.5), "1.5"),
            (json!(-3), "-3"),
            (json!(true), "true"),
            (json!(""), ""),
        ] {
            assert_eq!(text(&json!({"value": value})).unwrap(), ParameterValue::Text(wanted.to_owned()));
        }
        assert_eq!(text(&json!({"isNull": true})).unwrap(), ParameterValue::Null);
    }

    #[test]
    fn elements_of_arrays_stay_what_they_are() {
        let values = json!({"values": ["a,b", "NULL", "", "{}", "quote \" backslash \\", 7]});
        let wanted = r#"{"a,b","NULL","","{}","quote \" backslash \\","7"}"#;
        assert_eq!(text(&values).unwrap(), ParameterValue::Text(wanted.to_owned()));
        assert_eq!(text(&json!({"values": []})).unwrap(), ParameterValue::Text("{}".to_owned()));
    }

    #[test]
    fn what_no_schema_refuses_is_refused_by_name() {
        for value in [json!({"a": 1}), json!([1])] {
            assert!(matches!(text(&json!({"value": value})), Err(ParameterError::NotScalar { .. })));
        }
        assert!(matches!(
            text(&json!({"type": "text", "values": [1]})),
            Err(ParameterError::NotArray { .. })
        ));
        assert!(matches!(
            text(&json!({"valueFrom": {"window": "End"}})),
            Err(ParameterError::OnlyScheduled { .. })
        ));
        assert!(matches!(text(&json!({})), Err(ParameterError::NotOne { .. })));
        assert!(matches!(text(&json!({"value": 1, "isNull": true})), Err(ParameterError::NotOne { .. })));
        assert!(matches!(text(&json!({"value": "a\u{0}b"})), Err(ParameterError::ZeroByte { .. })));
    }
}
