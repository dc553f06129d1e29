//! From an ExportJob and what it refers to, to an order that can be carried out, or to the reason why not. No I/O.

mod cleanup;
mod pod_metadata;

pub use cleanup::{ValidatedCleanup, validate_cleanup};

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::condition::{self, Condition, ConditionType};
use pgexport_api::order::{DeliveryPath, Input, Order, Refusal, RunOrder, Task, resolve};
use pgexport_api::{ExportJob, ExportJobStatus, ExportSink, ExportSource, Reason};

use super::dereference::{Reference, References};
use crate::job::mount::Mounts;
use crate::job::order;

/// An ExportJob that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// What its workers are told; the attempt's number is filled in when a Job is rendered.
    pub order: RunOrder,
    /// What pods that export see.
    pub export_mounts: Mounts,
    /// What pods that transfer see.
    pub transfer_mounts: Mounts,
    /// Whether what it refers to is ready.
    pub readiness: Readiness,
}

/// Whether source, sink and staging are ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// All of them are.
    Ready,
    /// One is being probed.
    Probing(String),
    /// One is not.
    NotReady(Refusal),
}

/// What can be done about an ExportJob: carry it out, and remove what it has left.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// While it has not ended.
    pub run: Result<Validated, Refusal>,
    /// When it has ended.
    pub cleanup: Result<ValidatedCleanup, Refusal>,
}

impl Verdict {
    /// Judges `job`. `prefixes` are those of labels and annotations that the installation lets pods bear.
    #[must_use]
    pub fn of(
        namespace: &str,
        job: &ExportJob,
        references: &References,
        status: &ExportJobStatus,
        prefixes: &[String],
    ) -> Self {
        let run =
            pod_metadata::check(&job.spec, prefixes).and_then(|()| validate(namespace, job, references));
        Self { run, cleanup: validate_cleanup(namespace, job, references, status, prefixes) }
    }
}

/// Validates `job`.
pub fn validate(namespace: &str, job: &ExportJob, references: &References) -> Result<Validated, Refusal> {
    let (source, sink) = (source(namespace, job, references)?, sink(namespace, job, references)?);
    let staging = match &references.staging {
        Some(Reference::Found(staging)) => Some(staging.as_ref()),
        // `resolve` refuses a missing staging, where one is needed.
        Some(Reference::Missing | Reference::Malformed(_)) | None => None,
    };
    let uid = job.uid().unwrap_or_default();
    let input = Input {
        namespace,
        name: &job.name_any(),
        uid: &uid,
        created: job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        job: &job.spec,
        source: &source.spec,
        sink: &sink.spec,
        staging: staging.map(|staging| &staging.spec),
        staging_on_volume: false,
    };
    let mut order = resolve(&input, 1)?;

    let with_source =
        || Mounts::default().with_source(&order.source.postgres, source.spec.service_account_name.as_deref());
    let sink_account = sink.spec.service_account_name.as_deref();
    let (export_mounts, transfer_mounts, needed_staging) = match &order.delivery {
        DeliveryPath::Direct => {
            (with_source().with_target(&order.sink.target, sink_account), Mounts::default(), None)
        }
        DeliveryPath::Staged { staging: named } => {
            let account = staging.and_then(|staging| staging.spec.service_account_name.as_deref());
            let transfer = Mounts::default()
                .with_target(&named.target, account)
                .with_target(&order.sink.target, sink_account);
            let export = with_source().with_target(&named.target, account);
            // Worker 0 looks into the sink before all the work, where one pod can.
            let with_sink = export.clone().with_target(&order.sink.target, sink_account);
            let claims_nothing = with_sink.claims.is_empty();
            order.looks_ahead = claims_nothing && with_sink.service_accounts.len() < 2;
            (if order.looks_ahead { with_sink } else { export }, transfer, staging)
        }
    };
    fits(&order)?;
    one_identity("export", &export_mounts.service_accounts)?;
    one_identity("transfer", &transfer_mounts.service_accounts)?;
    let readiness = readiness(source, sink, needed_staging);
    Ok(Validated { order, export_mounts, transfer_mounts, readiness })
}

fn source<'a>(
    namespace: &str,
    job: &ExportJob,
    references: &'a References,
) -> Result<&'a ExportSource, Refusal> {
    let (name, field) = (&job.spec.source_ref.name, "spec.sourceRef.name");
    found(&references.source, "ExportSource", name, namespace, field, Reason::SourceNotReady)
}

fn sink<'a>(namespace: &str, job: &ExportJob, references: &'a References) -> Result<&'a ExportSink, Refusal> {
    let (name, field) = (&job.spec.sink_ref.name, "spec.sinkRef.name");
    found(&references.sink, "ExportSink", name, namespace, field, Reason::SinkNotReady)
}

/// The object that a field names, or why there is none.
pub(super) fn found<'a, K>(
    reference: &'a Reference<K>,
    kind: &str,
    name: &str,
    namespace: &str,
    field: &str,
    not_ready: Reason,
) -> Result<&'a K, Refusal> {
    match reference {
        Reference::Found(object) => Ok(object),
        Reference::Missing => Err(Refusal {
            reason: Reason::ReferenceNotFound,
            message: format!(
                "{kind} {name} does not exist in namespace {namespace}: create it, or name an existing one in {field} of a new ExportJob"
            ),
        }),
        Reference::Malformed(error) => Err(Refusal {
            reason: not_ready,
            message: format!(
                "{kind} {name} cannot be read: {error}; apply it again with the field corrected"
            ),
        }),
    }
}

fn fits(run: &RunOrder) -> Result<(), Refusal> {
    let bytes = order::to_json(&Order::new(Task::Run(Box::new(run.clone())))).len();
    if bytes < order::MAX_BYTES {
        return Ok(());
    }
    Err(Refusal {
        reason: Reason::InvalidSpec,
        message: format!(
            "queries and parameters take {bytes} bytes, and at most {} fit into a ConfigMap: shorten spec.datasets or spec.parameters",
            order::MAX_BYTES
        ),
    })
}

fn one_identity(role: &str, accounts: &BTreeSet<String>) -> Result<(), Refusal> {
    if accounts.len() < 2 {
        return Ok(());
    }
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    Err(Refusal {
        reason: Reason::IdentityConflict,
        message: format!(
            "the pod of the {role} would need the service accounts {}, and a pod has only one: {}",
            names.join(" and "),
            Reason::IdentityConflict.hint()
        ),
    })
}

fn readiness(source: &ExportSource, sink: &ExportSink, staging: Option<&ExportSink>) -> Readiness {
    let source_conditions =
        source.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let source = of_conditions("ExportSource", source, source_conditions, Reason::SourceNotReady);
    let sinks = [Some(sink), staging].into_iter().flatten().map(|sink| {
        let conditions = sink.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        of_conditions("ExportSink", sink, conditions, Reason::SinkNotReady)
    });
    let all: Vec<Readiness> = std::iter::once(source).chain(sinks).collect();
    // What is refused is told before what is not known yet.
    let worst = |readiness: &&Readiness| match readiness {
        Readiness::Ready => 0,
        Readiness::Probing(_) => 1,
        Readiness::NotReady(_) => 2,
    };
    all.iter().rev().max_by_key(worst).cloned().unwrap_or(Readiness::Ready)
}

fn of_conditions(
    kind: &str,
    object: &impl ResourceExt,
    conditions: &[Condition],
    not_ready: Reason,
) -> Readiness {
    let name = object.name_any();
    let generation = object.meta().generation;
    match condition::find(conditions, ConditionType::Ready) {
        Some(ready) if ready.observed_generation == generation && ready.status == "True" => Readiness::Ready,
        Some(ready) if ready.observed_generation == generation && ready.status == "False" => {
            Readiness::NotReady(Refusal {
                reason: not_ready,
                message: format!("{kind} {name} is not ready: {}: {}", ready.reason, ready.message),
            })
        }
        _ => Readiness::Probing(format!("{kind} {name} is being probed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export_job::fixture::{direct, job, references, sink, source};
    use serde_json::json;
    use std::sync::Arc;

    fn refusal(job: &ExportJob, references: &References) -> Refusal {
        validate("exports", job, references).unwrap_err()
    }

    #[test]
    fn a_missing_reference_is_named_with_the_fix() {
        let missing = References { sink: Reference::Missing, ..references() };
        let refusal = refusal(&job(&json!({})), &missing);
        assert_eq!(refusal.reason, Reason::ReferenceNotFound);
        for part in ["ExportSink acme", "namespace exports", "create it", "spec.sinkRef.name"] {
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
    }

    #[test]
    fn a_missing_staging_matters_only_to_a_staged_delivery() {
        let missing = References { staging: Some(Reference::Missing), ..references() };
        assert_eq!(refusal(&job(&json!({})), &missing).reason, Reason::ReferenceNotFound);
        assert!(validate("exports", &direct(), &missing).is_ok());
    }

    #[test]
    fn a_login_by_identity_needs_no_secret_and_the_sources_service_account() {
        let by_identity = json!({"spec": {"method": "AuroraS3", "serviceAccountName": "reader", "postgres": {
            "passwordSecretRef": null, "iamAuth": {"region": "eu-west-1"},
            "tls": {"caSecretRef": null, "caConfigMapRef": {"name": "rds-ca", "key": "global-bundle.pem"}}}}});
        let references =
            References { source: Reference::Found(Arc::new(source(&by_identity))), ..references() };
        let validated = validate("exports", &job(&json!({})), &references).unwrap();
        let export = &validated.export_mounts;
        assert!(!export.secrets.contains_key("findings-db"), "{export:?}");
        assert_eq!(export.service_account(), Some("reader"));
        assert_eq!(export.config_maps.keys().collect::<Vec<_>>(), ["rds-ca"]);
        assert!(validated.transfer_mounts.config_maps.is_empty());
        assert_eq!(validated.transfer_mounts.service_account(), None);
    }

    #[test]
    fn pods_see_only_what_their_part_needs() {
        let staged = validate("exports", &job(&json!({})), &references()).unwrap();
        let names = |mounts: &Mounts| mounts.secrets.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&staged.export_mounts), ["acme", "findings-db", "staging"]);
        assert_eq!(names(&staged.transfer_mounts), ["acme", "staging"]);
        let direct = validate("exports", &direct(), &references()).unwrap();
        assert_eq!(names(&direct.export_mounts), ["acme", "findings-db"]);
    }

    #[test]
    fn a_staged_export_looks_ahead_where_one_pod_can() {
        let staged = validate("exports", &job(&json!({})), &references()).unwrap();
        assert!(staged.order.looks_ahead);
        let named = |name: &str| json!({"spec": {"serviceAccountName": name}});
        let two = References {
            source: Reference::Found(Arc::new(source(&named("reader")))),
            sink: Reference::Found(Arc::new(sink("acme", &named("writer")))),
            ..references()
        };
        let staged = validate("exports", &job(&json!({})), &two).unwrap();
        assert!(!staged.order.looks_ahead);
        assert!(!staged.export_mounts.secrets.contains_key("acme"));
    }

    #[test]
    fn two_identities_do_not_fit_into_one_pod() {
        let named = |name: &str| json!({"spec": {"serviceAccountName": name}});
        let two = References {
            source: Reference::Found(Arc::new(source(&named("reader")))),
            sink: Reference::Found(Arc::new(sink("acme", &named("writer")))),
            ..references()
        };
        let found = refusal(&direct(), &two);
        assert_eq!(found.reason, Reason::IdentityConflict);
        assert!(found.message.contains("reader and writer"), "{}", found.message);
        // Staged, reading and writing are done by different pods.
        let staged = validate("exports", &job(&json!({})), &two).unwrap();
        assert_eq!(staged.export_mounts.service_account(), Some("reader"));
        assert_eq!(staged.transfer_mounts.service_account(), Some("writer"));
    }

    #[test]
    fn what_does_not_fit_into_a_config_map_is_refused() {
        let sql = "x".repeat(64 * 1024);
        let datasets: Vec<_> =
            (0..16).map(|number| json!({"name": format!("d{number}"), "sql": sql})).collect();
        let large = job(&json!({"datasets": datasets, "chunking": null}));
        assert_eq!(refusal(&large, &references()).reason, Reason::InvalidSpec);
    }

    #[test]
    fn readiness_is_that_of_the_current_generation() {
        let status = |generation: i64, status: &str| {
            json!({"metadata": {"generation": generation}, "status": {"conditions": [{"type": "Ready", "status": status,
                "reason": "BucketNotFound", "message": "bucket x does not exist", "observedGeneration": 1,
                "lastTransitionTime": "2026-11-23T09:00:00Z"}]}})
        };
        let readiness = |patch: &serde_json::Value| {
            let references =
                References { sink: Reference::Found(Arc::new(sink("acme", patch))), ..references() };
            validate("exports", &job(&json!({})), &references).unwrap().readiness
        };
        assert_eq!(readiness(&status(1, "True")), Readiness::Ready);
        assert!(matches!(readiness(&status(2, "True")), Readiness::Probing(_)));
        assert!(matches!(readiness(&json!({"status": null})), Readiness::Probing(_)));
        let Readiness::NotReady(refusal) = readiness(&status(1, "False")) else { panic!("it is not ready") };
        assert_eq!(refusal.reason, Reason::SinkNotReady);
        assert!(refusal.message.contains("bucket x does not exist"), "{}", refusal.message);
    }

    #[test]
    fn an_unready_staging_is_told() {
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "AccessDenied",
            "message": "no", "observedGeneration": 1, "lastTransitionTime": "2026-11-23T09:00:00Z"}]}});
        let unready = References {
            staging: Some(Reference::Found(Arc::new(sink("staging", &unready)))),
            ..references()
        };
        assert!(matches!(
            validate("exports", &job(&json!({})), &unready).unwrap().readiness,
            Readiness::NotReady(_)
        ));
        assert_eq!(validate("exports", &direct(), &unready).unwrap().readiness, Readiness::Ready);
    }
}
