//! Asks the API server and the stores who else is there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::try_join;
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use pgexport_api::job::Cleanup;
use pgexport_api::order::RunOrder;
use pgexport_api::source::Limits;
use pgexport_api::{ExportJob, ExportSink, ExportSource, Phase};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedMutexGuard;

use super::claim::{Claim, Database, Standing};
use super::queue::{Admission, in_line, judge, smallest};
use crate::context::Context;
use crate::error::ReconcileError;
use crate::watch::Stores;

/// So many of those who are next are woken when something has become free.
const WOKEN: usize = 4;

/// A judgement. While one that admits is kept, nobody else is admitted: it is dropped when the status is written.
#[derive(Debug)]
pub struct Turn {
    /// The judgement.
    pub admission: Admission,
    _one_at_a_time: Option<OwnedMutexGuard<()>>,
}

/// Judges whether `job`, which could begin an attempt with this order, may.
pub async fn turn(
    context: &Context,
    job: &ExportJob,
    order: &RunOrder,
    source: &ExportSource,
) -> Result<Turn, ReconcileError> {
    let mut candidate = Claim::of_candidate(job, order, &source.spec);
    let sources = context.stores.sources.state();
    let sources = sources.iter().filter_map(|guard| guard.0.as_ref().ok());
    candidate.limits = limits(&Database::new(&source.spec.postgres), sources);
    let seen = judge(&candidate, &claims(&context.stores));
    if seen != Admission::Admitted {
        return Ok(Turn { admission: seen, _one_at_a_time: None });
    }
    let guard = Arc::clone(&context.admission.turn).lock_owned().await;
    let admission = judge(&candidate, &live_claims(context).await?);
    Ok(Turn { admission, _one_at_a_time: Some(guard) })
}

/// The smallest limits that any ExportSource sets for a database.
fn limits<'a>(database: &Database, sources: impl Iterator<Item = &'a ExportSource>) -> Limits {
    smallest(
        sources
            .filter(|source| Database::new(&source.spec.postgres) == *database)
            .filter_map(|source| source.spec.limits),
    )
}

/// The ExportJobs that wait for the database of `job` and whose turns are next.
#[must_use]
pub fn next_in_line(stores: &Stores, job: &ExportJob) -> Vec<ObjectRef<DeserializeGuard<ExportJob>>> {
    let claims = claims(stores);
    if !claims.iter().any(|claim| claim.standing == Standing::Waiting) {
        return Vec::new();
    }
    let Some(database) = claim(stores, job).database else { return Vec::new() };
    let here = |standing: Standing| -> Vec<&Claim> {
        claims
            .iter()
            .filter(|claim| claim.standing == standing && claim.database.as_ref() == Some(&database))
            .collect()
    };
    in_line(here(Standing::Waiting), &here(Standing::Exporting))
        .into_iter()
        .take(WOKEN)
        .map(|claim| ObjectRef::new(&claim.name).within(&claim.namespace))
        .collect()
}

/// The claims of all ExportJobs that are not over, as the stores know them.
fn claims(stores: &Stores) -> Vec<Claim> {
    let jobs = stores.export_jobs.state_filter(|guard| guard.0.as_ref().is_ok_and(|job| !is_over(job)));
    jobs.iter().filter_map(|guard| Some(claim(stores, guard.0.as_ref().ok()?))).collect()
}

fn claim(stores: &Stores, job: &ExportJob) -> Claim {
    let namespace = job.namespace().unwrap_or_default();
    let source = stores.sources.get(&ObjectRef::new(&job.spec.source_ref.name).within(&namespace));
    let sink = stores.sinks.get(&ObjectRef::new(&job.spec.sink_ref.name).within(&namespace));
    Claim::of(
        job,
        source.as_ref().and_then(|guard| guard.0.as_ref().ok()).map(|source| &source.spec),
        sink.as_ref().and_then(|guard| guard.0.as_ref().ok()).map(|sink| &sink.spec),
    )
}

/// The same, as the API server knows them now.
async fn live_claims(context: &Context) -> Result<Vec<Claim>, ReconcileError> {
    // Side by side, as everybody else waits meanwhile.
    let (jobs, sources, sinks) = try_join!(live::<ExportJob>(context), live(context), live(context))?;
    let sources: BTreeMap<_, ExportSource> = by_name(sources);
    let sinks: BTreeMap<_, ExportSink> = by_name(sinks);
    Ok(jobs
        .iter()
        .filter(|job| !is_over(job))
        .map(|job| {
            let namespace = job.namespace().unwrap_or_default();
            let source = sources.get(&(namespace.clone(), job.spec.source_ref.name.clone()));
            let sink = sinks.get(&(namespace, job.spec.sink_ref.name.clone()));
            Claim::of(job, source.map(|source| &source.spec), sink.map(|sink| &sink.spec))
        })
        .collect())
}

/// All objects of a kind in all namespaces that the controller watches. What cannot be read does not count.
async fn live<K>(context: &Context) -> Result<Vec<K>, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let client = &context.client;
    let apis: Vec<Api<DeserializeGuard<K>>> = match context.admission.namespaces.as_slice() {
        [] => vec![Api::all(client.clone())],
        namespaces => namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    let mut objects = Vec::new();
    for api in apis {
        // Without a resource version the list is of the last state that was agreed upon.
        let list = api
            .list(&ListParams::default())
            .await
            .map_err(|error| ReconcileError::api("list", K::plural(&()), error))?;
        objects.extend(list.items.into_iter().filter_map(|guard| guard.0.ok()));
    }
    Ok(objects)
}

fn by_name<K: Resource>(objects: Vec<K>) -> BTreeMap<(String, String), K> {
    objects
        .into_iter()
        .map(|object| ((object.namespace().unwrap_or_default(), object.name_any()), object))
        .collect()
}

/// Whether it has ended, and what it has left at its location is removed.
fn is_over(job: &ExportJob) -> bool {
    let Some(status) = &job.status else { return false };
    let is_clean = status.cleanup.as_ref().is_none_or(Cleanup::is_location_free);
    status.phase.is_some_and(Phase::is_terminal) && is_clean
}
