//! The operator itself: what it may do, and how its pods are made.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ListParams};
use pgexport_e2e::{Gate, Lab, Namespace, SYSTEM, controller, eventually, job};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_controller_may_read_no_secret_and_enter_no_pod() {
    let lab = Lab::find().await;
    let account = controller(&lab)
        .await
        .spec
        .unwrap()
        .template
        .spec
        .unwrap()
        .service_account_name
        .expect("a service account");
    let bindings: Api<ClusterRoleBinding> = Api::all(lab.client.clone());
    let roles: Api<ClusterRole> = Api::all(lab.client.clone());
    let mut rules = Vec::new();
    for binding in bindings.list(&ListParams::default()).await.unwrap() {
        let bound = binding
            .subjects
            .iter()
            .flatten()
            .any(|subject| subject.name == account && subject.namespace.as_deref() == Some(SYSTEM));
        if bound {
            rules.extend(roles.get(&binding.role_ref.name).await.unwrap().rules.unwrap_or_default());
        }
    }
    assert!(!rules.is_empty(), "no ClusterRole is bound to {account}");
    for rule in rules {
        for resource in rule.resources.iter().flatten() {
            assert!(
                !["secrets", "pods/exec", "pods/proxy", "pods/attach", "*"].contains(&resource.as_str()),
                "{rule:?}"
            );
        }
        assert!(!rule.verbs.iter().any(|verb| verb == "*"), "{rule:?}");
    }
}

#[tokio::test]
async fn worker_pods_are_restricted_and_mount_no_token() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("restricted").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "restricted", &database.name).await;
    let gate = Gate::close(&database).await;
    let sql = format!("SELECT * FROM findings f WHERE {}", Gate::condition("seq = 1"));
    namespace.job("job", job(json!([{"name": "findings", "sql": sql}]), "NDJSON", json!({}))).await;
    let pods =
        eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(namespace.pods("export").await))
            .await;
    let Some(pods) = pods else {
        namespace.describe().await;
        panic!("no export pod came to the gate");
    };
    assert_eq!(pods.len(), 1);
    let spec = pods[0].spec.as_ref().unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    assert!(volumes.iter().all(|volume| volume.projected.is_none()), "a token is mounted: {volumes:?}");
    let shown = serde_json::to_string(&pods[0]).unwrap();
    assert!(!shown.contains(&lab.peers.postgres.exporter.password), "the password stands in the pod");
    gate.open().await;
    namespace.succeeded("job", 2 * MINUTE).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}
