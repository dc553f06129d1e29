//! What the controller is told at its start.

use std::net::SocketAddr;

use pgexport_api::job::PodTemplate;

/// How the controller runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The image of worker pods; its entrypoint is the `pgexport` binary.
    pub worker_image: String,
    /// The `imagePullPolicy` of worker pods: `Always`, `IfNotPresent` or `Never`. `None` is Kubernetes' default.
    pub worker_image_pull_policy: Option<String>,
    /// Names of Secrets, in the namespace of each ExportJob, by which worker images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// `RUST_LOG` of worker pods.
    pub worker_log_filter: Option<String>,
    /// What worker pods ask for, those of probes included. An ExportJob's `podTemplate` overrides it field by field.
    pub worker_defaults: PodTemplate,
    /// What the keys of an ExportJob's `podTemplate.labels` and `podTemplate.annotations` may begin with.
    pub pod_metadata_prefixes: Vec<String>,
    /// The namespaces to watch. Empty: all.
    pub namespaces: Vec<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub http_address: SocketAddr,
}
