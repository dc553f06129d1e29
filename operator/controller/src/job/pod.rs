//! The worker pod: Restricted by construction, without a Kubernetes token, mounting what its order names.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, KeyToPath, LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pgexport_api::job::{DEFAULT_MEMORY_LIMIT, PodTemplate};
use pgexport_api::{naming, progress};

use super::fact::GRACE_SECONDS;
use super::mount::Mounts;
use super::order::ORDER_KEY;
use super::render::Role;

/// The user and group that workers run as; the volume of a sink has to let it write.
const USER: i64 = 65_532;
/// `r--r-----`: for the worker's group only.
const SECRET_MODE: i32 = 0o440;
/// What a worker may put down in `/tmp`.
const TMP_SIZE: &str = "256Mi";

/// What the controller's installation says about worker pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerImage {
    /// The image.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: Option<String>,
    /// By which Secrets.
    pub pull_secrets: Vec<String>,
    /// `RUST_LOG` of the worker.
    pub log_filter: Option<String>,
    /// What pods ask for, where their ExportJob does not say: probes have none.
    pub defaults: PodTemplate,
    /// What the keys of an ExportJob's `podTemplate.labels` and `podTemplate.annotations` may begin with.
    pub metadata_prefixes: Vec<String>,
    /// Whether pods are told by an annotation where the failpoints' coordinator is.
    pub failpoints: bool,
}

/// The pod of a role.
#[must_use]
pub fn spec(
    role: Role,
    config_map: &str,
    mounts: &Mounts,
    image: &WorkerImage,
    template: Option<&PodTemplate>,
    order_sha256: &str,
) -> PodSpec {
    let (volumes, volume_mounts) = volumes(config_map, mounts);
    let template = with_defaults(template, &image.defaults);
    let pull_secrets: Vec<LocalObjectReference> =
        image.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: mounts.service_account().map(str::to_owned),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        node_selector: template.node_selector,
        tolerations: (!template.tolerations.is_empty()).then_some(template.tolerations),
        priority_class_name: template.priority_class_name,
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: "worker".to_owned(),
            image: Some(image.image.clone()),
            image_pull_policy: image.pull_policy.clone(),
            args: Some(vec![
                "worker".to_owned(),
                role.as_str().to_owned(),
                format!("--order-sha256={order_sha256}"),
            ]),
            env: environment(image),
            ports: Some(vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: i32::from(progress::PORT),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            resources: Some(template.resources.unwrap_or_else(default_resources)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            termination_message_path: Some(naming::TERMINATION_PATH.to_owned()),
            termination_message_policy: Some("File".to_owned()),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn environment(image: &WorkerImage) -> Option<Vec<EnvVar>> {
    let log_filter = image.log_filter.as_ref().map(|filter| EnvVar {
        name: "RUST_LOG".to_owned(),
        value: Some(filter.clone()),
        ..EnvVar::default()
    });
    let coordinator = image.failpoints.then(|| EnvVar {
        name: pgexport_failpoint::VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.annotations['{}']", pgexport_failpoint::ANNOTATION),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
    let variables: Vec<EnvVar> = log_filter.into_iter().chain(coordinator).collect();
    (!variables.is_empty()).then_some(variables)
}

/// What an ExportJob says, field by field, and what the installation says where it is silent.
pub(super) fn with_defaults(template: Option<&PodTemplate>, defaults: &PodTemplate) -> PodTemplate {
    let Some(template) = template else { return defaults.clone() };
    let tolerations =
        if template.tolerations.is_empty() { &defaults.tolerations } else { &template.tolerations };
    PodTemplate {
        resources: template.resources.as_ref().or(defaults.resources.as_ref()).cloned(),
        node_selector: template.node_selector.as_ref().or(defaults.node_selector.as_ref()).cloned(),
        tolerations: tolerations.clone(),
        priority_class_name: template
            .priority_class_name
            .as_ref()
            .or(defaults.priority_class_name.as_ref())
            .cloned(),
        labels: joined(&template.labels, &defaults.labels),
        annotations: joined(&template.annotations, &defaults.annotations),
    }
}

fn joined(own: &BTreeMap<String, String>, defaults: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    defaults.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Without a limit of CPU: a worker that is throttled keeps its snapshot, and with it the database's dead rows, for longer.
fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs.iter().map(|(name, quantity)| ((*name).to_owned(), Quantity((*quantity).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "100m"), ("memory", "128Mi")])),
        limits: Some(quantities(&[("memory", DEFAULT_MEMORY_LIMIT)])),
        ..ResourceRequirements::default()
    }
}

fn volumes(config_map: &str, mounts: &Mounts) -> (Vec<Volume>, Vec<VolumeMount>) {
    let folder = naming::ORDER_PATH.rsplit_once('/').map_or(naming::ORDER_PATH, |(folder, _)| folder);
    let mut volumes = vec![
        Volume {
            name: "order".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_map.to_owned(),
                items: Some(vec![KeyToPath {
                    key: ORDER_KEY.to_owned(),
                    path: ORDER_KEY.to_owned(),
                    mode: None,
                }]),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(TMP_SIZE.to_owned())),
                medium: None,
            }),
            ..Volume::default()
        },
    ];
    let mut volume_mounts = vec![mount("order", folder, true), mount("tmp", "/tmp", false)];
    for (number, (secret, keys)) in mounts.secrets.iter().enumerate() {
        let name = format!("secret-{number}");
        volume_mounts.push(mount(&name, &format!("{}/{secret}", naming::SECRETS_PATH), true));
        volumes.push(Volume {
            name,
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.clone()),
                // The worker names what is missing; the kubelet would only let the pod wait.
                optional: Some(true),
                default_mode: Some(SECRET_MODE),
                items: Some(paths(keys)),
            }),
            ..Volume::default()
        });
    }
    for (number, (config_map, keys)) in mounts.config_maps.iter().enumerate() {
        let name = format!("config-map-{number}");
        volume_mounts.push(mount(&name, &format!("{}/{config_map}", naming::CONFIG_MAPS_PATH), true));
        volumes.push(Volume {
            name,
            config_map: Some(ConfigMapVolumeSource {
                name: config_map.clone(),
                optional: Some(true),
                items: Some(paths(keys)),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    for (number, claim) in mounts.claims.iter().enumerate() {
        let name = format!("claim-{number}");
        volume_mounts.push(mount(&name, &format!("{}/{claim}", naming::VOLUMES_PATH), false));
        volumes.push(Volume {
            name,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    (volumes, volume_mounts)
}

/// Each key as a file of its name.
fn paths(keys: &BTreeSet<String>) -> Vec<KeyToPath> {
    keys.iter().map(|key| KeyToPath { key: key.clone(), path: key.clone(), mode: None }).collect()
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
