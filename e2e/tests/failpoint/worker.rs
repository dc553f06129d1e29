//! A worker dies at each of its failpoints, once. What is delivered is whole, and there once.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use kube::ResourceExt;
use pgexport_api::ExportJob;
use pgexport_e2e::{Coordinator, Lab, World, eventually};
use pgexport_failpoint::{ANNOTATION, Hit};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// ExportJobs at a time: as many as a small machine has pods for.
const TOGETHER: usize = 6;

/// Who dies where, and what it costs.
struct Case {
    /// By which way: `Direct`, `Staged`, or `PerChunk`, which is staged too.
    way: &'static str,
    /// The worker of the export; of a transfer there is one only.
    worker: Option<u32>,
    /// The failpoint. At those of `replace` it takes the place of another ExportJob's delivery.
    place: &'static str,
    /// Where somebody dies after that.
    then: Option<&'static str>,
    /// Attempts to export, in the end.
    attempts: u32,
}

const fn case(way: &'static str, worker: Option<u32>, place: &'static str, attempts: u32) -> Case {
    Case { way, worker, place, then: None, attempts }
}

/// Under a snapshot, worker 0 takes the attempt with it from the plan on until every chunk is there; any other worker is
/// replaced. A transfer is replaced too. A direct export is a new attempt.
const CASES: &[Case] = &[
    case("Staged", Some(0), "export::planned", 1),
    case("Staged", Some(0), "staging::plan_stored", 2),
    case("Staged", Some(0), "staging::body_uploaded", 2),
    case("Staged", Some(0), "staging::body_stored", 2),
    case("Staged", Some(0), "staging::sidecar_stored", 2),
    case("Staged", Some(0), "export::exported", 1),
    case("Staged", Some(1), "staging::body_uploaded", 1),
    case("Staged", Some(1), "staging::body_stored", 1),
    case("Staged", Some(1), "staging::sidecar_stored", 1),
    case("Staged", Some(1), "export::exported", 1),
    case("Staged", None, "transfer::begun", 1),
    case("Staged", None, "delivery::uploaded", 1),
    case("Staged", None, "delivery::file_committed", 1),
    case("Staged", None, "delivery::committed", 1),
    case("Staged", None, "seal::manifest_written", 1),
    case("Staged", None, "seal::success_written", 1),
    case("PerChunk", Some(0), "staging::plan_stored", 1),
    case("PerChunk", Some(0), "staging::body_stored", 1),
    case("PerChunk", Some(0), "staging::sidecar_stored", 1),
    case("Direct", Some(0), "export::planned", 2),
    case("Direct", Some(0), "delivery::uploaded", 2),
    case("Direct", Some(0), "delivery::file_committed", 2),
    case("Direct", Some(0), "delivery::committed", 2),
    case("Direct", Some(0), "seal::manifest_written", 2),
    case("Direct", Some(0), "seal::success_written", 2),
    case("Staged", None, "replace::success_removed", 1),
    case("Staged", None, "replace::manifest_written", 1),
    case("Staged", None, "replace::success_written", 1),
    case("Direct", None, "replace::success_removed", 2),
    case("Direct", None, "replace::manifest_written", 2),
    case("Direct", None, "replace::success_written", 2),
    case("Staged", None, "cleanup::staging_removed", 1),
    case("Staged", None, "cleanup::location_cleaned", 1),
    Case { then: Some("cleanup::location_cleaned"), ..case("Direct", None, "delivery::file_committed", 2) },
];

impl Case {
    /// The ExportJob's name, which the host names of its pods begin with.
    fn name(&self) -> String {
        let worker = self.worker.map_or_else(|| "t".to_owned(), |worker| format!("w{worker}"));
        let place = self.place.replace("::", "-").replace('_', "-");
        format!("{}-{worker}-{place}", self.way).to_lowercase()
    }

    fn is_by(&self, hit: &Hit) -> bool {
        hit.host.starts_with(&format!("{}-", self.name()))
            && self.worker.is_none_or(|worker| hit.host.ends_with(&format!("-{worker}")))
    }

    /// Whether readers see a finished delivery where it dies first.
    fn has_delivered(&self) -> bool {
        self.place.ends_with("::success_written") || self.place.starts_with("cleanup::")
    }

    fn replaces(&self) -> bool {
        self.place.starts_with("replace::")
    }

    fn spec(&self, coordinator: &Coordinator) -> Value {
        let is_direct = self.way == "Direct";
        let mut chunking =
            json!({"strategy": "Column", "column": {"name": "hostname", "chunks": 4}, "parallelism": 2});
        if self.way == "PerChunk" {
            chunking["consistency"] = json!("PerChunk");
        }
        World::export(
            &format!("{}/", self.name()),
            json!({
                "chunking": chunking,
                "delivery": {
                    "mode": if is_direct { "Direct" } else { "Staged" },
                    "ifExists": if self.replaces() { "Replace" } else { "Fail" },
                },
                "workers": if is_direct { 1 } else { 2 },
                "podTemplate": {
                    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
                    "annotations": {ANNOTATION: coordinator.address()},
                },
            }),
        )
    }
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_is_made_up_for() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "failpoint").await;
    let coordinator = Coordinator::for_pods(&lab).await;
    let cases = CASES.iter().map(|case| dies_once(&world, &coordinator, case));
    stream::iter(cases).buffer_unordered(TOGETHER).collect::<Vec<()>>().await;
    let earlier = CASES.iter().filter(|case| case.replaces()).map(|case| earlier(&case.name()));
    let names: Vec<String> = CASES.iter().map(Case::name).chain(earlier).collect();
    world.remove(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The name of the ExportJob whose delivery is replaced.
fn earlier(name: &str) -> String {
    format!("before-{name}")
}

async fn dies_once(world: &World<'_>, coordinator: &Coordinator, case: &'static Case) {
    let (namespace, name) = (&world.namespace, case.name());
    if case.replaces() {
        let earlier = earlier(&name);
        namespace.job(&earlier, World::export(&format!("{name}/"), json!({}))).await;
        namespace.succeeded(&earlier, 2 * MINUTE).await;
    }
    let comes = coordinator.at(case.place, |hit| case.is_by(hit));
    let then = case.then.map(|place| coordinator.at(place, |hit| case.is_by(hit)));
    namespace.job(&name, case.spec(coordinator)).await;
    let held = comes.held(namespace, 3 * MINUTE).await;
    let success = format!("{}_SUCCESS", World::location(&format!("{name}/")));
    let objects = namespace.lab.peers.s3.list(&world.customer, &success).await.expect("a listing");
    assert_eq!(!objects.is_empty(), case.has_delivered(), "{name}: {objects:?}");
    held.die().await;
    if let Some(then) = then {
        then.held(namespace, 3 * MINUTE).await.die().await;
    }

    let job = namespace.succeeded(&name, 3 * MINUTE).await;
    let status = job.status.unwrap();
    assert_eq!(status.attempts, case.attempts, "{name}: {:?}", status.last_error);
    // What a broken-off attempt has made visible is removed at the end.
    let cleaned = eventually(2 * MINUTE, async || {
        namespace.api::<ExportJob>().get(&name).await.ok()?.finalizers().is_empty().then_some(())
    });
    if cleaned.await.is_none() {
        namespace.describe().await;
        panic!("{name}: its finalizer is still held");
    }
    world.whole(&format!("{name}/")).await;
    println!("{name}: {} attempts", status.attempts);
}
