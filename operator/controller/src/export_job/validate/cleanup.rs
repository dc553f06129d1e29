//! From an ExportJob that has ended, and what it refers to by then, to what its cleanup is told. No I/O.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::job::PodTemplate;
use pgexport_api::order::{CleanupInput, CleanupOrder, Refusal, resolve_cleanup};
use pgexport_api::{ExportJob, ExportJobStatus, ExportSink, ExportSourceSpec, Reason};

use super::{found, one_identity, pod_metadata, sink, source};
use crate::export_job::decide::cleanup_part;
use crate::export_job::dereference::{Reference, References};
use crate::job::mount::Mounts;

/// What an ExportJob has left can be removed.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCleanup {
    /// What the worker is told.
    pub order: CleanupOrder,
    /// What its pod sees.
    pub mounts: Mounts,
    /// What its pod asks for, and bears.
    pub template: Option<PodTemplate>,
    /// How long what is staged is kept when the run has failed; nothing where it is not staged.
    pub staging_retention: Duration,
}

/// Validates the cleanup of `job`, of which `status` tells what it has done, and what of it is removed already.
pub fn validate_cleanup(
    namespace: &str,
    job: &ExportJob,
    references: &References,
    status: &ExportJobStatus,
    prefixes: &[String],
) -> Result<ValidatedCleanup, Refusal> {
    let (source, sink) = (source(namespace, job, references), sink(namespace, job, references));
    let staging = match (&references.staging, &source) {
        (Some(reference), Ok(source)) => Some(staging(reference, &source.spec, namespace)),
        _ => None,
    };
    let uid = job.uid().unwrap_or_default();
    let input = CleanupInput {
        namespace,
        name: &job.name_any(),
        uid: &uid,
        created: job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        job: &job.spec,
        status,
        source: source.as_ref().map(|source| &source.spec).map_err(Clone::clone),
        sink: sink.as_ref().map(|sink| &sink.spec).map_err(Clone::clone),
        staging: staging.clone().map(|staging| staging.map(|staging| &staging.spec)),
    };
    let order = resolve_cleanup(&input, cleanup_part(status))?;

    let mut mounts = Mounts::default();
    if let (Some(named), Some(Ok(staging))) = (&order.staging, &staging) {
        mounts = mounts.with_target(&named.target, staging.spec.service_account_name.as_deref());
    }
    if let (Some(named), Ok(sink)) = (&order.sink, &sink) {
        mounts = mounts.with_target(&named.target, sink.spec.service_account_name.as_deref());
    }
    if let (Some(named), Ok(source)) = (&order.source, &source) {
        // The login's Secret only: the cleanup may have no identity besides the stores'. Where the login is by the identity of
        // the service account, that is the source's, unless a store has another one; then the database is not asked.
        let is_free = named.postgres.iam_auth.is_some() && mounts.service_accounts.is_empty();
        let account = source.spec.service_account_name.as_deref().filter(|_| is_free);
        mounts = mounts.with_source(&named.postgres, account);
    }
    one_identity("cleanup", &mounts.service_accounts)?;
    let template = job.spec.pod_template.as_ref().map(|template| pod_metadata::allowed(template, prefixes));
    let staging_retention = match (&order.staging, &source) {
        (Some(_), Ok(source)) => retention_on_failure(&source.spec),
        _ => Duration::ZERO,
    };
    Ok(ValidatedCleanup { order, mounts, template, staging_retention })
}

fn staging<'a>(
    reference: &'a Reference<ExportSink>,
    source: &ExportSourceSpec,
    namespace: &str,
) -> Result<&'a ExportSink, Refusal> {
    let name = source.staging.as_ref().map(|staging| staging.sink_ref.name.as_str()).unwrap_or_default();
    let field = "spec.staging.sinkRef.name of the ExportSource";
    found(reference, "ExportSink", name, namespace, field, Reason::SinkNotReady)
}

fn retention_on_failure(source: &ExportSourceSpec) -> Duration {
    let retention = source.staging.as_ref().and_then(|staging| staging.retention?.on_failure);
    retention.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgexport_api::job::{Cleanup, StagingKept};
    use pgexport_api::order::CleanupPart;
    use pgexport_api::source::Method;
    use serde_json::{Value, json};

    use super::super::{Verdict, validate};
    use super::*;
    use crate::export_job::fixture::{at, direct, job, references, sink, source};

    /// A run that has failed, of which what is staged was kept, or nothing is removed yet.
    fn ended(job: &ExportJob, references: &References, kept: bool) -> ExportJobStatus {
        let order = validate("exports", job, references).unwrap().order;
        let time = || k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("2026-11-23T10:00:00Z"));
        let staging = StagingKept { until: time(), location_free_time: Some(time()), remains: None };
        let cleanup = kept.then(|| Cleanup {
            start_time: time(),
            attempts: 1,
            next_attempt_time: None,
            completion_time: None,
            staging_kept: Some(staging),
        });
        ExportJobStatus {
            attempts: 1,
            location: Some(order.location()),
            staging: order.staging().map(|staging| staging.target.location()),
            method: Some(order.source.method),
            cleanup,
            ..ExportJobStatus::default()
        }
    }

    fn names(cleanup: &ValidatedCleanup) -> Vec<String> {
        cleanup.mounts.secrets.keys().cloned().collect()
    }

    fn found_sink(name: &str, patch: &Value) -> Reference<ExportSink> {
        Reference::Found(Arc::new(sink(name, patch)))
    }

    #[test]
    fn a_cleanup_sees_only_what_it_needs() {
        let by_itself = json!({"spec": {"method": "AuroraS3", "serviceAccountName": "reader"}});
        let aurora = References { source: Reference::Found(Arc::new(source(&by_itself))), ..references() };
        let staged = job(&json!({}));
        for (job, references, kept, secrets) in [
            (&staged, references(), false, &["acme", "staging"][..]),
            (&staged, references(), true, &["staging"]),
            (&direct(), references(), false, &["acme"]),
            // It can ask a database that exports by itself.
            (&staged, aurora.clone(), false, &["acme", "findings-db", "staging"]),
            (&staged, aurora, true, &["staging"]),
        ] {
            let status = ended(job, &references, kept);
            let cleanup = validate_cleanup("exports", job, &references, &status, &[]).unwrap();
            assert_eq!(names(&cleanup), secrets);
            assert_eq!(cleanup.order.source.is_some(), secrets.contains(&"findings-db"));
            assert!(cleanup.mounts.service_accounts.is_empty());
        }
    }

    #[test]
    fn a_cleanup_logs_in_by_the_sources_identity_where_no_store_has_another_one() {
        let by_identity = json!({"spec": {"method": "AuroraS3", "serviceAccountName": "reader", "postgres": {
            "passwordSecretRef": null, "iamAuth": {"region": "eu-west-1"},
            "tls": {"caSecretRef": null, "caConfigMapRef": {"name": "rds-ca", "key": "global-bundle.pem"}}}}});
        let aurora = References { source: Reference::Found(Arc::new(source(&by_identity))), ..references() };
        let stager = found_sink("staging", &json!({"spec": {"serviceAccountName": "stager"}}));
        let two = References { staging: Some(stager), ..aurora.clone() };
        for (references, wanted) in [(aurora, "reader"), (two, "stager")] {
            let job = job(&json!({}));
            // The run itself was before the staging had an identity, or it would have been refused.
            let former = ended(&job, &crate::export_job::fixture::references(), false);
            let status = ExportJobStatus { method: Some(Method::AuroraS3), ..former };
            let cleanup = validate_cleanup("exports", &job, &references, &status, &[]).unwrap();
            assert_eq!(cleanup.mounts.service_account(), Some(wanted));
            assert!(!names(&cleanup).contains(&"findings-db".to_owned()));
            assert_eq!(cleanup.mounts.config_maps.keys().collect::<Vec<_>>(), ["rds-ca"]);
        }
    }

    #[test]
    fn what_was_forbidden_since_is_removed_all_the_same() {
        let with = json!({"podTemplate": {"labels": {"acme.com/team": "x"}}});
        let job = job(&with);
        let status = ended(&job, &references(), false);
        let forbids = json!({"spec": {"inlineSQL": "Forbid", "queries": []}});
        let allow = json!({"spec": {"allow": {"sources": ["other"]}, "s3": {"prefix": "other/"}}});
        let changed = References {
            source: Reference::Found(Arc::new(source(&forbids))),
            sink: found_sink("acme", &allow),
            ..references()
        };
        let verdict = Verdict::of("exports", &job, &changed, &status, &[]);
        assert!(verdict.run.is_err());
        let cleanup = verdict.cleanup.unwrap();
        assert_eq!(cleanup.order.run.attempt, 1);
        assert!(cleanup.template.unwrap().labels.is_empty(), "the installation does not allow it any more");
        let to = cleanup.order.sink.unwrap();
        assert_eq!(Some(format!("{}{}", to.target.location(), cleanup.order.path)), status.location);
        let kept = Verdict::of("exports", &job, &changed, &status, &["acme.com/".to_owned()]);
        assert_eq!(kept.cleanup.unwrap().template.unwrap().labels.len(), 1);
    }

    #[test]
    fn what_is_missing_matters_where_it_is_needed() {
        let staged = job(&json!({}));
        let no_sink = References { sink: Reference::Missing, ..references() };
        let no_source = References { source: Reference::Missing, staging: None, ..references() };
        let no_staging = References { staging: Some(Reference::Missing), ..references() };
        let malformed = References { sink: Reference::Malformed("no".to_owned()), ..references() };
        for (job, changed, kept, wanted) in [
            (&staged, &no_sink, false, Err(Reason::ReferenceNotFound)),
            (&staged, &malformed, false, Err(Reason::SinkNotReady)),
            (&staged, &no_sink, true, Ok(CleanupPart::Staged)),
            (&staged, &no_source, true, Err(Reason::ReferenceNotFound)),
            (&staged, &no_staging, true, Err(Reason::ReferenceNotFound)),
            (&direct(), &no_source, false, Ok(CleanupPart::Everything)),
        ] {
            let status = ended(job, &references(), kept);
            let found = validate_cleanup("exports", job, changed, &status, &[]);
            assert_eq!(found.map(|cleanup| cleanup.order.part).map_err(|refusal| refusal.reason), wanted);
        }
    }

    #[test]
    fn two_identities_do_not_fit_into_its_pod() {
        let named = |name: &str| json!({"spec": {"serviceAccountName": name}});
        let job = job(&json!({}));
        let two = References {
            sink: found_sink("acme", &named("writer")),
            staging: Some(found_sink("staging", &named("stager"))),
            ..references()
        };
        for (kept, wanted) in [(false, Err(Reason::IdentityConflict)), (true, Ok(Some("stager")))] {
            let status = ended(&job, &references(), kept);
            let found = validate_cleanup("exports", &job, &two, &status, &[]);
            let account = found.as_ref().map(|cleanup| cleanup.mounts.service_account());
            assert_eq!(account.map_err(|refusal| refusal.reason), wanted);
        }
    }
}
