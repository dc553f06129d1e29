//! What an ExportSchedule makes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::ExportJobSpec;

/// The ExportJobs of a schedule. A change holds for those that are made from then on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplate {
    /// Their labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Their spec: that of an ExportJob, without `scheduled`, `window` and `cancel`. In place of a value, a parameter may have
    /// `valueFrom: {window: Start}` or `valueFrom: {window: End}`, with the type `timestamptz`: what the run's window begins with,
    /// and what it ends before.
    pub spec: ExportJobSpec,
}

/// Labels and annotations of ExportJobs, beside the operator's own.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}
