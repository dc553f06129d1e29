//! The closed vocabulary of failures: what they are called in conditions, Events and `lastError`, whether trying again can
//! help, and what a person can do. `docs/reference/reasons.md` is generated from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::ExitCode;

/// What a failure means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It needs a different ExportJob: Failed at once.
    Permanent,
    /// Something around the ExportJob has to be put right (a Secret, a bucket, a grant, an image): Stalled, tried again
    /// with backoff until `deadlines.start`.
    Environment,
    /// It may pass by itself: a new attempt after `retry.backoff`, while `retry.limit` allows.
    Transient,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $class:ident, $hint:literal;)+) => {
        /// Why something failed.
        #[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[schemars(transform = plain_enum)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name in conditions, Events and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means for the run.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }

            /// What it means, for the reference.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// What a person can do about it, where nothing more exact is known.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)+ }
            }
        }
    };
}

reasons! {
    /// The ExportJob asks for something that its schema cannot refuse.
    InvalidSpec = Permanent, "correct the field that the message names in a new ExportJob";
    /// The database refuses the query: syntax, an unknown table or column, more than one statement, or no rows to return.
    InvalidQuery = Permanent, "run the query by psql as the source's user, correct it, and create a new ExportJob";
    /// The query writes. Exports run READ ONLY.
    QueryWrites = Permanent, "export with a SELECT; make changes elsewhere";
    /// A parameter's value is not of its type, or the query names a parameter that is not given.
    InvalidParameter = Permanent, "correct spec.parameters in a new ExportJob";
    /// The query cannot be split as `chunking` says.
    ChunkingRefused = Permanent, "choose another strategy, or None";
    /// The query failed on a row, such as a division by zero or a value out of range.
    DataError = Permanent, "correct the query so that it succeeds for each row";
    /// A row or a value is longer than the server can make: PostgreSQL's limit is 1 GB.
    RowTooLarge = Permanent, "select less of the column that is so long: parts of it, or its rows apart";
    /// The location holds a finished delivery of another ExportJob.
    OutputExists = Permanent, "choose another path, or remove what is there";
    /// The ExportSource forbids queries that an ExportJob brings itself.
    InlineSQLForbidden = Permanent, "name one of the ExportSource's queries by datasets[].queryRef in a new ExportJob";
    /// A result is not what `expect` says: too few rows, or other columns. Nothing of it was delivered.
    ExpectationUnmet = Permanent, "look at the source's data, or correct expect in a new ExportJob";
    /// Drains, evictions and preemptions ended ten attempts.
    DisruptedTooOften = Permanent, "give the pods a higher priority or calmer nodes by podTemplate, or export with chunking.consistency PerChunk";
    /// `spec.cancel` was set, or the ExportJob was deleted, before it had ended.
    Cancelled = Permanent, "create another ExportJob to export after all";
    /// The sink does not let be seen, or removed, what an attempt that failed may have left. Nothing of it looks finished.
    PartialOutputRemains = Environment, "remove what the message names, or let a lifecycle rule of the bucket do it; with s3:ListBucket, s3:GetObject, s3:DeleteObject and s3:ListBucketMultipartUploads pgexport does it";
    /// What the run has left could not be removed in time.
    CleanupGivenUp = Environment, "remove what the message names, or let a lifecycle rule of the bucket do it";
    /// The receiver of notifications could not be told in time that the run has failed.
    NotificationGivenUp = Environment, "look at the condition Ready of the ExportSink that spec.onFailure.notifySinkRef names";
    /// The ExportSink's `allow` does not admit the ExportJob.
    NotAllowed = Environment, "ask the owner of the ExportSink to extend spec.allow, or deliver elsewhere";
    /// Another ExportJob that has not ended delivers to the same location.
    LocationInUse = Environment, "wait for the other ExportJob, or choose another path in a new one";
    /// The ExportJob needs more connections than the ExportSource's limits admit at all.
    ConnectionLimit = Environment, "lower chunking.parallelism in a new ExportJob, or raise spec.limits.maxConnections of the ExportSource";
    /// The replica lags too far behind, or too many sessions are at work, by the ExportSource's limits.
    DatabaseBusy = Environment, "wait until the database is calmer, or raise the limit of the ExportSource that the message names";
    /// A transaction is open that began before the end of the ExportJob's window, and may bring rows that belong to it.
    WindowNotSettled = Environment, "end the transaction that the message tells of, or wait for it; let window.settleDelay of the ExportSchedule be longer than transactions last";
    /// The login is a superuser, or may run programs or read or write files of the server.
    PrivilegedLogin = Environment, "use a login that may only read, or set spec.allowPrivilegedLogin of the ExportSource";
    /// An object that the ExportJob, ExportSource or ExportSink names does not exist, or a ConfigMap lacks the key.
    ReferenceNotFound = Environment, "create the object, or correct its name";
    /// The ExportSource is not Ready.
    SourceNotReady = Environment, "see the ExportSource's Ready condition";
    /// The ExportSink is not Ready.
    SinkNotReady = Environment, "see the ExportSink's Ready condition";
    /// The delivery is staged, and the source names no staging, or one that is not of type s3.
    StagingRequired = Environment, "set spec.staging.sinkRef of the ExportSource to an ExportSink of type s3";
    /// Source, staging and sink name different service accounts; a pod has only one.
    IdentityConflict = Environment, "use one service account for all of them, or a Secret for all but one";
    /// A Secret, or a key in it, is missing.
    SecretNotFound = Environment, "create the Secret with the key that the message names";
    /// A Secret's or ConfigMap's key holds something unusable, such as a certificate that is not PEM.
    SecretInvalid = Environment, "correct the key that the message names";
    /// The database refuses the login.
    AuthenticationFailed = Environment, "check user and password of the ExportSource, and the server's pg_hba.conf";
    /// The database does not exist.
    DatabaseNotFound = Environment, "correct spec.postgres.database of the ExportSource";
    /// The login may not read what the query reads.
    PermissionDenied = Environment, "grant SELECT to the source's user";
    /// The server's certificate is not trusted, or is for another host, or the server has no TLS.
    TlsFailed = Environment, "check the server's certificate, and spec.postgres.tls of the ExportSource or spec.http.caSecretRef of the ExportSink";
    /// Nothing answers at the database's address.
    DatabaseUnreachable = Environment, "check host and port of the ExportSource, DNS, firewalls and NetworkPolicies";
    /// The server is older than PostgreSQL 14, or its encoding cannot be exported.
    UnsupportedServer = Environment, "use PostgreSQL 14 or later with a database encoding other than SQL_ASCII";
    /// A setting in the source's `settings` is unknown, or may not be set.
    InvalidSetting = Environment, "correct spec.postgres.settings of the ExportSource";
    /// Method AuroraS3: the database's extension `aws_s3` is missing, too old, or may not be called.
    ExtensionUnavailable = Environment, "install aws_s3 and grant it as docs/aurora.md says, or set spec.method of the ExportSource to Copy";
    /// The bucket does not exist.
    BucketNotFound = Environment, "create the bucket, or correct bucket and region of the ExportSink";
    /// The object store does not know the credentials, or they have expired.
    CredentialsRefused = Environment, "check the keys in the ExportSink's Secret, or the pod's service account";
    /// The object store knows the credentials and refuses the action.
    AccessDenied = Environment, "grant s3:PutObject and s3:AbortMultipartUpload on the prefix (for staging also s3:GetObject and s3:ListBucket)";
    /// Nothing answers at the object store's address.
    StoreUnreachable = Environment, "check endpoint and region of the ExportSink, DNS, firewalls and NetworkPolicies";
    /// Nothing answers at the address of an ExportSink of type http.
    ReceiverUnreachable = Environment, "check spec.http.url of the ExportSink, DNS, firewalls and NetworkPolicies";
    /// The receiver of a notification answers with anything but success.
    ReceiverRefused = Environment, "see the receiver's log; check spec.http.url, and that it knows the signing key and the token of the ExportSink";
    /// The volume cannot be written.
    VolumeUnavailable = Environment, "check the claim, its access mode, free space, and that user 65532 may write the folder";
    /// The image of the worker pod cannot be pulled.
    ImagePullFailed = Environment, "check the operator's worker image and the cluster's pull secrets";
    /// The pod was not created or not started: quota, admission, scheduling, mounts.
    PodNotStarted = Environment, "see the message, and the Events of the Job";
    /// The connection to the database broke.
    ConnectionLost = Transient, "look for a restart, a failover or a timeout of the database or the network";
    /// The database has no connection left for the login.
    TooManyConnections = Transient, "lower chunking.parallelism, or raise the server's limits";
    /// The snapshot went with worker 0 or with its connection.
    SnapshotLost = Transient, "look for evictions of the pod, idle timeouts between it and the database, and, on a replica, recovery conflicts (max_standby_streaming_delay, hot_standby_feedback)";
    /// A table or materialized view was rewritten (TRUNCATE, CLUSTER, VACUUM FULL, ALTER TABLE, REFRESH) while it was exported.
    RelationRewritten = Transient, "export at another time than such maintenance";
    /// Connections reach different instances behind one address.
    WrongInstance = Transient, "give the address of one instance as host of the ExportSource";
    /// The database cancelled the query: a timeout, or a conflict with recovery on a replica.
    QueryCancelled = Transient, "raise statement_timeout in the source's settings, or see the replica's max_standby_streaming_delay";
    /// The database has a passing trouble: shutting down, out of memory or disk, a lock timeout.
    DatabaseError = Transient, "see the database's log";
    /// The object store has a passing trouble.
    StoreError = Transient, "see the message; throttling and internal errors pass by themselves";
    /// Bytes arrived that are not those that were sent.
    ChecksumMismatch = Transient, "look for a proxy that alters requests";
    /// A drain, an eviction or a preemption ended the pod. It costs no retry.
    Disrupted = Transient, "look for drains, evictions and preemptions of the pod's node";
    /// The worker was stopped before it was done.
    Interrupted = Transient, "look for evictions, drains and deletions of the pod";
    /// The worker needed more memory than its limit.
    OutOfMemory = Transient, "raise podTemplate.resources.limits.memory, or lower chunking.parallelism";
    /// A pod ended without saying why.
    WorkerLost = Transient, "see the pod's log and the node's events";
    /// Under `consistency: PerChunk`, a table was rewritten, or the query's columns have changed, since the run was planned.
    PlanOutdated = Permanent, "export again with a new ExportJob, at another time than such maintenance; what is finished is of the table as it was";
    /// A part of the run took longer than its deadline.
    DeadlineExceeded = Permanent, "raise the field of spec.deadlines that the message names, or make the export smaller";
    /// The worker met a state that it should not meet.
    InternalError = Transient, "report it with the worker's log";
}

/// Documented variants would make the schema a `oneOf`, which a CRD's structural schema refuses.
fn plain_enum(schema: &mut schemars::Schema) {
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), names.into());
}

impl Reason {
    /// The exit code of a worker that fails for this reason.
    #[must_use]
    pub const fn exit_code(self) -> ExitCode {
        match (self, self.class()) {
            (Self::SnapshotLost, _) => ExitCode::SnapshotLost,
            (_, Class::Permanent) => ExitCode::Permanent,
            (_, Class::Environment) => ExitCode::Environment,
            (_, Class::Transient) => ExitCode::Transient,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
