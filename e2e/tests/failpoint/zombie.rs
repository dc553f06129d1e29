//! A pod that is given up for lost, as with its node, and comes back when its successor has delivered: it changes nothing
//! that a reader sees.

use std::time::Duration;

use kube::ResourceExt;
use pgexport_api::ExportJob;
use pgexport_e2e::{Coordinator, Lab, Process, Signal, World, delete_at_once, eventually};
use pgexport_failpoint::ANNOTATION;
use pgexport_peers::StoredObject;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Which delivery is stopped, where, and how many attempts to export it takes.
const CASES: [(&str, &str, u32); 6] = [
    ("Direct", "delivery::uploaded", 2),
    ("Direct", "seal::manifest_written", 2),
    ("Staged", "staging::body_uploaded", 2),
    ("Staged", "staging::sidecar_stored", 2),
    ("Staged", "delivery::uploaded", 1),
    ("Staged", "delivery::committed", 1),
];

#[tokio::test]
async fn a_pod_that_comes_back_after_its_successor_changes_nothing() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "zombie-pod").await;
    let coordinator = Coordinator::for_pods(&lab).await;
    let names = CASES.map(|(mode, place, _)| {
        format!("{mode}-{}", place.replace("::", "-").replace('_', "-")).to_lowercase()
    });
    let cases = CASES.iter().zip(&names);
    let runs = cases.map(|((mode, place, attempts), name)| {
        comes_back(&world, &coordinator, name, mode, place, *attempts)
    });
    futures::future::join_all(runs).await;
    world.leftovers().none_of_runs(3 * MINUTE).await;
    world.remove(&names.each_ref().map(String::as_str)).await;
}

async fn comes_back(
    world: &World<'_>,
    coordinator: &Coordinator,
    name: &str,
    mode: &str,
    place: &str,
    attempts: u32,
) {
    let namespace = &world.namespace;
    let path = format!("{name}/");
    let host = format!("{name}-");
    let comes = coordinator.at(place, move |hit| hit.host.starts_with(&host));
    let with = json!({
        "delivery": {"mode": mode},
        "podTemplate": {
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
            "annotations": {ANNOTATION: coordinator.address()},
        },
    });
    namespace.job(name, World::export(&path, with)).await;
    let held = comes.held(namespace, 4 * MINUTE).await;
    let pods = namespace.pods_of(name).await;
    let pod = pods.iter().find(|pod| held.is_in(pod)).expect("the pod that is held");
    let worker = Process::of_worker(pod).expect("the worker's process on this machine");
    let shim = worker.parent().expect("the shim that keeps the container");
    // A node that does not answer: neither does the worker go on, nor can the kubelet end it.
    shim.signal(Signal::SIGSTOP);
    worker.signal(Signal::SIGSTOP);
    delete_at_once(&namespace.api(), pod).await;

    // Two minutes after its grace it counts as lost.
    let status = namespace.succeeded(name, 6 * MINUTE).await.status.expect("a status");
    assert_eq!(status.attempts, attempts, "{name}: {:?}", status.last_error);
    // Also what the cleanup finds is removed before it comes back.
    let is_clean = |job: &ExportJob| job.finalizers().is_empty();
    namespace.job_when(name, "it is cleaned up", 2 * MINUTE, is_clean).await;
    world.whole(&path).await;
    let before = seen(world, &path).await;
    assert!(worker.is_alive(), "{name}: the zombie was ended before it could come back");

    held.go().await;
    worker.signal(Signal::SIGCONT);
    let ended = eventually(2 * MINUTE, async || (!worker.is_alive()).then_some(())).await;
    shim.signal(Signal::SIGCONT);
    assert!(ended.is_some(), "{name}: the zombie does not end");
    assert_eq!(seen(world, &path).await, before, "{name}: what is delivered has changed");
    world.whole(&path).await;
}

/// What readers see: each object with its size, its ETag and its time.
async fn seen(world: &World<'_>, path: &str) -> Vec<StoredObject> {
    let s3 = &world.namespace.lab.peers.s3;
    s3.list(&world.customer, &World::location(path)).await.expect("a listing")
}
