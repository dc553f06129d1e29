//! `_manifest.json` and `_SUCCESS`: written once, and never over another delivery's.

use bytes::Bytes;
use jiff::Timestamp;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MANIFEST, Manifest, SUCCESS};
use crate::error::{Error, Result};
use crate::store::{Put, PutMode, Store};

/// The version of [`Success`] that this code writes.
const SUCCESS_VERSION: u32 = 1;

const JSON: &str = "application/json";

/// A delivery's manifest, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The manifest's URI.
    pub manifest: String,
    /// The manifest's SHA-256, in hexadecimal.
    pub sha256: String,
}

/// The contents of `_SUCCESS`: whose delivery is complete, and its totals.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Success {
    /// The version of this document.
    pub version: u32,
    /// The ExportJob's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// SHA-256 over its spec, in hexadecimal; empty in what earlier versions wrote.
    #[serde(default)]
    pub spec_sha256: String,
    /// The attempt that delivered.
    pub attempt: u32,
    /// The manifest's SHA-256, in hexadecimal.
    pub manifest_sha256: String,
    /// Chunks, over all data sets.
    pub chunks: u32,
    /// Data files.
    pub files: u32,
    /// Rows in them.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The instant of the snapshot; absent where each chunk has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
}

/// Looks whether the path holds a finished delivery, before anything is written there. `None`: no; also where the sink
/// does not let us look, and [`seal`] will notice. Otherwise it is this ExportJob's own, or that of a former one of the
/// same name and spec, and nothing is left to do.
///
/// # Errors
/// [`Reason::OutputExists`]: it is another one's.
pub async fn refuse_if_delivered(
    store: &dyn Store,
    path: &str,
    order: &RunOrder,
) -> Result<Option<Delivered>> {
    match look(store, &format!("{path}{SUCCESS}")).await? {
        Look::Nothing | Look::Refused => Ok(None),
        Look::Found(text) => match Success::read(&text) {
            Some(success) if success.uid == order.run.uid => Ok(Some(success.delivered(store, path, false))),
            // What Git declares is created again where somebody removes it: the same name and spec, and nothing to do.
            Some(success) if success.is_same_job(order) => Ok(Some(success.delivered(store, path, true))),
            other => Err(taken(store, path, other.as_ref())),
        },
    }
}

/// Ends a delivery whose data files are committed: writes the manifest, then `_SUCCESS`. Both are created conditionally,
/// so that another job's delivery is never altered, also on a sink that grants only writing.
///
/// # Errors
/// [`Reason::OutputExists`]: the path holds another delivery, or one that cannot be told from another.
pub async fn seal(store: &dyn Store, path: &str, manifest: &Manifest) -> Result<Sealed> {
    let body = document(manifest)?;
    let sha256 = hex::encode(Sha256::digest(&body));
    let key = format!("{path}{MANIFEST}");
    if store.put(&key, body.clone(), JSON, PutMode::Create).await? == Put::Exists {
        match look(store, &key).await? {
            Look::Found(found) if found == body => {}
            Look::Refused => return Err(untold(store, path)),
            Look::Found(_) | Look::Nothing => replace_unfinished(store, path, &key, body).await?,
        }
    }
    let success = Success::new(manifest, &sha256);
    let success_key = format!("{path}{SUCCESS}");
    if store.put(&success_key, document(&success)?, JSON, PutMode::Create).await? == Put::Exists {
        match look(store, &success_key).await? {
            Look::Refused => return Err(untold(store, path)),
            Look::Nothing => {
                return Err(Error::new(
                    Reason::StoreError,
                    format!("{} comes and goes", store.uri(&success_key)),
                ));
            }
            Look::Found(found) => match Success::read(&found) {
                Some(found) if found.uid == success.uid && found.manifest_sha256 == sha256 => {}
                other => return Err(taken(store, path, other.as_ref())),
            },
        }
    }
    Ok(Sealed { manifest: store.uri(&key), sha256 })
}

/// Replaces the manifest of a delivery that was never finished.
async fn replace_unfinished(store: &dyn Store, path: &str, key: &str, body: Bytes) -> Result<()> {
    match look(store, &format!("{path}{SUCCESS}")).await? {
        Look::Found(text) => return Err(taken(store, path, Success::read(&text).as_ref())),
        // The manifest beside it could be read. So this is how S3 says "nothing" to those who may not list.
        Look::Nothing | Look::Refused => {}
    }
    store.put(key, body, JSON, PutMode::Replace).await.map(drop)
}

enum Look {
    Nothing,
    Found(Bytes),
    Refused,
}

async fn look(store: &dyn Store, key: &str) -> Result<Look> {
    match store.get(key).await {
        Ok(None) => Ok(Look::Nothing),
        Ok(Some(text)) => Ok(Look::Found(text)),
        Err(error) if error.reason() == Reason::AccessDenied => Ok(Look::Refused),
        Err(error) => Err(error),
    }
}

fn taken(store: &dyn Store, path: &str, success: Option<&Success>) -> Error {
    let whose = success.map_or_else(
        || "something else".to_owned(),
        |Success { namespace, name, uid, attempt, .. }| {
            format!("ExportJob {namespace}/{name} ({uid}, attempt {attempt})")
        },
    );
    Error::new(Reason::OutputExists, format!("{} holds a finished delivery of {whose}", store.uri(path)))
}

fn untold(store: &dyn Store, path: &str) -> Error {
    let message = format!(
        "{} holds a delivery already, and whose it is cannot be told, since the sink does not let it be read",
        store.uri(path)
    );
    Error::new(Reason::OutputExists, message).with_hint(
        "choose another path, such as one with {uid}, remove what is there, or grant s3:GetObject on it",
    )
}

fn document(value: &impl Serialize) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
        Error::new(Reason::InternalError, "a manifest cannot be written").with_source(error)
    })?;
    text.push(b'\n');
    Ok(text.into())
}

impl Success {
    fn new(manifest: &Manifest, sha256: &str) -> Self {
        Self {
            version: SUCCESS_VERSION,
            namespace: manifest.job.namespace.clone(),
            name: manifest.job.name.clone(),
            uid: manifest.job.uid.clone(),
            spec_sha256: manifest.job.spec_sha256.clone(),
            attempt: manifest.job.attempt,
            manifest_sha256: sha256.to_owned(),
            chunks: manifest.export.chunks,
            files: manifest.files(),
            rows: manifest.rows,
            bytes: manifest.bytes,
            snapshot_time: manifest.snapshot.as_ref().map(|snapshot| snapshot.time),
        }
    }

    /// Whether it is of an ExportJob of the same name and spec.
    fn is_same_job(&self, order: &RunOrder) -> bool {
        let run = &order.run;
        (&self.namespace, &self.name, &self.spec_sha256) == (&run.namespace, &run.name, &run.spec_sha256)
    }

    /// Reads it; `None` where it is not one of ours, such as Spark's, which is empty.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(text).ok().filter(|success| success.version == SUCCESS_VERSION)
    }

    fn delivered(self, store: &dyn Store, path: &str, already: bool) -> Delivered {
        Delivered {
            chunks: self.chunks,
            manifest: store.uri(&format!("{path}{MANIFEST}")),
            manifest_sha256: self.manifest_sha256,
            files: self.files,
            rows: self.rows,
            bytes: self.bytes,
            snapshot_time: self.snapshot_time,
            already,
        }
    }
}
