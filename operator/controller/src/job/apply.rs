//! Creates and deletes Jobs and their `ConfigMaps`. All of it is idempotent.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};

use super::fact::is_owned_by;
use crate::error::ReconcileError;

/// An owner that a deletion in the foreground keeps until what it owns is gone.
#[must_use]
pub fn blocking(owner: OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..owner }
}

/// Creates a Job, or adopts the one of its name when it has the same owner. Returns its uid.
pub async fn ensure_job(client: &Client, namespace: &str, job: &Job) -> Result<String, ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let name = job.name_any();
    let object = format!("Job {name}");
    let live = match jobs.create(&PostParams::default(), job).await {
        Ok(created) => {
            tracing::info!(namespace, job = name, "Job created");
            created
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing =
                jobs.get(&name).await.map_err(|error| ReconcileError::api("get", &object, error))?;
            let owner = job.owner_references().first().map(|owner| owner.uid.as_str()).unwrap_or_default();
            if !is_owned_by(&existing, owner) {
                return Err(ReconcileError::NameTaken { object });
            }
            existing
        }
        Err(error) => return Err(ReconcileError::api("create", object, error)),
    };
    live.uid().ok_or(ReconcileError::Incomplete { object, field: "metadata.uid" })
}

/// Creates the ConfigMap of a Job where it is missing.
pub async fn ensure_order(client: &Client, namespace: &str, order: &ConfigMap) -> Result<(), ReconcileError> {
    if order_exists(client, namespace, order).await? {
        return Ok(());
    }
    create_order(client, namespace, order).await
}

/// Creates the ConfigMap of a Job that was just made. It is not looked for before: the kubelet asks for it as soon as the pod
/// is there, and waits for half a second or more where it asks in vain.
pub async fn create_order(client: &Client, namespace: &str, order: &ConfigMap) -> Result<(), ReconcileError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let object = format!("ConfigMap {}", order.name_any());
    match config_maps.create(&PostParams::default(), order).await {
        Ok(_) => Ok(()),
        // It may be ours, of a reconciliation that came no further.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            if order_exists(client, namespace, order).await? {
                return Ok(());
            }
            // Somebody else's, or a former Job's that the garbage collector is about to remove.
            Err(ReconcileError::NameTaken { object })
        }
        Err(error) => Err(ReconcileError::api("create", object, error)),
    }
}

/// Whether the ConfigMap of a Job is there.
pub async fn order_exists(
    client: &Client,
    namespace: &str,
    order: &ConfigMap,
) -> Result<bool, ReconcileError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let name = order.name_any();
    let existing = config_maps
        .get_metadata_opt(&name)
        .await
        .map_err(|error| ReconcileError::api("get", format!("ConfigMap {name}"), error))?;
    let owner = order.owner_references().first().map(|owner| owner.uid.as_str()).unwrap_or_default();
    Ok(existing.is_some_and(|existing| is_owned_by(&existing, owner)))
}

/// Deletes a Job, and its pods before it. That it is gone already is fine.
pub async fn delete_job(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let parameters = DeleteParams::foreground()
        .preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    match jobs.delete(name, &parameters).await {
        Ok(_) => {
            tracing::info!(namespace, job = name, "Job deleted");
            Ok(())
        }
        // 404: it is gone. 409: another one has its name.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(ReconcileError::api("delete", format!("Job {name}"), error)),
    }
}
