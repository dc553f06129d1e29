//! What an ExportJob may do: which queries a source lets it run, and which sinks let it deliver.

use super::{DatasetOrder, ParameterOrder, Refusal};
use crate::job::{Dataset, DatasetChunking, ExportJobSpec, ParameterValue, Strategy};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;
use crate::source::{ExportSourceSpec, InlineSql, NamedQuery};

/// The SQL of a data set: its own, or that of the source's query that it names.
pub(super) fn query<'a>(
    dataset: &'a Dataset,
    job: &ExportJobSpec,
    source_name: &str,
    source: &'a ExportSourceSpec,
) -> Result<&'a str, Refusal> {
    let name = &dataset.name;
    match (&dataset.sql, &dataset.query_ref) {
        (Some(_), None) if source.inline_sql == InlineSql::Forbid => Err(Refusal::new(
            Reason::InlineSQLForbidden,
            format!(
                "datasets[{name}].sql: ExportSource {source_name} forbids queries of an ExportJob's own: name one of its queries by queryRef in a new ExportJob ({})",
                names(source)
            ),
        )),
        (Some(sql), None) => Ok(sql),
        (None, Some(reference)) => {
            let query = find(source, &reference.name).ok_or_else(|| {
                Refusal::new(
                    Reason::ReferenceNotFound,
                    format!(
                        "datasets[{name}].queryRef: ExportSource {source_name} has no query {} ({})",
                        reference.name,
                        names(source)
                    ),
                )
            })?;
            check_parameters(name, job, query)?;
            Ok(&query.sql)
        }
        _ => Err(Refusal::new(
            Reason::InvalidSpec,
            format!("datasets[{name}]: give exactly one of sql and queryRef"),
        )),
    }
}

/// A query for items is the ExportJob's own.
pub(super) fn check_items(
    dataset: &Dataset,
    chunking: &DatasetChunking,
    source_name: &str,
    source: &ExportSourceSpec,
) -> Result<(), Refusal> {
    if source.inline_sql == InlineSql::Allow || !asks_for_items(chunking) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::InlineSQLForbidden,
        format!(
            "datasets[{}].chunking.values.itemsFrom: ExportSource {source_name} forbids queries of an ExportJob's own: give items in a new ExportJob",
            dataset.name
        ),
    ))
}

fn asks_for_items(chunking: &DatasetChunking) -> bool {
    chunking.strategy == Strategy::Values
        && chunking.values.as_ref().is_some_and(|values| values.items_from.is_some())
}

fn find<'a>(source: &'a ExportSourceSpec, name: &str) -> Option<&'a NamedQuery> {
    source.queries.iter().find(|query| query.name == name)
}

fn names(source: &ExportSourceSpec) -> String {
    match source.queries.as_slice() {
        [] => "it has none".to_owned(),
        queries => {
            let names: Vec<&str> = queries.iter().map(|query| query.name.as_str()).collect();
            format!("it has {}", names.join(", "))
        }
    }
}

/// An ExportJob gives each parameter that a named query declares, with its type.
fn check_parameters(dataset: &str, job: &ExportJobSpec, query: &NamedQuery) -> Result<(), Refusal> {
    for declared in &query.parameters {
        let (name, wanted) = (&declared.name, &declared.parameter_type);
        let message = match job.parameters.iter().find(|given| given.name == *name) {
            None => format!(
                "query {} needs the parameter {name} of type {wanted}: add it to spec.parameters of a new ExportJob",
                query.name
            ),
            Some(given) if given.parameter_type != *wanted => format!(
                "query {} declares the parameter {name} as {wanted}, and spec.parameters says {}: correct its type in a new ExportJob",
                query.name, given.parameter_type
            ),
            Some(_) => continue,
        };
        return Err(Refusal::new(Reason::InvalidParameter, format!("datasets[{dataset}]: {message}")));
    }
    Ok(())
}

/// Whether a named query of the ExportJob declares the parameter as sensitive.
pub(super) fn is_sensitive(job: &ExportJobSpec, source: &ExportSourceSpec, parameter: &str) -> bool {
    job.datasets
        .iter()
        .filter_map(|dataset| find(source, &dataset.query_ref.as_ref()?.name))
        .flat_map(|query| &query.parameters)
        .any(|declared| declared.name == parameter && declared.sensitive)
}

/// Whether the sink admits the ExportJob. Values of parameters are not told.
pub(super) fn check_allowed(
    job: &ExportJobSpec,
    datasets: &[DatasetOrder],
    sink: &ExportSinkSpec,
    parameters: &[ParameterOrder],
) -> Result<(), Refusal> {
    let Some(allow) = &sink.allow else { return Ok(()) };
    let name = &job.sink_ref.name;
    let refused = |message: String| {
        let hint = Reason::NotAllowed.hint();
        Err(Refusal::new(Reason::NotAllowed, format!("ExportSink {name}: {message}; {hint}")))
    };
    let source = &job.source_ref.name;
    if let Some(sources) = &allow.sources
        && !sources.contains(source)
    {
        return refused(format!("allow.sources admits {}, and not {source}", sources.join(", ")));
    }
    if let Some(queries) = &allow.queries {
        for dataset in &job.datasets {
            match &dataset.query_ref {
                None => {
                    return refused(format!(
                        "allow.queries admits the named queries {}, and datasets[{}] brings its own",
                        queries.join(", "),
                        dataset.name
                    ));
                }
                Some(query) if !queries.contains(&query.name) => {
                    return refused(format!(
                        "allow.queries admits {}, and not {}",
                        queries.join(", "),
                        query.name
                    ));
                }
                Some(_) => {}
            }
        }
        if let Some(dataset) = datasets.iter().find(|dataset| asks_for_items(&dataset.chunking)) {
            return refused(format!(
                "allow.queries admits the named queries {}, and chunking.values.itemsFrom of datasets[{}] brings its own",
                queries.join(", "),
                dataset.name
            ));
        }
    }
    for (parameter, value) in &allow.parameters {
        let given = parameters.iter().find(|given| given.name == *parameter);
        if given.map(|given| &given.value) != Some(&ParameterValue::Text(value.clone())) {
            return refused(format!(
                "allow.parameters admits one value of the parameter {parameter}, and spec.parameters gives another one, or none"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(with: &Value) -> ExportJobSpec {
        let mut job = json!({
            "sourceRef": {"name": "db"}, "sinkRef": {"name": "acme"}, "path": "out/", "format": {"type": "CSV"},
            "datasets": [{"name": "findings", "queryRef": {"name": "tenant-findings"}}],
            "parameters": [{"name": "tenant", "type": "uuid", "value": "a"}],
        });
        job.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    fn source(with: &Value) -> ExportSourceSpec {
        let mut source = json!({
            "postgres": {"host": "h", "database": "d", "user": "u", "passwordSecretRef": {"name": "s", "key": "k"}},
            "queries": [{"name": "tenant-findings", "sql": "SELECT :tenant",
                "parameters": [{"name": "tenant", "type": "uuid", "sensitive": true}]}],
        });
        source.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        serde_json::from_value(source).unwrap()
    }

    fn query_of(job: &ExportJobSpec, source: &ExportSourceSpec) -> Result<String, Refusal> {
        query(&job.datasets[0], job, "db", source).map(str::to_owned)
    }

    #[test]
    fn a_named_query_is_the_sources() {
        assert_eq!(query_of(&job(&json!({})), &source(&json!({}))).unwrap(), "SELECT :tenant");
        assert!(is_sensitive(&job(&json!({})), &source(&json!({})), "tenant"));
        assert!(!is_sensitive(&job(&json!({})), &source(&json!({})), "since"));
    }

    #[test]
    fn what_a_source_does_not_let_run_is_refused_with_the_fix() {
        let inline = json!({"datasets": [{"name": "findings", "sql": "SELECT 1"}]});
        let other = json!({"datasets": [{"name": "findings", "queryRef": {"name": "other"}}]});
        let typed = json!({"parameters": [{"name": "tenant", "type": "text", "value": "a"}]});
        let cases = [
            (&inline, json!({"inlineSQL": "Forbid"}), Reason::InlineSQLForbidden, "it has tenant-findings"),
            (&other, json!({}), Reason::ReferenceNotFound, "has no query other"),
            (&other, json!({"queries": []}), Reason::ReferenceNotFound, "it has none"),
            (
                &json!({"parameters": []}),
                json!({}),
                Reason::InvalidParameter,
                "needs the parameter tenant of type uuid",
            ),
            (&typed, json!({}), Reason::InvalidParameter, "declares the parameter tenant as uuid"),
        ];
        for (with, of_source, reason, wanted) in cases {
            let refusal = query_of(&job(with), &source(&of_source)).unwrap_err();
            assert_eq!(refusal.reason, reason, "{with}");
            assert!(refusal.message.contains(wanted), "{with}: {refusal}");
        }
        assert_eq!(query_of(&job(&inline), &source(&json!({}))).unwrap(), "SELECT 1");
    }

    #[test]
    fn a_query_for_items_is_the_exportjobs_own() {
        let check = |values: Value, inline: &str| {
            let chunking = json!({"strategy": "Values", "values": values});
            let job = job(&json!({}));
            let source = source(&json!({"inlineSQL": inline}));
            check_items(&job.datasets[0], &serde_json::from_value(chunking).unwrap(), "db", &source)
        };
        let asked = json!({"parameter": "v", "itemsFrom": "SELECT 1"});
        assert_eq!(check(asked.clone(), "Allow"), Ok(()));
        assert_eq!(check(json!({"parameter": "v", "items": [1]}), "Forbid"), Ok(()));
        let refusal = check(asked, "Forbid").unwrap_err();
        assert_eq!(refusal.reason, Reason::InlineSQLForbidden);
        assert!(refusal.message.contains("itemsFrom"), "{refusal}");
    }

    #[test]
    fn a_sink_admits_what_it_allows_and_nothing_else() {
        let parameter = |value: &str| ParameterOrder {
            name: "tenant".to_owned(),
            parameter_type: "uuid".to_owned(),
            value: ParameterValue::Text(value.to_owned()),
            sensitive: false,
        };
        let check = |allow: Value, with: Value, parameters: &[ParameterOrder]| {
            let sink = json!({"s3": {"bucket": "acme", "region": "eu"}, "allow": allow});
            let job = job(&with);
            let dataset = DatasetOrder {
                name: "findings".to_owned(),
                sql: String::new(),
                chunking: DatasetChunking::from(&job.chunking),
                expect: None,
            };
            check_allowed(&job, &[dataset], &serde_json::from_value(sink).unwrap(), parameters)
        };
        let all = json!({"sources": ["db"], "queries": ["tenant-findings"], "parameters": {"tenant": "a"}});
        assert_eq!(check(all.clone(), json!({}), &[parameter("a")]), Ok(()));
        assert_eq!(check(json!({}), json!({}), &[]), Ok(()));
        let inline = json!({"datasets": [{"name": "findings", "sql": "SELECT 1"}]});
        let secret = "0b0c6f0e";
        let items = json!({"chunking": {"strategy": "Values", "values": {"parameter": "v", "itemsFrom": "SELECT 1"}}});
        assert_eq!(check(json!({"sources": ["db"]}), items.clone(), &[]), Ok(()));
        let refused = [
            check(json!({"queries": ["tenant-findings"]}), items, &[]),
            check(json!({"sources": ["other"]}), json!({}), &[]),
            check(json!({"queries": ["other"]}), json!({}), &[]),
            check(json!({"queries": ["tenant-findings"]}), inline, &[]),
            check(all.clone(), json!({}), &[parameter(secret)]),
            check(all, json!({}), &[]),
        ];
        for refusal in refused {
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.reason, Reason::NotAllowed);
            assert!(refusal.message.starts_with("ExportSink acme: allow."), "{refusal}");
            assert!(!refusal.message.contains(secret), "a parameter's value is told: {refusal}");
        }
    }
}
