//! From a sink's target to its store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pgexport_api::order::Target;
use pgexport_api::reason::Reason;

use super::Store;
use super::s3::S3Store;
use super::volume::VolumeStore;
use crate::error::{Error, Result};
use crate::secret::Secrets;

/// Where claims of volumes are.
#[derive(Clone, Debug)]
pub struct Volumes(Places);

#[derive(Clone, Debug)]
enum Places {
    Mounted(PathBuf),
    Folders(BTreeMap<String, PathBuf>),
}

impl Volumes {
    /// In a pod: each claim is mounted below `root`, in a folder of its name.
    #[must_use]
    pub fn mounted(root: impl Into<PathBuf>) -> Self {
        Self(Places::Mounted(root.into()))
    }

    /// On a laptop: these folders stand for claims. A folder that does not exist is made at the first write.
    #[must_use]
    pub const fn folders(folders: BTreeMap<String, PathBuf>) -> Self {
        Self(Places::Folders(folders))
    }

    fn folder(&self, claim: &str) -> Result<PathBuf> {
        match &self.0 {
            Places::Mounted(root) => {
                let folder = root.join(claim);
                if folder.is_dir() {
                    return Ok(folder);
                }
                Err(Error::new(
                    Reason::VolumeUnavailable,
                    format!("PersistentVolumeClaim {claim} is not mounted"),
                ))
            }
            Places::Folders(folders) => folders.get(claim).cloned().ok_or_else(|| {
                Error::new(
                    Reason::VolumeUnavailable,
                    format!("no folder stands for PersistentVolumeClaim {claim}"),
                )
                .with_hint(format!("name a folder for the claim {claim}"))
            }),
        }
    }
}

/// Opens a target. No request is sent, but a Secret that is missing is noticed here.
///
/// # Errors
/// [`Reason::SecretNotFound`], [`Reason::SecretInvalid`], [`Reason::VolumeUnavailable`].
pub fn open(target: &Target, secrets: Arc<dyn Secrets>, volumes: &Volumes) -> Result<Arc<dyn Store>> {
    Ok(match target {
        Target::S3(s3) => Arc::new(S3Store::open(s3, secrets)?),
        Target::Volume(volume) => Arc::new(VolumeStore::new(volume, volumes.folder(&volume.claim_name)?)?),
    })
}
