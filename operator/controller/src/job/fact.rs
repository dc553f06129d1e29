//! Plain facts about a Job and its pods, free of Kubernetes' shapes, for decisions to be made upon.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use pgexport_api::progress::WorkerProgress;
use pgexport_api::report::{Failure, Outcome, Report};

use super::trouble::{self, Trouble};

/// How long a pod that stays Terminating past its grace period is waited for.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// The grace period of worker pods, in seconds.
pub const GRACE_SECONDS: i64 = 60;
/// The annotation that says whether an export streams to the sink or to the staging: `Direct` or `Staged`.
pub const DELIVERY_ANNOTATION: &str = "pgexport.dev/delivery";

/// The annotation that says how many pods, of an index each, have to start. The watch keeps no Job's spec.
pub const WORKERS_ANNOTATION: &str = "pgexport.dev/workers";

/// The annotation with the SHA-256 of the order that is meant for a Job.
pub const ORDER_ANNOTATION: &str = "pgexport.dev/order-sha256";
/// The annotation with the image of a Job's pods.
pub const IMAGE_ANNOTATION: &str = "pgexport.dev/image";

/// What is observed of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// Where it stands.
    pub state: JobState,
    /// When its deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// Whether its export streams to the sink.
    pub direct: bool,
    /// How many pods, of an index each, it takes.
    pub workers: u32,
    /// The SHA-256 of the order that is meant for it.
    pub order_sha256: Option<String>,
    /// The image of its pods.
    pub image: Option<String>,
    /// Its pods.
    pub pods: Vec<PodFacts>,
    /// Why a pod does not start; others may run meanwhile.
    pub trouble: Option<Trouble>,
    /// What its workers' endpoints said, added up.
    pub progress: Option<WorkerProgress>,
    /// Whether its namespace is being deleted, where that was asked.
    pub namespace_is_going: bool,
}

/// Where a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Its pods run, or are to run.
    Active,
    /// It has failed, and its pods are being stopped.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Kubernetes' reason, such as `PodFailurePolicy`.
        reason: String,
    },
    /// All its completions succeeded: Kubernetes says so, or the last words of its pods do.
    Complete,
    /// It has failed, and no pod is left.
    Failed {
        /// Kubernetes' reason, such as `DeadlineExceeded`.
        reason: String,
    },
}

/// What is observed of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its completion index, in an Indexed Job.
    pub index: Option<u32>,
    /// Where its container stands.
    pub container: ContainerState,
    /// When its container started.
    pub started: Option<Timestamp>,
    /// When its grace period ends, where its deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// Whether it is disrupted: drained, evicted, preempted.
    pub disrupted: bool,
    /// Where its endpoint is reached.
    pub address: Option<IpAddr>,
}

/// Where a pod's container stands.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// It was not started yet, for the reason that is known.
    Waiting(Option<Trouble>),
    /// It runs.
    Running,
    /// It ended.
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its exit code; `None` where the kubelet never said.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
    /// When.
    pub at: Option<Timestamp>,
    /// Its last word.
    pub outcome: Option<Outcome>,
    /// What Kubernetes says of the pod, such as why it was evicted.
    pub note: Option<String>,
}

impl JobFacts {
    /// The facts of a Job and of those of `pods` that it owns.
    #[must_use]
    pub fn new<'a>(job: &batch::Job, pods: impl IntoIterator<Item = &'a core::Pod>) -> Self {
        let uid = job.uid().unwrap_or_default();
        let pods: Vec<PodFacts> =
            pods.into_iter().filter(|pod| is_owned_by(*pod, &uid)).map(PodFacts::new).collect();
        let workers =
            job.annotations().get(WORKERS_ANNOTATION).and_then(|workers| workers.parse().ok()).unwrap_or(1);
        let state = match state(job.status.as_ref()) {
            JobState::Active if have_all_succeeded(&pods, workers) => JobState::Complete,
            state => state,
        };
        Self {
            name: job.name_any(),
            created: created(job),
            deleting: job.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            direct: job.annotations().get(DELIVERY_ANNOTATION).is_some_and(|delivery| delivery == "Direct"),
            workers,
            order_sha256: job.annotations().get(ORDER_ANNOTATION).cloned(),
            image: job.annotations().get(IMAGE_ANNOTATION).cloned(),
            trouble: pods.iter().find_map(PodFacts::trouble),
            pods,
            progress: None,
            namespace_is_going: false,
            state,
            uid,
        }
    }

    /// Whether a pod of it runs, or ran.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.pods.iter().any(|pod| !matches!(pod.container, ContainerState::Waiting(_)))
    }

    /// How many of its indexes have a pod that runs, or ran. Quota and nodes may admit some pods and not others.
    #[must_use]
    pub fn started_workers(&self) -> u32 {
        let started = self.pods.iter().filter(|pod| !matches!(pod.container, ContainerState::Waiting(_)));
        let indexes: BTreeSet<u32> = started.map(|pod| pod.index.unwrap_or(0)).collect();
        u32::try_from(indexes.len()).unwrap_or(u32::MAX)
    }

    /// Whether each of its indexes has a pod that runs, or ran.
    #[must_use]
    pub fn has_started_all(&self) -> bool {
        self.started_workers() >= self.workers
    }

    /// Whether the pods of some indexes are not there.
    #[must_use]
    pub fn lacks_pods(&self) -> bool {
        let indexes: BTreeSet<u32> = self.pods.iter().map(|pod| pod.index.unwrap_or(0)).collect();
        u32::try_from(indexes.len()).unwrap_or(u32::MAX) < self.workers
    }

    /// Whether a pod of it runs now, as far as that can be known: one that is lost does not count.
    #[must_use]
    pub fn is_running(&self, now: Timestamp) -> bool {
        self.pods.iter().any(|pod| pod.is_running() && !pod.is_lost(now))
    }

    /// A pod that is lost with its node. Kubernetes waits for its end, and puts no other one in its place.
    #[must_use]
    pub fn lost_pod(&self, now: Timestamp) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.is_lost(now))
    }

    /// The pod that is disrupted, and takes the attempt with it: that of index 0, where pods have an index. One that has not
    /// started takes nothing.
    #[must_use]
    pub fn disrupted_pod(&self) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| {
            pod.disrupted
                && pod.index.unwrap_or(0) == 0
                && !matches!(pod.container, ContainerState::Waiting(_))
        })
    }

    /// Whether pods of it were deleted, have ended, and have no successors. Kubernetes keeps each until there is one, and makes
    /// none in a namespace that is being deleted, which waits for these pods.
    #[must_use]
    pub fn is_left_without_pods(&self) -> bool {
        let has_ended = |pod: &PodFacts| matches!(pod.container, ContainerState::Ended(_));
        self.is_live()
            && self.pods.iter().all(has_ended)
            && self.pods.iter().any(|pod| pod.deleting.is_some())
    }

    /// Whether a pod waits for its container to start, or is not there yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.lacks_pods() || self.pods.iter().any(|pod| matches!(pod.container, ContainerState::Waiting(_)))
    }

    /// Whether it may still do something.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == JobState::Active && self.deleting.is_none()
    }

    /// Whether nothing more is to come of it. A pod that stays Terminating two minutes past its grace counts as lost
    /// (its node is gone, say): later attempts write where it does not.
    #[must_use]
    pub fn has_settled(&self, now: Timestamp) -> bool {
        match &self.state {
            JobState::Complete | JobState::Failed { .. } => true,
            JobState::Failing { since, .. } => {
                let last = *since + SignedDuration::from_secs(GRACE_SECONDS) + LOST_AFTER;
                now >= last || self.pods.iter().all(|pod| pod.is_gone(now))
            }
            JobState::Active => self
                .deleting
                .is_some_and(|since| now >= since + SignedDuration::from_secs(GRACE_SECONDS) + LOST_AFTER),
        }
    }

    /// The last word of the pods that ended well: of index 0, where pods have an index.
    #[must_use]
    pub fn success(&self) -> Option<&Outcome> {
        self.pods
            .iter()
            .filter(|pod| pod.index.unwrap_or(0) == 0)
            .filter_map(|pod| match &pod.container {
                ContainerState::Ended(ended) => ended.outcome.as_ref(),
                _ => None,
            })
            .find(|outcome| !matches!(outcome, Outcome::Failed(_) | Outcome::ShareExported))
    }

    /// The reports of pods that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&PodFacts, &Ended, Option<&Failure>)> {
        self.pods.iter().filter_map(|pod| match &pod.container {
            ContainerState::Ended(ended) => match &ended.outcome {
                Some(Outcome::Failed(failure)) => Some((pod, ended, Some(failure))),
                Some(_) => None,
                None if ended.exit_code == Some(0) => None,
                None => Some((pod, ended, None)),
            },
            _ => None,
        })
    }
}

impl PodFacts {
    /// The facts of a pod.
    #[must_use]
    pub fn new(pod: &core::Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let condition =
            |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            index: pod
                .annotations()
                .get("batch.kubernetes.io/job-completion-index")
                .and_then(|index| index.parse().ok()),
            container: container(&status),
            started: started(&status),
            deleting: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            disrupted: condition("DisruptionTarget").is_some_and(|condition| condition.status == "True"),
            address: status.pod_ip.as_deref().and_then(|address| address.parse().ok()),
        }
    }

    /// Whether its container runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.container == ContainerState::Running
    }

    /// Whether it stays Terminating long after its grace period, without an end: its node is gone, say.
    #[must_use]
    pub fn is_lost(&self, now: Timestamp) -> bool {
        !matches!(self.container, ContainerState::Ended(_))
            && self.deleting.is_some_and(|end| now >= end + LOST_AFTER)
    }

    fn is_gone(&self, now: Timestamp) -> bool {
        matches!(self.container, ContainerState::Ended(_)) || self.is_lost(now)
    }

    /// Whether it ended well and said so.
    fn has_succeeded(&self) -> bool {
        let ContainerState::Ended(ended) = &self.container else { return false };
        let is_success = |outcome: &Outcome| !matches!(outcome, Outcome::Failed(_));
        ended.exit_code == Some(0) && ended.outcome.as_ref().is_some_and(is_success)
    }

    fn trouble(&self) -> Option<Trouble> {
        match &self.container {
            ContainerState::Waiting(trouble) => trouble.clone(),
            _ => None,
        }
    }
}

/// Whether a pod of each index ended well and said so, and none is left that could still do something. What has ended never
/// runs again, as pods are never restarted: there is no need to wait until their sandboxes are gone and Kubernetes has counted
/// them, which takes it a second or two.
fn have_all_succeeded(pods: &[PodFacts], workers: u32) -> bool {
    let succeeded: BTreeSet<u32> =
        pods.iter().filter(|pod| pod.has_succeeded()).map(|pod| pod.index.unwrap_or(0)).collect();
    (0..workers).all(|index| succeeded.contains(&index))
        && pods.iter().all(|pod| matches!(pod.container, ContainerState::Ended(_)))
}

/// When an object was created. The API server sets it; the epoch stands for an object that was never there.
fn created(object: &impl ResourceExt) -> Timestamp {
    object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Whether the controller of `object` is the one with this uid.
#[must_use]
pub fn is_owned_by(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn state(status: Option<&batch::JobStatus>) -> JobState {
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let find = |kind: &str| {
        conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if find("Complete").is_some() {
        return JobState::Complete;
    }
    if let Some(failed) = find("Failed") {
        return JobState::Failed { reason: failed.reason.clone().unwrap_or_default() };
    }
    if let Some(failing) = find("FailureTarget") {
        return JobState::Failing {
            since: failing.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            reason: failing.reason.clone().unwrap_or_default(),
        };
    }
    JobState::Active
}

fn container(status: &core::PodStatus) -> ContainerState {
    let container = status.container_statuses.iter().flatten().next();
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return ContainerState::Ended(Ended {
            exit_code: Some(ended.exit_code),
            out_of_memory: ended.reason.as_deref() == Some("OOMKilled"),
            at: ended.finished_at.as_ref().map(|time| time.0),
            outcome: ended
                .message
                .as_deref()
                .and_then(Report::from_termination_message)
                .map(|report| report.outcome),
            note: status.message.clone().or_else(|| ended.reason.clone()),
        });
    }
    match status.phase.as_deref() {
        // An evicted pod, or one whose node is gone, may have ended without a container's state.
        Some(phase @ ("Failed" | "Succeeded")) => ContainerState::Ended(Ended {
            exit_code: (phase == "Succeeded").then_some(0),
            out_of_memory: false,
            at: None,
            outcome: None,
            note: status.message.clone().or_else(|| status.reason.clone()),
        }),
        _ if state.is_some_and(|state| state.running.is_some()) => ContainerState::Running,
        _ => ContainerState::Waiting(trouble::of_pod(status)),
    }
}

fn started(status: &core::PodStatus) -> Option<Timestamp> {
    let state = status.container_statuses.iter().flatten().next()?.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

#[cfg(test)]
#[path = "fact_tests.rs"]
mod tests;
