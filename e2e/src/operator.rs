//! The operator under test.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::wait::eventually;

/// The namespace that the operator is installed in.
pub const SYSTEM: &str = "pgexport-system";

/// The controller's Deployment.
pub async fn controller(lab: &Lab) -> Deployment {
    let api: Api<Deployment> = Api::namespaced(lab.client.clone(), SYSTEM);
    let found = api
        .list(&ListParams::default().labels("app.kubernetes.io/component=controller"))
        .await
        .expect("Deployments");
    found.items.into_iter().next().expect("the controller's Deployment")
}

/// What the controller answers at `/metrics`.
pub async fn controller_metrics(lab: &Lab) -> String {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), SYSTEM);
    let ours = ListParams::default().labels("app.kubernetes.io/component=controller");
    let found = pods.list(&ours).await.expect("pods").items;
    let pod = found.iter().find(|pod| pod.metadata.deletion_timestamp.is_none()).expect("the controller's");
    let uri = format!("/api/v1/namespaces/{SYSTEM}/pods/{}:8080/proxy/metrics", pod.name_any());
    let request = http::Request::get(uri).body(Vec::new()).expect("a request");
    lab.client.request_text(request).await.expect("metrics")
}

/// Changes the controller's container, and waits until the changed one runs alone. Nothing else may run beside such a test.
pub async fn change_controller(lab: &Lab, mut container: Value) {
    let api: Api<Deployment> = Api::namespaced(lab.client.clone(), SYSTEM);
    let deployment = controller(lab).await;
    let name = deployment.name_any();
    let pod = deployment.spec.and_then(|spec| spec.template.spec).expect("a pod");
    container["name"] = json!(pod.containers[0].name);
    let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.expect("the change is taken");
    controller_ready(lab).await;
}

/// Waits until one controller runs, as its Deployment says now, and is ready.
pub async fn controller_ready(lab: &Lab) {
    let ready = eventually(Duration::from_mins(2), async || {
        let deployment = controller(lab).await;
        let status = deployment.status?;
        let current = status.observed_generation == deployment.metadata.generation;
        (current
            && status.updated_replicas == Some(1)
            && status.ready_replicas == Some(1)
            && status.replicas == Some(1))
        .then_some(())
    });
    ready.await.expect("the controller is ready again");
}
