//! PostgreSQL with a configuration of its own.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    time::Duration,
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tokio::process::Command;

use super::{
    ServerError,
    certificate::{self, ServerCertificate, Validity},
    daemon::{Daemon, Launch, wrapper},
    error::file,
    release::Release,
    settings::write_private_text,
};
use crate::{PeersError, Postgres, error::during, state::StateFolder};

/// The administrator's role.
pub(super) const SUPERUSER: &str = "postgres";

/// The role that exports.
pub(super) const EXPORTER: &str = "exporter";

/// The operating system's user that PostgreSQL runs as when root starts it, which it refuses to run as itself.
const OWNER: &str = "postgres";

/// How long PostgreSQL may take to answer; a crash recovery is part of it.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Everything but where to listen, which stands in the command line. The data can be made again at any time, so
/// nothing waits for a disk.
pub(super) const CONFIGURATION: &str = "\
max_connections = 200
shared_buffers = 256MB
maintenance_work_mem = 128MB
max_wal_size = 4GB
wal_level = replica
fsync = off
synchronous_commit = off
full_page_writes = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
password_encryption = scram-sha-256
unix_socket_directories = ''
log_line_prefix = '%m [%p] %q%u@%d %a '
log_timezone = UTC
timezone = UTC
";

/// Nobody gets in without TLS and a password. The last two are for standbys: `all` does not mean replication.
const HOST_BASED_AUTHENTICATION: &str = "\
hostssl all all 0.0.0.0/0 scram-sha-256
hostssl all all ::/0      scram-sha-256
hostssl replication postgres 0.0.0.0/0 scram-sha-256
hostssl replication postgres ::/0      scram-sha-256
";

/// The server's process.
pub(super) fn daemon(folder: &StateFolder) -> Daemon {
    Daemon {
        name: "postgres",
        data: folder.postgres_data(),
        log: folder.postgres_log(),
        // A fast shutdown: it ends the sessions and leaves nothing to recover.
        stop_signal: Signal::SIGINT,
    }
}

/// Makes the data directory if there is none, starts the server if it does not run as wanted, waits for it and makes
/// the roles and the database.
pub(super) async fn start(
    folder: &StateFolder,
    postgres: &Postgres,
    release: &Release,
) -> Result<(), ServerError> {
    let owner = owner();
    let data = folder.postgres_data();
    let daemon = daemon(folder);
    let launch = launch(release, &data, postgres);
    if !daemon.runs_as(&launch) {
        daemon.stop().await?;
        if !data.exists() {
            initialise(folder, &release.programs, owner, &postgres.admin.password).await?;
        }
        configure(folder, owner, postgres)?;
        daemon.start(&launch)?;
    }
    daemon.wait(START_TIMEOUT, async || postgres.admin("postgres").await.map(drop)).await?;
    Ok(provision(postgres).await?)
}

/// The user that PostgreSQL runs as, if not the caller.
pub(super) fn owner() -> Option<&'static str> {
    geteuid().is_root().then_some(OWNER)
}

/// How a server of this data directory is started.
pub(super) fn launch(release: &Release, data: &Path, postgres: &Postgres) -> Launch {
    Launch {
        program: release.programs.join("postgres"),
        arguments: vec![
            "-D".to_owned(),
            data.display().to_string(),
            "-c".to_owned(),
            format!("listen_addresses={}", postgres.host.ip()),
            "-c".to_owned(),
            format!("port={}", postgres.host.port()),
        ],
        // A standby is a client too, and would look for certificates in the caller's home, which its user may not enter.
        environment: vec![("HOME", data.display().to_string())],
        user: owner(),
    }
}

async fn initialise(
    folder: &StateFolder,
    programs: &Path,
    owner: Option<&'static str>,
    password: &str,
) -> Result<(), ServerError> {
    let data = folder.postgres_data();
    // Renamed when it is complete, so that an interrupted start is simply done again.
    let unfinished = folder.unfinished_postgres_data();
    make_empty(&unfinished, owner)?;
    if let Some(user) = owner {
        let can_enter =
            run(Some(user), &unfinished, Path::new("ls"), &[&unfinished.display().to_string()]).await;
        can_enter.map_err(|_| ServerError::ShutOut { user, path: folder.path().to_owned() })?;
    }
    let password_file = folder.initial_password();
    write_private_text(&password_file, password)?;
    hand_over(&password_file, owner)?;
    let made = run(
        owner,
        &unfinished,
        &programs.join("initdb"),
        &[
            "--pgdata",
            &unfinished.display().to_string(),
            "--username",
            SUPERUSER,
            "--pwfile",
            &password_file.display().to_string(),
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
    )
    .await;
    std::fs::remove_file(&password_file).map_err(file("removing", &password_file))?;
    made?;
    std::fs::rename(&unfinished, &data).map_err(file("making", &data))
}

/// Makes an empty folder of PostgreSQL's user; whatever was there is removed.
pub(super) fn make_empty(folder: &Path, owner: Option<&'static str>) -> Result<(), ServerError> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(file("removing", folder))?;
    }
    std::fs::create_dir(folder).map_err(file("making", folder))?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(file("making", folder))?;
    hand_over(folder, owner)
}

/// Shows another certificate to all who connect from now on.
pub(super) async fn certify(
    folder: &StateFolder,
    postgres: &Postgres,
    validity: Validity,
) -> Result<(), ServerError> {
    write_certificate(folder, &folder.postgres_data(), owner(), postgres, validity)?;
    let daemon = daemon(folder);
    // It reads its configuration again.
    daemon.signal(Signal::SIGHUP);
    daemon
        .wait(START_TIMEOUT, async || match (postgres.admin("postgres").await, validity) {
            (Ok(_), Validity::Now) | (Err(_), Validity::Expired) => Ok(()),
            (Ok(_), Validity::Expired) => {
                Err(PeersError::Certificate("it is still the former one".to_owned()))
            }
            (Err(error), Validity::Now) => Err(error),
        })
        .await
}

/// Writes the configuration and a certificate for the address that the server listens on.
fn configure(
    folder: &StateFolder,
    owner: Option<&'static str>,
    postgres: &Postgres,
) -> Result<(), ServerError> {
    let data = folder.postgres_data();
    for (name, text) in [("postgresql.conf", CONFIGURATION), ("pg_hba.conf", HOST_BASED_AUTHENTICATION)] {
        write_owned(&data, owner, name, text)?;
    }
    write_certificate(folder, &data, owner, postgres, Validity::Now)?;
    // PostgreSQL refuses to start while any process has the number in a lock file left by a crash. None of ours
    // runs, so that would be somebody else's.
    let stale = data.join("postmaster.pid");
    if stale.exists() {
        std::fs::remove_file(&stale).map_err(file("removing", &stale))?;
    }
    Ok(())
}

/// Admits standbys, also where the server was configured before there were any.
pub(super) fn admit_standbys(folder: &StateFolder) -> Result<(), ServerError> {
    write_owned(&folder.postgres_data(), owner(), "pg_hba.conf", HOST_BASED_AUTHENTICATION)?;
    daemon(folder).signal(Signal::SIGHUP);
    Ok(())
}

/// Writes a certificate for the address that pods use into a data directory.
pub(super) fn write_certificate(
    folder: &StateFolder,
    data: &Path,
    owner: Option<&'static str>,
    postgres: &Postgres,
    validity: Validity,
) -> Result<(), ServerError> {
    let ServerCertificate { certificate, key } = certificate::issue(folder, postgres.pod.ip(), validity)?;
    write_owned(data, owner, "server.crt", &certificate)?;
    write_owned(data, owner, "server.key", &key)
}

/// Writes a file of a data directory.
pub(super) fn write_owned(
    data: &Path,
    owner: Option<&'static str>,
    name: &str,
    text: &str,
) -> Result<(), ServerError> {
    let path = data.join(name);
    write_private_text(&path, text)?;
    hand_over(&path, owner)
}

/// Gives a file or folder to PostgreSQL's user.
pub(super) fn hand_over(path: &Path, owner: Option<&'static str>) -> Result<(), ServerError> {
    let Some(name) = owner else { return Ok(()) };
    let user = User::from_name(name).ok().flatten().ok_or(ServerError::NoPostgres)?;
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .map_err(file("giving PostgreSQL's user", path))
}

/// Runs a program as PostgreSQL's user.
async fn run(user: Option<&str>, data: &Path, program: &Path, arguments: &[&str]) -> Result<(), ServerError> {
    let mut line: Vec<String> = user.into_iter().flat_map(|user| wrapper(user, data)).collect();
    line.push(program.display().to_string());
    line.extend(arguments.iter().copied().map(str::to_owned));
    let output =
        Command::new(&line[0]).args(&line[1..]).env("HOME", data).current_dir("/").output().await.map_err(
            |source| ServerError::Program {
                program: line[0].clone(),
                hint: "install the packages in e2e/peers/packages.txt",
                source,
            },
        )?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    Err(ServerError::Failed {
        program: program.display().to_string(),
        output: String::from_utf8_lossy(&printed).trim().to_owned(),
    })
}

/// Makes the roles and the database that every test may count on.
async fn provision(postgres: &Postgres) -> Result<(), PeersError> {
    let admin = postgres.admin("postgres").await?;
    let made = || during("making roles and the database findings");
    let roles = format!(
        "DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{EXPORTER}') THEN CREATE ROLE {EXPORTER}; END IF;
           IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'findings_owner') THEN
             CREATE ROLE findings_owner;
           END IF;
         END $$;
         ALTER ROLE {EXPORTER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{}';
         GRANT pg_read_all_data TO {EXPORTER};",
        postgres.exporter.password
    );
    admin.batch_execute(&roles).await.map_err(made())?;
    let exists =
        admin.query_opt("SELECT FROM pg_database WHERE datname = 'findings'", &[]).await.map_err(made())?;
    if exists.is_none() {
        admin.batch_execute("CREATE DATABASE findings OWNER findings_owner").await.map_err(made())?;
    }
    Ok(())
}
