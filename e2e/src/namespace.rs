//! A namespace of a test's own.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Resource, ResourceExt};
use pgexport_api::{ExportJob, ExportSink, ExportSource, Phase};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::manifest::{postgres_spec, s3_secret, s3_spec};
use crate::operator::SYSTEM;
use crate::wait::{eventually, ready_message};

/// A namespace that enforces the Restricted profile, as a careful platform team's do.
pub struct Namespace<'a> {
    /// The cluster and the peers.
    pub lab: &'a Lab,
    /// Its name.
    pub name: String,
}

impl<'a> Namespace<'a> {
    /// Makes a namespace whose name begins with `hint`.
    pub async fn create(lab: &'a Lab, hint: &str) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos()
            % 1_000_000_000_000;
        let name = format!("{hint}-{nanos:x}");
        let labels =
            BTreeMap::from([("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())]);
        let object = NamespaceObject {
            metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() },
            ..NamespaceObject::default()
        };
        Api::all(lab.client.clone()).create(&PostParams::default(), &object).await.expect("a namespace");
        Self { lab, name }
    }

    /// A namespace with the Secrets `db` and `s3`, the source `db` of `database`, staged in a bucket of its own by the
    /// sink `staging`, and the sink `customer`. Returns also the buckets of customer and staging.
    pub async fn furnished(lab: &'a Lab, hint: &str, database: &str) -> (Self, String, String) {
        let namespace = Self::create(lab, hint).await;
        let customer = lab.peers.s3.create_bucket(&format!("{hint}-customer")).await.expect("a bucket");
        let staging = lab.peers.s3.create_bucket(&format!("{hint}-staging")).await.expect("a bucket");
        namespace.secrets().await;
        namespace.sink("customer", &customer, "from-us/").await;
        namespace.sink("staging", &staging, "").await;
        namespace.source("db", json!({"postgres": postgres_spec(&lab.peers, database), "staging": {"sinkRef": {"name": "staging"}}})).await;
        (namespace, customer, staging)
    }

    /// The Secrets `db` (exporter's password, CA) and `s3` (the admin's keys).
    pub async fn secrets(&self) {
        let postgres = &self.lab.peers.postgres;
        self.secret("db", &[("password", &postgres.exporter.password), ("ca.crt", &postgres.ca_pem)]).await;
        self.secret("s3", &s3_secret(&self.lab.peers.s3.admin)).await;
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let api: Api<Secret> = self.api();
        let _ = api.delete(name, &DeleteParams::default()).await;
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            string_data: Some(
                values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ),
            ..Secret::default()
        };
        api.create(&PostParams::default(), &secret).await.expect("a Secret");
    }

    /// Creates a sink for a bucket with the credentials of the Secret `s3`.
    pub async fn sink(&self, name: &str, bucket: &str, prefix: &str) {
        self.create_object("ExportSink", name, json!({"s3": s3_spec(&self.lab.peers, bucket, prefix)}))
            .await
            .expect("an ExportSink");
    }

    /// Creates a source.
    pub async fn source(&self, name: &str, spec: Value) {
        self.create_object("ExportSource", name, spec).await.expect("an ExportSource");
    }

    /// Creates an ExportJob.
    pub async fn job(&self, name: &str, spec: Value) {
        self.create_object("ExportJob", name, spec).await.expect("an ExportJob");
    }

    /// An ExportJob as it is now.
    pub async fn get(&self, name: &str) -> ExportJob {
        self.api().get(name).await.expect("the ExportJob")
    }

    /// Creates an object of one of pgexport's kinds, as `kubectl apply` would; the error is the API server's.
    pub async fn create_object(
        &self,
        kind: &str,
        name: &str,
        spec: Value,
    ) -> Result<DynamicObject, kube::Error> {
        let gvk = GroupVersionKind::gvk(pgexport_api::GROUP, pgexport_api::VERSION, kind);
        let resource = ApiResource::from_gvk(&gvk);
        let object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
        let api: Api<DynamicObject> = Api::namespaced_with(self.lab.client.clone(), &self.name, &resource);
        api.create(&PostParams::default(), &object).await
    }

    /// The API of a kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.lab.client.clone(), &self.name)
    }

    /// Waits until an ExportJob has ended, and returns it. What led there is printed if it takes longer than `within`.
    pub async fn ended(&self, name: &str, within: Duration) -> ExportJob {
        self.job_when(name, "it has ended", within, |job| {
            job.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_terminal)
        })
        .await
    }

    /// Waits until an ExportJob is Complete, and returns it.
    pub async fn succeeded(&self, name: &str, within: Duration) -> ExportJob {
        let job = self.ended(name, within).await;
        let phase = job.status.as_ref().and_then(|status| status.phase);
        if phase != Some(Phase::Succeeded) {
            self.describe().await;
            panic!("ExportJob {name} ended as {phase:?}: {:#?}", job.status);
        }
        job
    }

    /// Waits until something holds of an ExportJob, and returns it.
    pub async fn job_when(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        holds: impl Fn(&ExportJob) -> bool,
    ) -> ExportJob {
        let api: Api<ExportJob> = self.api();
        let found = eventually(within, async || {
            let job = api.get(name).await.ok()?;
            holds(&job).then_some(job)
        })
        .await;
        match found {
            Some(job) => job,
            None => {
                self.describe().await;
                panic!("waited {within:?} for ExportJob {name} until {what}");
            }
        }
    }

    /// Waits until the Ready condition of a source says no, and returns its message.
    pub async fn source_refused(&self, name: &str) -> String {
        let api: Api<ExportSource> = self.api();
        self.refused(name, async || ready_message(&api.get(name).await.ok()?.status?.conditions)).await
    }

    /// Waits until the Ready condition of a sink says no, and returns its message.
    pub async fn sink_refused(&self, name: &str) -> String {
        let api: Api<ExportSink> = self.api();
        self.refused(name, async || ready_message(&api.get(name).await.ok()?.status?.conditions)).await
    }

    async fn refused(&self, name: &str, message: impl AsyncFnMut() -> Option<String>) -> String {
        let within = Duration::from_secs(90);
        match eventually(within, message).await {
            Some(message) => message,
            None => {
                self.describe().await;
                panic!("waited {within:?} for {name} to say what is wrong");
            }
        }
    }

    /// The pods of an ExportJob's role (`export`, `transfer`) that have not ended.
    pub async fn pods(&self, role: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("{}={role}", pgexport_api::naming::ROLE_LABEL));
        let pods = self.api::<Pod>().list(&params).await.expect("pods").items;
        pods.into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter(|pod| {
                !matches!(
                    pod.status.as_ref().and_then(|status| status.phase.as_deref()),
                    Some("Succeeded" | "Failed")
                )
            })
            .collect()
    }

    /// Prints what an on-call engineer would look at.
    pub async fn describe(&self) {
        eprintln!("--- namespace {}", self.name);
        let client = &self.lab.client;
        for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await.expect("nodes") {
            // Such as disk-pressure, under which nothing runs.
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            taints.iter().for_each(|taint| eprintln!("Node: {} {}", taint.key, taint.effect));
        }
        let operators = Api::<Pod>::namespaced(client.clone(), SYSTEM).list(&ListParams::default()).await;
        for pod in operators.expect("the operator's pods") {
            let status = pod.status.clone().unwrap_or_default();
            let (phase, reason) = (status.phase.unwrap_or_default(), status.reason.unwrap_or_default());
            eprintln!("Operator {}: {phase} {reason} {:?}", pod.name_any(), status.container_statuses);
        }
        for source in self.api::<ExportSource>().list(&ListParams::default()).await.expect("sources") {
            eprintln!("ExportSource {}: {}", source.name_any(), json!(source.status));
        }
        for sink in self.api::<ExportSink>().list(&ListParams::default()).await.expect("sinks") {
            eprintln!("ExportSink {}: {}", sink.name_any(), json!(sink.status));
        }
        for job in self.api::<ExportJob>().list(&ListParams::default()).await.expect("jobs") {
            eprintln!("ExportJob {}: {}", job.name_any(), json!(job.status));
        }
        for job in self.api::<Job>().list(&ListParams::default()).await.expect("jobs") {
            eprintln!("Job {}: {:?}", job.name_any(), job.status.and_then(|status| status.conditions));
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await.expect("pods") {
            let status = pod.status.clone().unwrap_or_default();
            eprintln!("Pod {}: {:?} {:?}", pod.name_any(), status.phase, status.container_statuses);
            if let Ok(log) = self.api::<Pod>().logs(&pod.name_any(), &kube::api::LogParams::default()).await {
                eprintln!("{log}");
            }
        }
        for event in self.api::<Event>().list(&ListParams::default()).await.expect("events") {
            let about = event.regarding.unwrap_or_default();
            eprintln!(
                "Event {} {}: {} {}",
                about.kind.unwrap_or_default(),
                about.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default()
            );
        }
    }

    /// Removes the namespace, without waiting. A test that fails leaves it, to be looked into.
    pub async fn remove(self) {
        let api: Api<NamespaceObject> = Api::all(self.lab.client.clone());
        let _ = api.delete(&self.name, &DeleteParams::background()).await;
    }
}
