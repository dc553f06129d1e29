//! `ExportJob`: one run.

mod chunking;
mod dataset;
mod format;
mod parameter;
mod policy;
mod scheduled;
mod status;

pub use chunking::{
    Chunking, ColumnChunking, Consistency, DEFAULT_CHUNKS, DatasetChunking, DatasetChunks, MAX_CHUNKS,
    Strategy, TableChunking, ValuesChunking,
};
pub use dataset::{Dataset, Expect};
pub use format::{Compression, Csv, Files, Format, FormatType, Layout, Parquet, ParquetCompression};
pub use parameter::{Parameter, ParameterError, ParameterValue, ValueFrom, WindowEdge};
pub use policy::{
    Backoff, DEFAULT_MEMORY_LIMIT, Deadlines, Delivery, DeliveryMode, IfExists, OnFailure, PodTemplate, Retry,
};
pub use scheduled::{Scheduled, Window};
pub use status::{
    ChildJob, ChildKind, Cleanup, ExportJobStatus, Failures, LastError, Notification, Output, Phase,
    Progress, StagingKept,
};

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::source::ObjectRef;

/// One run: the result of one or more queries, under one snapshot of the database, delivered to one sink.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pgexport.dev",
    version = "v1alpha1",
    kind = "ExportJob",
    namespaced,
    shortname = "ej",
    category = "pgexport",
    status = "ExportJobStatus",
    printcolumn(json_path = ".status.phase", name = "Phase", type_ = "string"),
    printcolumn(json_path = ".status.progress.percent", name = "Progress", type_ = "integer", description = "Percent of the work done"),
    printcolumn(json_path = ".status.progress.rows", name = "Rows", type_ = "integer"),
    printcolumn(json_path = ".status.progress.size", name = "Size", type_ = "string"),
    printcolumn(json_path = ".spec.sinkRef.name", name = "Sink", type_ = "string"),
    printcolumn(json_path = ".status.duration", name = "Duration", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".status.attempts", name = "Attempts", type_ = "integer", priority = 1),
    printcolumn(json_path = ".status.method", name = "Method", type_ = "string", priority = 1),
    printcolumn(json_path = ".status.message", name = "Message", type_ = "string", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, so that the names of pods made for it stay valid")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.datasets.all(d, (has(d.chunking) ? d.chunking.strategy : (has(self.chunking) ? self.chunking.strategy : 'Auto')) != 'Table' || !has(d.sql) || d.sql.contains(':chunk'))")
        .message("datasets: with chunking strategy Table, write :chunk in sql where the condition on the table shall stand, such as `WHERE f.tenant_id = :tenant AND :chunk`"),
    validation = Rule::new("!has(self.workers) || self.workers == 1 || !has(self.delivery) || self.delivery.mode != 'Direct'")
        .message("delivery.mode Direct streams from one pod: set workers to 1, or choose Staged"),
    validation = Rule::new("!has(self.files) || self.files.layout != 'Single' || !has(self.delivery) || self.delivery.mode != 'Direct' || self.datasets.all(d, (has(d.chunking) ? d.chunking.strategy : (has(self.chunking) ? self.chunking.strategy : 'Auto')) in ['Auto', 'None'])")
        .message("files.layout Single with delivery.mode Direct needs chunking strategy Auto or None: choose Staged or Auto to join chunks to one file"),
    validation = Rule::new("!has(self.chunking) || self.chunking.consistency != 'PerChunk' || !has(self.delivery) || self.delivery.mode != 'Direct'")
        .message("delivery.mode Direct has no resume: with chunking.consistency PerChunk choose Staged or Auto"),
    validation = Rule::new("!has(self.files) || !has(self.files.name) || !self.files.name.contains('{value}') || self.datasets.all(d, (has(d.chunking) ? d.chunking.strategy : (has(self.chunking) ? self.chunking.strategy : 'Auto')) == 'Values')")
        .message("files.name: {value} is a value of chunking strategy Values, which each data set then needs"),
    validation = Rule::new("!has(self.compression) || self.compression == 'None' || self.format.type != 'Parquet'")
        .message("compression: leave it out with Parquet, whose pages are compressed: see format.parquet.compression"),
    validation = Rule::new("!has(self.workers) || !has(self.chunking) || !has(self.chunking.parallelism) || self.workers <= self.chunking.parallelism")
        .message("workers: at most chunking.parallelism, since each worker opens at least one connection"),
)]
pub struct ExportJobSpec {
    /// The ExportSource to read.
    pub source_ref: ObjectRef,
    /// The ExportSink to deliver to.
    pub sink_ref: ObjectRef,
    /// Folder below the sink's prefix. Placeholders: `{namespace}`, `{job}`, `{uid}`, `{schedule}`, `{date}` (2026-11-23) and
    /// `{time}` (134501). Date and time are those for which an ExportSchedule made the ExportJob, in the schedule's time zone;
    /// without a schedule those of the ExportJob's creation, in UTC.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.endsWith('/') && !self.startsWith('/') && !('..' in self.split('/')) && !('.' in self.split('/')) && !self.contains('//')")
        .message("path: a relative path that ends with '/', without '//', '.' and '..'"))]
    pub path: String,
    /// Values for the placeholders `:name` in the queries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,
    /// One or more queries, read under one snapshot and listed in one manifest.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub datasets: Vec<Dataset>,
    /// What each result must be like to be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// How each query is split into chunks that are read side by side.
    #[serde(default)]
    pub chunking: Chunking,
    /// The files' format.
    pub format: Format,
    /// How files are compressed, each as a whole. Their names end in `.gz` or `.zst`, as in `.csv.gz`. Not for Parquet,
    /// whose pages are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// How rows are laid out in files, and the files' names.
    #[serde(default)]
    pub files: Files,
    /// How files reach the sink.
    #[serde(default)]
    pub delivery: Delivery,
    /// Pods that export. More only when one pod cannot keep up; more than one needs staging.
    #[serde(default = "default_workers")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,
    /// What happens when an attempt fails for a reason that may pass.
    #[serde(default)]
    pub retry: Retry,
    /// What is done when the run ends as Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How long each part of the run may take.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// What the pods of this job ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Which schedule made it, and for when. ExportSchedules fill it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// The span of time whose rows the run delivers, where its queries select such by its parameters. The export begins when no
    /// transaction is open that began before its end, and it stands in the manifest. ExportSchedules with windows fill it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Whether the run is to pause: its pods end, and no clock runs. Under consistency Snapshot the attempt begins anew
    /// afterwards; it costs no retry. This may be changed at any time.
    #[serde(default)]
    pub suspend: bool,
    /// Whether the run is to end now, as Cancelled. What is delivered by then stays, and everything else is removed. It can be
    /// set at any time, and not be taken back.
    #[serde(default)]
    pub cancel: bool,
}

fn default_workers() -> u32 {
    1
}
