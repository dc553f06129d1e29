//! What was last observed of an `ExportJob`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DatasetChunks;
use crate::condition::Condition;
use crate::reason::Reason;
use crate::source::Method;

/// What was last observed of an `ExportJob`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Cancelled']) || (has(self.phase) && self.phase == oldSelf.phase)").message("status.phase: an end is the end"))]
pub struct ExportJobStatus {
    /// The generation that the rest of this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// In a sentence: what happens now, or what went wrong and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Accepted, Exported, Delivered; Complete or Failed at the end, `CleanedUp` and `Notified` after it; Ready, Reconciling and Stalled as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Attempts to export that were begun.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts: u32,
    /// Attempts to deliver that were begun, over all attempts to export.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub transfer_attempts: u32,
    /// When the first attempt was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// From `startTime` to `completionTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How rows leave the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// What the last attempt to export reads by, and limits are counted over: host, port and user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The instant of the database snapshot that was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Time>,
    /// Where files are delivered, as a URI; rendered once, before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The S3 server of that bucket: its endpoint, or Amazon's region; told with it. Another server's bucket of the same name is another place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_server: Option<String>,
    /// Where chunks wait, as a URI, where the delivery is staged; told once, before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<String>,
    /// The S3 server of that bucket, as in `locationServer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_server: Option<String>,
    /// How far the current attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How each data set was split into chunks, once they are exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["dataset"]))]
    pub chunking: Vec<DatasetChunks>,
    /// What was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// The last error, also when a later attempt went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What the budgets of `retry` and `deadlines.start` have been charged with so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,
    /// The Kubernetes Jobs of the current attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub jobs: Vec<ChildJob>,
    /// When it last went on after having been suspended or queued: `deadlines.start` counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_time: Option<Time>,
    /// The removal of what the run has left, once it has ended: staged chunks, open uploads, files of failed attempts. The
    /// condition `CleanedUp` tells how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
    /// The notification of `onFailure.notifySinkRef`, once the run has ended as Failed. The condition `Notified` tells how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
}

/// See [`ExportJobStatus::phase`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Phase {
    Pending,
    Queued,
    Exporting,
    Transferring,
    Succeeded,
    Failed,
    Cancelled,
    Suspended,
}

impl Phase {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far an attempt is. Counters are those of the last poll, a few seconds old.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Chunks in all; 0 while the plan is made.
    #[schemars(range(min = 0))]
    pub chunks: u32,
    /// Chunks whose rows are all exported.
    #[schemars(range(min = 0))]
    pub chunks_exported: u32,
    /// Chunks whose rows are all in the sink.
    #[schemars(range(min = 0))]
    pub chunks_transferred: u32,
    /// Rows exported.
    #[schemars(range(min = 0))]
    pub rows: u64,
    /// Bytes exported.
    #[schemars(range(min = 0))]
    pub bytes: u64,
    /// Bytes, for people, such as `1.2Gi`.
    #[serde(default)]
    pub size: String,
    /// Of the whole run, transfer included: 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
}

/// What was delivered.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Where the files are, as a URI.
    pub location: String,
    /// The manifest's URI.
    pub manifest: String,
    /// The manifest's SHA-256, in hexadecimal.
    #[serde(rename = "manifestSHA256")]
    pub manifest_sha256: String,
    /// Data files.
    #[schemars(range(min = 0))]
    pub files: u32,
    /// Rows in them.
    #[schemars(range(min = 0))]
    pub rows: u64,
    /// Bytes in them.
    #[schemars(range(min = 0))]
    pub bytes: u64,
}

/// The last error.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// From the closed vocabulary of `docs/reference/reasons.md`.
    pub reason: Reason,
    /// PostgreSQL's SQLSTATE, where the database refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_state: Option<String>,
    /// What failed, on what.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The chunk that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub chunk: Option<u32>,
    /// When it was seen.
    pub time: Time,
}

/// Failures so far. Exporting and delivering are counted apart: the counters begin anew when all chunks are exported.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Attempts that failed for a reason that may pass; `retry.limit` bounds them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub transient: u32,
    /// Attempts that ended by a disruption: a drain, an eviction, a preemption. The tenth ends the run.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub disruptions: u32,
    /// Attempts in a row that failed for a reason around the ExportJob; `deadlines.start` bounds them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub environment: u32,
    /// Since when something around the ExportJob has kept it from going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_since: Option<Time>,
    /// When the next attempt begins; absent while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
}

/// See [`ExportJobStatus::cleanup`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Since when it is due.
    pub start_time: Time,
    /// Attempts that were begun.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts: u32,
    /// When the next attempt begins; absent while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// When it was done, or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// What is staged is kept for longer than the rest, by `staging.retention` of the ExportSource; absent where nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_kept: Option<StagingKept>,
}

/// See [`ExportJobStatus::notification`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The message's `webhook-id`, the same in each try: receivers know by it what they have got already.
    pub id: String,
    /// Since when it is due.
    pub start_time: Time,
    /// Attempts that were begun.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts: u32,
    /// When the next attempt begins; absent while one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// When it was sent, or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// See [`Cleanup::staging_kept`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StagingKept {
    /// Until when.
    pub until: Time,
    /// When the rest was removed, or given up: from then on other ExportJobs may deliver to the location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_free_time: Option<Time>,
    /// What may be left of the rest: where, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<String>,
}

impl Cleanup {
    /// Whether it has nothing to do any more at the location.
    #[must_use]
    pub fn is_location_free(&self) -> bool {
        let kept = self.staging_kept.as_ref();
        self.completion_time.is_some() || kept.is_some_and(|kept| kept.location_free_time.is_some())
    }
}

/// A Kubernetes Job of the current attempt.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChildJob {
    /// What it does.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// See [`ChildJob::kind`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum ChildKind {
    Export,
    Transfer,
    Cleanup,
    Notification,
}
