//! `pgexport controller`

use std::net::SocketAddr;
use std::process::ExitCode;

use pgexport_api::job::PodTemplate;
use pgexport_controller::Config;

/// Reconcile ExportSources, ExportSinks, ExportJobs and ExportSchedules.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image of worker pods: the one that holds this binary.
    #[arg(long, env = "PGEXPORT_WORKER_IMAGE", value_name = "IMAGE")]
    worker_image: String,
    /// When nodes pull it. Default: as Kubernetes does it, by the image's tag.
    #[arg(long, env = "PGEXPORT_WORKER_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    worker_image_pull_policy: Option<String>,
    /// What workers log, as `RUST_LOG` takes it, such as `debug`.
    #[arg(long, env = "PGEXPORT_WORKER_LOG", value_name = "FILTER")]
    worker_log_filter: Option<String>,
    /// What worker pods ask for where their ExportJob does not say, as JSON with the fields of `podTemplate`.
    #[arg(long, env = "PGEXPORT_WORKER_DEFAULTS", value_name = "JSON", default_value = "{}", value_parser = pod_template)]
    worker_defaults: PodTemplate,
    /// A Secret, in each namespace, to pull it with. May be repeated.
    #[arg(long = "image-pull-secret", value_name = "SECRET")]
    image_pull_secrets: Vec<String>,
    /// What the keys of labels and annotations that an ExportJob gives its pods may begin with, such as `acme.com/`. May be
    /// repeated. Default: none are allowed.
    #[arg(long = "pod-metadata-prefix", value_name = "PREFIX")]
    pod_metadata_prefixes: Vec<String>,
    /// Reconcile this namespace only. May be repeated. Default: all namespaces.
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    http_address: SocketAddr,
}

fn pod_template(json: &str) -> Result<PodTemplate, serde_json::Error> {
    serde_json::from_str(json)
}

pub(crate) async fn main(args: Args) -> ExitCode {
    crate::log::init();
    let config = Config {
        worker_image: args.worker_image,
        worker_image_pull_policy: args.worker_image_pull_policy,
        image_pull_secrets: args.image_pull_secrets,
        worker_log_filter: args.worker_log_filter,
        worker_defaults: args.worker_defaults,
        pod_metadata_prefixes: args.pod_metadata_prefixes,
        namespaces: args.namespaces,
        http_address: args.http_address,
    };
    match pgexport_controller::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error, "the controller cannot go on");
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
