//! The CustomResourceDefinitions of all kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::{ExportJob, ExportSink, ExportSource};

/// All CustomResourceDefinitions, as they are installed.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [ExportSource::crd(), ExportSink::crd(), ExportJob::crd()].into_iter().map(finish).collect()
}

/// What derives cannot say.
///
/// The API server warns of number formats that OpenAPI does not define, such as `uint32`. And an object without a status
/// would pass for Current with those who read kstatus (`kubectl wait`, Flux, Argo CD): one that nobody has looked at yet
/// says so by a generation that never was.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            strip_formats(schema);
            if let Some(status) = at(schema, &["status"]) {
                status.default = Some(JSON(json!({"observedGeneration": -1})));
            }
            if let Some(parameter) = at(schema, &["spec", "parameters"]) {
                parameter.one_of = Some(["value", "values", "isNull"].map(required).into());
            }
        }
    }
    crd
}

/// The schema of a field, or of its items.
fn at<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    let Some((field, rest)) = path.split_first() else { return Some(schema) };
    let field = schema.properties.as_mut()?.get_mut(*field)?;
    let JSONSchemaProps { items: Some(JSONSchemaPropsOrArray::Schema(items)), .. } = field else {
        return at(field, rest);
    };
    at(items, rest)
}

fn required(field: &str) -> JSONSchemaProps {
    JSONSchemaProps { required: Some(vec![field.to_owned()]), ..JSONSchemaProps::default() }
}

fn strip_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flatten() {
        strip_formats(property.1);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => strip_formats(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(strip_formats),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        strip_formats(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_hold_no_format_that_the_api_server_warns_of() {
        let text = serde_json::to_string(&all()).unwrap();
        assert!(!text.contains("\"uint"), "an unsigned format is left");
    }

    #[test]
    fn no_type_became_one_of() {
        let text = serde_json::to_string(&all()).unwrap();
        assert_eq!(
            text.matches("\"oneOf\"").count(),
            1,
            "a documented enum variant turned an enum into oneOf"
        );
        assert!(!text.contains("\"anyOf\""), "an untagged or nullable type turned into anyOf");
    }

    #[test]
    fn an_object_that_nobody_has_looked_at_is_not_current() {
        for mut crd in all() {
            let schema = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            let status = at(schema, &["status"]).unwrap();
            assert_eq!(status.default, Some(JSON(json!({"observedGeneration": -1}))));
            let generation = &status.properties.as_ref().unwrap()["observedGeneration"];
            assert_eq!((generation.type_.as_deref(), generation.minimum), (Some("integer"), None));
        }
        let status: crate::ExportJobStatus =
            serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
        assert_eq!((status.observed_generation, status.phase), (Some(-1), None));
    }
}
