//! `_SUCCESS`: whose delivery is complete.

use jiff::Timestamp;
use pgexport_api::order::RunOrder;
use pgexport_api::report::Delivered;
use serde::{Deserialize, Serialize};

use super::{MANIFEST, Manifest};
use crate::store::Store;

/// The version of [`Success`] that this code writes.
const SUCCESS_VERSION: u32 = 1;

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

impl Success {
    pub(super) fn new(manifest: &Manifest, sha256: &str) -> Self {
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
    pub(super) fn is_same_job(&self, order: &RunOrder) -> bool {
        let run = &order.run;
        (&self.namespace, &self.name, &self.spec_sha256) == (&run.namespace, &run.name, &run.spec_sha256)
    }

    /// Reads it; `None` where it is not one of ours, such as Spark's, which is empty.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(text).ok().filter(|success| success.version == SUCCESS_VERSION)
    }

    pub(super) fn delivered(self, store: &dyn Store, path: &str, already: bool) -> Delivered {
        Delivered {
            chunks: self.chunks,
            manifest: store.uri(&format!("{path}{MANIFEST}")),
            manifest_sha256: self.manifest_sha256,
            files: self.files,
            rows: self.rows,
            bytes: self.bytes,
            snapshot_time: self.snapshot_time,
            chunking: Vec::new(),
            already,
        }
    }
}
