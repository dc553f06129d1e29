//! What a delivery consists of: data files, then `_manifest.json`, then `_SUCCESS`.
//!
//! A reader that waits for `_SUCCESS` finds everything that the manifest names, whole. Before it, there may be nothing, or
//! files of an attempt that failed, whose names carry its token. Nothing here depends on the time at which it runs: a
//! delivery that is tried again writes the same bytes.

mod arrival;
mod delivery;
mod replace;
mod seal;
mod success;

pub use arrival::{Arrival, Earlier, arrive};
pub use delivery::{DeliveredFile, Delivery};
pub use replace::replace;
pub use seal::{Sealed, seal};
pub use success::Success;

use jiff::Timestamp;
use pgexport_api::job::{Compression, Format, ParameterValue, Window};
use pgexport_api::order::RunOrder;
use serde::{Deserialize, Serialize};

use crate::output::FileDigest;
use crate::plan::{Column, Plan};

/// The version of [`Manifest`] that this code writes.
pub const MANIFEST_VERSION: u32 = 1;

/// The manifest's name below the delivery's path. The underscore keeps Spark and Athena from reading it as data.
pub const MANIFEST: &str = "_manifest.json";

/// The name of the file that says that a delivery is complete.
pub const SUCCESS: &str = "_SUCCESS";

/// What a delivery consists of.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The version of pgexport that wrote it.
    pub pgexport: String,
    /// Whose delivery it is.
    pub job: Job,
    /// Where it is, as a URI.
    pub location: String,
    /// What is unique to the attempt and stands in the files' names.
    pub token: String,
    /// The files' format.
    pub format: Format,
    /// How they are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The parameters of the queries.
    pub parameters: Vec<Parameter>,
    /// The span of time whose rows it holds, where the ExportJob has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What the queries saw; absent where each chunk saw the moment at which it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// The server's version.
    pub server_version: String,
    /// When and in how many chunks it was read.
    #[serde(flatten)]
    pub export: Export,
    /// Rows in all files.
    pub rows: u64,
    /// Bytes in all files.
    pub bytes: u64,
    /// The data sets, in the ExportJob's order.
    pub datasets: Vec<Dataset>,
    /// Files of the delivery whose place this one takes, relative to the manifest: they go when this one is sealed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
}

/// An ExportJob's attempt.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The ExportJob's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// SHA-256 over its spec, in hexadecimal.
    pub spec_sha256: String,
}

/// A parameter of the queries.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its PostgreSQL type.
    #[serde(rename = "type")]
    pub parameter_type: String,
    /// Its text; `null` for NULL, and for one that the source declares as sensitive.
    pub value: Option<String>,
}

/// What the queries saw.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was taken.
    pub time: Timestamp,
    /// The log position near it, where the server tells it.
    pub lsn: Option<String>,
    /// What `pg_export_snapshot()` returned.
    pub id: String,
}

/// When and in how many chunks rows were read.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Chunks over all data sets.
    pub chunks: u32,
    /// When the first chunk began.
    pub started: Timestamp,
    /// When the last chunk ended.
    pub finished: Timestamp,
}

/// A data set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// SHA-256 over the query as the ExportJob writes it, in hexadecimal.
    pub query_sha256: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its files, by part.
    pub files: Vec<File>,
}

/// A data file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Where it is, relative to the manifest.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    #[serde(flatten)]
    pub digest: FileDigest,
}

/// A data file's place in a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// The place of its data set in the plan.
    pub dataset: u32,
    /// Its number in its data set.
    pub part: u32,
    /// The file.
    pub file: File,
}

impl Manifest {
    /// The manifest of an order's delivery.
    #[must_use]
    pub fn new(order: &RunOrder, plan: &Plan, export: Export, mut files: Vec<PlacedFile>) -> Self {
        files.sort_by_key(|file| (file.dataset, file.part));
        let datasets: Vec<Dataset> = (0..)
            .zip(&plan.datasets)
            .map(|(index, dataset)| {
                let files: Vec<File> =
                    files.iter().filter(|file| file.dataset == index).map(|file| file.file.clone()).collect();
                Dataset {
                    name: dataset.name.clone(),
                    query_sha256: dataset.query_sha256.clone(),
                    columns: dataset.columns.clone(),
                    rows: total(files.iter().map(|file| file.rows)),
                    bytes: total(files.iter().map(|file| file.digest.bytes)),
                    files,
                }
            })
            .collect();
        Self {
            version: MANIFEST_VERSION,
            pgexport: env!("CARGO_PKG_VERSION").to_owned(),
            job: Job {
                namespace: order.run.namespace.clone(),
                name: order.run.name.clone(),
                uid: order.run.uid.clone(),
                attempt: order.run.attempt,
                spec_sha256: order.run.spec_sha256.clone(),
            },
            location: order.location(),
            token: order.token(),
            format: order.format.clone(),
            compression: order.compression,
            parameters: order
                .parameters
                .iter()
                .map(|parameter| Parameter {
                    name: parameter.name.clone(),
                    parameter_type: parameter.parameter_type.clone(),
                    value: match &parameter.value {
                        ParameterValue::Text(text) if !parameter.sensitive => Some(text.clone()),
                        ParameterValue::Text(_) | ParameterValue::Null => None,
                    },
                })
                .collect(),
            window: order.window.clone(),
            snapshot: plan.snapshot.as_ref().map(|snapshot| Snapshot {
                time: snapshot.time,
                lsn: snapshot.lsn.clone(),
                id: snapshot.id.clone(),
            }),
            server_version: plan.server.version.clone(),
            export,
            rows: total(datasets.iter().map(|dataset| dataset.rows)),
            bytes: total(datasets.iter().map(|dataset| dataset.bytes)),
            datasets,
            replaces: Vec::new(),
        }
    }

    /// Reads a manifest; `None` where it is not one that this code knows.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(text).ok().filter(|manifest| manifest.version == MANIFEST_VERSION)
    }

    /// Whether it tells of the same delivery. Another version of pgexport may have written it.
    fn is_of_same_delivery(&self, other: &Self) -> bool {
        *self == Self { pgexport: self.pgexport.clone(), ..other.clone() }
    }

    /// The data files' paths, relative to the manifest.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.datasets.iter().flat_map(|dataset| &dataset.files).map(|file| file.path.as_str())
    }

    /// How many data files there are.
    #[must_use]
    pub fn files(&self) -> u32 {
        u32::try_from(self.datasets.iter().map(|dataset| dataset.files.len()).sum::<usize>())
            .unwrap_or(u32::MAX)
    }
}

/// A sum of counts, some of which may be read from documents that somebody else has altered.
pub(crate) fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
