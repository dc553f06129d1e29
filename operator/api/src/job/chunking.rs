//! How a query is split into chunks.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Chunks of a data set when `chunks` is not given.
pub const DEFAULT_CHUNKS: u32 = 16;

/// Chunks of a job at the most: each is an object and a sidecar.
pub const MAX_CHUNKS: u32 = 10_000;

/// The job's chunking.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.column) == (self.strategy == 'Column')").message("chunking.column goes with strategy Column, and is needed there"),
    validation = Rule::new("has(self.table) == (self.strategy == 'Table')").message("chunking.table goes with strategy Table, and is needed there"),
    validation = Rule::new("has(self.values) == (self.strategy == 'Values')").message("chunking.values goes with strategy Values, and is needed there")
)]
pub struct Chunking {
    /// Auto: by ranges of pages of the one table that the query reads, or of its partitions; otherwise by an indexed column
    /// of the result where that pays; otherwise one chunk, as for queries with ORDER BY. `status.chunking` says which and
    /// why. None: each query is one chunk. Column: by ranges of a column of the result. Table: by ranges of pages (ctid) of
    /// one table in the query. Values: one chunk for each value of a placeholder.
    #[serde(default)]
    pub strategy: Strategy,
    /// For strategy Column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<ColumnChunking>,
    /// For strategy Table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableChunking>,
    /// For strategy Values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<ValuesChunking>,
    /// Snapshot: all chunks see one snapshot of the database; when the pod that holds it goes, the attempt begins anew.
    /// PerChunk: each chunk sees the moment at which it is read; chunks that are finished stay finished, over restarts,
    /// attempts and suspension. What moves between chunks meanwhile can be missed, or seen twice.
    #[serde(default)]
    pub consistency: Consistency,
    /// Chunks in flight, over all workers: as many connections to the database, and one more that holds the snapshot.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 256))]
    pub parallelism: u32,
}

impl Default for Chunking {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            column: None,
            table: None,
            values: None,
            consistency: Consistency::default(),
            parallelism: default_parallelism(),
        }
    }
}

fn default_parallelism() -> u32 {
    4
}

/// A data set's own chunking, instead of the job's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.column) == (self.strategy == 'Column')").message("chunking.column goes with strategy Column, and is needed there"),
    validation = Rule::new("has(self.table) == (self.strategy == 'Table')").message("chunking.table goes with strategy Table, and is needed there"),
    validation = Rule::new("has(self.values) == (self.strategy == 'Values')").message("chunking.values goes with strategy Values, and is needed there")
)]
pub struct DatasetChunking {
    /// As in the job's chunking.
    #[serde(default)]
    pub strategy: Strategy,
    /// For strategy Column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<ColumnChunking>,
    /// For strategy Table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableChunking>,
    /// For strategy Values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<ValuesChunking>,
}

impl From<&Chunking> for DatasetChunking {
    fn from(job: &Chunking) -> Self {
        Self {
            strategy: job.strategy,
            column: job.column.clone(),
            table: job.table.clone(),
            values: job.values.clone(),
        }
    }
}

/// See [`Chunking::consistency`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Consistency {
    #[default]
    Snapshot,
    PerChunk,
}

/// See [`Chunking::strategy`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Strategy {
    #[default]
    Auto,
    None,
    Column,
    Table,
    Values,
}

/// How a data set was split.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetChunks {
    /// The data set's name.
    pub dataset: String,
    /// What it was split by; where the ExportJob says Auto, what that came to.
    pub strategy: Strategy,
    /// Its chunks.
    #[schemars(range(min = 0))]
    pub chunks: u32,
    /// Where the ExportJob says Auto: why it was split like this, or why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Chunks by ranges of a column of the query's result. Bounds are quantiles, found by reading the column once; rows where
/// it is NULL belong to the first chunk.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ColumnChunking {
    /// Name of a column of the query's result, of a type with an order.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How many chunks at the most.
    #[serde(default = "default_chunks")]
    #[schemars(range(min = 1, max = 10_000))]
    pub chunks: u32,
}

/// Chunks by ranges of pages of one table. The query says by `:chunk` where the condition on the table shall stand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TableChunking {
    /// Name of the table as SQL writes it, with its schema where the search path does not find it.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// What the query calls the table. Default: the table's name without its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub alias: Option<String>,
    /// How many chunks at the most.
    #[serde(default = "default_chunks")]
    #[schemars(range(min = 1, max = 10_000))]
    pub chunks: u32,
}

/// One chunk for each value of a placeholder, such as regions, tenants or days. Rows that belong to none of the values are
/// not exported: the values are the ExportJob's choice.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ValuesChunking {
    /// The placeholder's name in the query, without the colon. It stands for a chunk's value.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_]*$"))]
    pub parameter: String,
    /// The PostgreSQL type of the values, such as `uuid` or `date`.
    #[serde(rename = "type", default = "default_type")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r#"^[A-Za-z_"][A-Za-z0-9_ ".,()]*$"#))]
    pub parameter_type: String,
    /// The values: strings, numbers, booleans, each once. A chunk each, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "items")]
    pub items: Vec<Value>,
    /// Instead of `items`, a query that gives them: one column, at most 10,000 rows, no NULL, each value once. It sees the same
    /// snapshot, and may name parameters. Where it gives nothing, the result is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub items_from: Option<String>,
}

fn default_type() -> String {
    "text".to_owned()
}

/// As for a parameter's values: no structural schema says "string, number or boolean", and [`crate::crd`] says that
/// `itemsFrom` takes their place.
fn items(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "The values: strings, numbers, booleans, each once. A chunk each, in this order.",
        "type": "array", "minItems": 1, "maxItems": 10_000, "items": {"x-kubernetes-preserve-unknown-fields": true}
    })
}

fn default_chunks() -> u32 {
    DEFAULT_CHUNKS
}
