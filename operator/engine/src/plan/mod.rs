//! The plan of a run: which snapshot, which chunks. Made once by worker 0; in a staged run every other worker and the
//! transfer read it from `plan.json`.

mod auto;
mod column;
mod describe;
mod expect;
mod explain;
mod from;
mod make;
mod parameter;
mod query;
mod rewritten;
mod shape;
mod table;
mod unchanged;
mod value;
mod values;

pub use from::{FromItem, TablePart};
pub use make::make;
pub use query::{chunk_query, chunk_query_with_placeholders};
pub use unchanged::lock;
pub use value::ItemValue;

use jiff::Timestamp;
use pgexport_api::job::{DatasetChunks, Strategy};
use pgexport_api::reason::Reason;
use pgexport_api::source::Server;
use serde::{Deserialize, Serialize};

use crate::decode::Shape;
use crate::error::{Error, Result};

/// The version of [`Plan`] that this code writes and reads.
pub const PLAN_VERSION: u32 = 4;

/// The plan of an attempt.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// When it was made: what `:snapshot_time` stands for in each chunk. Under one snapshot, the instant of that.
    pub time: Timestamp,
    /// The snapshot that all chunks see. None: each chunk sees the moment at which it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// The server that was read.
    pub server: Server,
    /// The data sets, in the ExportJob's order.
    pub datasets: Vec<PlannedDataset>,
    /// The chunks: a data set's stand together, in the order of their parts. A chunk's index is its place.
    pub chunks: Vec<Chunk>,
    /// The tables that are split by pages, where no snapshot's holder keeps them from being rewritten between chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<SplitTable>,
}

/// A table that is split by pages, and the file that these are in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SplitTable {
    /// The place of its data set in [`Plan::datasets`].
    pub dataset: u32,
    /// Its name, for messages.
    pub name: String,
    /// Its oid.
    pub oid: u32,
    /// Its `pg_relation_filenode()`.
    pub file: Option<u32>,
}

impl Plan {
    /// A chunk by its index, and its data set.
    pub fn chunk(&self, index: u32) -> Result<(&Chunk, &PlannedDataset)> {
        let found = self
            .chunks
            .get(index as usize)
            .and_then(|chunk| Some((chunk, self.datasets.get(chunk.dataset as usize)?)));
        found.ok_or_else(|| Error::new(Reason::InternalError, format!("chunk {index} is not in the plan")))
    }

    /// Whether each chunk is of a data set that there is, and each column has a shape or none.
    #[must_use]
    pub(crate) fn is_sound(&self) -> bool {
        let datasets = self.datasets.iter().all(|dataset| dataset.columns.len() == dataset.shapes.len());
        datasets && self.chunks.iter().all(|chunk| (chunk.dataset as usize) < self.datasets.len())
    }

    /// How each data set is split.
    #[must_use]
    pub fn chunking(&self) -> Vec<DatasetChunks> {
        let mut chunks = vec![0_u32; self.datasets.len()];
        for chunk in &self.chunks {
            if let Some(count) = chunks.get_mut(chunk.dataset as usize) {
                *count += 1;
            }
        }
        let datasets = self.datasets.iter().zip(chunks);
        datasets
            .map(|(dataset, chunks)| DatasetChunks {
                dataset: dataset.name.clone(),
                strategy: dataset.strategy,
                chunks,
                reason: dataset.reason.clone(),
            })
            .collect()
    }
}

/// An exported snapshot, and what tells that a connection sees the same.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// What `pg_export_snapshot()` returned.
    pub id: String,
    /// `pg_current_snapshot()` of the holder. Ids are not unique over instances; this tells them apart.
    pub visible: String,
    /// `pg_postmaster_start_time()` of the holder's instance.
    pub postmaster_start: Timestamp,
    /// When the snapshot was taken: the holder's `transaction_timestamp()`.
    pub time: Timestamp,
    /// The log position near the snapshot, where the server tells it.
    pub lsn: Option<String>,
}

/// A data set as the server describes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDataset {
    /// Its name.
    pub name: String,
    /// The columns of its result.
    pub columns: Vec<Column>,
    /// What the columns' binary values look like; none where the server is asked for a column's text or JSON instead.
    pub shapes: Vec<Option<Shape>>,
    /// SHA-256 over the query as the ExportJob writes it, in hexadecimal.
    pub query_sha256: String,
    /// The header line of its CSV files, line end included, where the format has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv_header: Option<String>,
    /// How it is split; where the order says Auto, what that came to.
    pub strategy: Strategy,
    /// Why, where the order says Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The table in the query that parts of it stand for, in chunks of [`Rows::OfParts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromItem>,
    /// The values that it is split by, by parts, where a query gave them or files are named by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ItemValue>,
}

impl PlannedDataset {
    /// The value of a part, as the server writes it.
    #[must_use]
    pub fn value(&self, part: u32) -> Option<&str> {
        self.values.get(part as usize).map(ItemValue::as_str)
    }
}

/// A column of a result.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its PostgreSQL type, as `format_type` writes it.
    #[serde(rename = "type")]
    pub column_type: String,
}

/// A part of a data set that is read by one COPY.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Chunk {
    /// The place of its data set in [`Plan::datasets`].
    pub dataset: u32,
    /// Its number in its data set, from 0.
    pub part: u32,
    /// Which rows: all of the query, or those for which a condition holds.
    pub rows: Rows,
}

/// Which rows of a data set's query a chunk holds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "rows", rename_all = "camelCase")]
pub enum Rows {
    /// All.
    All,
    /// Those of the result for which `condition` holds; it stands outside of the query and names it `q`.
    OfResult {
        /// An SQL condition.
        condition: String,
    },
    /// Those that the query returns with `condition` in the place of `:chunk`.
    OfTable {
        /// An SQL condition.
        condition: String,
    },
    /// Those that the query returns with parts of the table, or of its partitions, in the place of [`PlannedDataset::from`].
    OfParts {
        /// The parts: one at least.
        parts: Vec<TablePart>,
    },
    /// None: a query gave no values to split by.
    OfNothing,
    /// Those that the query returns for one of the values that `chunking.values` gives.
    OfValue {
        /// The value's place among the items.
        item: u32,
    },
}
