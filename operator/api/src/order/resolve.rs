//! From the kinds to an order: defaults filled in, references followed, contradictions refused. The controller and
//! `pgexport run` both come through here, so a manifest means the same in a cluster and on a laptop.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use sha2::{Digest, Sha256};

use super::{
    DatasetOrder, DeliveryPath, NamedSink, NamedSource, ParameterOrder, RunFacts, RunIdentity, RunOrder,
    Target, boundary, render_path,
};
use crate::job::{
    Compression, Consistency, DatasetChunking, DeliveryMode, ExportJobSpec, FormatType, Layout, Strategy,
};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;
use crate::source::{ExportSourceSpec, Method};

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
    check_names(job)?;
    check_format(job)?;
    check_method(job, input.source.method)?;
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
    let target = target(&job.sink_ref.name, input.sink)?;
    Ok(RunOrder {
        run: identity(input, attempt),
        source: NamedSource {
            name: job.source_ref.name.clone(),
            postgres: input.source.postgres.clone(),
            allow_privileged_login: input.source.allow_privileged_login,
            limits: input.source.limits.unwrap_or_default(),
            method: input.source.method,
            kms_key_id: input.source.staging.as_ref().and_then(|staging| staging.kms_key_id.clone()),
        },
        sink: NamedSink { name: job.sink_ref.name.clone(), target, staging: false },
        delivery: delivery(input, &datasets)?,
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

/// What the CRD's rules say of the format too.
fn check_format(job: &ExportJobSpec) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(Reason::InvalidSpec, message));
    let format = &job.format;
    if format.csv.is_some() && format.format_type != FormatType::Csv {
        return invalid("format.csv goes with type CSV only");
    }
    if format.parquet.is_some() && format.format_type != FormatType::Parquet {
        return invalid("format.parquet goes with type Parquet only");
    }
    if format.format_type == FormatType::Parquet && job.compression != Compression::None {
        return invalid(
            "compression: leave it out with Parquet, whose pages are compressed: see format.parquet.compression",
        );
    }
    Ok(())
}

/// What a database cannot do that writes to the staging by itself.
fn check_method(job: &ExportJobSpec, method: Method) -> Result<(), Refusal> {
    if method == Method::Copy {
        return Ok(());
    }
    let source = &job.source_ref.name;
    let refused = |message: String| Err(Refusal::new(Reason::InvalidSpec, message));
    if job.format.format_type == FormatType::Parquet {
        return refused(format!(
            "format.type Parquet: ExportSource {source} has method AuroraS3, and the database writes text only: choose CSV, JSON or NDJSON, or name a source with method Copy"
        ));
    }
    if job.delivery.mode == DeliveryMode::Direct {
        return refused(format!(
            "delivery.mode Direct: ExportSource {source} has method AuroraS3, whose database writes to the staging: choose Staged or Auto"
        ));
    }
    Ok(())
}

/// What keeps files from overwriting one another. The CRD's rules say the same; `pgexport run` has no API server.
fn check_names(job: &ExportJobSpec) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(Reason::InvalidSpec, message));
    let names: BTreeSet<&str> = job.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    if names.len() < job.datasets.len() {
        return invalid("datasets: each needs a name of its own");
    }
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if !names.iter().all(|name| is_name(name)) {
        return invalid("datasets: names consist of letters, digits, '-' and '_'");
    }
    let template = job.files.name_template();
    if !template.contains("{token}") {
        return invalid("files.name: name {token}, so that no attempt overwrites another one's files");
    }
    if !is_set_off(template, "{token}") {
        return invalid(
            "files.name: set {token} off from what is beside it by '-', '_', '.', '=' or '/', so that a cleanup knows the files of its own run",
        );
    }
    if !template.contains("{dataset}") {
        return invalid("files.name: name {dataset}, or the files of data sets would overwrite one another");
    }
    if job.files.names_value() && job.files.layout == Layout::Single {
        return invalid("files.name: {value} is a chunk's, and goes with layout PerChunk");
    }
    if job.files.layout == Layout::PerChunk && !template.contains("{part}") {
        return invalid("files.name: name {part}, or the files of a data set would overwrite one another");
    }
    let relative =
        |path: &str| !path.starts_with('/') && !path.split('/').any(|part| part == "." || part == "..");
    if !relative(template) || !relative(&job.path) || !job.path.ends_with('/') || job.path.contains("//") {
        return invalid("path: a relative path that ends with '/', without '//', '.' and '..'");
    }
    Ok(())
}

/// Whether a placeholder stands at least once with no letter, digit or other placeholder beside it.
fn is_set_off(template: &str, placeholder: &str) -> bool {
    template.match_indices(placeholder).any(|(start, found)| {
        let before = template[..start].chars().next_back();
        let after = template[start + found.len()..].chars().next();
        !before.is_some_and(|char| char.is_ascii_alphanumeric() || char == '}')
            && !after.is_some_and(|char| char.is_ascii_alphanumeric() || char == '{')
    })
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

/// Direct where one pod can stream each file from one chunk; otherwise by way of the source's staging.
fn delivery(input: &Input<'_>, datasets: &[DatasetOrder]) -> Result<DeliveryPath, Refusal> {
    let job = input.job;
    let joined = job.files.layout == Layout::Single
        && datasets
            .iter()
            .any(|dataset| !matches!(dataset.chunking.strategy, Strategy::Auto | Strategy::None));
    let direct = match job.delivery.mode {
        DeliveryMode::Direct if job.workers > 1 => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "delivery.mode Direct streams from one pod: set workers to 1, or choose Staged",
            ));
        }
        DeliveryMode::Direct if joined => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "files.layout Single with delivery.mode Direct needs chunking strategy Auto or None: choose Staged or Auto to join chunks to one file",
            ));
        }
        DeliveryMode::Direct if job.chunking.consistency == Consistency::PerChunk => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "delivery.mode Direct has no resume: with chunking.consistency PerChunk choose Staged or Auto",
            ));
        }
        DeliveryMode::Direct => true,
        DeliveryMode::Staged => false,
        DeliveryMode::Auto => {
            job.workers == 1
                && !joined
                && job.chunking.consistency == Consistency::Snapshot
                && input.source.method == Method::Copy
        }
    };
    if direct {
        return Ok(DeliveryPath::Direct);
    }
    let source = &job.source_ref.name;
    let reference = input.source.staging.as_ref().ok_or_else(|| {
        Refusal::new(
            Reason::StagingRequired,
            format!("this delivery is staged, and ExportSource {source} names no staging: set its spec.staging.sinkRef to an ExportSink of type s3"),
        )
    })?;
    let staging = input.staging.ok_or_else(|| {
        let name = &reference.sink_ref.name;
        Refusal::new(
            Reason::ReferenceNotFound,
            format!("ExportSink {name}, which ExportSource {source} names as staging, does not exist"),
        )
    })?;
    let name = reference.sink_ref.name.clone();
    match target(&name, staging)? {
        Target::Volume(_) if input.source.method == Method::AuroraS3 => Err(Refusal::new(
            Reason::StagingRequired,
            format!(
                "ExportSource {source} has method AuroraS3, whose database writes to a bucket: name an ExportSink of type s3 in its spec.staging.sinkRef"
            ),
        )),
        Target::Volume(_) if !input.staging_on_volume => Err(Refusal::new(
            Reason::StagingRequired,
            format!("ExportSink {name}, which ExportSource {source} names as staging, is not of type s3"),
        )),
        target => Ok(DeliveryPath::Staged { staging: NamedSink { name, target, staging: true } }),
    }
}

/// The target of a sink.
fn target(name: &str, sink: &ExportSinkSpec) -> Result<Target, Refusal> {
    match (&sink.s3, &sink.volume) {
        (Some(s3), None) => Ok(Target::S3(s3.clone())),
        (None, Some(volume)) => Ok(Target::Volume(volume.clone())),
        _ => Err(Refusal::new(
            Reason::InvalidSpec,
            format!("ExportSink {name}: name exactly one of s3 and volume"),
        )),
    }
}

/// Over what the run is: whether it pauses does not count.
fn spec_sha256(job: &ExportJobSpec) -> String {
    let job = ExportJobSpec { suspend: false, cancel: false, ..job.clone() };
    // Serialising these plain structs cannot fail.
    let bytes = serde_json::to_vec(&job).unwrap_or_default();
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CREATED: &str = "2026-11-23T13:45:01Z";

    fn merge(base: &mut Value, with: Value) {
        match (base, with) {
            (Value::Object(base), Value::Object(with)) => {
                for (key, value) in with {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
            (base, with) => *base = with,
        }
    }

    /// Resolves an ExportJob that differs from a plain one by `with`; the source has a staging, unless told otherwise.
    fn resolved(with: Value, staging: Option<Value>) -> Result<RunOrder, Refusal> {
        resolved_by("Copy", with, staging)
    }

    fn resolved_by(method: &str, with: Value, staging: Option<Value>) -> Result<RunOrder, Refusal> {
        let mut job = json!({
            "sourceRef": {"name": "db"}, "sinkRef": {"name": "acme"}, "path": "{job}/{date}/",
            "datasets": [{"name": "findings", "sql": "SELECT 1 WHERE :chunk"}], "format": {"type": "JSON"},
        });
        merge(&mut job, with);
        let mut source = json!({"postgres": {"host": "h", "database": "d", "user": "u", "passwordSecretRef": {"name": "s", "key": "k"}}});
        source["method"] = json!(method);
        if staging.is_some() {
            source["staging"] = json!({"sinkRef": {"name": "staging"}});
        }
        let staging: Option<ExportSinkSpec> = staging.map(|staging| serde_json::from_value(staging).unwrap());
        resolve(
            &Input {
                namespace: "team",
                name: "job",
                uid: "0b0c6f0e-5b0e-4d61-9d8a-6f1f1c3a2b10",
                created: CREATED.parse().unwrap(),
                job: &serde_json::from_value(job).unwrap(),
                source: &serde_json::from_value(source).unwrap(),
                sink: &serde_json::from_value(s3("acme-exports")).unwrap(),
                staging: staging.as_ref(),
                staging_on_volume: false,
            },
            2,
        )
    }

    fn s3(bucket: &str) -> Value {
        json!({"s3": {"bucket": bucket, "region": "eu-west-1", "prefix": "from-us/"}})
    }

    fn by_column() -> Value {
        json!({"strategy": "Column", "column": {"name": "id"}})
    }

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
    fn auto_is_direct_where_one_pod_can_stream_each_file() {
        let single = json!({"files": {"layout": "Single"}});
        let cases = [
            (json!({}), true),
            (json!({"chunking": by_column()}), true),
            (single.clone(), true),
            (json!({"workers": 2}), false),
            (json!({"files": {"layout": "Single"}, "chunking": by_column()}), false),
            (json!({"delivery": {"mode": "Staged"}}), false),
        ];
        for (with, direct) in cases {
            let order = resolved(with.clone(), Some(s3("staging"))).unwrap();
            assert_eq!(order.delivery == DeliveryPath::Direct, direct, "{with}");
        }
    }

    #[test]
    fn a_database_that_exports_by_itself_needs_a_bucket_and_writes_text() {
        let order = resolved_by("AuroraS3", json!({}), Some(s3("staging"))).unwrap();
        assert!(matches!(order.delivery, DeliveryPath::Staged { .. }), "Auto is Staged");
        assert_eq!(order.cleanup().source, Some(order.source));
        assert_eq!(resolved(json!({}), Some(s3("staging"))).unwrap().cleanup().source, None);
        let volume = json!({"volume": {"claimName": "claim"}});
        for (with, staging, reason, word) in [
            (json!({"delivery": {"mode": "Direct"}}), s3("staging"), Reason::InvalidSpec, "Staged or Auto"),
            (
                json!({"format": {"type": "Parquet"}}),
                s3("staging"),
                Reason::InvalidSpec,
                "CSV, JSON or NDJSON",
            ),
            (json!({}), volume, Reason::StagingRequired, "of type s3"),
        ] {
            let refusal = resolved_by("AuroraS3", with, Some(staging)).unwrap_err();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
        let refusal = resolved_by("AuroraS3", json!({}), None).unwrap_err();
        assert_eq!(refusal.reason, Reason::StagingRequired);
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
        let volume = json!({"volume": {"claimName": "c"}});
        let cases = [
            (json!({"workers": 2}), None, Reason::StagingRequired, "spec.staging.sinkRef"),
            (json!({"workers": 2}), Some(volume), Reason::StagingRequired, "not of type s3"),
            (
                json!({"workers": 2, "delivery": {"mode": "Direct"}}),
                None,
                Reason::InvalidSpec,
                "set workers to 1",
            ),
            (
                json!({"files": {"layout": "Single"}, "chunking": by_column(), "delivery": {"mode": "Direct"}}),
                None,
                Reason::InvalidSpec,
                "choose Staged or Auto",
            ),
            (json!({"chunking": {"strategy": "Table"}}), None, Reason::InvalidSpec, "datasets[findings]"),
            (json!({"files": {"name": "{dataset}-{token}"}}), None, Reason::InvalidSpec, "name {part}"),
            (json!({"files": {"name": "{part}-{token}"}}), None, Reason::InvalidSpec, "name {dataset}"),
            (json!({"files": {"name": "{dataset}-{part}"}}), None, Reason::InvalidSpec, "name {token}"),
            (
                json!({"files": {"name": "{dataset}-{part}{token}"}}),
                None,
                Reason::InvalidSpec,
                "set {token} off",
            ),
            (
                json!({"files": {"name": "{value}/{dataset}-{part}-{token}"}}),
                None,
                Reason::InvalidSpec,
                "chunking strategy Values",
            ),
            (
                json!({
                    "files": {"name": "{value}/{dataset}-{token}", "layout": "Single"},
                    "chunking": {"strategy": "Values", "values": {"parameter": "v", "items": [1]}},
                }),
                None,
                Reason::InvalidSpec,
                "goes with layout PerChunk",
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
            (json!({"format": {"csv": {}}}), None, Reason::InvalidSpec, "format.csv goes with"),
            (json!({"format": {"parquet": {}}}), None, Reason::InvalidSpec, "format.parquet goes with"),
            (
                json!({"format": {"type": "Parquet"}, "compression": "Gzip"}),
                None,
                Reason::InvalidSpec,
                "format.parquet.compression",
            ),
            (json!({"path": "no-slash"}), None, Reason::InvalidSpec, "ends with '/'"),
            (json!({"path": "a/../b/"}), None, Reason::InvalidSpec, "without '//'"),
            (
                json!({"datasets": [{"name": "a", "sql": "SELECT 1"}, {"name": "a", "sql": "SELECT 2"}]}),
                None,
                Reason::InvalidSpec,
                "a name of its own",
            ),
            (json!({"path": "{day}/"}), None, Reason::InvalidSpec, "{day} is not a placeholder"),
            (
                json!({"parameters": [{"name": "p", "type": "int", "value": {"a": 1}}]}),
                None,
                Reason::InvalidParameter,
                "parameters[p]",
            ),
        ];
        for (with, staging, reason, wanted) in cases {
            let refusal = resolved(with.clone(), staging).unwrap_err();
            assert_eq!(refusal.reason, reason, "{with}");
            assert!(refusal.message.contains(wanted), "{with}: {refusal}");
        }
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
