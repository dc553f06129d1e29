//! Passwords and ports, made once and kept for the life of the state folder.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{ServerError, error::file};
use crate::{state::StateFolder, unique};

/// What has to be the same at the next start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// 0 until the first start.
    pub(super) postgres_port: u16,
    /// 0 until the first start.
    #[serde(default)]
    pub(super) standby_port: u16,
    /// 0 until the first start.
    pub(super) s3_port: u16,
    pub(super) postgres_password: String,
    pub(super) exporter_password: String,
    pub(super) s3_secret: String,
}

impl Settings {
    pub(super) fn load_or_create(folder: &StateFolder) -> Result<Self, ServerError> {
        let path = folder.settings();
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| ServerError::Settings { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                postgres_port: 0,
                standby_port: 0,
                s3_port: 0,
                postgres_password: unique::secret(),
                exporter_password: unique::secret(),
                s3_secret: unique::secret(),
            }),
            Err(error) => Err(file("reading", &path)(error)),
        }
    }

    pub(super) fn save(&self, folder: &StateFolder) -> Result<(), ServerError> {
        write_private(&folder.settings(), self)
    }
}

/// Writes JSON that only its owner may read, all of it or nothing.
pub(super) fn write_private(path: &Path, value: &impl Serialize) -> Result<(), ServerError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| ServerError::Settings { path: path.to_owned(), source })?;
    write_private_text(path, &(text + "\n"))
}

/// Writes a text that only its owner may read, all of it or nothing.
pub(super) fn write_private_text(path: &Path, text: &str) -> Result<(), ServerError> {
    let unfinished = PathBuf::from(format!("{}.new", path.display()));
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(file("writing", &unfinished))?;
    out.write_all(text.as_bytes()).map_err(file("writing", &unfinished))?;
    std::fs::rename(&unfinished, path).map_err(file("writing", path))
}
