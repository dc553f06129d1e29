//! Follows an ExportJob's references. What the watch's store does not hold is asked for before it counts as missing.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use pgexport_api::{ExportJob, ExportSink, ExportSource};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::ReconcileError;

/// What a reference leads to.
#[derive(Clone, Debug)]
pub enum Reference<K> {
    /// Nothing.
    Missing,
    /// An object that is not what its schema says.
    Malformed(String),
    /// The object.
    Found(Arc<K>),
}

/// What an ExportJob refers to.
#[derive(Clone, Debug)]
pub struct References {
    /// The ExportSource.
    pub source: Reference<ExportSource>,
    /// The ExportSink.
    pub sink: Reference<ExportSink>,
    /// The ExportSink that the source names as staging, where it names one.
    pub staging: Option<Reference<ExportSink>>,
    /// The ExportSink that is told when it fails, where one is named.
    pub receiver: Option<Reference<ExportSink>>,
}

/// Follows the references of `job`.
pub async fn dereference(
    context: &Context,
    namespace: &str,
    job: &ExportJob,
) -> Result<References, ReconcileError> {
    let client = &context.client;
    let source =
        find(client, &context.stores.sources, namespace, &job.spec.source_ref.name, "ExportSource").await?;
    let sink = find(client, &context.stores.sinks, namespace, &job.spec.sink_ref.name, "ExportSink").await?;
    let staging = match &source {
        Reference::Found(found) => found.spec.staging.as_ref().map(|staging| staging.sink_ref.name.clone()),
        Reference::Missing | Reference::Malformed(_) => None,
    };
    let staging = match staging {
        Some(name) => Some(find(client, &context.stores.sinks, namespace, &name, "ExportSink").await?),
        None => None,
    };
    let receiver = match &job.spec.on_failure {
        Some(on_failure) => {
            let name = &on_failure.notify_sink_ref.name;
            Some(find(client, &context.stores.sinks, namespace, name, "ExportSink").await?)
        }
        None => None,
    };
    Ok(References { source, sink, staging, receiver })
}

async fn find<K>(
    client: &Client,
    store: &Store<DeserializeGuard<K>>,
    namespace: &str,
    name: &str,
    kind: &str,
) -> Result<Reference<K>, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + 'static,
{
    let key = ObjectRef::new(name).within(namespace);
    let found = match store.get(&key) {
        Some(stored) => Some(stored),
        None => Api::<DeserializeGuard<K>>::namespaced(client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|error| ReconcileError::api("get", format!("{kind} {name}"), error))?
            .map(Arc::new),
    };
    Ok(match found.as_ref().map(|guard| &guard.0) {
        None => Reference::Missing,
        Some(Ok(object)) => Reference::Found(Arc::new(object.clone())),
        Some(Err(invalid)) => Reference::Malformed(invalid.error.clone()),
    })
}
