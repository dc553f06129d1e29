//! The record of running peers, written by `peers up` and read by tests.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{PeersError, Postgres, S3, state};

/// The running servers: where they are and who may do what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peers {
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Its hot standby, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<Postgres>,
    /// The S3 server.
    pub s3: S3,
}

impl Peers {
    /// Reads the record at `$PGEXPORT_PEERS`, or where `peers up` writes it by default.
    ///
    /// # Errors
    /// [`PeersError::NotUp`] and [`PeersError::Record`]; both say how to start the servers.
    pub fn load() -> Result<Self, PeersError> {
        let path = std::env::var_os("PGEXPORT_PEERS")
            .filter(|path| !path.is_empty())
            .map_or_else(|| state::root().join("peers").join("peers.json"), PathBuf::from);
        Self::read(&path)
    }

    /// Reads the record at `path`.
    ///
    /// # Errors
    /// As for [`Peers::load`].
    pub fn read(path: &Path) -> Result<Self, PeersError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PeersError::NotUp { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| PeersError::Record { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Peers;

    #[test]
    fn missing_record_says_how_to_start_the_servers() {
        let error = Peers::read(Path::new("/nonexistent/peers.json")).unwrap_err();
        assert!(error.to_string().contains("make peers-up"), "{error}");
    }
}
