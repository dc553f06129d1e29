//! A small export that faults are tried on: one data set in several chunks, whose rows are known.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use pgexport_api::{ExportJob, naming};
use pgexport_peers::TestDatabase;
use serde_json::{Value, json};

use crate::delivered::{Delivery, expected_rows, ndjson_rows};
use crate::lab::Lab;
use crate::leftover::Leftovers;
use crate::manifest::job;
use crate::namespace::Namespace;

/// What the small export reads.
const SQL: &str = "SELECT a.* FROM assets a";

/// A furnished namespace, and a database with the sample data.
pub struct World<'a> {
    /// The namespace.
    pub namespace: Namespace<'a>,
    /// The customer's bucket.
    pub customer: String,
    /// The staging's bucket.
    pub staging: String,
    /// The database.
    pub database: TestDatabase,
    wanted: Vec<Vec<u8>>,
}

/// What readers find at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A finished delivery with each row once.
    Whole,
    /// Nothing that is, or looks like, a delivery.
    Absent,
}

impl<'a> World<'a> {
    /// Makes all of it.
    pub async fn create(lab: &'a Lab, hint: &str) -> Self {
        let database = lab.peers.postgres.create_findings_database(hint).await.expect("a database");
        let (namespace, customer, staging) = Namespace::furnished(lab, hint, &database.name).await;
        let wanted = expected_rows(&database, SQL).await;
        Self { namespace, customer, staging, database, wanted }
    }

    /// The small export to a folder: three chunks, a file each. `with` replaces or adds fields.
    #[must_use]
    pub fn export(path: &str, with: Value) -> Value {
        Self::export_where(path, "true", with)
    }

    /// The same with a condition that holds of every row `a`, such as a gate's.
    #[must_use]
    pub fn export_where(path: &str, condition: &str, with: Value) -> Value {
        let mut fields = json!({
            "path": path,
            "chunking": {"strategy": "Column", "column": {"name": "hostname", "chunks": 3}, "parallelism": 3},
            "retry": {"backoff": {"initial": "1s"}},
            "podTemplate": {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}},
        });
        if let (Some(fields), Value::Object(with)) = (fields.as_object_mut(), with) {
            fields.extend(with);
        }
        let sql = format!("{SQL} WHERE {condition}");
        job(json!([{"name": "assets", "sql": sql}]), "NDJSON", fields)
    }

    /// Where an export to `path` is delivered.
    #[must_use]
    pub fn location(path: &str) -> String {
        format!("from-us/{path}")
    }

    /// Looks at the location of an ExportJob, and panics if what is there is neither whole nor absent: rows that are missing,
    /// or twice there, a manifest that tells otherwise, or, without `_SUCCESS`, any file of this ExportJob's.
    pub async fn found(&self, path: &str, job: &ExportJob) -> Found {
        let s3 = &self.namespace.lab.peers.s3;
        let location = Self::location(path);
        let objects = s3.list(&self.customer, &location).await.expect("a listing");
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        if keys.contains(&format!("{location}_SUCCESS")) {
            self.whole(path).await;
            return Found::Whole;
        }
        let uid = job.uid().expect("a uid");
        let token = format!("-{}-", naming::short_uid(&uid));
        let own: Vec<&String> =
            keys.iter().filter(|key| key.contains(&token) || key.ends_with("_manifest.json")).collect();
        assert!(own.is_empty(), "{}: without _SUCCESS there is {own:?}", job.name_any());
        Found::Absent
    }

    /// Checks that a finished delivery with each row once is at the location, and returns it.
    pub async fn whole(&self, path: &str) -> Delivery {
        let s3 = &self.namespace.lab.peers.s3;
        let delivery = Delivery::read_beside_others(s3, &self.customer, &Self::location(path)).await;
        let rows = ndjson_rows(delivery.files_of("assets"));
        assert_eq!(rows.len(), self.wanted.len(), "{path}: count of rows");
        assert!(rows == self.wanted, "{path}: what is delivered is not what the database holds");
        delivery
    }

    /// The names of all ExportJobs.
    pub async fn jobs(&self) -> Vec<String> {
        let jobs = self.namespace.api::<ExportJob>().list(&ListParams::default()).await.expect("ExportJobs");
        jobs.iter().map(ResourceExt::name_any).collect()
    }

    /// What tells this namespace from any other one.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.namespace.name.rsplit('-').next().unwrap_or_default()
    }

    /// What a run may leave behind here.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers<'_> {
        Leftovers {
            namespace: &self.namespace,
            customer: &self.customer,
            staging: &self.staging,
            database: &self.database,
        }
    }

    /// Deletes the ExportJobs, checks that nothing is left, and removes the namespace and the database.
    pub async fn remove(self, jobs: &[&str]) {
        let minutes = Duration::from_mins(3);
        let deleted = jobs.iter().map(|job| self.namespace.delete_job(job, minutes));
        futures::future::join_all(deleted).await;
        self.leftovers().none(minutes).await;
        self.namespace.remove().await;
        self.database.drop_database().await.expect("the database");
    }
}
