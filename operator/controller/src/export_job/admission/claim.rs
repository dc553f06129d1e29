//! What an ExportJob asks of the things that it shares with others.

use jiff::Timestamp;
use kube::ResourceExt;
use pgexport_api::condition::{ConditionType, find};
use pgexport_api::job::Consistency;
use pgexport_api::order::{RunOrder, Target};
use pgexport_api::source::{ExportSourceSpec, Limits, Method, Postgres};
use pgexport_api::{ExportJob, ExportJobStatus, ExportSinkSpec, Phase};

use crate::export_job::decide::SUSPENDING;

/// A login at a server: what limits are counted over, whichever namespaces and ExportSources name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Database(String);

impl Database {
    /// The login of a source. Host names ignore case, and a dot at their end.
    #[must_use]
    pub fn new(postgres: &Postgres) -> Self {
        let host = postgres.host.trim_end_matches('.').to_ascii_lowercase();
        Self(format!("{host}:{} as {}", postgres.port, postgres.user))
    }

    /// The login that an attempt reads by. Its source may be gone, or be another one by now.
    fn told(status: Option<&ExportJobStatus>) -> Option<Self> {
        let status = status.filter(|status| status.phase == Some(Phase::Exporting))?;
        status.database.clone().map(Self)
    }
}

impl std::fmt::Display for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A location, told apart from one of the same name at another server, or in another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A URI.
    location: String,
    /// The server, or the namespace of a volume; `None` where it is not known any more.
    server: Option<String>,
}

impl Place {
    /// Where `location`, a URI below the target of a sink of `namespace`, really is.
    #[must_use]
    pub fn new(namespace: &str, target: &Target, location: &str) -> Self {
        let server = target.server().unwrap_or_else(|| namespace.to_owned());
        Self { location: location.to_owned(), server: Some(server) }
    }

    /// As a status tells it. The sink may be gone, or be another one by now.
    fn told(namespace: &str, status: &ExportJobStatus, sink: Option<&ExportSinkSpec>) -> Option<Self> {
        let location = status.location.clone()?;
        if location.starts_with("volume:") {
            return Some(Self { location, server: Some(namespace.to_owned()) });
        }
        // A status of a former version does not tell it.
        let of_sink = || Target::S3(sink?.s3.clone()?).server();
        let server = status.location_server.clone().or_else(of_sink);
        Some(Self { location, server })
    }

    /// Whether they may be one. Whoever does not know takes care.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        self.location == other.location
            && (self.server.is_none() || other.server.is_none() || self.server == other.server)
    }
}

/// How an ExportJob stands to its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds connections.
    Exporting,
    /// It waits for them.
    Waiting,
    /// It has begun, and does not need them now.
    Elsewhere,
}

/// What an ExportJob that has not ended asks for, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// The login; `None` where its source is not known.
    pub database: Option<Database>,
    /// The limits of its own source.
    pub limits: Limits,
    /// How it stands.
    pub standing: Standing,
    /// Connections that it opens at the same time.
    pub connections: u32,
    /// Where it delivers, or is about to.
    pub place: Option<Place>,
    /// Whether its status has told where.
    pub is_told: bool,
}

impl Claim {
    /// The claim of an ExportJob that is about to begin an attempt.
    #[must_use]
    pub fn of_candidate(job: &ExportJob, order: &RunOrder, source: &ExportSourceSpec) -> Self {
        let namespace = job.namespace().unwrap_or_default();
        Self {
            place: Some(Place::new(&namespace, &order.sink.target, &order.location())),
            standing: Standing::Waiting,
            ..Self::of(job, Some(source), None)
        }
    }

    /// The claim of any ExportJob. `sink` tells its location from one of the same name at another server.
    #[must_use]
    pub fn of(job: &ExportJob, source: Option<&ExportSourceSpec>, sink: Option<&ExportSinkSpec>) -> Self {
        let namespace = job.namespace().unwrap_or_default();
        let status = job.status.as_ref();
        let standing = match status.and_then(|status| status.phase) {
            Some(Phase::Exporting) => Standing::Exporting,
            Some(Phase::Suspended) if status.is_some_and(is_suspending) => Standing::Exporting,
            Some(Phase::Queued)
                if job.metadata.deletion_timestamp.is_none() && !job.spec.suspend && !job.spec.cancel =>
            {
                Standing::Waiting
            }
            _ => Standing::Elsewhere,
        };
        let place = status.and_then(|status| Place::told(&namespace, status, sink));
        Self {
            is_told: place.is_some(),
            place,
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            created: job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            database: Database::told(status).or_else(|| source.map(|source| Database::new(&source.postgres))),
            limits: source.and_then(|source| source.limits).unwrap_or_default(),
            standing,
            connections: connections(job, method(job, source), has_ledger(source)),
            namespace,
        }
    }

    /// `namespace/name`, for messages.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whether the pods of a suspended run still end.
fn is_suspending(status: &ExportJobStatus) -> bool {
    find(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.reason == SUSPENDING)
}

/// How its rows leave the database: as its attempt began, else as its source says now.
fn method(job: &ExportJob, source: Option<&ExportSourceSpec>) -> Method {
    let status = job.status.as_ref().filter(|status| status.phase == Some(Phase::Exporting));
    let begun = status.and_then(|status| status.method);
    begun.or_else(|| source.map(|source| source.method)).unwrap_or_default()
}

/// Whether the runs of a replica are recorded on its writer.
fn has_ledger(source: Option<&ExportSourceSpec>) -> bool {
    source.is_some_and(|source| source.run_ledger.is_some())
}

/// One for each chunk in flight, one that plans and, under a snapshot, holds it, and one for each worker that looks how far
/// the database is. Those that lead to the writer are counted here too: it is the same login's.
fn connections(job: &ExportJob, method: Method, has_ledger: bool) -> u32 {
    let chunking = &job.spec.chunking;
    let chunks = chunking.parallelism.max(job.spec.workers);
    let holder = match chunking.consistency {
        Consistency::Snapshot => 1,
        Consistency::PerChunk => 0,
    };
    let watchers = match (method, has_ledger) {
        (Method::Copy, _) => 0,
        (Method::AuroraS3, false) => job.spec.workers,
        (Method::AuroraS3, true) => job.spec.workers.saturating_mul(2),
    };
    chunks.saturating_add(holder).saturating_add(watchers)
}

#[cfg(test)]
mod tests {
    use pgexport_api::ExportSource;
    use pgexport_api::sink::S3;
    use serde_json::json;

    use super::*;
    use crate::export_job::fixture::{job, source};

    fn claimed(status: &serde_json::Value, source: Option<&ExportSource>) -> Option<String> {
        let job = ExportJob { status: serde_json::from_value(status.clone()).unwrap(), ..job(&json!({})) };
        let claim = Claim::of(&job, source.map(|source| &source.spec), None);
        claim.database.map(|database| database.to_string())
    }

    #[test]
    fn workers_that_watch_the_database_count() {
        let with = |method: &str, ledger: &serde_json::Value, status: &serde_json::Value| {
            let source = source(&json!({"spec": {
                "method": method, "staging": {"sinkRef": {"name": "staging"}}, "runLedger": ledger,
            }}));
            let job = ExportJob {
                status: serde_json::from_value(status.clone()).unwrap(),
                ..job(&json!({"workers": 3, "chunking": {"parallelism": 8}}))
            };
            Claim::of(&job, Some(&source.spec), None).connections
        };
        let wanted =
            |method: &str, status: &serde_json::Value| with(method, &serde_json::Value::Null, status);
        assert_eq!(with("AuroraS3", &json!({"hostOfWriter": "writer"}), &json!({})), 15);
        assert_eq!(wanted("Copy", &json!({})), 9);
        assert_eq!(wanted("AuroraS3", &json!({})), 12);
        let begun = json!({"phase": "Exporting", "method": "AuroraS3"});
        assert_eq!(wanted("Copy", &begun), 12, "the source was edited since");
    }

    #[test]
    fn a_suspended_run_counts_until_its_pods_have_ended() {
        for (reason, standing) in [("Suspending", Standing::Exporting), ("Suspended", Standing::Elsewhere)] {
            let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "suspended",
                "lastTransitionTime": "2026-11-23T10:00:00Z"});
            let status = json!({"phase": "Suspended", "conditions": [ready]});
            let job = ExportJob {
                status: serde_json::from_value(status).unwrap(),
                ..job(&json!({"suspend": true}))
            };
            assert_eq!(Claim::of(&job, None, None).standing, standing);
        }
    }

    #[test]
    fn a_run_delivers_where_it_has_told_whatever_becomes_of_its_sink() {
        let (here, elsewhere) = ("https://minio.example.com", "https://elsewhere.example.com");
        let sink =
            crate::export_job::fixture::sink("acme", &json!({"spec": {"s3": {"endpoint": elsewhere}}}));
        let location = "s3://acme-bucket/from-us/x/";
        let place = |server: Option<&str>| {
            let status = json!({"location": location, "locationServer": server});
            let job = ExportJob { status: serde_json::from_value(status).unwrap(), ..job(&json!({})) };
            Claim::of(&job, None, Some(&sink.spec)).place.unwrap()
        };
        let at = |endpoint: &str| {
            let s3 = S3 { endpoint: Some(endpoint.to_owned()), ..S3::default() };
            Place::new("exports", &Target::S3(s3), location)
        };
        assert!(place(Some(here)).may_be(&at(here)) && !place(Some(here)).may_be(&at(elsewhere)));
        assert!(place(None).may_be(&at(elsewhere)), "a former version has not told the server");
    }

    #[test]
    fn a_run_counts_for_the_database_that_it_reads_whatever_becomes_of_its_source() {
        let edited = source(&json!({"spec": {"postgres": {"host": "Other.example.com."}}}));
        let before = "db.example.com:5432 as exporter";
        let exporting = json!({"phase": "Exporting", "database": before});
        assert_eq!(claimed(&exporting, Some(&edited)).as_deref(), Some(before));
        assert_eq!(claimed(&exporting, None).as_deref(), Some(before));
        let waiting = json!({"phase": "Queued", "database": before});
        assert_eq!(claimed(&waiting, Some(&edited)).as_deref(), Some("other.example.com:5432 as exporter"));
        assert_eq!(claimed(&waiting, None), None);
    }
}
