//! A query and its name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DatasetChunking;

/// One query whose rows are exported under a name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// Name of the data set in file names and in the manifest.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// One statement that returns rows. It is run READ ONLY.
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: String,
    /// Overrides the job's chunking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunking: Option<DatasetChunking>,
}
