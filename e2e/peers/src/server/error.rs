//! What can go wrong while servers are started or stopped.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::PeersError;

/// Why a server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Test servers with test passwords do not listen on every interface.
    #[error(
        "not listening on {address}: name one address, such as 127.0.0.1 or that of the cluster's bridge"
    )]
    Everywhere {
        /// The address asked for.
        address: IpAddr,
    },
    /// The address does not exist here.
    #[error("nothing can listen on {address} in this network namespace")]
    Address {
        /// The address asked for.
        address: IpAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder of the state folder.
    #[error("{action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Passwords and ports of the state folder are unreadable.
    #[error("{path} is damaged: remove everything with `peers down --purge` and start again")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A certificate cannot be made.
    #[error("making the PostgreSQL peer's certificate")]
    Certificate(#[from] rcgen::Error),
    /// PostgreSQL is not installed.
    #[error("no PostgreSQL server below /usr/lib/postgresql: install the packages in e2e/peers/packages.txt")]
    NoPostgres,
    /// A version that is neither installed nor known where to get.
    #[error(
        "there is no PostgreSQL {version}: install postgresql-{version}, or name another version of those in \
         e2e/peers/postgres-releases.txt; what data of it there are goes with `peers down --purge`"
    )]
    NoVersion {
        /// The major version.
        version: u32,
    },
    /// The data are another version's.
    #[error(
        "the data in {data} are PostgreSQL {made}'s, not {version}'s: name another state folder with --state, or \
         remove them with `peers down --purge`"
    )]
    DataOfAnother {
        /// The data directory.
        data: PathBuf,
        /// The major version that made it.
        made: String,
        /// The version that was asked for.
        version: u32,
    },
    /// PostgreSQL refuses to run as root and its own user is missing or shut out.
    #[error(
        "PostgreSQL runs as the user {user} when started by root, and that user cannot enter {path}: choose another \
         state folder with --state, or open the folders above it"
    )]
    ShutOut {
        /// The user.
        user: &'static str,
        /// The state folder.
        path: PathBuf,
    },
    /// A program cannot be started.
    #[error("{program} cannot be run: {hint}")]
    Program {
        /// The program.
        program: String,
        /// What to do.
        hint: &'static str,
        /// Why it cannot be run.
        #[source]
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A server ended soon after it was started, or does not answer.
    #[error("{name} does not come up; the end of {log}:\n{tail}")]
    NotUp {
        /// The server.
        name: &'static str,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
        /// The last attempt to reach it.
        #[source]
        source: Box<PeersError>,
    },
    /// A server does not end.
    #[error("{name}, process {pid}, does not end")]
    NotDown {
        /// The server.
        name: &'static str,
        /// Its process.
        pid: u32,
    },
    /// The server runs and cannot be set up.
    #[error(transparent)]
    Peers(#[from] PeersError),
}

/// Says which file an I/O error is about.
pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::File { action, path: path.to_owned(), source }
}
