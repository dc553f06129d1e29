//! The CustomResourceDefinitions of all kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::{ExportJob, ExportSchedule, ExportSink, ExportSource};

/// The fields of an ExportJob's spec that may change.
const MUTABLE: [&str; 2] = ["suspend", "cancel"];

/// What an ExportSchedule fills in, or what would make its template useless.
const NOT_IN_TEMPLATE: [&str; 3] = ["scheduled", "window", "cancel"];

/// All CustomResourceDefinitions, as they are installed.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [ExportSource::crd(), ExportSink::crd(), ExportJob::crd(), ExportSchedule::crd()]
        .into_iter()
        .map(finish)
        .collect()
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
            match crd.spec.names.kind.as_str() {
                "ExportJob" => {
                    make_immutable(schema);
                    if let Some(parameter) = at(schema, &["spec", "parameters"]) {
                        remove(parameter, &["valueFrom"]);
                        parameter.one_of = Some(["value", "values", "isNull"].map(required).into());
                    }
                }
                "ExportSchedule" => {
                    if let Some(spec) = at(schema, &["spec", "jobTemplate", "spec"]) {
                        remove(spec, &NOT_IN_TEMPLATE);
                    }
                    if let Some(parameter) = at(schema, &["spec", "jobTemplate", "spec", "parameters"]) {
                        parameter.one_of =
                            Some(["value", "values", "isNull", "valueFrom"].map(required).into());
                    }
                }
                _ => {}
            }
            for spec in [&["spec"][..], &["spec", "jobTemplate", "spec"]] {
                for chunking in [&["chunking", "values"][..], &["datasets", "chunking", "values"]] {
                    if let Some(values) = at(schema, &[spec, chunking].concat()) {
                        values.one_of = Some(["items", "itemsFrom"].map(required).into());
                    }
                }
            }
        }
    }
    crd
}

/// Forbids each change of an ExportJob's spec but of what steers a run. Field by field, so that the message can name it, and
/// at the root: a rule on an optional field itself would let it be added and removed.
fn make_immutable(schema: &mut JSONSchemaProps) {
    let fields: Vec<String> = schema
        .properties
        .as_ref()
        .and_then(|properties| properties.get("spec")?.properties.as_ref())
        .map(|spec| spec.keys().filter(|field| !MUTABLE.contains(&field.as_str())).cloned().collect())
        .unwrap_or_default();
    let rules = fields.into_iter().map(|field| ValidationRule {
        rule: format!(
            "has(self.spec.{field}) == has(oldSelf.spec.{field}) && (!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field})"
        ),
        message: Some(format!(
            "spec.{field} is immutable: delete this ExportJob and create another one, or choose another name"
        )),
        ..ValidationRule::default()
    });
    let one_way = ValidationRule {
        rule:
            "!has(oldSelf.spec.cancel) || !oldSelf.spec.cancel || (has(self.spec.cancel) && self.spec.cancel)"
                .to_owned(),
        message: Some("spec.cancel cannot be taken back: create another ExportJob".to_owned()),
        ..ValidationRule::default()
    };
    schema.x_kubernetes_validations.get_or_insert_default().extend(rules.chain([one_way]));
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

fn remove(schema: &mut JSONSchemaProps, fields: &[&str]) {
    if let Some(properties) = schema.properties.as_mut() {
        properties.retain(|field, _| !fields.contains(&field.as_str()));
    }
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
            6,
            "a documented enum variant turned an enum into oneOf"
        );
        assert!(!text.contains("\"anyOf\""), "an untagged or nullable type turned into anyOf");
    }

    #[test]
    fn a_template_has_what_a_schedule_leaves_to_it_and_a_job_what_is_resolved() {
        let crds = all();
        let properties = |kind: &str, path: &[&str]| {
            let mut crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap().clone();
            let schema = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            let fields = at(schema, path).unwrap().properties.clone().unwrap();
            fields.into_keys().collect::<Vec<String>>()
        };
        let template = properties("ExportSchedule", &["spec", "jobTemplate", "spec"]);
        let mut job = properties("ExportJob", &["spec"]);
        job.retain(|field| !NOT_IN_TEMPLATE.contains(&field.as_str()));
        assert_eq!(template, job);
        let in_template = properties("ExportSchedule", &["spec", "jobTemplate", "spec", "parameters"]);
        let in_job = properties("ExportJob", &["spec", "parameters"]);
        assert!(in_template.contains(&"valueFrom".to_owned()) && !in_job.contains(&"valueFrom".to_owned()));
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
