//! What a cleanup is told. It asks less of what the run refers to than the run itself did: what has been forbidden since, such
//! as a query or a delivery, lets what was left be removed all the same.

use jiff::Timestamp;

use super::moved::{Difference, Told};
use super::resolve::spec_sha256;
use super::{CleanupOrder, CleanupPart, NamedSink, NamedSource, Refusal, RunIdentity, Target, delivery};
use crate::job::{ExportJobSpec, ExportJobStatus};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;
use crate::source::{ExportSourceSpec, Method};

/// An ExportJob that has ended, what it has told, and what it refers to now. What is not needed may be missing.
#[derive(Clone, Debug)]
pub struct CleanupInput<'a> {
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
    /// Its status, which tells where it delivers and stages.
    pub status: &'a ExportJobStatus,
    /// The ExportSource that it names.
    pub source: Result<&'a ExportSourceSpec, Refusal>,
    /// The ExportSink that it names.
    pub sink: Result<&'a ExportSinkSpec, Refusal>,
    /// The ExportSink that the source names as staging, where it names one.
    pub staging: Option<Result<&'a ExportSinkSpec, Refusal>>,
}

/// Resolves what a cleanup of this part is told.
///
/// # Errors
/// A reference that this part needs and that is missing, or that has moved to another bucket, volume or server.
pub fn resolve_cleanup(input: &CleanupInput<'_>, part: CleanupPart) -> Result<CleanupOrder, Refusal> {
    let (sink, path) = match Told::location(input.status) {
        Some(told) if part != CleanupPart::Staged => {
            let (sink, path) = location(input, told)?;
            (Some(sink), path)
        }
        _ => (None, String::new()),
    };
    let (staging, source) = match Told::staging(input.status) {
        Some(told) => (Some(staging(input, told)?), database(input, part)?),
        None => (None, None),
    };
    let run = RunIdentity {
        namespace: input.namespace.to_owned(),
        name: input.name.to_owned(),
        uid: input.uid.to_owned(),
        attempt: input.status.attempts,
        spec_sha256: spec_sha256(input.job),
        created: input.created,
    };
    Ok(CleanupOrder { run, sink, path, staging, part, source })
}

/// The sink, and the run's folder below its prefix, which may be another one by now.
fn location(input: &CleanupInput<'_>, told: Told<'_>) -> Result<(NamedSink, String), Refusal> {
    let name = &input.job.sink_ref.name;
    let target = delivery::target(name, input.sink.clone()?, Reason::SinkNotReady, "spec.sinkRef.name")?;
    let now = target.location();
    let found = match told.other_server(&now, &target) {
        Some(difference) => Err(difference),
        None => match told.uri.strip_prefix(&now) {
            Some(path) => Ok((target, path.to_owned())),
            None => below(told, target).map(|(target, path)| (with_prefix(target, ""), path)),
        },
    };
    let (target, path) = found.map_err(|difference| {
        let fix = difference.fix("change the ExportSink back");
        let Difference { now, told, .. } = difference;
        Refusal::new(
            Reason::SinkNotReady,
            format!("ExportSink {name} now delivers to {now}, and the run did to {told}: {fix} until it is removed"),
        )
    })?;
    Ok((NamedSink { name: name.clone(), target, staging: false }, path))
}

/// The staging, with the prefix that it had.
fn staging(input: &CleanupInput<'_>, told: Told<'_>) -> Result<NamedSink, Refusal> {
    let source_name = &input.job.source_ref.name;
    let source = input.source.clone()?;
    let (Some(reference), Some(staging)) = (&source.staging, &input.staging) else {
        return Err(Refusal::new(
            Reason::StagingRequired,
            format!(
                "ExportSource {source_name} names no staging any more, and the run has staged at {}: set its spec.staging.sinkRef back until it is removed",
                told.uri
            ),
        ));
    };
    let name = &reference.sink_ref.name;
    let target = delivery::target(
        name,
        staging.clone()?,
        Reason::SinkNotReady,
        "spec.staging.sinkRef.name of the ExportSource",
    )?;
    let found = match told.other_server(&target.location(), &target) {
        Some(difference) => Err(difference),
        None => below(told, target).map(|(target, prefix)| with_prefix(target, &prefix)),
    };
    let target = found.map_err(|difference| {
        let fix = difference.fix("change its staging back");
        let Difference { now, told, .. } = difference;
        Refusal::new(
            Reason::SinkNotReady,
            format!(
                "ExportSource {source_name} now stages at {now} (ExportSink {name}), and the run did at {told}: {fix} until it is removed"
            ),
        )
    })?;
    Ok(NamedSink { name: name.clone(), target, staging: true })
}

/// The database, where it may still write to the staging. What was kept after the first cleanup is long finished.
fn database(input: &CleanupInput<'_>, part: CleanupPart) -> Result<Option<NamedSource>, Refusal> {
    let source = input.source.clone()?;
    let method = input.status.method.unwrap_or(source.method);
    let writes = part != CleanupPart::Staged && method == Method::AuroraS3;
    Ok(writes.then(|| NamedSource::new(&input.job.source_ref.name, source)))
}

/// What was told, as a key in the bucket or a path in the volume of `target`, if it is there.
fn below(told: Told<'_>, target: Target) -> Result<(Target, String), Difference> {
    let root = with_prefix(target.clone(), "").location();
    match told.uri.strip_prefix(&root) {
        Some(key) => Ok((target, key.to_owned())),
        None => Err(Difference { now: target.location(), told: told.uri.to_owned(), server: false }),
    }
}

fn with_prefix(mut target: Target, prefix: &str) -> Target {
    match &mut target {
        Target::S3(s3) => prefix.clone_into(&mut s3.prefix),
        Target::Volume(volume) => prefix.clone_into(&mut volume.path),
    }
    target
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::RunOrder;
    use super::super::fixture::{CREATED, NAMES, job, merge, resolved_by, s3, source};
    use super::*;

    /// What a run refers to when it has ended.
    struct World {
        method: &'static str,
        source: Value,
        sink: Value,
        staging: Option<Value>,
        status: Value,
    }

    /// A staged run, whose order was `order`.
    fn ended(method: &'static str) -> (World, RunOrder) {
        let with = json!({"delivery": {"mode": "Staged"}});
        let order = resolved_by(method, with, Some(s3("staging"))).unwrap();
        let status = json!({
            "attempts": 2, "method": method,
            "location": order.location(), "locationServer": order.sink.target.server(),
            "staging": order.staging().unwrap().target.location(),
            "stagingServer": order.staging().unwrap().target.server(),
        });
        let sinks = (s3("acme-exports"), Some(s3("staging")));
        (World { method, source: json!({}), sink: sinks.0, staging: sinks.1, status }, order)
    }

    impl World {
        fn resolve(&self, part: CleanupPart) -> Result<CleanupOrder, Refusal> {
            let missing = || Refusal::new(Reason::ReferenceNotFound, "it does not exist");
            let mut source = source(self.method, true);
            merge(&mut source, self.source.clone());
            let source: Option<ExportSourceSpec> =
                (!self.source.is_null()).then(|| serde_json::from_value(source).unwrap());
            let sink: Option<ExportSinkSpec> = serde_json::from_value(self.sink.clone()).unwrap();
            let staging: Option<ExportSinkSpec> =
                self.staging.clone().map(|staging| serde_json::from_value(staging).unwrap());
            let (name, uid) = NAMES;
            let input = CleanupInput {
                namespace: "team",
                name,
                uid,
                created: CREATED.parse().unwrap(),
                job: &job(json!({"delivery": {"mode": "Staged"}})),
                status: &serde_json::from_value(self.status.clone()).unwrap(),
                source: source.as_ref().ok_or_else(missing),
                sink: sink.as_ref().ok_or_else(missing),
                staging: staging.as_ref().map(Ok),
            };
            resolve_cleanup(&input, part)
        }

        fn message(&self, part: CleanupPart) -> String {
            self.resolve(part).unwrap_err().message
        }
    }

    #[test]
    fn where_nothing_has_changed_a_cleanup_is_that_of_the_run() {
        for method in ["Copy", "AuroraS3"] {
            let (world, order) = ended(method);
            assert_eq!(world.resolve(CleanupPart::Everything).unwrap(), order.cleanup(), "{method}");
        }
        let direct = resolved_by("Copy", json!({"delivery": {"mode": "Direct"}}), None).unwrap();
        let (mut world, _) = ended("Copy");
        (world.source, world.staging) = (Value::Null, None);
        world.status = json!({"attempts": 2, "location": direct.location()});
        let cleanup = world.resolve(CleanupPart::Everything).unwrap();
        assert_eq!((cleanup.sink, cleanup.staging), (Some(direct.sink), None), "it needs no source");
    }

    #[test]
    fn what_was_forbidden_since_keeps_nothing_from_being_removed() {
        let (world, order) = ended("Copy");
        let cases = [
            (json!({"inlineSQL": "Forbid"}), json!({})),
            (json!({"queries": [{"name": "other", "sql": "SELECT 1"}]}), json!({})),
            (json!({"method": "AuroraS3"}), json!({})),
            (json!({}), json!({"allow": {"sources": ["other"], "queries": ["other"]}})),
        ];
        for (of_source, of_sink) in cases {
            let mut sink = world.sink.clone();
            merge(&mut sink, of_sink);
            let changed = World { source: of_source, sink, ..ended("Copy").0 };
            assert_eq!(changed.resolve(CleanupPart::Everything).unwrap(), order.cleanup());
        }
        let (mut world, _) = ended("AuroraS3");
        world.source = json!({"method": "Copy"});
        assert!(world.resolve(CleanupPart::Everything).unwrap().source.is_some(), "it may still write");
    }

    #[test]
    fn another_prefix_is_not_another_place() {
        let (mut world, order) = ended("Copy");
        for prefix in ["", "from-eu/", "from-us/job/"] {
            world.sink["s3"]["prefix"] = json!(prefix);
            world.staging.as_mut().unwrap()["s3"]["prefix"] = json!(prefix);
            let cleanup = world.resolve(CleanupPart::Everything).unwrap();
            assert_eq!(
                format!("{}{}", cleanup.sink.unwrap().target.location(), cleanup.path),
                order.location()
            );
            assert_eq!(cleanup.staging.as_ref(), order.staging());
        }
        world.sink = json!({"volume": {"claimName": "exports", "path": "b/"}});
        world.status["location"] = json!("volume://exports/a/x/");
        world.status["locationServer"] = Value::Null;
        let cleanup = world.resolve(CleanupPart::Everything).unwrap();
        assert_eq!(cleanup.sink.unwrap().target.location(), "volume://exports/");
        assert_eq!(cleanup.path, "a/x/");
    }

    #[test]
    fn another_bucket_or_server_is_told_with_the_fix() {
        let endpoint = json!({"s3": {"endpoint": "https://b.example.com"}});
        for (change, is_server) in [
            (json!({"s3": {"bucket": "elsewhere"}}), false),
            (json!({"s3": {"bucket": "acme-exports-2"}}), false),
            (json!({"s3": {"bucket": "staging-2"}}), false),
            (endpoint.clone(), true),
            (json!({"s3": {"region": "us-east-1"}}), true),
        ] {
            let (mut sink, mut staging) = (ended("Copy").0, ended("Copy").0);
            merge(&mut sink.sink, change.clone());
            merge(staging.staging.as_mut().unwrap(), change.clone());
            let told = [
                (sink.message(CleanupPart::Everything), "ExportSink acme now delivers to", "ExportSink back"),
                (staging.message(CleanupPart::Staged), "ExportSource db now stages at", "its staging back"),
            ];
            for (message, wanted, fix) in told {
                let fix = if is_server { "endpoint and region" } else { fix };
                assert!(message.contains(wanted) && message.contains(fix), "{change}: {message}");
            }
        }
        // What a former version has told names no server.
        let (mut world, _) = ended("Copy");
        merge(&mut world.sink, endpoint);
        world.status["locationServer"] = Value::Null;
        assert!(world.resolve(CleanupPart::Everything).is_ok());
    }

    #[test]
    fn for_what_is_staged_only_the_staging_is_needed() {
        let (mut world, order) = ended("AuroraS3");
        world.sink = Value::Null;
        let cleanup = world.resolve(CleanupPart::Staged).unwrap();
        assert_eq!((cleanup.sink, cleanup.source, cleanup.path.as_str()), (None, None, ""));
        assert_eq!(cleanup.staging.as_ref(), order.staging());
        for part in [CleanupPart::Everything, CleanupPart::AllButStaged] {
            assert_eq!(world.resolve(part).unwrap_err().reason, Reason::ReferenceNotFound);
        }
    }

    #[test]
    fn a_staging_that_is_not_named_any_more_is_told() {
        let (mut world, _) = ended("Copy");
        (world.source, world.staging) = (json!({"staging": null}), None);
        let refusal = world.resolve(CleanupPart::Staged).unwrap_err();
        assert_eq!(refusal.reason, Reason::StagingRequired);
        assert!(refusal.message.contains("s3://staging/from-us/"), "{refusal}");
        (world.source, world.staging) = (Value::Null, None);
        assert_eq!(world.resolve(CleanupPart::Staged).unwrap_err().reason, Reason::ReferenceNotFound);
    }
}
