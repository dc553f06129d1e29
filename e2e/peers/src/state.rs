//! Where the peers keep their files.

use std::path::{Path, PathBuf};

/// The folder for everything that tests and tools keep between runs: `$PGEXPORT_STATE`, or `.state` in the repository.
#[must_use]
pub fn root() -> PathBuf {
    std::env::var_os("PGEXPORT_STATE").filter(|path| !path.is_empty()).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).join(".state"),
        PathBuf::from,
    )
}

/// The files of one pair of servers.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// The given folder, or `peers` below [`root`].
    ///
    /// # Errors
    /// The current directory cannot be found, which a relative path needs.
    pub fn new(path: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self { path: std::path::absolute(path.unwrap_or_else(|| root().join("peers")))? })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Addresses and credentials for tests; see [`crate::Peers`].
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path.join("peers.json")
    }

    /// Passwords and ports that outlive restarts.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.path.join("settings.json")
    }

    /// Held while servers are started or stopped.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The CA certificate that clients trust.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.path.join("ca.crt")
    }

    /// The CA's private key.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.path.join("ca.key")
    }

    /// PostgreSQL's data directory.
    #[must_use]
    pub fn postgres_data(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// A data directory that is still being made.
    #[must_use]
    pub fn unfinished_postgres_data(&self) -> PathBuf {
        self.path.join("postgres.new")
    }

    /// The superuser's password, while a data directory is being made.
    #[must_use]
    pub fn initial_password(&self) -> PathBuf {
        self.path.join("initial-password")
    }

    /// The standby's data directory.
    #[must_use]
    pub fn standby_data(&self) -> PathBuf {
        self.path.join("standby")
    }

    /// The standby's log.
    #[must_use]
    pub fn standby_log(&self) -> PathBuf {
        self.path.join("standby.log")
    }

    /// PostgreSQL's log.
    #[must_use]
    pub fn postgres_log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The buckets: a folder each.
    #[must_use]
    pub fn s3_data(&self) -> PathBuf {
        self.path.join("s3")
    }

    /// The S3 server's accounts.
    #[must_use]
    pub fn s3_accounts(&self) -> PathBuf {
        self.path.join("s3-accounts")
    }

    /// The S3 server's log.
    #[must_use]
    pub fn s3_log(&self) -> PathBuf {
        self.path.join("s3.log")
    }

    /// Removes every file in the folder and the folder, but nothing that peers did not make.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn purge(&self) -> std::io::Result<()> {
        let files = [
            self.settings(),
            self.initial_password(),
            self.ca_certificate(),
            self.ca_key(),
            self.postgres_log(),
            self.standby_log(),
            self.s3_log(),
            self.lock(),
        ];
        for folder in [
            self.postgres_data(),
            self.unfinished_postgres_data(),
            self.standby_data(),
            self.s3_data(),
            self.s3_accounts(),
        ] {
            ignore_missing(std::fs::remove_dir_all(folder))?;
        }
        for file in files {
            ignore_missing(std::fs::remove_file(file))?;
        }
        // Whatever else is in it belongs to somebody else, and keeps the folder.
        let _ = std::fs::remove_dir(&self.path);
        Ok(())
    }
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
