//! Whatever is killed in the middle, what is delivered is complete and right.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use pgexport_e2e::{Delivery, Gate, Lab, Namespace, eventually, job, json_rows};
use pgexport_peers::{TestDatabase, findings};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// What every test here exports: with the gate's row in one of four chunks, by two workers, as one JSON document.
fn gated() -> Value {
    let sql = format!("SELECT f.* FROM findings f WHERE {} AND :chunk", Gate::condition("f.seq = 1"));
    job(
        json!([{"name": "findings", "sql": sql}]),
        "JSON",
        json!({
            "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 4}},
            "files": {"layout": "Single"},
            "workers": 2,
            "retry": {"backoff": {"initial": "1s"}},
        }),
    )
}

/// Checks that the delivery holds each finding once.
async fn check(lab: &Lab, customer: &str, database: &TestDatabase) {
    let delivery = Delivery::read(&lab.peers.s3, customer, "from-us/out/").await;
    let admin = database.admin().await.unwrap();
    admin.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
    let rows = admin.query("SELECT row_to_json(f.*)::text FROM findings f", &[]).await.unwrap();
    let mut wanted: Vec<Vec<u8>> =
        rows.iter().map(|row| row.get::<_, String>(0).replace(['\r', '\n'], " ").into_bytes()).collect();
    wanted.sort_unstable();
    let files = delivery.files_of("findings");
    assert_eq!(files.len(), 1);
    assert!(json_rows(files[0]) == wanted, "what is delivered is not what the database holds");
}

/// Waits until the gated chunk waits at the gate.
async fn in_the_middle(gate: &Gate, namespace: &Namespace<'_>) {
    if eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(())).await.is_none() {
        namespace.describe().await;
        panic!("no chunk came to the gate");
    }
}

/// Deletes a pod as a node that dies would: at once.
async fn kill(api: &Api<Pod>, pod: &Pod) {
    api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.expect("the pod is there");
}

#[tokio::test]
async fn the_export_pod_killed_is_a_new_attempt() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("kill-export").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "kill-export", &database.name).await;
    let gate = Gate::close(&database).await;
    namespace.job("job", gated()).await;
    in_the_middle(&gate, &namespace).await;

    let pods = namespace.pods("export").await;
    let leader = pods.iter().find(|pod| {
        pod.labels().get("batch.kubernetes.io/job-completion-index").is_some_and(|index| index == "0")
    });
    kill(&namespace.api(), leader.expect("worker 0")).await;
    namespace
        .job_when("job", "a second attempt is under way", 2 * MINUTE, |job| {
            job.status.as_ref().is_some_and(|status| status.attempts == 2)
        })
        .await;
    gate.open().await;
    let done = namespace.succeeded("job", 3 * MINUTE).await;
    assert_eq!(done.status.unwrap().attempts, 2);
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn the_transfer_pod_killed_is_replaced() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_database("kill-transfer").await.unwrap();
    findings::load(&database.admin().await.unwrap(), "findings", findings::BIG).await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "kill-transfer", &database.name).await;
    let mut spec = gated();
    // Slow enough that it cannot be done before it is killed.
    spec["podTemplate"] = json!({"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}});
    namespace.job("job", spec).await;

    let pods: Api<Pod> = namespace.api();
    let killed = eventually(4 * MINUTE, async || {
        let running =
            namespace.pods("transfer").await.into_iter().find(|pod| {
                pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
            })?;
        kill(&pods, &running).await;
        Some(running.name_any())
    })
    .await;
    let Some(killed) = killed else {
        namespace.describe().await;
        panic!("no transfer pod ran");
    };
    let done = namespace.succeeded("job", 4 * MINUTE).await;
    assert_eq!(done.status.unwrap().attempts, 1, "a transfer that is killed costs no attempt to export");
    let transfers = pods.list(&ListParams::default().labels("pgexport.dev/role=transfer")).await.unwrap();
    assert!(transfers.iter().any(|pod| pod.name_any() != killed), "nothing replaced {killed}");
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn the_controller_killed_goes_on_where_it_was() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("kill-controller").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "kill-controller", &database.name).await;
    let gate = Gate::close(&database).await;
    namespace.job("job", gated()).await;
    in_the_middle(&gate, &namespace).await;

    let system: Api<Pod> = Api::namespaced(lab.client.clone(), "pgexport-system");
    let controllers =
        system.list(&ListParams::default().labels("app.kubernetes.io/component=controller")).await.unwrap();
    assert!(!controllers.items.is_empty(), "no controller runs");
    for controller in controllers {
        kill(&system, &controller).await;
    }
    gate.open().await;
    let done = namespace.succeeded("job", 3 * MINUTE).await;
    assert_eq!(done.status.unwrap().attempts, 1, "a controller's restart costs no attempt");
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}
