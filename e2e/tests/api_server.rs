//! An API server that is killed in the middle of a run. Every other test would notice, so it stands in a binary of its own:
//! nothing else runs.

use std::time::Duration;

use pgexport_e2e::{Gate, Lab, Process, Signal, World, eventually};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_run_whose_pods_end_while_no_api_server_is_there_ends_well() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "api-server").await;
    let namespace = &world.namespace;
    let gate = Gate::close(&world.database).await;
    let row = Gate::condition("a.hostname = (SELECT min(hostname) FROM assets)");
    let spec = World::export_where("out/", &row, json!({"delivery": {"mode": "Staged"}, "workers": 2}));
    namespace.job("job", spec).await;
    if eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(())).await.is_none() {
        namespace.describe().await;
        panic!("no chunk comes to the gate");
    }

    let server = Process::of_api_server().expect("the API server of the lab's own cluster");
    server.signal(Signal::SIGKILL);
    // What the pods have to tell when they end, nobody hears.
    gate.open().await;
    let next = eventually(MINUTE, async || Process::of_api_server().filter(|next| *next != server)).await;
    assert!(next.is_some(), "no other API server is started");

    let status = namespace.succeeded("job", 3 * MINUTE).await.status.expect("a status");
    assert_eq!(status.attempts, 1, "it costs an attempt: {:?}", status.last_error);
    world.whole("out/").await;
    world.remove(&["job"]).await;
}
