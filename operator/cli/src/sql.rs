//! `pgexport sql`: the schema `pgexport` in a source's database.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Subcommand, ValueHint};
use pgexport_api::source::{Postgres, RunLedger, SecretKeyRef};
use pgexport_engine::Error;
use pgexport_engine::aurora::schema::{self, Installed};
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};

use crate::run::{Manifests, Named, secrets};

/// The Secret that stands for the password in the environment.
const ADMIN: &str = "pgexport-sql-admin";

/// Where the password of --user is.
const PASSWORD: &str = "PGPASSWORD";

/// What `--help` says after the subcommands.
const HELP: &str = "\
With method AuroraS3 a database exports by itself. The schema makes that observable: a table with a row for each export,
committed before it and after it, and functions that show what runs, cancel it, and find what a dead worker left behind.
Without it exports work too, and nobody sees them.

Install it on the writer, as a superuser or (Aurora, RDS) a role with CREATEROLE and CREATE on the database:

  PGPASSWORD=… pgexport sql install --source source.yaml --user admin --host writer.example.internal

The extension itself, and the right to call it, are the administrator's to give; `install` prints what is missing. Then, by psql:

  SELECT * FROM pgexport.status('<uid of an ExportJob>');";

/// Install or remove the schema pgexport in the database of an ExportSource.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install the schema, or bring it up to date, and let the source's login use it. Running it again changes nothing.
    Install(Place),
    /// Remove the schema with its table of runs, unless an export may be going on.
    Uninstall(Place),
    /// Print the script that `install` runs, for `psql -f -`.
    Print {
        /// Print the script that `uninstall` runs instead.
        #[arg(long)]
        uninstall: bool,
    },
}

/// Which database, and who changes it.
#[derive(Debug, clap::Args)]
struct Place {
    /// A manifest with the ExportSource, and its Secrets unless they are in the environment. May be repeated.
    #[arg(short = 's', long = "source", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    sources: Vec<PathBuf>,
    /// The ExportSource, where the manifests hold more than one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Who changes the database, with the password in PGPASSWORD. Default: the source's own login.
    #[arg(long, value_name = "ROLE")]
    user: Option<String>,
    /// The writer, where the source names a replica. Default: what its runLedger names, if anything.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

pub(crate) async fn main(args: Args) -> ExitCode {
    let done = match args.action {
        Action::Print { uninstall } => {
            print!("{}", if uninstall { schema::UNINSTALL } else { schema::INSTALL });
            return ExitCode::SUCCESS;
        }
        Action::Install(place) => install(&place).await,
        Action::Uninstall(place) => uninstall(&place).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(SqlError::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(pgexport_api::exit::ExitCode::Usage.code())
        }
        Err(SqlError::Failed(error)) => {
            let failure = error.to_failure();
            eprintln!("error: {}: {}", failure.reason, failure.message);
            if let Some(hint) = failure.hint {
                eprintln!("  fix: {hint}");
            }
            ExitCode::from(failure.reason.exit_code().code())
        }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum SqlError {
    /// The command line or the manifests are wrong.
    #[error("{0}")]
    Usage(String),
    /// The database refused.
    #[error(transparent)]
    Failed(#[from] Error),
}

async fn install(place: &Place) -> Result<(), SqlError> {
    let Database { postgres, login, secrets } = database(place)?;
    let Installed { before, version, may_export } = schema::install(&postgres, secrets, &login).await?;
    let whose = where_is(&postgres);
    match before {
        None => println!("the schema pgexport, version {version}, is installed in {whose}"),
        Some(before) if before == version => {
            println!(
                "the schema pgexport in {whose} is of version {version} already; its functions are renewed"
            );
        }
        Some(before) => {
            println!("the schema pgexport in {whose} is upgraded from version {before} to {version}");
        }
    }
    println!("{login} may use it");
    match may_export {
        Some(true) => println!("{login} may call aws_s3.query_export_to_s3"),
        Some(false) => println!(
            "missing: GRANT USAGE ON SCHEMA aws_s3, aws_commons TO {login}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_s3, aws_commons TO {login};"
        ),
        None => println!(
            "missing: CREATE EXTENSION aws_s3 CASCADE; as rds_superuser. Only Amazon Aurora and RDS have it."
        ),
    }
    Ok(())
}

async fn uninstall(place: &Place) -> Result<(), SqlError> {
    let Database { postgres, secrets, .. } = database(place)?;
    let whose = where_is(&postgres);
    match schema::uninstall(&postgres, secrets).await? {
        Some(version) => println!("the schema pgexport, version {version}, is removed from {whose}"),
        None => println!("there was no schema pgexport in {whose}"),
    }
    Ok(())
}

fn where_is(postgres: &Postgres) -> String {
    format!("database {} of {}:{}", postgres.database, postgres.host, postgres.port)
}

/// Where to connect, as whom, and for whom.
struct Database {
    postgres: Postgres,
    /// The login of the exports.
    login: String,
    secrets: Arc<dyn Secrets>,
}

fn database(place: &Place) -> Result<Database, SqlError> {
    let manifests = Manifests::read(&place.sources).map_err(|error| SqlError::Usage(error.to_string()))?;
    let Named { namespace, object, .. } = the_source(manifests.sources(), place.name.as_deref())?;
    let mut postgres = object.postgres.clone();
    let login = postgres.user.clone();
    // What is made for exports has no place here.
    postgres.settings.clear();
    if let Some(RunLedger { host_of_writer, port_of_writer }) = &object.run_ledger {
        postgres.host.clone_from(host_of_writer);
        postgres.port = port_of_writer.unwrap_or(postgres.port);
    }
    if let Some(host) = &place.host {
        postgres.host.clone_from(host);
    }
    let source_secrets = secrets(&manifests, namespace);
    let Some(user) = &place.user else {
        return Ok(Database { postgres, login, secrets: Arc::new(source_secrets) });
    };
    let password = std::env::var_os(PASSWORD).ok_or_else(|| {
        SqlError::Usage(format!("set {PASSWORD} in the environment to the password of {user}"))
    })?;
    let mut admin = MemorySecrets::default();
    admin.insert(ADMIN, PASSWORD, Secret::new(password.into_encoded_bytes()));
    postgres.user.clone_from(user);
    postgres.password_secret_ref = Some(SecretKeyRef { name: ADMIN.to_owned(), key: PASSWORD.to_owned() });
    postgres.iam_auth = None;
    Ok(Database { postgres, login, secrets: Arc::new(WithAdmin { admin, others: source_secrets }) })
}

/// The one ExportSource, or the one of this name.
fn the_source<'a, T>(sources: &'a [Named<T>], name: Option<&str>) -> Result<&'a Named<T>, SqlError> {
    let wanted: Vec<_> =
        sources.iter().filter(|source| name.is_none_or(|name| name == source.name)).collect();
    match (wanted.as_slice(), name) {
        ([source], _) => Ok(*source),
        ([], Some(name)) => Err(SqlError::Usage(format!("the manifests hold no ExportSource named {name}"))),
        ([], None) => Err(SqlError::Usage("the manifests hold no ExportSource".to_owned())),
        (_, _) => {
            Err(SqlError::Usage("the manifests hold several ExportSources: choose one by --name".to_owned()))
        }
    }
}

/// The administrator's password, and the manifests' Secrets.
#[derive(Debug)]
struct WithAdmin<S> {
    admin: MemorySecrets,
    others: S,
}

impl<S: Secrets> Secrets for WithAdmin<S> {
    fn find(&self, name: &str, key: &str) -> Result<Option<Secret>, Error> {
        match self.admin.find(name, key)? {
            Some(secret) => Ok(Some(secret)),
            None => self.others.find(name, key),
        }
    }

    fn find_in_config_map(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.others.find_in_config_map(name, key)
    }
}
