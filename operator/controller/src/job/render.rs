//! The Job around the worker pod: what Kubernetes repeats by itself, and what it gives back to the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pgexport_api::exit::ExitCode;
use pgexport_api::job::PodTemplate;
use pgexport_api::naming;

use super::fact::{DELIVERY_ANNOTATION, IMAGE_ANNOTATION, ORDER_ANNOTATION, WORKERS_ANNOTATION};
use super::mount::Mounts;
use super::pod::{self, WorkerImage};

/// How often Kubernetes replaces a pod of a staged export, index by index.
const EXPORT_BACKOFF_LIMIT: i32 = 3;
/// How often Kubernetes replaces a pod of a transfer.
const TRANSFER_BACKOFF_LIMIT: i32 = 3;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Exports to the staging, or directly to the sink.
    Export,
    /// Delivers from the staging to the sink.
    Transfer,
    /// Removes what a run has left.
    Cleanup,
    /// Tells a receiver that a run has failed.
    Notify,
    /// Tries a source or a sink.
    Probe,
}

impl Role {
    /// The worker's subcommand, and the value of its label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Transfer => "transfer",
            Self::Cleanup => "cleanup",
            Self::Notify => "notify",
            Self::Probe => "probe",
        }
    }
}

/// What a Job may repeat by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Several workers whose finished chunks stay in staging: pods are replaced.
    StagedExport {
        /// Worker pods.
        workers: u32,
    },
    /// One worker that streams: when it goes, the attempt goes.
    DirectExport,
    /// One worker whose work is idempotent: it is replaced.
    Transfer,
    /// One worker whose work is idempotent, and which the controller makes anew.
    Cleanup,
    /// One try, which the controller makes anew.
    Notify,
    /// One try.
    Probe,
}

impl Policy {
    const fn role(self) -> Role {
        match self {
            Self::StagedExport { .. } | Self::DirectExport => Role::Export,
            Self::Transfer => Role::Transfer,
            Self::Cleanup => Role::Cleanup,
            Self::Notify => Role::Notify,
            Self::Probe => Role::Probe,
        }
    }
}

/// All that makes up a Job.
#[derive(Clone, Debug)]
pub struct Blueprint<'a> {
    /// Its name, and its ConfigMap's.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The object that it is made for.
    pub owner: OwnerReference,
    /// The number of the attempt or the probe.
    pub attempt: u32,
    /// What it may repeat.
    pub policy: Policy,
    /// How long it may take.
    pub deadline: Duration,
    /// What its pods see.
    pub mounts: &'a Mounts,
    /// What its pods ask for.
    pub template: Option<&'a PodTemplate>,
    /// What its pods run.
    pub image: &'a WorkerImage,
    /// The SHA-256 of the order that its pods are to carry out.
    pub order_sha256: &'a str,
}

/// The labels by which a Job, its pods and its ConfigMap are found.
#[must_use]
pub fn labels(blueprint: &Blueprint<'_>) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "pgexport"),
        ("app.kubernetes.io/component", "worker"),
        naming::MANAGED_BY,
        (naming::OWNER_LABEL, &blueprint.owner.name),
        (naming::OWNER_KIND_LABEL, &blueprint.owner.kind.to_lowercase()),
        (naming::ROLE_LABEL, blueprint.policy.role().as_str()),
        (naming::ATTEMPT_LABEL, &blueprint.attempt.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The Job.
#[must_use]
pub fn job(blueprint: &Blueprint<'_>) -> Job {
    let labels = labels(blueprint);
    let mut annotations = BTreeMap::from([
        (ORDER_ANNOTATION.to_owned(), blueprint.order_sha256.to_owned()),
        (IMAGE_ANNOTATION.to_owned(), blueprint.image.image.clone()),
    ]);
    let streams = match blueprint.policy {
        Policy::StagedExport { workers } => Some(("Staged", workers)),
        Policy::DirectExport => Some(("Direct", 1)),
        Policy::Transfer | Policy::Cleanup | Policy::Notify | Policy::Probe => None,
    };
    if let Some((delivery, workers)) = streams {
        annotations.insert(DELIVERY_ANNOTATION.to_owned(), delivery.to_owned());
        annotations.insert(WORKERS_ANNOTATION.to_owned(), workers.to_string());
    }
    let template = PodTemplateSpec {
        metadata: Some(pod_metadata(&labels, blueprint)),
        spec: Some(pod::spec(
            blueprint.policy.role(),
            blueprint.name,
            blueprint.mounts,
            blueprint.image,
            blueprint.template,
            blueprint.order_sha256,
        )),
    };
    Job {
        metadata: ObjectMeta {
            name: Some(blueprint.name.to_owned()),
            namespace: Some(blueprint.namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![blueprint.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            template,
            active_deadline_seconds: Some(
                i64::try_from(blueprint.deadline.as_secs()).unwrap_or(i64::MAX).max(1),
            ),
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: failure_policy(blueprint.policy),
            ..completions(blueprint.policy)
        }),
        status: None,
    }
}

/// The pods' labels and annotations: ours, and those that the template brings. Ours win.
fn pod_metadata(labels: &BTreeMap<String, String>, blueprint: &Blueprint<'_>) -> ObjectMeta {
    let template = pod::with_defaults(blueprint.template, &blueprint.image.defaults);
    let labels = template.labels.into_iter().chain(labels.clone()).collect();
    let annotations = template.annotations;
    ObjectMeta {
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

fn completions(policy: Policy) -> JobSpec {
    let indexed = |workers: u32, backoff_limit: i32| {
        let workers = i32::try_from(workers).unwrap_or(i32::MAX);
        JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(workers),
            parallelism: Some(workers),
            backoff_limit_per_index: Some(backoff_limit),
            max_failed_indexes: Some(0),
            ..JobSpec::default()
        }
    };
    let single = |backoff_limit: i32| JobSpec {
        completion_mode: Some("NonIndexed".to_owned()),
        completions: Some(1),
        parallelism: Some(1),
        backoff_limit: Some(backoff_limit),
        ..JobSpec::default()
    };
    match policy {
        Policy::StagedExport { workers } => indexed(workers, EXPORT_BACKOFF_LIMIT),
        Policy::DirectExport => indexed(1, 0),
        Policy::Transfer => single(TRANSFER_BACKOFF_LIMIT),
        Policy::Cleanup | Policy::Notify | Policy::Probe => single(0),
    }
}

/// Exit codes that a new pod would only repeat fail the Job; they come before disruptions, because a disrupted worker 0
/// has lost the snapshot all the same. Where any failure fails the Job, there is nothing to say.
fn failure_policy(policy: Policy) -> Option<PodFailurePolicy> {
    let codes = [ExitCode::Usage, ExitCode::Permanent, ExitCode::Environment, ExitCode::SnapshotLost];
    let fail = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".to_owned(),
            values: codes.into_iter().map(|code| i32::from(code.code())).collect(),
        }),
        on_pod_conditions: None,
    };
    let ignore = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
    };
    match policy {
        Policy::StagedExport { .. } | Policy::Transfer => {
            Some(PodFailurePolicy { rules: vec![fail, ignore] })
        }
        Policy::DirectExport => Some(PodFailurePolicy { rules: vec![fail] }),
        Policy::Cleanup | Policy::Notify | Policy::Probe => None,
    }
}
