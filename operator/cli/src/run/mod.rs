//! `pgexport run`: the manifests of a cluster, carried out here.

mod manifest;
mod plan;
mod prepare;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueHint;
use pgexport_api::order::{DeliveryPath, RunOrder};
use pgexport_api::reason::Reason;
use pgexport_api::report::{Delivered, Outcome};
use pgexport_engine::export::{self, Context};
use pgexport_engine::progress::Progress;
use pgexport_engine::source::Connector;
use pgexport_engine::{Error, transfer};
use tokio_util::sync::CancellationToken;

use crate::shutdown;
pub(crate) use manifest::{Manifests, Named};
use prepare::Prepared;
pub(crate) use prepare::secrets;

/// Carry out the ExportJobs of manifests here, without a cluster.
///
/// The manifests are those that `kubectl apply` takes: ExportJobs, the ExportSources and ExportSinks that they name, and
/// Secrets. A Secret that is not among them is read from the environment: key `password` of Secret `findings-db` from
/// `PGEXPORT_SECRET_FINDINGS_DB_PASSWORD`. A volume sink is a folder named as its claim, or the one that --volume says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A manifest, a folder of manifests (*.yaml, *.yml, *.json), or - for standard input. May be repeated.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    filenames: Vec<PathBuf>,
    /// Carry out only the ExportJob of this name.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// The folder that stands for a PersistentVolumeClaim. May be repeated.
    #[arg(long = "volume", value_name = "CLAIM=FOLDER", value_parser = parse_volume)]
    volumes: Vec<(String, PathBuf)>,
    /// Where chunks wait when a delivery is staged and the ExportSource names no staging. Default: a folder below the
    /// system's temporary one, removed at the end.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    staging_dir: Option<PathBuf>,
    /// Connect, plan, and print the plan with the chunks' queries; export nothing. Parameters stay placeholders.
    #[arg(long)]
    dry_run: bool,
}

fn parse_volume(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((claim, folder)) if !claim.is_empty() && !folder.is_empty() => {
            Ok((claim.to_owned(), folder.into()))
        }
        _ => Err("write CLAIM=FOLDER".to_owned()),
    }
}

pub(crate) async fn main(args: Args) -> ExitCode {
    let cancel = match shutdown::on_signal() {
        Ok(cancel) => cancel,
        Err(error) => {
            eprintln!("error: signals cannot be handled: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&args, &cancel).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(pgexport_api::exit::ExitCode::Usage.code())
        }
        Err(RunError::Failed { job, error }) => {
            let failure = error.to_failure();
            eprintln!("error: ExportJob {job}: {}: {}", failure.reason, failure.message);
            if let Some(hint) = failure.hint {
                eprintln!("  fix: {hint}");
            }
            ExitCode::from(failure.reason.exit_code().code())
        }
    }
}

/// Why a run ended badly.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// The command line or the manifests are wrong.
    #[error("{0}")]
    Usage(String),
    /// An ExportJob failed.
    #[error("ExportJob {job}: {error}")]
    Failed {
        /// Its name.
        job: String,
        /// Why.
        error: Error,
    },
}

async fn run(args: &Args, cancel: &CancellationToken) -> Result<(), RunError> {
    let manifests = Manifests::read(&args.filenames).map_err(|error| RunError::Usage(error.to_string()))?;
    let jobs = manifests.jobs(args.job.as_deref()).map_err(|error| RunError::Usage(error.to_string()))?;
    let folders: BTreeMap<String, PathBuf> = args.volumes.iter().cloned().collect();
    for job in jobs {
        let failed = |error| RunError::Failed { job: job.name.clone(), error };
        let prepared =
            prepare::prepare(&manifests, job, &folders, args.staging_dir.as_deref()).map_err(failed)?;
        if args.dry_run {
            plan::print(&prepared, &job.object, cancel).await.map_err(failed)?;
            continue;
        }
        let progress = Arc::new(Progress::default());
        let view = view::show(&job.name, Arc::clone(&progress));
        let delivered = deliver(&prepared, progress, cancel).await;
        view.end().await;
        print_result(&prepared.order, &delivered.map_err(failed)?);
    }
    Ok(())
}

async fn deliver(
    prepared: &Prepared,
    progress: Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Delivered, Error> {
    let context = Context {
        order: prepared.order.clone(),
        worker: 0,
        connector: Connector::new(&prepared.order.source.postgres, prepared.secrets.clone()),
        secrets: prepared.secrets.clone(),
        volumes: prepared.volumes.clone(),
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    let outcome = export::run(context).await?;
    match (&prepared.order.delivery, outcome) {
        (_, Outcome::Delivered(delivered)) => Ok(delivered),
        (DeliveryPath::Staged { .. }, Outcome::Exported(_)) => {
            transfer::run(&prepared.order, prepared.secrets.clone(), &prepared.volumes, &progress, cancel)
                .await
        }
        _ => Err(Error::new(
            Reason::InternalError,
            "the export ended with an outcome that a run does not have",
        )),
    }
}

fn print_result(order: &RunOrder, delivered: &Delivered) {
    println!(
        "{}: {} rows, {}B in {} file{}",
        order.run.name,
        delivered.rows,
        pgexport_api::progress::human_bytes(delivered.bytes),
        delivered.files,
        if delivered.files == 1 { "" } else { "s" },
    );
    println!("  manifest: {}", delivered.manifest);
}
