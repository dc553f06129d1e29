//! `pgexport worker`: one task of an ExportJob, in a pod. It reads its order from a file, works, writes its report to the
//! termination log, and tells the rest by its exit code.

pub(crate) mod http;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Subcommand, ValueHint};
use pgexport_api::exit;
use pgexport_api::naming::{CONFIG_MAPS_PATH, ORDER_PATH, SECRETS_PATH, TERMINATION_PATH, VOLUMES_PATH};
use pgexport_api::order::{ORDER_VERSION, Order, Task};
use pgexport_api::reason::Reason;
use pgexport_api::report::{Failure, Outcome, Report};
use pgexport_engine::export::{self, Context};
use pgexport_engine::progress::Progress;
use pgexport_engine::secret::MountedSecrets;
use pgexport_engine::source::Connector;
use pgexport_engine::store::Volumes;
use pgexport_engine::{Error, cleanup, notify, probe, transfer};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Do one task of an ExportJob.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Subtask,
    /// The order: what is to be done.
    #[arg(long, global = true, default_value = ORDER_PATH, value_hint = ValueHint::FilePath)]
    order: PathBuf,
    /// The SHA-256 of the order, in hexadecimal: another one is refused.
    #[arg(long, global = true, value_name = "HEX")]
    order_sha256: Option<String>,
    /// Folder with a folder for each Secret.
    #[arg(long, global = true, default_value = SECRETS_PATH, value_hint = ValueHint::DirPath)]
    secrets: PathBuf,
    /// Folder with a folder for each ConfigMap.
    #[arg(long, global = true, default_value = CONFIG_MAPS_PATH, value_hint = ValueHint::DirPath)]
    config_maps: PathBuf,
    /// Folder with a folder for each PersistentVolumeClaim.
    #[arg(long, global = true, default_value = VOLUMES_PATH, value_hint = ValueHint::DirPath)]
    volumes: PathBuf,
    /// Where the report is written.
    #[arg(long, global = true, default_value = TERMINATION_PATH, value_hint = ValueHint::FilePath)]
    report: PathBuf,
    /// Port of /progress, /metrics and /healthz.
    #[arg(long, global = true, default_value_t = pgexport_api::progress::PORT)]
    port: u16,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Subtask {
    /// Export this worker's share of the chunks.
    Export {
        /// The number of this worker, from 0.
        #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0)]
        index: u32,
    },
    /// Deliver what is staged.
    Transfer,
    /// Remove what a run that has ended has left.
    Cleanup,
    /// Tell a receiver that a run has failed.
    Notify,
    /// Try an ExportSource or an ExportSink.
    Probe,
}

pub(crate) async fn main(args: Args) -> ExitCode {
    crate::log::init();
    let cancel = match shutdown::on_signal() {
        Ok(cancel) => cancel,
        Err(error) => return usage(&format!("signals cannot be handled: {error}")),
    };
    let order = match read_order(&args.order, args.order_sha256.as_deref()) {
        Ok(order) => order,
        Err(message) => {
            // The controller shows it where users look; a person who tries a worker by hand has no such file.
            if args.report.exists() {
                let error = Error::new(Reason::InternalError, message.clone());
                let report = Report::new(Outcome::Failed(error.to_failure()));
                let _ = std::fs::write(&args.report, report.to_termination_message());
            }
            return usage(&message);
        }
    };
    let progress = Arc::new(Progress::default());
    let server = http::serve(args.port, Arc::clone(&progress));
    let outcome = tokio::select! {
        outcome = work(&args, order, Arc::clone(&progress), cancel.clone()) => outcome,
        // The endpoint only shows progress: work goes on without it.
        never = server => match never {},
    };
    finish(&args.report, outcome, &cancel)
}

/// Called wrongly: by a person, who reads standard error.
fn usage(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(exit::ExitCode::Usage.code())
}

fn read_order(path: &Path, sha256: Option<&str>) -> Result<Order, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if sha256.is_some_and(|wanted| wanted != hex::encode(Sha256::digest(&text))) {
        return Err(format!(
            "{}: it is not the order that this worker was started for: look for whoever else creates ConfigMaps with the name of this Job",
            path.display()
        ));
    }
    let order: Order =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if order.version != ORDER_VERSION {
        return Err(format!(
            "{}: version {} of an order, where this worker knows {ORDER_VERSION}",
            path.display(),
            order.version
        ));
    }
    Ok(order)
}

async fn work(
    args: &Args,
    order: Order,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<Outcome, Error> {
    let secrets = Arc::new(MountedSecrets::new(&args.secrets, &args.config_maps));
    let volumes = Volumes::mounted(&args.volumes);
    match (args.task, order.task) {
        (Subtask::Export { index }, Task::Run(order)) => {
            let connector = Connector::new(&order.source.postgres, secrets.clone());
            let order = *order;
            export::run(Context { order, worker: index, connector, secrets, volumes, progress, cancel }).await
        }
        (Subtask::Transfer, Task::Run(order)) => {
            transfer::run(&order, secrets, &volumes, &progress, &cancel).await.map(Outcome::Delivered)
        }
        (Subtask::Cleanup, Task::Cleanup(order)) => {
            cleanup::run(&order, secrets, &volumes, &cancel).await.map(Outcome::Cleaned)
        }
        (Subtask::Notify, Task::Notify(order)) => {
            let status = notify::send(&order, secrets.as_ref(), &cancel).await?;
            Ok(Outcome::Notified { status })
        }
        (Subtask::Probe, Task::ProbeReceiver(receiver)) => {
            notify::probe(&receiver, secrets.as_ref()).await.map(|()| Outcome::ReceiverProbed)
        }
        (Subtask::Probe, Task::ProbeSource(source)) => probe::source::probe(&source, secrets).await.map(
            |probe::source::Probed { server, login_may, aurora_s3 }| Outcome::SourceProbed {
                server,
                login_may,
                aurora_s3,
            },
        ),
        (Subtask::Probe, Task::ProbeSink(sink)) => {
            let capabilities = probe::sink::probe(&sink, secrets, &volumes).await?;
            Ok(Outcome::SinkProbed { capabilities })
        }
        (_, _) => Err(Error::new(
            Reason::InternalError,
            "the order is for another task than the worker was started for",
        )),
    }
}

fn finish(report: &Path, outcome: Result<Outcome, Error>, cancel: &CancellationToken) -> ExitCode {
    let (outcome, code) = match outcome {
        Ok(outcome) => (outcome, exit::ExitCode::Done),
        Err(error) => {
            let failure = error.to_failure();
            log_failure(&failure, &error);
            let code = match failure.reason {
                Reason::Interrupted if cancel.is_cancelled() => exit::ExitCode::Terminated,
                reason => reason.exit_code(),
            };
            (Outcome::Failed(failure), code)
        }
    };
    let message = Report::new(outcome).to_termination_message();
    if let Err(error) = std::fs::write(report, message) {
        tracing::error!(path = %report.display(), %error, "the report cannot be written");
    }
    ExitCode::from(code.code())
}

fn log_failure(failure: &Failure, error: &Error) {
    tracing::error!(
        reason = failure.reason.as_str(),
        sql_state = failure.sql_state,
        chunk = failure.chunk,
        hint = failure.hint,
        "{error}"
    );
}
