//! Carries decisions out. All of it is idempotent.

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use pgexport_api::ExportJob;
use pgexport_failpoint as failpoint;
use serde_json::json;

use super::decide::Action;
use super::render::Rendering;
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::fact::is_owned_by;

/// Carries out `actions`.
pub async fn apply(
    context: &Context,
    rendering: &Rendering<'_>,
    actions: &[Action],
) -> Result<(), ReconcileError> {
    let (client, namespace) = (&context.client, rendering.namespace);
    let owner_uid = &rendering.owner.uid;
    for action in actions {
        match action {
            Action::Start(run) => {
                if let Err(error) = create(client, namespace, &rendering.job(run), owner_uid).await {
                    context.refusals.note(owner_uid, &error);
                    return Err(error);
                }
                context.refusals.clear(owner_uid);
                failpoint::hit("schedule::job_created", owner_uid).await;
            }
            Action::Cancel { name, uid } => cancel(client, namespace, name, uid).await?,
            Action::Delete { name, uid } => delete(client, namespace, name, uid).await?,
        }
    }
    Ok(())
}

/// Creates an ExportJob. That the schedule has made one of its name already is fine: it is the same run.
async fn create(
    client: &Client,
    namespace: &str,
    job: &ExportJob,
    owner_uid: &str,
) -> Result<(), ReconcileError> {
    let jobs: Api<ExportJob> = Api::namespaced(client.clone(), namespace);
    let name = job.name_any();
    let object = format!("ExportJob {name}");
    match jobs.create(&PostParams::default(), job).await {
        Ok(_) => {
            tracing::info!(namespace, job = name, "ExportJob created");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing =
                jobs.get_metadata(&name).await.map_err(|error| ReconcileError::api("get", &object, error))?;
            if is_owned_by(&existing, owner_uid) { Ok(()) } else { Err(ReconcileError::NameTaken { object }) }
        }
        Err(error) => Err(ReconcileError::api("create", object, error)),
    }
}

/// Sets `spec.cancel`, if it is the one that was seen. That it is gone is fine.
async fn cancel(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<(), ReconcileError> {
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/spec/cancel", "value": true},
    ]);
    // These plain operations cannot fail to read.
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap_or_default();
    let jobs: Api<ExportJob> = Api::namespaced(client.clone(), namespace);
    match jobs.patch_metadata(name, &PatchParams::default(), &Patch::Json::<ExportJob>(patch)).await {
        Ok(_) => {
            tracing::info!(namespace, job = name, "ExportJob cancelled");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ReconcileError::api("cancel", format!("ExportJob {name}"), error)),
    }
}

/// Deletes an ExportJob, if it is the one that was seen. What it owns goes after it.
async fn delete(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<(), ReconcileError> {
    let jobs: Api<ExportJob> = Api::namespaced(client.clone(), namespace);
    let parameters = DeleteParams::background()
        .preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    match jobs.delete(name, &parameters).await {
        Ok(_) => {
            tracing::info!(namespace, job = name, "ExportJob deleted, beyond spec.historyLimits");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(ReconcileError::api("delete", format!("ExportJob {name}"), error)),
    }
}
