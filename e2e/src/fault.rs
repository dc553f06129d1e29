//! What happens to pods: killed and evicted.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use pgexport_api::{ExportJob, naming};
use serde_json::json;

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::operator::SYSTEM;
use crate::process::{Process, Signal};
use crate::wait::eventually;

/// Deletes a pod as a node that dies would: at once.
pub async fn delete_at_once(api: &Api<Pod>, pod: &Pod) {
    let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
}

/// Kills the worker in a pod by SIGKILL, as the kernel does when memory is short.
pub fn kill_worker(pod: &Pod) {
    Process::of_worker(pod).expect("the worker's process on this machine").signal(Signal::SIGKILL);
}

/// Evicts a pod, as `kubectl drain` does.
pub async fn evict(api: &Api<Pod>, pod: &Pod) {
    api.evict(&pod.name_any(), &EvictParams::default()).await.expect("an eviction");
}

/// Kills the controller by SIGKILL, and deletes its pod at once: another one comes without the kubelet's waits.
pub async fn kill_controller(lab: &Lab) {
    let system: Api<Pod> = Api::namespaced(lab.client.clone(), SYSTEM);
    let pods = controllers(&system).await;
    assert!(!pods.is_empty(), "no controller runs");
    for pod in pods {
        if let Some(process) = Process::of_worker(&pod) {
            process.signal(Signal::SIGKILL);
        }
        delete_at_once(&system, &pod).await;
    }
}

async fn controllers(system: &Api<Pod>) -> Vec<Pod> {
    let params = ListParams::default().labels("app.kubernetes.io/component=controller");
    system.list(&params).await.map(|list| list.items).unwrap_or_default()
}

impl Namespace<'_> {
    /// The pods of an ExportJob that have not ended.
    pub async fn pods_of(&self, job: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("{}={job}", naming::OWNER_LABEL));
        let pods = self.api::<Pod>().list(&params).await.expect("pods").items;
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        pods.into_iter().filter(|pod| !ended(pod)).collect()
    }

    /// The export pod of this index that runs.
    pub async fn worker(&self, index: u32) -> Pod {
        let pods = self.pods("export").await;
        let index = index.to_string();
        let found = pods
            .into_iter()
            .find(|pod| pod.labels().get("batch.kubernetes.io/job-completion-index") == Some(&index));
        found.unwrap_or_else(|| panic!("no worker {index} runs"))
    }

    /// Changes an ExportJob's spec: `suspend`, `cancel`.
    pub async fn change(&self, job: &str, spec: serde_json::Value) {
        let api: Api<ExportJob> = self.api();
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch(job, &PatchParams::default(), &patch).await.expect("the change is taken");
    }

    /// Deletes an ExportJob, and waits until it is gone.
    pub async fn delete_job(&self, job: &str, within: Duration) {
        let api: Api<ExportJob> = self.api();
        api.delete(job, &DeleteParams::background()).await.expect("it is there");
        let gone =
            eventually(within, async || matches!(api.get_opt(job).await, Ok(None)).then_some(())).await;
        if gone.is_none() {
            self.describe().await;
            panic!("ExportJob {job} is not gone after {within:?}");
        }
    }
}
