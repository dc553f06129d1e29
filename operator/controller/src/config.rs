//! What the controller is told at its start.

use std::net::SocketAddr;

/// How the controller runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The image of worker pods; its entrypoint is the `pgexport` binary.
    pub worker_image: String,
    /// The `imagePullPolicy` of worker pods: `Always`, `IfNotPresent` or `Never`. `None` is Kubernetes' default.
    pub worker_image_pull_policy: Option<String>,
    /// Names of Secrets, in the namespace of each ExportJob, by which worker images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// `RUST_LOG` of worker pods.
    pub worker_log_filter: Option<String>,
    /// The namespaces to watch. Empty: all.
    pub namespaces: Vec<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub http_address: SocketAddr,
}
