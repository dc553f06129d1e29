//! `pgexport`: the operator, its workers, and the same engine on a laptop, in one binary.

mod controller;
mod crds;
mod log;
mod reference;
mod run;
mod shutdown;
mod sql;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pgexport_failpoint as failpoint;

/// What `--version` says. A build for tests says that it is one.
const VERSION: &str = if failpoint::ENABLED {
    concat!(env!("CARGO_PKG_VERSION"), " (with failpoints: for tests only)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Export the results of SQL queries from PostgreSQL, in parallel chunks, to object storage.
///
/// On a cluster, `pgexport controller` reconciles the custom resources ExportSource, ExportSink, ExportJob and
/// ExportSchedule. Without a cluster, `pgexport run` carries out the same ExportJobs.
#[derive(Debug, Parser)]
#[command(name = "pgexport", version = VERSION, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry out the ExportJobs of manifests here, without a cluster.
    Run(run::Args),
    /// Install or remove the schema pgexport, which makes exports by the database itself observable.
    Sql(sql::Args),
    /// Reconcile ExportSources, ExportSinks, ExportJobs and ExportSchedules of a cluster.
    Controller(Box<controller::Args>),
    /// Do one task of an ExportJob. The controller starts workers; people do not.
    Worker(worker::Args),
    /// Print the CustomResourceDefinitions as YAML.
    Crds(crds::Args),
    /// Print a page of the reference as Markdown: the kinds' fields, the reasons, the exit codes.
    Reference(reference::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS implementation for the whole process; an error only says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Run(args) => block_on(run::main(args)),
        Command::Sql(args) => block_on(sql::main(args)),
        Command::Controller(args) => block_on(controller::main(*args)),
        Command::Worker(args) => block_on(worker::main(args)),
        Command::Crds(args) => crds::main(&args),
        Command::Reference(args) => reference::main(&args),
    }
}

/// Runs an async command to its end.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
