//! The control plane of pgexport: it watches `ExportSources`, `ExportSinks`, `ExportJobs` and `ExportSchedules`, decides purely over observed facts,
//! and lets Kubernetes Jobs do the work. It never touches data or credentials.
//!
//! Each kind is reconciled in steps, each in a file of its own: `dereference` (client), `validate` (pure), `observe`
//! (client), `decide` (pure), `status` (client), `render` (pure), `apply` (client). The status is written before
//! anything is created, with the resource version that was decided upon: whoever decided on stale facts creates nothing.

mod config;
mod context;
mod error;
mod event;
mod export_job;
mod export_schedule;
mod export_sink;
mod export_source;
mod http;
mod job;
mod metrics;
mod probe;
mod progress;
mod scope;
mod status;
mod watch;

pub use config::Config;
pub use error::Error;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::join_all;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use pgexport_api::Phase;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

use context::Admissions;
use job::pod::WorkerImage;
use metrics::{Metrics, Objects, ScheduleFacts};
use scope::{Shares, Stop};
use watch::Stores;

/// Runs the controller until SIGTERM or SIGINT, and then until running reconciliations are done.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_signal().map_err(Error::Signal)?;
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let listener = TcpListener::bind(config.http_address)
        .await
        .map_err(|source| Error::Listen { address: config.http_address, source })?;
    let shares = Shares {
        recorder: Recorder::new(client.clone(), Reporter::from("pgexport-controller")),
        client,
        image: WorkerImage {
            image: config.worker_image,
            pull_policy: config.worker_image_pull_policy,
            pull_secrets: config.image_pull_secrets,
            log_filter: config.worker_log_filter,
            defaults: config.worker_defaults,
            metadata_prefixes: config.pod_metadata_prefixes,
            failpoints: pgexport_failpoint::ENABLED,
        },
        admission: Admissions { turn: Arc::default(), namespaces: Arc::new(config.namespaces.clone()) },
        metrics: Metrics::default(),
        stop: stop.clone(),
    };

    let mut tasks = JoinSet::new();
    let scopes: Vec<Stores> = if config.namespaces.is_empty() {
        vec![scope::start(&shares, None, &mut tasks)]
    } else {
        config.namespaces.iter().map(|namespace| scope::start(&shares, Some(namespace), &mut tasks)).collect()
    };
    let (ready_sender, ready) = channel::channel(false);
    let waited = scopes.clone();
    tasks.spawn(async move {
        if join_all(waited.iter().map(Stores::wait_until_ready)).await.into_iter().all(|is_ready| is_ready) {
            tracing::info!("all watches are filled");
            // Kept until the end: a channel without a sender still answers.
            let _ = ready_sender.send(true);
        }
    });
    let objects: Arc<dyn Objects> = Arc::new(Scopes(scopes));
    let registry = Arc::new(shares.metrics.registry(&objects));
    let endpoint = tokio::spawn(http::serve(listener, http::Answers { registry, ready }, stop.clone()));
    tracing::info!(address = %config.http_address, namespaces = ?config.namespaces, "the controller runs");

    let result = supervise(&mut tasks).await;
    endpoint.abort();
    tracing::info!("the controller has stopped");
    result
}

/// Waits for all tasks. One that panicked ends the controller: another one is started in its place, which is better than
/// one that does half of its work.
async fn supervise(tasks: &mut JoinSet<()>) -> Result<(), Error> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(Error::Task)?;
    }
    Ok(())
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<Stop, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let first = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: running reconciliations are carried through");
    };
    Ok(first.boxed().shared())
}

/// The stores of all scopes, for metrics.
struct Scopes(Vec<Stores>);

impl std::fmt::Debug for Scopes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Scopes").field(&self.0.len()).finish()
    }
}

impl Objects for Scopes {
    fn phases(&self) -> Vec<Option<Phase>> {
        let jobs = self.0.iter().flat_map(|stores| stores.export_jobs.state());
        jobs.map(|guard| guard.0.as_ref().ok().and_then(|job| job.status.as_ref()?.phase)).collect()
    }

    fn schedules(&self) -> Vec<ScheduleFacts> {
        let schedules = self.0.iter().flat_map(|stores| stores.schedules.state());
        schedules.filter_map(|guard| guard.0.as_ref().ok().map(ScheduleFacts::of)).collect()
    }
}
