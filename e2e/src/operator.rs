//! The operator under test.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};

use crate::lab::Lab;

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
