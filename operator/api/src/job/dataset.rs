//! A query, its name, and what is expected of its result.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DatasetChunking;
use crate::source::ObjectRef;

/// One query whose rows are exported under a name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.sql) != has(self.queryRef)").message("datasets: each needs exactly one of sql and queryRef"))]
pub struct Dataset {
    /// Name of the data set in file names and in the manifest.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// One statement that returns rows. It is run READ ONLY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: Option<String>,
    /// One of the named queries of the ExportSource, instead of `sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_ref: Option<ObjectRef>,
    /// Overrides the job's chunking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunking: Option<DatasetChunking>,
    /// Overrides the job's `expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

/// What the result of a query must be like. One that is not is not delivered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Expect {
    /// How many rows there must be at least, in each data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_rows: Option<u64>,
    /// The names of all columns, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1600), inner(length(min = 1, max = 63)))]
    pub columns: Option<Vec<String>>,
}
