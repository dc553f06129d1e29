//! Starting and stopping the servers.

mod base_backup;
mod certificate;
mod daemon;
mod error;
mod postgres;
mod release;
mod settings;
mod standby;
mod versitygw;

use std::{
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener},
};

pub use certificate::Validity;
pub use error::ServerError;
use release::Release;
use settings::Settings;

use crate::{Account, Login, Peers, Postgres, S3, state::StateFolder};

/// Which servers there shall be, where they listen, and where others reach them: the options of `peers up`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Listen {
    /// The address of all servers; never 0.0.0.0
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// PostgreSQL's port; 0 takes a free one and keeps it
    #[arg(long, default_value_t = 0)]
    pub postgres_port: u16,
    /// Start a hot standby of PostgreSQL too, made anew from it; one that runs goes on without this
    #[arg(long)]
    pub standby: bool,
    /// The standby's port; 0 takes a free one and keeps it
    #[arg(long, default_value_t = 0)]
    pub standby_port: u16,
    /// The S3 server's port; 0 takes a free one and keeps it
    #[arg(long, default_value_t = 0)]
    pub s3_port: u16,
    /// Where processes of this machine reach PostgreSQL, if not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    pub published_postgres: Option<SocketAddr>,
    /// Where processes of this machine reach the standby, if not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    pub published_standby: Option<SocketAddr>,
    /// Where processes of this machine reach the S3 server, if not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    pub published_s3: Option<SocketAddr>,
}

impl Listen {
    /// At this address, on ports that are free, without a standby.
    #[must_use]
    pub const fn on(address: IpAddr) -> Self {
        Self {
            address,
            postgres_port: 0,
            standby: false,
            standby_port: 0,
            s3_port: 0,
            published_postgres: None,
            published_standby: None,
            published_s3: None,
        }
    }
}

/// Whether each server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// PostgreSQL's process.
    pub postgres: Option<u32>,
    /// The standby's process.
    pub standby: Option<u32>,
    /// The S3 server's process.
    pub s3: Option<u32>,
}

/// Starts what is not running as asked for, makes roles and databases, and writes the record. Servers that listen
/// elsewhere, or in another network namespace, are restarted. PostgreSQL is of the major version asked for; without one, that
/// of its data, or the distribution's newest.
///
/// # Errors
/// [`ServerError`] says which server and what to do.
pub async fn up(
    folder: &StateFolder,
    listen: Listen,
    postgres_version: Option<u32>,
) -> Result<Peers, ServerError> {
    if listen.address.is_unspecified() {
        return Err(ServerError::Everywhere { address: listen.address });
    }
    // Before anything that runs is stopped, and before anything is sent to an address that is not here.
    let address = listen.address;
    TcpListener::bind((address, 0)).map_err(|source| ServerError::Address { address, source })?;
    std::fs::create_dir_all(folder.path()).map_err(error::file("making", folder.path()))?;
    let _lock = lock(folder)?;
    let release = Release::find(&folder.postgres_data(), postgres_version).await?;
    let ca_pem = certificate::ensure_authority(folder)?;
    let mut settings = Settings::load_or_create(folder)?;

    let running = status(folder);
    settings.postgres_port =
        port(listen.address, listen.postgres_port, settings.postgres_port, running.postgres.is_some())?;
    settings.s3_port = port(listen.address, listen.s3_port, settings.s3_port, running.s3.is_some())?;
    let has_standby = listen.standby || running.standby.is_some();
    if has_standby {
        let (asked, before) = (listen.standby_port, settings.standby_port);
        settings.standby_port = port(listen.address, asked, before, running.standby.is_some())?;
    }
    settings.save(folder)?;
    let postgres_address = SocketAddr::new(listen.address, settings.postgres_port);
    let s3_address = SocketAddr::new(listen.address, settings.s3_port);

    // As seen from here; the record gets the published addresses below.
    let mut peers = Peers {
        postgres: Postgres {
            host: postgres_address,
            pod: postgres_address,
            admin: Login {
                user: postgres::SUPERUSER.to_owned(),
                password: settings.postgres_password.clone(),
            },
            exporter: Login {
                user: postgres::EXPORTER.to_owned(),
                password: settings.exporter_password.clone(),
            },
            ca_file: folder.ca_certificate(),
            ca_pem,
            version: Some(release.version),
        },
        standby: None,
        s3: S3 {
            host: s3_address,
            pod: s3_address,
            region: versitygw::REGION.to_owned(),
            admin: Account { access_key: versitygw::ROOT.to_owned(), secret_key: settings.s3_secret.clone() },
            program: versitygw::ensure_installed().await?,
        },
    };
    postgres::start(folder, &peers.postgres, &release).await?;
    if has_standby {
        let address = SocketAddr::new(listen.address, settings.standby_port);
        let standby = Postgres { host: address, pod: address, ..peers.postgres.clone() };
        standby::start(folder, &peers.postgres, &standby, &release).await?;
        peers.standby = Some(Postgres { host: listen.published_standby.unwrap_or(address), ..standby });
    }
    versitygw::start(folder, &peers.s3).await?;

    peers.postgres.host = listen.published_postgres.unwrap_or(postgres_address);
    peers.s3.host = listen.published_s3.unwrap_or(s3_address);
    settings::write_private(&folder.record(), &peers)?;
    Ok(peers)
}

/// Has PostgreSQL show another certificate to all who connect from now on. To be called from where `postgres.host` is reached.
///
/// # Errors
/// PostgreSQL does not run, or does not take it.
pub async fn certify(
    folder: &StateFolder,
    postgres: &Postgres,
    validity: Validity,
) -> Result<(), ServerError> {
    let _lock = lock(folder)?;
    postgres::certify(folder, postgres, validity).await
}

/// Stops all servers, and removes all objects: tests and benchmarks leave gigabytes of them. With `purge` the databases and the
/// passwords go too.
///
/// # Errors
/// A server does not end, or files cannot be removed.
pub async fn down(folder: &StateFolder, purge: bool) -> Result<(), ServerError> {
    if !folder.path().exists() {
        return Ok(());
    }
    let lock = lock(folder)?;
    standby::daemon(folder).stop().await?;
    postgres::daemon(folder).stop().await?;
    versitygw::daemon(folder).stop().await?;
    if folder.record().exists() {
        std::fs::remove_file(folder.record()).map_err(error::file("removing", &folder.record()))?;
    }
    let objects = folder.s3_data();
    if objects.exists() {
        std::fs::remove_dir_all(&objects).map_err(error::file("removing", &objects))?;
    }
    if purge {
        folder.purge().map_err(error::file("removing what is in", folder.path()))?;
    }
    drop(lock);
    Ok(())
}

/// Builds the S3 server and fetches these major versions of PostgreSQL, unless they are there: it needs the network, which the
/// place where they will run may not have.
///
/// # Errors
/// Go or Maven is missing, the build fails, or a version is not to be had.
pub async fn install(postgres_versions: &[u32]) -> Result<(), ServerError> {
    for version in postgres_versions {
        Release::ensure(*version).await?;
    }
    versitygw::ensure_installed().await.map(drop)
}

/// Looks for the servers' processes.
#[must_use]
pub fn status(folder: &StateFolder) -> Status {
    Status {
        postgres: postgres::daemon(folder).find(),
        standby: standby::daemon(folder).find(),
        s3: versitygw::daemon(folder).find(),
    }
}

fn lock(folder: &StateFolder) -> Result<File, ServerError> {
    let path = folder.lock();
    let file = File::create(&path).map_err(error::file("making", &path))?;
    file.lock().map_err(error::file("locking", &path))?;
    Ok(file)
}

/// The port asked for, else the one that was used before if it is still to be had, else a free one.
fn port(address: IpAddr, asked: u16, before: u16, running: bool) -> Result<u16, ServerError> {
    if asked != 0 {
        return Ok(asked);
    }
    if before != 0 && (running || TcpListener::bind((address, before)).is_ok()) {
        return Ok(before);
    }
    free(address)
}

/// A free port below those that the kernel hands out to outgoing connections, one of which could take it while the server
/// is down.
fn free(address: IpAddr) -> Result<u16, ServerError> {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let mut source = None;
    for _ in 0..100 {
        let port = rand::random_range(PORTS);
        match TcpListener::bind((address, port)) {
            Ok(_) => return Ok(port),
            Err(error) => source = Some(error),
        }
    }
    Err(ServerError::Address {
        address,
        source: source.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::port;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_is_kept_unless_somebody_else_took_it() {
        let taken = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        assert_eq!(port(LOOPBACK, 4711, number, false).unwrap(), 4711, "asked for");
        assert_eq!(port(LOOPBACK, 0, number, true).unwrap(), number, "taken by our own server");
        assert_ne!(port(LOOPBACK, 0, number, false).unwrap(), number, "taken by somebody else");
        drop(taken);
        assert_eq!(port(LOOPBACK, 0, number, false).unwrap(), number, "free again");
    }
}
