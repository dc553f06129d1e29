//! Writes a status with the resource version that was decided upon: who decided upon stale facts gets a conflict, and
//! decides anew.

use std::fmt::Debug;

use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ReconcileError;

/// What became of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write.
    Unchanged,
    /// It is written.
    Done,
    /// The object has changed, or is gone.
    Conflict,
}

/// Replaces the status of `object`, which carries its resource version.
pub async fn replace<K>(client: &Client, namespace: &str, object: &K) -> Result<Written, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.replace_status(&name, &PostParams::default(), object).await {
        Ok(_) => Ok(Written::Done),
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(Written::Conflict),
        Err(error) => {
            Err(ReconcileError::api("write the status of", format!("{} {name}", K::kind(&())), error))
        }
    }
}

/// Whether `object` is still what the API server holds. The store lags behind our own writes: a Job that was just deleted
/// because its result is written would otherwise be created again by who has not seen the result yet.
pub async fn is_current<K>(client: &Client, namespace: &str, object: &K) -> Result<bool, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let live = api
        .get_metadata_opt(&name)
        .await
        .map_err(|error| ReconcileError::api("get", format!("{} {name}", K::kind(&())), error))?;
    Ok(live.is_some_and(|live| live.resource_version() == object.resource_version()))
}
