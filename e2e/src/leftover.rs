//! What a run leaves behind.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use pgexport_api::{ExportJob, naming};
use pgexport_peers::{S3, TestDatabase};
use serde::de::DeserializeOwned;
use tokio_postgres::Client;

use crate::namespace::Namespace;
use crate::wait::eventually;

/// Where to look.
pub struct Leftovers<'a> {
    /// The namespace.
    pub namespace: &'a Namespace<'a>,
    /// The customer's bucket.
    pub customer: &'a str,
    /// The staging's bucket.
    pub staging: &'a str,
    /// The database.
    pub database: &'a TestDatabase,
}

impl Leftovers<'_> {
    /// Waits until nothing is in the staging, no upload is open, nothing holds a connection, no pod of a run has not ended,
    /// and no finalizer is held. ExportJobs that have ended keep their Jobs.
    pub async fn none_of_runs(&self, within: Duration) {
        self.wait(within, false).await;
    }

    /// The same when all ExportJobs are deleted: then no Job, ConfigMap or pod is left either.
    pub async fn none(&self, within: Duration) {
        self.wait(within, true).await;
    }

    async fn wait(&self, within: Duration, deleted: bool) {
        let mut last = Vec::new();
        let clean = eventually(within, async || {
            last = self.all(deleted).await;
            last.is_empty().then_some(())
        })
        .await;
        if clean.is_none() {
            self.namespace.describe().await;
            panic!("left over after {within:?}: {last:#?}");
        }
    }

    async fn all(&self, deleted: bool) -> Vec<String> {
        let s3 = &self.namespace.lab.peers.s3;
        let mut left: Vec<String> = keys(s3, self.staging, "").await;
        for bucket in [self.customer, self.staging] {
            let uploads = s3.open_uploads(bucket).await.expect("uploads");
            left.extend(uploads.into_iter().map(|upload| format!("upload of s3://{bucket}/{}", upload.key)));
        }
        left.extend(self.connections().await);
        for job in self.list::<ExportJob>("").await {
            left.extend(
                job.finalizers().iter().map(|held| format!("finalizer {held} of {}", job.name_any())),
            );
        }
        let ours = format!("{}=exportjob", naming::OWNER_KIND_LABEL);
        for pod in self.list::<Pod>(&ours).await {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if deleted || !matches!(phase, Some("Succeeded" | "Failed")) {
                left.push(format!("Pod {}: {phase:?}", pod.name_any()));
            }
        }
        if deleted {
            left.extend(self.list::<Job>(&ours).await.iter().map(|job| format!("Job {}", job.name_any())));
            let maps = self.list::<ConfigMap>(&ours).await;
            left.extend(maps.iter().map(|map| format!("ConfigMap {}", map.name_any())));
        }
        left
    }

    /// On the server, and on its standby if it has one.
    async fn connections(&self) -> Vec<String> {
        let mut found = connections(&self.database.admin().await.expect("a connection")).await;
        if let Some(standby) = &self.namespace.lab.peers.standby {
            let admin = standby.admin(&self.database.name).await.expect("a connection to the standby");
            found.extend(connections(&admin).await);
        }
        found
    }

    async fn list<K>(&self, labels: &str) -> Vec<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.namespace.api::<K>().list(&ListParams::default().labels(labels)).await.expect("a list").items
    }
}

/// The connections of runs to a database.
async fn connections(admin: &Client) -> Vec<String> {
    let sql = "SELECT application_name, state FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name LIKE 'pgexport/%'";
    let rows = admin.query(sql, &[]).await.expect("pg_stat_activity");
    rows.iter()
        .map(|row| format!("connection {}: {:?}", row.get::<_, String>(0), row.get::<_, Option<String>>(1)))
        .collect()
}

/// The keys below a prefix, as URIs.
async fn keys(s3: &S3, bucket: &str, prefix: &str) -> Vec<String> {
    let objects = s3.list(bucket, prefix).await.expect("a listing");
    objects.into_iter().map(|object| format!("s3://{bucket}/{}", object.key)).collect()
}
