//! An API server that is killed in the middle of runs. Every other test would notice, so it stands in a binary of its own:
//! nothing else runs.

use std::time::Duration;

use pgexport_e2e::{Coordinator, Gate, Held, Lab, Process, Signal, World, eventually};
use pgexport_failpoint::ANNOTATION;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Where a run is when the API server goes: its chunk waits in the database, or its pod is held at a failpoint.
const PLACES: [(&str, Option<&str>); 4] = [
    ("exporting", None),
    ("transferring", Some("transfer::begun")),
    ("delivering", Some("delivery::committed")),
    ("cleaning-up", Some("cleanup::staging_removed")),
];

#[tokio::test]
async fn runs_whose_pods_end_while_no_api_server_is_there_end_well() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "api-server").await;
    let namespace = &world.namespace;
    let coordinator = Coordinator::for_pods(&lab).await;
    let gate = Gate::close(&world.database).await;
    let row = Gate::condition("a.hostname = (SELECT min(hostname) FROM assets)");
    let reached = PLACES.map(|(name, place)| {
        let (coordinator, row) = (&coordinator, &row);
        async move {
            let host = format!("{name}-");
            let comes = place.map(|place| coordinator.at(place, move |hit| hit.host.starts_with(&host)));
            let condition = if place.is_none() { row } else { "true" };
            let with = json!({
                "delivery": {"mode": "Staged"},
                "workers": 2,
                "podTemplate": {
                    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
                    "annotations": {ANNOTATION: coordinator.address()},
                },
            });
            namespace.job(name, World::export_where(&format!("{name}/"), condition, with)).await;
            match comes {
                Some(comes) => Some(comes.held(namespace, 3 * MINUTE).await),
                None => None,
            }
        }
    });
    let held = futures::future::join_all(reached).await;
    if eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(())).await.is_none() {
        namespace.describe().await;
        panic!("no chunk comes to the gate");
    }

    let server = Process::of_api_server().expect("the API server of the lab's own cluster");
    server.signal(Signal::SIGKILL);
    // What the pods have to tell when they end, nobody hears.
    gate.open().await;
    futures::future::join_all(held.into_iter().flatten().map(Held::go)).await;
    let next = eventually(MINUTE, async || Process::of_api_server().filter(|next| *next != server)).await;
    assert!(next.is_some(), "no other API server is started");

    for (name, _) in PLACES {
        let status = namespace.succeeded(name, 3 * MINUTE).await.status.expect("a status");
        assert_eq!(status.attempts, 1, "{name}: it costs an attempt: {:?}", status.last_error);
        world.whole(&format!("{name}/")).await;
    }
    world.leftovers().none_of_runs(3 * MINUTE).await;
    world.remove(&PLACES.map(|(name, _)| name)).await;
}
