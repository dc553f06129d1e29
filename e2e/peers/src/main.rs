//! `peers`: starts and stops the servers that the tests run against, and fills them.

use std::{error::Error, io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use pgexport_peers::{
    Peers, PeersError,
    findings::{self, Loaded},
    server::{self, Listen, ServerError},
    state::StateFolder,
};

/// The real PostgreSQL and S3 servers that the tests run against.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The state folder [default: `peers` in `$PGEXPORT_STATE`, or in `.state` of the repository]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build and fetch what has to be, while there is a network
    Install {
        /// Other major versions of `PostgreSQL` than the distribution's
        #[arg(long, value_name = "VERSION", value_delimiter = ',')]
        postgres_version: Vec<u32>,
    },
    /// Start what is not running
    Up {
        #[command(flatten)]
        listen: Listen,
        /// `PostgreSQL`'s major version [default: that of its data, or the distribution's newest]
        #[arg(long, value_name = "VERSION")]
        postgres_version: Option<u32>,
    },
    /// Stop the servers and remove all objects
    Down {
        /// Remove the databases and passwords too
        #[arg(long)]
        purge: bool,
    },
    /// Say what is running; fails unless everything is
    Status,
    /// Print variables for psql and S3 tools, for `export $(peers env)`
    Env,
    /// Make the sample data, unless they are there
    Load {
        /// How many findings
        #[arg(long, default_value_t = findings::SMALL)]
        rows: u64,
        /// The database, which is made if it does not exist
        #[arg(long, default_value = "findings")]
        database: String,
        /// The table; the assets are in `assets`, or <TABLE>_assets
        #[arg(long, default_value = "findings")]
        table: String,
    },
    /// Make a bucket, unless it exists
    Bucket {
        /// Its name
        name: String,
    },
    /// Write an object to standard output
    Cat {
        /// The object, as `s3://BUCKET/KEY`
        #[arg(value_parser = parse_object)]
        object: Object,
    },
}

/// An object of the S3 server.
#[derive(Debug, Clone)]
struct Object {
    bucket: String,
    key: String,
}

fn parse_object(text: &str) -> Result<Object, String> {
    let (bucket, key) =
        text.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or("write s3://BUCKET/KEY")?;
    Ok(Object { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("finding the state folder")]
    Folder(#[source] std::io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Peers(#[from] PeersError),
    #[error("writing to standard output")]
    Output(#[source] std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(failure) => {
            eprint!("peers: {failure}");
            let mut source = failure.source();
            while let Some(error) = source {
                eprint!(": {error}");
                source = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let folder = StateFolder::new(cli.state).map_err(Failure::Folder)?;
    match cli.action {
        Action::Up { listen, postgres_version } => {
            let peers = server::up(&folder, listen, postgres_version).await?;
            println!("PostgreSQL {} (pods: {})", peers.postgres.host, peers.postgres.pod);
            if let Some(standby) = &peers.standby {
                println!("Standby {} (pods: {})", standby.host, standby.pod);
            }
            println!("S3 {} (pods: {})", peers.s3.host_endpoint(), peers.s3.pod_endpoint());
            println!("Record {}", folder.record().display());
        }
        Action::Install { postgres_version } => server::install(&postgres_version).await?,
        Action::Down { purge } => server::down(&folder, purge).await?,
        Action::Status => return Ok(status(&folder)),
        Action::Env => env(&folder, &Peers::read(&folder.record())?),
        Action::Load { rows, database, table } => {
            let peers = Peers::read(&folder.record())?;
            peers.postgres.ensure_database(&database).await?;
            let client = peers.postgres.admin(&database).await?;
            match findings::load(&client, &table, rows).await? {
                Loaded::Made => println!("{rows} findings are in {database}.{table}"),
                Loaded::AlreadyThere => println!("{rows} findings were in {database}.{table} already"),
            }
        }
        Action::Bucket { name } => Peers::read(&folder.record())?.s3.ensure_bucket(&name).await?,
        Action::Cat { object } => {
            let body = Peers::read(&folder.record())?.s3.get(&object.bucket, &object.key).await?;
            match std::io::stdout().write_all(&body) {
                // Whoever reads may have seen enough.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(Failure::Output(error));
                }
                _ => {}
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(folder: &StateFolder) -> ExitCode {
    let status = server::status(folder);
    let wanted = Peers::read(&folder.record()).is_ok_and(|peers| peers.standby.is_some());
    let mut servers = vec![("PostgreSQL", status.postgres), ("S3", status.s3)];
    if wanted || status.standby.is_some() {
        servers.push(("Standby", status.standby));
    }
    for (name, pid) in &servers {
        match pid {
            Some(pid) => println!("{name}: running, process {pid}"),
            None => println!("{name}: not running"),
        }
    }
    if servers.iter().all(|(_, pid)| pid.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn env(folder: &StateFolder, peers: &Peers) {
    let Peers { postgres, s3, .. } = peers;
    println!("PGEXPORT_PEERS={}", folder.record().display());
    println!("PGHOST={}", postgres.host.ip());
    println!("PGPORT={}", postgres.host.port());
    println!("PGUSER={}", postgres.admin.user);
    println!("PGPASSWORD={}", postgres.admin.password);
    println!("PGDATABASE=findings");
    println!("PGSSLMODE=verify-full");
    println!("PGSSLROOTCERT={}", postgres.ca_file.display());
    println!("AWS_ENDPOINT_URL_S3={}", s3.host_endpoint());
    println!("AWS_REGION={}", s3.region);
    println!("AWS_ACCESS_KEY_ID={}", s3.admin.access_key);
    println!("AWS_SECRET_ACCESS_KEY={}", s3.admin.secret_key);
}
