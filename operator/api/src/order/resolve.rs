//! From the kinds to an order: defaults filled in, references followed, contradictions refused. The controller and
//! `pgexport run` both come through here, so a manifest means the same in a cluster and on a laptop.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use sha2::{Digest, Sha256};

use super::{
    DatasetOrder, NamedSink, NamedSource, ParameterOrder, RunFacts, RunIdentity, RunOrder, boundary,
    delivery, format, login, name, render_path,
};
use crate::job::{DatasetChunking, ExportJobSpec, Strategy};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;
use crate::source::ExportSourceSpec;

/// An ExportJob and what it refers to.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Namespace of all of them.
    pub namespace: &'a str,
    /// The ExportJob's name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// When it was created.
    pub created: Timestamp,
    /// Its spec.
    pub job: &'a ExportJobSpec,
    /// The spec of the ExportSource that it names.
    pub source: &'a ExportSourceSpec,
    /// The spec of the ExportSink that it names.
    pub sink: &'a ExportSinkSpec,
    /// The spec of the ExportSink that the source names as staging, where it names one.
    pub staging: Option<&'a ExportSinkSpec>,
    /// Whether a volume may serve as staging: only where one process does all the work, as under `pgexport run`.
    pub staging_on_volume: bool,
}

/// Why an ExportJob cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// From the closed vocabulary.
    pub reason: Reason,
    /// What contradicts what, and what to write instead.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Resolves an ExportJob to the order of one attempt.
pub fn resolve(input: &Input<'_>, attempt: u32) -> Result<RunOrder, Refusal> {
    let job = input.job;
    let datasets = datasets(input)?;
    name::check_names(job)?;
    format::check_format(job)?;
    login::check_login(&job.source_ref.name, &input.source.postgres)?;
    let parameters = parameters(input)?;
    boundary::check_allowed(job, &datasets, input.sink, &parameters)?;
    let facts = RunFacts {
        namespace: input.namespace,
        name: input.name,
        uid: input.uid,
        schedule: job.scheduled.as_ref().map(|scheduled| scheduled.schedule.as_str()),
        time: &time(input)?,
    };
    let path = render_path(&job.path, &facts)
        .map_err(|error| Refusal::new(Reason::InvalidSpec, error.to_string()))?;
    let field = "spec.sinkRef.name of a new ExportJob";
    let target = delivery::target(&job.sink_ref.name, input.sink, Reason::InvalidSpec, field)?;
    Ok(RunOrder {
        run: identity(input, attempt),
        source: NamedSource::new(&job.source_ref.name, input.source),
        sink: NamedSink { name: job.sink_ref.name.clone(), target, staging: false },
        delivery: delivery::delivery(input, &datasets)?,
        looks_ahead: true,
        path,
        datasets,
        consistency: job.chunking.consistency,
        parameters,
        format: job.format.clone(),
        compression: job.compression,
        files: job.files.clone(),
        window: job.window.clone(),
        if_exists: job.delivery.if_exists,
        workers: job.workers,
        parallelism: job.chunking.parallelism,
    })
}

/// When the run is for: as its schedule says, else when it was created.
fn time(input: &Input<'_>) -> Result<Zoned, Refusal> {
    let Some(scheduled) = &input.job.scheduled else {
        return Ok(input.created.to_zoned(TimeZone::UTC));
    };
    let name = &scheduled.time_zone;
    let zone = crate::time_zone::find(name).ok_or_else(|| {
        let message = format!("scheduled.timeZone: {name:?} is not the IANA name of a time zone");
        Refusal::new(Reason::InvalidSpec, message)
    })?;
    Ok(scheduled.time.0.to_zoned(zone))
}

fn identity(input: &Input<'_>, attempt: u32) -> RunIdentity {
    RunIdentity {
        namespace: input.namespace.to_owned(),
        name: input.name.to_owned(),
        uid: input.uid.to_owned(),
        attempt,
        spec_sha256: spec_sha256(input.job),
        created: input.created,
    }
}

fn parameters(input: &Input<'_>) -> Result<Vec<ParameterOrder>, Refusal> {
    input
        .job
        .parameters
        .iter()
        .map(|parameter| {
            let value = parameter
                .text()
                .map_err(|error| Refusal::new(Reason::InvalidParameter, error.to_string()))?;
            Ok(ParameterOrder {
                name: parameter.name.clone(),
                parameter_type: parameter.parameter_type.clone(),
                value,
                sensitive: boundary::is_sensitive(input.job, input.source, &parameter.name),
            })
        })
        .collect()
}

fn datasets(input: &Input<'_>) -> Result<Vec<DatasetOrder>, Refusal> {
    let job = input.job;
    if job.datasets.is_empty() {
        return Err(Refusal::new(Reason::InvalidSpec, "datasets: name at least one query"));
    }
    job.datasets
        .iter()
        .map(|dataset| {
            let chunking = dataset.chunking.clone().unwrap_or_else(|| DatasetChunking::from(&job.chunking));
            let complete = match chunking.strategy {
                Strategy::Auto | Strategy::None => true,
                Strategy::Column => chunking.column.is_some(),
                Strategy::Table => chunking.table.is_some(),
                Strategy::Values => chunking.values.is_some(),
            };
            if !complete {
                let message = format!(
                    "datasets[{}]: chunking needs the block of its strategy, column, table or values",
                    dataset.name
                );
                return Err(Refusal::new(Reason::InvalidSpec, message));
            }
            check_values(&dataset.name, job, &chunking)?;
            boundary::check_items(dataset, &chunking, &job.source_ref.name, input.source)?;
            Ok(DatasetOrder {
                name: dataset.name.clone(),
                sql: boundary::query(dataset, job, &job.source_ref.name, input.source)?.to_owned(),
                chunking,
                expect: dataset.expect.clone().or_else(|| job.expect.clone()),
            })
        })
        .collect()
}

/// Values are scalars, each is there once, and their placeholder is not a parameter too.
fn check_values(dataset: &str, job: &ExportJobSpec, chunking: &DatasetChunking) -> Result<(), Refusal> {
    let Some(values) = chunking.values.as_ref().filter(|_| chunking.strategy == Strategy::Values) else {
        if job.files.names_value() {
            let message = format!(
                "datasets[{dataset}]: files.name: {{value}} is a value of chunking strategy Values, which each data set then needs"
            );
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
        return Ok(());
    };
    let invalid = |message: String| {
        Err(Refusal::new(Reason::InvalidSpec, format!("datasets[{dataset}]: chunking.values: {message}")))
    };
    if values.items.is_empty() != values.items_from.is_some() {
        return invalid("give exactly one of items and itemsFrom".to_owned());
    }
    if job.parameters.iter().any(|parameter| parameter.name == values.parameter) {
        return invalid(format!(
            "{} is one of spec.parameters too: remove it there, or choose another name",
            values.parameter
        ));
    }
    let items = values.texts().map_err(|error| Refusal::new(Reason::InvalidParameter, error.to_string()))?;
    let mut seen = BTreeSet::new();
    match items.iter().position(|item| !seen.insert(item)) {
        // The value itself is not told: messages hold no values of parameters.
        Some(place) => invalid(format!("items[{place}] is there twice, and its rows would be too")),
        None => Ok(()),
    }
}

/// Over what the run is: whether it pauses does not count.
pub(super) fn spec_sha256(job: &ExportJobSpec) -> String {
    let job = ExportJobSpec { suspend: false, cancel: false, ..job.clone() };
    // Serialising these plain structs cannot fail.
    let bytes = serde_json::to_vec(&job).unwrap_or_default();
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{by_column, refuses, resolved, s3};
    use super::*;

    #[test]
    fn an_order_has_every_default_filled_in() {
        let order = resolved(json!({}), None).unwrap();
        assert_eq!(order.location(), "s3://acme-exports/from-us/job/2026-11-23/");
        assert_eq!(order.token(), "0b0c6f0e-2");
        assert_eq!((order.workers, order.parallelism), (1, 4));
        assert_eq!(order.run.spec_sha256.len(), 64);
        assert_eq!(order.source.postgres.port, 5432);
    }

    #[test]
    fn a_scheduled_run_is_located_by_the_time_that_it_is_for() {
        let scheduled = |zone: &str| {
            json!({"path": "{schedule}/{date}T{time}/", "scheduled":
                {"schedule": "nightly", "time": "2026-11-22T23:30:00Z", "timeZone": zone}})
        };
        let order = resolved(scheduled("Europe/Berlin"), None).unwrap();
        assert_eq!(order.path, "nightly/2026-11-23T003000/");
        let refusal = resolved(scheduled("Europe/Bonn"), None).unwrap_err();
        assert!(refusal.message.contains("scheduled.timeZone: \"Europe/Bonn\""), "{refusal}");
    }

    #[test]
    fn a_data_set_overrides_the_jobs_chunking() {
        let with = json!({
            "chunking": by_column(),
            "datasets": [{"name": "a", "sql": "SELECT 1"}, {"name": "b", "sql": "SELECT 2", "chunking": {"strategy": "None"}}],
        });
        let order = resolved(with, None).unwrap();
        let strategies: Vec<Strategy> =
            order.datasets.iter().map(|dataset| dataset.chunking.strategy).collect();
        assert_eq!(strategies, [Strategy::Column, Strategy::None]);
    }

    #[test]
    fn a_contradiction_is_refused_with_its_fix() {
        refuses([
            (json!({"chunking": {"strategy": "Table"}}), None, Reason::InvalidSpec, "datasets[findings]"),
            (
                json!({"files": {"name": "{value}/{dataset}-{part}-{token}"}}),
                None,
                Reason::InvalidSpec,
                "chunking strategy Values",
            ),
            (
                json!({"chunking": {"strategy": "Values", "values": {"parameter": "v"}}}),
                None,
                Reason::InvalidSpec,
                "exactly one of items and itemsFrom",
            ),
            (
                json!({"chunking": {"strategy": "Values", "values": {"parameter": "v", "items": [1], "itemsFrom": "SELECT 1"}}}),
                None,
                Reason::InvalidSpec,
                "exactly one of items and itemsFrom",
            ),
            (json!({"path": "{day}/"}), None, Reason::InvalidSpec, "{day} is not a placeholder"),
            (
                json!({"parameters": [{"name": "p", "type": "int", "value": {"a": 1}}]}),
                None,
                Reason::InvalidParameter,
                "parameters[p]",
            ),
        ]);
    }

    #[test]
    fn equal_specs_have_equal_hashes() {
        let [first, again] = [(), ()].map(|()| resolved(json!({}), None).unwrap().run.spec_sha256);
        let other = resolved(json!({"workers": 2}), Some(s3("staging"))).unwrap().run.spec_sha256;
        assert_eq!(first, again);
        assert_eq!(first, resolved(json!({"suspend": true}), None).unwrap().run.spec_sha256);
        assert_ne!(first, other);
    }
}
