//! Whatever is killed in the middle, what is delivered is complete and right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use pgexport_api::{Phase, Reason};
use pgexport_e2e::{
    Delivery, Gate, Lab, Namespace, delete_at_once, eventually, evict, expected_rows, job, json_rows,
    kill_controller, kill_worker,
};
use pgexport_peers::{TestDatabase, findings};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// What every test here exports: with the gate's row in one of four chunks, by two workers, as one JSON document.
fn gated() -> Value {
    gated_by("f.seq = 1")
}

/// The same with the rows at the gate of which `row` holds.
fn gated_by(row: &str) -> Value {
    let sql = format!("SELECT f.* FROM findings f WHERE {} AND :chunk", Gate::condition(row));
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
    let wanted = expected_rows(database, "SELECT f.* FROM findings f").await;
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

#[tokio::test]
async fn the_export_pod_killed_is_a_new_attempt() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("kill-export").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "kill-export", &database.name).await;
    let gate = Gate::close(&database).await;
    namespace.job("job", gated()).await;
    in_the_middle(&gate, &namespace).await;

    let pods = namespace.pods("export").await;
    let leader = pods.iter().find(|pod| index(pod) == Some("0"));
    delete_at_once(&namespace.api(), leader.expect("worker 0")).await;
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
        delete_at_once(&pods, &running).await;
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

    kill_controller(&lab).await;
    gate.open().await;
    let done = namespace.succeeded("job", 3 * MINUTE).await;
    assert_eq!(done.status.unwrap().attempts, 1, "a controller's restart costs no attempt");
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn another_worker_killed_goes_on_inside_the_attempt() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("kill-other").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "kill-other", &database.name).await;
    // Both workers have a chunk that waits.
    let gate = Gate::close(&database).await;
    namespace
        .job(
            "job",
            gated_by("f.ctid IN (SELECT min(ctid) FROM findings UNION SELECT max(ctid) FROM findings)"),
        )
        .await;
    if eventually(2 * MINUTE, async || (gate.waiting().await == 2).then_some(())).await.is_none() {
        namespace.describe().await;
        panic!("no two chunks came to the gate");
    }
    let other = namespace.worker(1).await;
    kill_worker(&other);
    let replaced = eventually(2 * MINUTE, async || {
        let pods = namespace.pods("export").await;
        pods.iter().any(|pod| index(pod) == Some("1") && pod.name_any() != other.name_any()).then_some(())
    });
    assert!(replaced.await.is_some(), "nobody replaced {}", other.name_any());
    gate.open().await;
    let done = namespace.succeeded("job", 3 * MINUTE).await;
    assert_eq!(done.status.unwrap().attempts, 1, "the snapshot is still there: it costs no attempt");
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn an_eviction_of_worker_0_is_a_new_attempt_and_costs_no_retry() {
    disrupted("evict", json!({}), async |namespace| {
        evict(&namespace.api(), &namespace.worker(0).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_preemption_of_worker_0_is_a_new_attempt_and_costs_no_retry() {
    // A resource of which the node has as much as the two workers ask for: nobody else's pods are in the way.
    const SLOT: &str = "e2e.pgexport.dev/slot";
    let lab = Lab::find().await;
    let nodes: Api<Node> = Api::all(lab.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let slots = json!({"status": {"capacity": {SLOT: "2"}, "allocatable": {SLOT: "2"}}});
    nodes.patch_status(&node, &PatchParams::default(), &Patch::Merge(slots)).await.unwrap();
    let classes: Api<PriorityClass> = Api::all(lab.client.clone());
    let class = serde_json::from_value(json!({"metadata": {"name": "e2e-urgent"}, "value": 1000})).unwrap();
    let _ = classes.create(&PostParams::default(), &class).await;

    let one = json!({"cpu": "20m", "memory": "64Mi", SLOT: "1"});
    let template = json!({"podTemplate": {"resources": {"requests": one, "limits": {SLOT: "1"}}}});
    disrupted("preempt", template, async |namespace| {
        // The scheduler takes whom it likes; both workers' slots are asked for, so that worker 0 is among them.
        let urgent = json!({
            "metadata": {"name": "urgent"},
            "spec": {
                "priorityClassName": "e2e-urgent",
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "urgent",
                    "image": namespace.worker(0).await.spec.unwrap().containers[0].image,
                    // Waits for an order that never comes: it fails at once, and has had its slots by then.
                    "args": ["worker", "export"],
                    "resources": {"requests": {SLOT: "2"}, "limits": {SLOT: "2"}},
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        let urgent: Pod = serde_json::from_value(urgent).unwrap();
        namespace.api().create(&PostParams::default(), &urgent).await.unwrap();
    })
    .await;
}

/// Lets something disrupt worker 0 in the middle, and checks what follows.
async fn disrupted(hint: &str, with: Value, disrupt: impl AsyncFnOnce(&Namespace<'_>)) {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database(hint).await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, hint, &database.name).await;
    let gate = Gate::close(&database).await;
    let mut spec = gated();
    spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    spec["retry"]["limit"] = json!(0);
    namespace.job("job", spec).await;
    in_the_middle(&gate, &namespace).await;
    disrupt(&namespace).await;
    namespace
        .job_when("job", "a second attempt is under way", 3 * MINUTE, |job| {
            job.status.as_ref().is_some_and(|status| status.attempts == 2)
        })
        .await;
    gate.open().await;
    let status = namespace.succeeded("job", 3 * MINUTE).await.status.unwrap();
    let failures = status.failures.unwrap_or_default();
    assert_eq!(failures.transient, 0, "a disruption costs a retry: {failures:?}");
    assert_eq!(status.last_error.map(|error| error.reason), Some(Reason::Disrupted));
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn per_chunk_exports_no_finished_chunk_again_after_a_kill() {
    resumed("per-chunk-kill", async |namespace, _| {
        delete_at_once(&namespace.api(), &namespace.worker(0).await).await;
    })
    .await;
}

#[tokio::test]
async fn per_chunk_exports_no_finished_chunk_again_after_a_pause() {
    resumed("per-chunk-pause", async |namespace, gate| {
        namespace.change("job", json!({"suspend": true})).await;
        namespace
            .job_when("job", "it is Suspended", 2 * MINUTE, |job| {
                job.status.as_ref().and_then(|status| status.phase) == Some(Phase::Suspended)
            })
            .await;
        let still = eventually(2 * MINUTE, async || {
            (namespace.pods("export").await.is_empty() && gate.waiting().await == 0).then_some(())
        });
        assert!(still.await.is_some(), "a suspended export still reads");
        namespace.change("job", json!({"suspend": false})).await;
    })
    .await;
}

/// Finishes three of four chunks under PerChunk, breaks the run off, and checks that only the fourth is read again.
async fn resumed(hint: &str, break_off: impl AsyncFnOnce(&Namespace<'_>, &Gate)) {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database(hint).await.unwrap();
    let (namespace, customer, staging) = Namespace::furnished(&lab, hint, &database.name).await;
    let gate = Gate::close(&database).await;
    let mut spec = gated();
    spec["chunking"]["consistency"] = json!("PerChunk");
    spec["workers"] = json!(1);
    namespace.job("job", spec).await;
    let sidecars = async || {
        let objects = lab.peers.s3.list(&staging, "").await.expect("a listing");
        let keys = objects.into_iter().map(|object| object.key);
        keys.filter(|key| key.contains("/chunks/") && key.ends_with(".json")).collect::<BTreeSet<String>>()
    };
    let finished = eventually(2 * MINUTE, async || {
        let sidecars = sidecars().await;
        (sidecars.len() == 3 && gate.waiting().await == 1).then_some(sidecars)
    })
    .await;
    let Some(finished) = finished else {
        namespace.describe().await;
        panic!("no three chunks are finished: {:?}", lab.peers.s3.list(&staging, "").await);
    };
    let mut before = BTreeMap::new();
    for key in &finished {
        before.insert(key.clone(), lab.peers.s3.get(&staging, key).await.unwrap());
    }
    let data = |keys: &[String]| -> BTreeSet<String> {
        keys.iter().filter(|key| !key.ends_with(".json")).cloned().collect()
    };
    let objects = async || -> Vec<String> {
        let objects = lab.peers.s3.list(&staging, "").await.expect("a listing");
        objects.into_iter().map(|object| object.key).collect()
    };
    let bodies = data(&objects().await);

    let waiters = gate.waiters().await;
    break_off(&namespace, &gate).await;
    let again = eventually(3 * MINUTE, async || (!gate.waiters().await.is_subset(&waiters)).then_some(()));
    if again.await.is_none() {
        namespace.describe().await;
        panic!("the last chunk did not come to the gate again");
    }
    // Everything but the chunk at the gate has been passed by now: what is there is what was there.
    let after = data(&objects().await);
    assert_eq!(after, bodies, "a finished chunk was exported again");
    for (key, body) in &before {
        assert!(lab.peers.s3.get(&staging, key).await.unwrap() == *body, "{key} was written again");
    }
    gate.open().await;
    namespace.succeeded("job", 3 * MINUTE).await;
    check(&lab, &customer, &database).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// A pod's index in its Job.
fn index(pod: &Pod) -> Option<&str> {
    pod.labels().get("batch.kubernetes.io/job-completion-index").map(String::as_str)
}
