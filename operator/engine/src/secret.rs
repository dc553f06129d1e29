//! Where Secrets and ConfigMaps come from: mounted folders in a pod, the manifests or the environment under `pgexport run`. They are read
//! at each connect, so that a rotated Secret needs no restart.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pgexport_api::reason::Reason;

use crate::error::{Error, Result};

/// Bytes that no log, message or Debug output ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Secrets by name and key.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// The value, or `None` where the Secret or the key is missing.
    fn find(&self, name: &str, key: &str) -> Result<Option<Secret>>;

    /// The value of a ConfigMap's key, or `None` where the ConfigMap or the key is missing.
    fn find_in_config_map(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>>;

    /// The value; a missing one is [`Reason::SecretNotFound`].
    fn read(&self, name: &str, key: &str) -> Result<Secret> {
        self.find(name, key)?.ok_or_else(|| {
            Error::new(Reason::SecretNotFound, format!("Secret {name} does not exist, or has no key {key}"))
                .with_hint(format!("create Secret {name} with the key {key}"))
        })
    }

    /// The value as text without the line break that editors and `echo` leave at its end.
    fn read_text(&self, name: &str, key: &str) -> Result<String> {
        let secret = self.read(name, key)?;
        let text = std::str::from_utf8(secret.bytes()).map_err(|_| {
            Error::new(Reason::SecretInvalid, format!("key {key} of Secret {name} is not UTF-8"))
        })?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Secrets and ConfigMaps that the kubelet mounted, each in a folder of its name.
#[derive(Debug)]
pub struct MountedSecrets {
    secrets: PathBuf,
    config_maps: PathBuf,
}

impl MountedSecrets {
    /// Secrets below one folder, ConfigMaps below another one.
    #[must_use]
    pub fn new(secrets: impl Into<PathBuf>, config_maps: impl Into<PathBuf>) -> Self {
        Self { secrets: secrets.into(), config_maps: config_maps.into() }
    }
}

/// What a file holds; `None` where there is none.
fn file(kind: &str, root: &Path, name: &str, key: &str) -> Result<Option<Vec<u8>>> {
    match std::fs::read(root.join(name).join(key)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(
            Reason::SecretInvalid,
            format!("key {key} of {kind} {name} cannot be read: {error}"),
        )
        .with_source(error)),
    }
}

impl Secrets for MountedSecrets {
    fn find(&self, name: &str, key: &str) -> Result<Option<Secret>> {
        Ok(file("Secret", &self.secrets, name, key)?.map(Secret::new))
    }

    fn find_in_config_map(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>> {
        file("ConfigMap", &self.config_maps, name, key)
    }
}

/// Secrets and ConfigMaps in memory, by name and key.
#[derive(Debug, Default)]
pub struct MemorySecrets {
    secrets: BTreeMap<(String, String), Secret>,
    config_maps: BTreeMap<(String, String), Vec<u8>>,
}

impl MemorySecrets {
    /// Adds or replaces a value.
    pub fn insert(&mut self, name: impl Into<String>, key: impl Into<String>, value: Secret) {
        self.secrets.insert((name.into(), key.into()), value);
    }

    /// Adds or replaces a value of a ConfigMap.
    pub fn insert_config(&mut self, name: impl Into<String>, key: impl Into<String>, value: Vec<u8>) {
        self.config_maps.insert((name.into(), key.into()), value);
    }
}

impl Secrets for MemorySecrets {
    fn find(&self, name: &str, key: &str) -> Result<Option<Secret>> {
        Ok(self.secrets.get(&(name.to_owned(), key.to_owned())).cloned())
    }

    fn find_in_config_map(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.config_maps.get(&(name.to_owned(), key.to_owned())).cloned())
    }
}
