//! Looks at Jobs, pods and Events. The watch's stores may lag: before anything counts as missing, the API server is asked.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::fact::{JobFacts, JobState, is_owned_by};
use super::trouble::{self, PATIENCE};
use crate::context::Context;
use crate::error::ReconcileError;

/// No more Events than this are read of one object.
const MAX_EVENTS: u32 = 100;

/// The Jobs of an owner.
#[derive(Debug, Default)]
pub struct OwnedJobs {
    /// Those that it owns.
    pub jobs: Vec<Arc<Job>>,
    /// Names that it expects and that somebody else's Jobs have.
    pub foreign: Vec<String>,
}

/// The Jobs that the object with this uid owns. Those that are `expected` are asked for when the store has none of their
/// name, so that one that is not returned is really not there.
pub async fn owned_jobs(
    context: &Context,
    namespace: &str,
    owner_uid: &str,
    expected: &[String],
) -> Result<OwnedJobs, ReconcileError> {
    let jobs = context.stores.jobs.state_filter(|job| {
        job.metadata.namespace.as_deref() == Some(namespace) && is_owned_by(job, owner_uid)
    });
    let mut owned = OwnedJobs { jobs, foreign: Vec::new() };
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    for name in expected {
        if owned.jobs.iter().any(|job| job.name_any() == *name) {
            continue;
        }
        let live = api
            .get_opt(name)
            .await
            .map_err(|error| ReconcileError::api("get", format!("Job {name}"), error))?;
        match live {
            Some(job) if is_owned_by(&job, owner_uid) => owned.jobs.push(Arc::new(job)),
            Some(_) => owned.foreign.push(name.clone()),
            None => {}
        }
    }
    Ok(owned)
}

/// The facts of a Job, from the stores.
#[must_use]
pub fn stored_facts(context: &Context, job: &Job) -> JobFacts {
    let uid = job.uid().unwrap_or_default();
    let pods = context.stores.pods.state_filter(|pod| is_owned_by(pod, &uid));
    JobFacts::new(job, pods.iter().map(AsRef::as_ref))
}

/// The facts of a Job that a decision depends on: its pods' last words, once it ended; why none starts, while none runs;
/// the counters of those that run.
pub async fn facts(
    context: &Context,
    namespace: &str,
    job: &Job,
    now: Timestamp,
) -> Result<JobFacts, ReconcileError> {
    let facts = stored_facts(context, job);
    // The last words of an ended Job's pods that the store does not hold, and whether a pod of one that is overdue has really
    // not started, are asked for: the store may lag, and these decide.
    let is_overdue = !facts.has_started_all() && now > facts.created + PATIENCE;
    let is_untold = match facts.state {
        JobState::Active => false,
        JobState::Complete => facts.success().is_none(),
        JobState::Failing { .. } | JobState::Failed { .. } => true,
    };
    let mut facts = if is_untold || is_overdue {
        let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", facts.name));
        let live = pods
            .list(&selector)
            .await
            .map_err(|error| ReconcileError::api("list the pods of", format!("Job {}", facts.name), error))?;
        JobFacts::new(job, &live.items)
    } else {
        facts
    };
    if facts.is_left_without_pods() {
        facts.namespace_is_going = is_going(context, namespace).await?;
    }
    let since = now.duration_since(facts.created);
    facts.trouble = facts.trouble.take().filter(|trouble| trouble.is_lasting(since));
    if facts.state == JobState::Active {
        let is_short = !facts.is_running(now) || !facts.has_started_all();
        if is_short && facts.trouble.is_none() && since > PATIENCE {
            facts.trouble = trouble_by_events(context, namespace, &facts).await?;
        }
        facts.progress = context.progress.poll(&facts).await;
    } else {
        facts.progress = context.progress.last(&facts.uid);
    }
    Ok(facts)
}

/// Whether the namespace is being deleted.
async fn is_going(context: &Context, name: &str) -> Result<bool, ReconcileError> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let namespace = namespaces
        .get_metadata_opt(name)
        .await
        .map_err(|error| ReconcileError::api("get", format!("Namespace {name}"), error))?;
    Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

/// Quota, admission and mounts show in Events only, of the Job or of its pods.
async fn trouble_by_events(
    context: &Context,
    namespace: &str,
    facts: &JobFacts,
) -> Result<Option<trouble::Trouble>, ReconcileError> {
    let uid = match facts
        .pods
        .iter()
        .find(|pod| matches!(pod.container, super::fact::ContainerState::Waiting(_)))
    {
        Some(pod) => &pod.uid,
        None if facts.lacks_pods() => &facts.uid,
        None => return Ok(None),
    };
    let events: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let selector = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(MAX_EVENTS);
    let events = events
        .list(&selector)
        .await
        .map_err(|error| ReconcileError::api("list the Events of", format!("Job {}", facts.name), error))?;
    Ok(trouble::of_events(&events.items))
}
