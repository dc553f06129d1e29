//! The finalizer of an ExportJob that may have left something to clean up.

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pgexport_api::ExportJob;
use pgexport_api::naming::CLEANUP_FINALIZER;
use serde_json::json;

use crate::error::ReconcileError;

/// Whether the ExportJob has it.
#[must_use]
pub fn is_there(job: &ExportJob) -> bool {
    job.finalizers().iter().any(|finalizer| finalizer == CLEANUP_FINALIZER)
}

/// When the deletion of the ExportJob was asked for.
#[must_use]
pub fn deleted(job: &ExportJob) -> Option<Timestamp> {
    job.metadata.deletion_timestamp.as_ref().map(|time| time.0)
}

/// Adds it. The API server refuses that for an object that is being deleted.
pub async fn add(client: &Client, namespace: &str, job: &ExportJob) -> Result<(), ReconcileError> {
    if is_there(job) {
        return Ok(());
    }
    let mut finalizers = job.finalizers().to_vec();
    finalizers.push(CLEANUP_FINALIZER.to_owned());
    replace(client, namespace, job, "add a finalizer to", &finalizers).await
}

/// Removes it. That the ExportJob is gone already is fine.
pub async fn remove(client: &Client, namespace: &str, job: &ExportJob) -> Result<(), ReconcileError> {
    if !is_there(job) {
        return Ok(());
    }
    let mut finalizers = job.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
    match replace(client, namespace, job, "remove a finalizer from", &finalizers).await {
        Err(ReconcileError::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404) => {
            Ok(())
        }
        done => done,
    }
}

/// Replaces the finalizers, if they and the uid are those that were seen.
async fn replace(
    client: &Client,
    namespace: &str,
    job: &ExportJob,
    doing: &'static str,
    finalizers: &[String],
) -> Result<(), ReconcileError> {
    let name = job.name_any();
    let seen = job.metadata.finalizers.as_ref();
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": job.uid()},
        {"op": "test", "path": "/metadata/finalizers", "value": seen},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
    ]);
    // These plain operations cannot fail to read.
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap_or_default();
    let jobs: Api<ExportJob> = Api::namespaced(client.clone(), namespace);
    jobs.patch_metadata(&name, &PatchParams::default(), &Patch::Json::<ExportJob>(patch))
        .await
        .map(drop)
        .map_err(|error| ReconcileError::api(doing, format!("ExportJob {name}"), error))
}
