//! The order: all that a worker is told, as one JSON document in an immutable ConfigMap. It holds names of Secrets, never
//! their contents.

mod boundary;
mod cleanup;
mod delivery;
#[cfg(test)]
mod fixture;
mod format;
mod location;
mod login;
mod message;
mod moved;
mod name;
mod receiver;
mod resolve;

pub use cleanup::{CleanupInput, resolve_cleanup};
pub use location::{LocationError, RunFacts, render_path};
pub use message::{FailedRun, MESSAGE_VERSION, Message, MessageType, NotifyOrder};
pub use moved::moved;
pub use receiver::receiver;
pub use resolve::{Input, Refusal, resolve};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{
    Compression, Consistency, DatasetChunking, Expect, Files, Format, IfExists, ParameterValue, Window,
};
use crate::sink::{Http, S3, Volume};
use crate::source::{ExportSourceSpec, Limits, Method, Postgres, RunLedger};

/// The version of [`Order`] that this code writes and reads.
pub const ORDER_VERSION: u32 = 1;

/// What a worker is to do.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// [`ORDER_VERSION`].
    pub version: u32,
    /// The task.
    #[serde(flatten)]
    pub task: Task,
}

/// A worker's task.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "task", rename_all_fields = "camelCase")]
pub enum Task {
    /// Export, or transfer: the subcommand says which.
    Run(Box<RunOrder>),
    /// Try a source.
    ProbeSource(Box<NamedSource>),
    /// Try a sink.
    ProbeSink(NamedSink),
    /// Try a receiver of notifications.
    ProbeReceiver(NamedReceiver),
    /// Remove what a run that has ended has left.
    Cleanup(Box<CleanupOrder>),
    /// Tell a receiver of a run that has failed.
    Notify(Box<NotifyOrder>),
}

/// A run, resolved: every default filled in, every reference replaced by what it refers to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunOrder {
    /// Which run.
    pub run: RunIdentity,
    /// Where to read.
    pub source: NamedSource,
    /// Where to deliver.
    pub sink: NamedSink,
    /// Direct, or by way of a staging.
    pub delivery: DeliveryPath,
    /// Whether workers of a staged export may look into the sink, to notice before all the work that the location is taken.
    pub looks_ahead: bool,
    /// Folder below the sink's prefix: rendered, ending in `/`.
    pub path: String,
    /// The queries, with their parameters still as placeholders.
    pub datasets: Vec<DatasetOrder>,
    /// Whether all chunks see one snapshot.
    pub consistency: Consistency,
    /// The parameters' values.
    pub parameters: Vec<ParameterOrder>,
    /// The files' format.
    pub format: Format,
    /// How files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The files' layout and names.
    pub files: Files,
    /// The span of time whose rows are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What becomes of another ExportJob's delivery at the location.
    #[serde(default)]
    pub if_exists: IfExists,
    /// Worker pods.
    pub workers: u32,
    /// Chunks in flight, over all workers.
    pub parallelism: u32,
}

/// Which run this is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunIdentity {
    /// The ExportJob's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// SHA-256 over its spec, in hexadecimal.
    pub spec_sha256: String,
    /// When the ExportJob was created.
    pub created: Timestamp,
}

/// What a run that has ended may have left, and where. What is delivered stays.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CleanupOrder {
    /// Which run; its attempt is the last one.
    pub run: RunIdentity,
    /// Where it was to deliver; absent where only the staging is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<NamedSink>,
    /// Its folder below the sink's prefix: rendered, ending in `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Where its chunks wait, where the delivery is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<NamedSink>,
    /// Which part of it goes now.
    #[serde(default, skip_serializing_if = "CleanupPart::is_everything")]
    pub part: CleanupPart,
    /// The database, where it writes to the staging by itself and may still do so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<NamedSource>,
}

/// Which part of what a run has left is to be removed.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanupPart {
    /// All of it.
    #[default]
    Everything,
    /// All but the objects in the staging, which somebody may want to look at.
    AllButStaged,
    /// The objects in the staging, which were kept: the rest is gone already, and the location may be another run's by now.
    Staged,
}

/// An ExportSource's name and connection.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamedSource {
    /// The ExportSource's name.
    pub name: String,
    /// Its connection.
    pub postgres: Postgres,
    /// Whether a login is accepted that may do more than read and write tables.
    #[serde(default)]
    pub allow_privileged_login: bool,
    /// How hard it may be hit.
    #[serde(default)]
    pub limits: Limits,
    /// How rows leave it.
    #[serde(default)]
    pub method: Method,
    /// The KMS key by which it encrypts what it writes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// Where its runs are recorded when it is a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ledger: Option<RunLedger>,
}

/// An ExportSink's name and target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamedSink {
    /// The ExportSink's name.
    pub name: String,
    /// Its target.
    pub target: Target,
    /// Whether it serves as staging, which needs reading and listing too.
    #[serde(default)]
    pub staging: bool,
}

/// The name of an ExportSink of type http, and its receiver.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamedReceiver {
    /// The ExportSink's name.
    pub name: String,
    /// The receiver.
    pub http: Http,
}

/// Where bytes go.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A bucket.
    S3(S3),
    /// A volume.
    Volume(Volume),
}

/// How chunks reach the sink.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "mode", rename_all_fields = "camelCase")]
pub enum DeliveryPath {
    /// One pod streams to the sink.
    Direct,
    /// Chunks wait here until all are complete.
    Staged {
        /// The staging.
        staging: NamedSink,
    },
}

/// A data set's query and chunking.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetOrder {
    /// Its name.
    pub name: String,
    /// Its query.
    pub sql: String,
    /// How it is split.
    pub chunking: DatasetChunking,
    /// What its result must be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

/// A parameter, ready for substitution.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ParameterOrder {
    /// The placeholder's name.
    pub name: String,
    /// The PostgreSQL type.
    #[serde(rename = "type")]
    pub parameter_type: String,
    /// The value's text.
    pub value: ParameterValue,
    /// Whether the value is left out of the manifest.
    #[serde(default)]
    pub sensitive: bool,
}

impl Order {
    /// An order of this version.
    #[must_use]
    pub const fn new(task: Task) -> Self {
        Self { version: ORDER_VERSION, task }
    }
}

impl NamedSource {
    /// The connection to the writer on which a replica's runs are recorded, where one is named.
    #[must_use]
    pub fn writer(&self) -> Option<Postgres> {
        let RunLedger { host_of_writer, port_of_writer } = self.run_ledger.as_ref()?;
        let port = port_of_writer.unwrap_or(self.postgres.port);
        Some(Postgres { host: host_of_writer.clone(), port, ..self.postgres.clone() })
    }
}

impl NamedSource {
    /// Of an ExportSource.
    #[must_use]
    pub fn new(name: &str, source: &ExportSourceSpec) -> Self {
        Self {
            name: name.to_owned(),
            postgres: source.postgres.clone(),
            allow_privileged_login: source.allow_privileged_login,
            limits: source.limits.unwrap_or_default(),
            method: source.method,
            kms_key_id: source.staging.as_ref().and_then(|staging| staging.kms_key_id.clone()),
            run_ledger: source.run_ledger.clone(),
        }
    }
}

impl Target {
    /// The target as a URI: `s3://bucket/prefix`, or `volume://claim/path`.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            Self::Volume(volume) => format!("volume://{}/{}", volume.claim_name, volume.path),
        }
    }

    /// What tells the bucket from others of its name: its server's endpoint, or Amazon's region. A volume has neither.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match self {
            Self::S3(s3) => {
                Some(s3.endpoint.clone().unwrap_or_else(|| format!("Amazon S3 in {}", s3.region)))
            }
            Self::Volume(_) => None,
        }
    }
}

impl RunOrder {
    /// Where files are delivered, as a URI.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}{}", self.sink.target.location(), self.path)
    }

    /// What is to be removed when the run has ended.
    #[must_use]
    pub fn cleanup(&self) -> CleanupOrder {
        let staging = self.staging().cloned();
        let source = (self.source.method == Method::AuroraS3).then(|| self.source.clone());
        CleanupOrder {
            run: self.run.clone(),
            sink: Some(self.sink.clone()),
            path: self.path.clone(),
            staging,
            part: CleanupPart::Everything,
            source,
        }
    }

    /// Where chunks wait, where the delivery is staged.
    #[must_use]
    pub const fn staging(&self) -> Option<&NamedSink> {
        match &self.delivery {
            DeliveryPath::Direct => None,
            DeliveryPath::Staged { staging } => Some(staging),
        }
    }

    /// What is unique to this attempt: the placeholder `{token}`.
    #[must_use]
    pub fn token(&self) -> String {
        crate::naming::token(&self.run.uid, self.run.attempt)
    }
}

impl CleanupPart {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

impl CleanupOrder {
    /// The tokens of all attempts, which the names of their files contain.
    pub fn tokens(&self) -> impl Iterator<Item = String> {
        (1..=self.run.attempt).map(|attempt| crate::naming::token(&self.run.uid, attempt))
    }
}
