//! `_manifest.json` and `_SUCCESS`: written once, and never over another delivery's.

use bytes::Bytes;
use pgexport_api::reason::Reason;
use pgexport_failpoint as failpoint;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::arrival::{Look, changed, look, taken};
use super::{MANIFEST, Manifest, SUCCESS, Success};
use crate::error::{Error, Result};
use crate::staging::Staging;
use crate::store::{Document, Put, PutMode, Store};

pub(super) const JSON: &str = "application/json";

/// A delivery's manifest, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The manifest's URI.
    pub manifest: String,
    /// The manifest's SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Ends a delivery whose data files are committed: writes the manifest, then `_SUCCESS`. Both are created conditionally,
/// so that another job's delivery is never altered, also on a sink that grants only writing.
///
/// There nobody can see whose the manifest is that an earlier try may have written. With a staging, each try notes there
/// which manifest it is about to write, and whoever finds it noted knows it for the attempt's own.
///
/// # Errors
/// [`Reason::OutputExists`]: the path holds another delivery, or one that cannot be told from another.
pub async fn seal(
    store: &dyn Store,
    path: &str,
    manifest: &Manifest,
    staging: Option<&Staging>,
) -> Result<Sealed> {
    let sealing = Sealing { store, path, staging };
    let body = document(manifest)?;
    let (body, is_first) = match staging {
        Some(staging) => noted(staging, manifest, body).await?,
        None => (body, true),
    };
    let key = format!("{path}{MANIFEST}");
    let mut is_written_before = false;
    if store.put(&key, body.clone(), JSON, PutMode::Create).await? == Put::Exists {
        match look(store, &key).await? {
            Look::Found(found) if found.body == body => {}
            Look::Refused if is_first => return Err(sealing.untold().await),
            Look::Refused => is_written_before = true,
            Look::Found(found) => {
                sealing.replace_unfinished(&key, body.clone(), &found, &manifest.job.uid).await?;
            }
            Look::Nothing => return Err(changed(store, path)),
        }
    }
    failpoint::hit("seal::manifest_written", &manifest.job.uid).await;
    let sha256 = hex::encode(Sha256::digest(&body));
    let success = Success::new(manifest, &sha256);
    match create_success(store, path, &success).await? {
        Created::Ours => {}
        Created::Refused if is_written_before => {}
        Created::Refused => return Err(sealing.untold().await),
        Created::Another(other) => return Err(taken(store, path, other.as_ref())),
    }
    failpoint::hit("seal::success_written", &manifest.job.uid).await;
    Ok(Sealed { manifest: store.uri(&key), sha256 })
}

/// The manifest that is delivered: the one that an earlier try has noted, if there is one; and whether it is noted just now.
async fn noted(staging: &Staging, manifest: &Manifest, body: Bytes) -> Result<(Bytes, bool)> {
    let (noted, is_first) = staging.intend(body).await?;
    if is_first || Manifest::read(&noted).is_some_and(|noted| noted.is_of_same_delivery(manifest)) {
        return Ok((noted, is_first));
    }
    let message = format!(
        "{} is not the manifest of what the staging holds, and an earlier try has noted it",
        staging.delivery_uri()
    );
    Err(Error::new(Reason::ChecksumMismatch, message).with_hint(
        "the next attempt exports anew; unless pgexport was upgraded meanwhile, look for whoever else writes to the staging",
    ))
}

struct Sealing<'a> {
    store: &'a dyn Store,
    path: &'a str,
    staging: Option<&'a Staging>,
}

impl Sealing<'_> {
    /// Replaces the manifest of a delivery that was never finished.
    async fn replace_unfinished(&self, key: &str, body: Bytes, found: &Document, uid: &str) -> Result<()> {
        let Self { store, path, .. } = self;
        match look(*store, &format!("{path}{SUCCESS}")).await? {
            Look::Found(document) => {
                return Err(taken(*store, path, Success::read(&document.body).as_ref()));
            }
            // The manifest beside it could be read. So this is how S3 says "nothing" to those who may not list.
            Look::Nothing | Look::Refused => {}
        }
        failpoint::hit("seal::replacing", uid).await;
        put_over(*store, key, body, Some(found)).await?.then_some(()).ok_or_else(|| changed(*store, path))
    }

    /// What is there is another one's, or cannot be told from it. What this try has noted is taken back: the next one would
    /// take the other's for its own.
    async fn untold(&self) -> Error {
        if let Some(staging) = self.staging
            && let Err(error) = staging.withdraw().await
        {
            tracing::warn!(%error, "the noted manifest stays in the staging");
        }
        let message = format!(
            "{} holds a delivery already, and whose it is cannot be told, since the sink does not let it be read",
            self.store.uri(self.path)
        );
        Error::new(Reason::OutputExists, message).with_hint(
            "choose another path, such as one with {uid}, remove what is there, or grant s3:GetObject on it",
        )
    }
}

/// Puts a document over the one that was found, or where none was; `false` where there is another one by now.
pub(super) async fn put_over(
    store: &dyn Store,
    key: &str,
    body: Bytes,
    found: Option<&Document>,
) -> Result<bool> {
    let mode = found.map_or(PutMode::Create, |found| PutMode::Over(found.version.clone()));
    // The answer to an earlier try may have been lost.
    Ok(store.put(key, body.clone(), JSON, mode).await? == Put::Written || store.get(key).await? == Some(body))
}

/// Whose `_SUCCESS` is there now.
pub(super) enum Created {
    /// This delivery's.
    Ours,
    /// Another one's, or something else.
    Another(Option<Success>),
    /// There was one, and it cannot be read.
    Refused,
}

pub(super) async fn create_success(store: &dyn Store, path: &str, success: &Success) -> Result<Created> {
    let key = format!("{path}{SUCCESS}");
    if store.put(&key, document(success)?, JSON, PutMode::Create).await? == Put::Written {
        return Ok(Created::Ours);
    }
    match look(store, &key).await? {
        Look::Refused => Ok(Created::Refused),
        Look::Nothing => Err(changed(store, path)),
        Look::Found(there) => match Success::read(&there.body) {
            Some(found) if found.uid == success.uid && found.manifest_sha256 == success.manifest_sha256 => {
                Ok(Created::Ours)
            }
            // A former attempt, given up for dead, has come to its end after its manifest was replaced by this one.
            Some(found) if found.uid == success.uid && found.attempt < success.attempt => {
                let is_ours = put_over(store, &key, document(success)?, Some(&there)).await?;
                is_ours.then_some(Created::Ours).ok_or_else(|| changed(store, path))
            }
            // Another attempt of this run has delivered meanwhile.
            Some(found) if found.uid == success.uid => Err(changed(store, path)),
            other => Ok(Created::Another(other)),
        },
    }
}

pub(super) fn document(value: &impl Serialize) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
        Error::new(Reason::InternalError, "a manifest cannot be written").with_source(error)
    })?;
    text.push(b'\n');
    Ok(text.into())
}
