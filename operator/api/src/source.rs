//! `ExportSource`: where to read, and as whom.

use std::collections::BTreeMap;

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::duration::{duration, in_range, read_optional_duration, up_to_a_year};
use crate::size::{ByteSize, size};

/// Where to read: one PostgreSQL instance and database, the login that reads it, and where chunks are staged.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pgexport.dev",
    version = "v1alpha1",
    kind = "ExportSource",
    namespaced,
    shortname = "esrc",
    category = "pgexport",
    status = "ExportSourceStatus",
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".spec.postgres.host", name = "Host", type_ = "string"),
    printcolumn(json_path = ".spec.postgres.database", name = "Database", type_ = "string"),
    printcolumn(json_path = ".status.server.version", name = "Server", type_ = "string"),
    printcolumn(json_path = ".status.server.role", name = "Role", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        name = "Message",
        type_ = "string",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, so that the names of pods made for it stay valid"),
    validation = Rule::new("!has(self.spec.method) || self.spec.method != 'AuroraS3' || has(self.spec.staging)")
        .message("method AuroraS3 needs staging: name in staging.sinkRef an ExportSink of type s3, to whose bucket the database writes"),
    validation = Rule::new("!has(self.spec.staging) || !has(self.spec.staging.kmsKeyId) || (has(self.spec.method) && self.spec.method == 'AuroraS3')")
        .message("staging.kmsKeyId goes with method AuroraS3 only: it is for what the database writes"),
    validation = Rule::new("!has(self.spec.runLedger) || (has(self.spec.method) && self.spec.method == 'AuroraS3')")
        .message("runLedger goes with method AuroraS3 only: it says where the runs of a replica's own exports are recorded"),
    validation = Rule::new("!has(self.spec.runLedger) || self.spec.runLedger.hostOfWriter != self.spec.postgres.host || (has(self.spec.runLedger.portOfWriter) && self.spec.runLedger.portOfWriter != self.spec.postgres.port)")
        .message("runLedger.hostOfWriter is postgres.host itself: name the writer's host, or remove runLedger where postgres.host is the writer")
)]
#[serde(rename_all = "camelCase")]
pub struct ExportSourceSpec {
    /// The PostgreSQL instance and the login.
    pub postgres: Postgres,
    /// The service account of pods that read this source, for ambient cloud credentials. Default: the namespace's
    /// `default`. No token of it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// How rows leave the database. Copy: workers read them, from any PostgreSQL. AuroraS3: the database writes them to the
    /// staging by itself, by the extension `aws_s3` of Amazon Aurora and RDS.
    #[serde(default)]
    pub method: Method,
    /// Where chunks wait until all of them are complete. Needed by `delivery.mode: Staged`, by more than one worker, and by
    /// `method: AuroraS3`, whose database has to reach the bucket in its own region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Staging>,
    /// Where exports are recorded, in the table of runs of the schema `pgexport`, when `postgres.host` is a replica, where nothing
    /// can be written. Without it, a replica's exports are not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ledger: Option<RunLedger>,
    /// How hard the database may be hit. `maxConnections` and `maxRunningJobs` hold over all ExportJobs whose sources name the
    /// same host, port and user, in any namespace; where such sources name different limits, the smallest counts. The others
    /// are looked at before each attempt to export, and one that is passed is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Whether ExportJobs may bring queries of their own. Forbid: they may only name one of `queries`.
    #[serde(default, rename = "inlineSQL")]
    pub inline_sql: InlineSql,
    /// Queries that ExportJobs may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub queries: Vec<NamedQuery>,
    /// Whether a login is accepted that is a superuser, or may run programs or read and write files of the server. Any
    /// ExportJob could do with it whatever it may do.
    #[serde(default)]
    pub allow_privileged_login: bool,
}

/// See [`ExportSourceSpec::method`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Method {
    #[default]
    Copy,
    AuroraS3,
}

/// How hard a database may be hit.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Connections at the same time. An ExportJob takes `chunking.parallelism`, and one that holds the snapshot; with
    /// `method: AuroraS3` each worker takes one more, to see how far the database is, and with `runLedger` another one, which
    /// leads to the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10_000))]
    pub max_connections: Option<u32>,
    /// ExportJobs that export at the same time; the rest is Queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_running_jobs: Option<u32>,
    /// How far a replica may lag behind for an export to begin, such as `30s`. A primary does not lag.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_optional_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [in_range("limits.maxReplicaLag")]))]
    pub max_replica_lag: Option<Duration>,
    /// How many other sessions may be at work in the server for an export to begin; pgexport's own do not count. The login
    /// has to be a member of `pg_read_all_stats` to see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_active_sessions: Option<u32>,
    /// Bytes a second that an ExportJob reads, such as `50Mi`, as the server sends them: over all its connections, its workers
    /// each an equal part. Without it, as many as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    pub max_rate: Option<ByteSize>,
}

/// See [`ExportSourceSpec::inline_sql`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum InlineSql {
    #[default]
    Allow,
    Forbid,
}

/// A query that ExportJobs may name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NamedQuery {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// One statement that returns rows.
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: String,
    /// The placeholders that an ExportJob has to give values for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<DeclaredParameter>,
}

/// A placeholder of a named query.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredParameter {
    /// The placeholder's name, without the colon.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_]*$"))]
    pub name: String,
    /// The PostgreSQL type; an ExportJob's has to be the same.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r#"^[A-Za-z_"][A-Za-z0-9_ ".,()]*(\[\])?$"#))]
    pub parameter_type: String,
    /// Whether its value is left out of the manifest.
    #[serde(default)]
    pub sensitive: bool,
}

/// One PostgreSQL instance, one database, one login.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || !has(self.tls.mode) || !(self.tls.mode in ['Disable', 'Require']) || !(has(self.tls.caSecretRef) || has(self.tls.caConfigMapRef))")
        .message("tls.caSecretRef and tls.caConfigMapRef are used only by tls.mode VerifyFull or VerifyCA: remove them, or choose one of these modes"),
    validation = Rule::new("has(self.passwordSecretRef) != has(self.iamAuth)")
        .message("postgres: name exactly one of passwordSecretRef and iamAuth"),
    validation = Rule::new("!has(self.iamAuth) || !has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Disable'")
        .message("tls.mode Disable does not go with iamAuth, whose tokens a server takes over TLS only: choose VerifyFull"),
)]
pub struct Postgres {
    /// Host name or address of one instance. Never a balancing endpoint: snapshots belong to one instance.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Database name.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Login name.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// The login's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// IAM database authentication of Amazon Aurora and RDS, instead of a password: each connection logs in by a token that the
    /// worker signs as the AWS identity of its service account. Takes TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_auth: Option<IamAuth>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// Settings (GUCs) that are SET in every export transaction, such as `statement_timeout: 2h` or `work_mem: 64MB`. `jit`
    /// is off unless it stands here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 63 && size(self[k]) <= 1024)").message("settings: names have at most 63 characters, values at most 1024"))]
    pub settings: BTreeMap<String, String>,
}

fn default_port() -> u16 {
    5432
}

/// IAM database authentication.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IamAuth {
    /// Region of the database, such as `eu-west-1`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: String,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    /// By a password.
    Password(&'a SecretKeyRef),
    /// By a token that is signed for each connection.
    Iam(&'a IamAuth),
}

impl Postgres {
    /// How to log in; `None` where none or several ways are named, which the CRD's rules refuse.
    #[must_use]
    pub const fn login(&self) -> Option<Login<'_>> {
        match (&self.password_secret_ref, &self.iam_auth) {
            (Some(password), None) => Some(Login::Password(password)),
            (None, Some(iam)) => Some(Login::Iam(iam)),
            _ => None,
        }
    }
}

/// One key of a Secret in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// One key of a ConfigMap in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An object of a known kind in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the connection to PostgreSQL is protected.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caSecretRef) && has(self.caConfigMapRef))")
    .message("tls: name at most one of caSecretRef and caConfigMapRef"))]
pub struct Tls {
    /// As libpq's `sslmode`: VerifyFull (`verify-full`) checks the certificate and the host's name in it, VerifyCA the
    /// certificate only, Require encrypts without a check, Disable does not encrypt.
    #[serde(default)]
    pub mode: TlsMode,
    /// The certificate authorities to trust, as PEM. Default: those of the operator's image (Mozilla's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The same from a ConfigMap, as authorities are no secret: the bundle of Amazon RDS, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ConfigMapKeyRef>,
}

/// See [`Tls::mode`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum TlsMode {
    Disable,
    Require,
    VerifyCA,
    #[default]
    VerifyFull,
}

/// Where chunks are staged.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Staging {
    /// An ExportSink of type s3 in the same namespace.
    pub sink_ref: ObjectRef,
    /// How long what is staged outlives its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The KMS key, as its id or ARN, by which a database with `method: AuroraS3` encrypts what it writes. Default: the
    /// extension's own, which is the AWS managed key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// How long what is staged outlives its run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// How long its chunks stay after the end of a run that is Failed, for whoever wants to look at them, such as `72h`; with the
    /// ExportJob they go before. A change counts for runs that end later. Default: `0s`, they go at once, as after any other
    /// end.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_optional_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [up_to_a_year("staging.retention.onFailure")]))]
    pub on_failure: Option<Duration>,
}

/// Where the table of runs is, for a replica.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunLedger {
    /// Host name or address of the writer that the replica follows; on Aurora best the cluster's endpoint, which leads to the
    /// writer also after a failover. Database, user, password, TLS and settings are those of `postgres`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    pub host_of_writer: String,
    /// TCP port of the writer. Default: that of `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port_of_writer: Option<u16>,
}

/// What was last observed of an `ExportSource`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExportSourceStatus {
    /// The generation that the rest of this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The server, as the last successful probe saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// What the login may do beyond reading, as the last successful probe saw it; absent where it may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub login_may: Vec<String>,
    /// What method AuroraS3 has to work with, as the last successful probe saw it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "auroraS3")]
    pub aurora_s3: Option<AuroraS3>,
    /// The last probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeStatus>,
}

/// What a database has for exports by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AuroraS3 {
    /// The version of the extension `aws_s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Whether it takes a KMS key; extensions of before 2023 do not.
    pub kms_key: bool,
    /// The table of runs in the schema `pgexport`, on the writer where `runLedger` names one. Ready: runs are recorded.
    /// NotInstalled: they are not, until `pgexport sql install`. NotGranted: the login is no member of `pgexport_worker`.
    /// ReadOnly: the database is a replica, and so is what `runLedger` names, if anything. Outdated: it is of an earlier version,
    /// which has no attempts and no runs of replicas; those are recorded after `pgexport sql install`.
    pub run_table: RunTable,
}

/// See [`AuroraS3::run_table`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum RunTable {
    Ready,
    NotInstalled,
    NotGranted,
    ReadOnly,
    Outdated,
}

/// A PostgreSQL server as a probe saw it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// `server_version`, such as `17.7`.
    pub version: String,
    /// Primary, or Replica (a hot standby).
    pub role: ServerRole,
}

/// See [`Server::role`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum ServerRole {
    Primary,
    Replica,
}

/// The bookkeeping of probes, for sources and sinks alike.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStatus {
    /// Number of the last probe that was started, from 1.
    #[schemars(range(min = 0))]
    pub number: u32,
    /// The generation that this probe tries.
    pub generation: i64,
    /// Failures in a row.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub failures: u32,
    /// When its result was recorded; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// The value of the annotation `pgexport.dev/probe-requested-at` that this probe answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
    /// Whether this probe tries a sink as staging, which needs reading and listing too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub staging: bool,
}
