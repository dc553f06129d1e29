//! The controller dies at each of its failpoints. It changes the controller, so it stands in a binary of its own: nothing else
//! runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use pgexport_api::{ExportJob, ExportSchedule, Phase};
use pgexport_e2e::{
    Awaited, Coordinator, Gate, Lab, Schedules, World, change_controller, controller_ready, eventually,
    kill_controller, scheduled_rows,
};
use pgexport_failpoint::{ANNOTATION, Hit, VARIABLE};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Where it dies twice in one run: at the export's Job, and at the transfer's.
const PLACES: [&str; 4] =
    ["status::decided", "status::written", "apply::job_created", "apply::order_created"];

/// Where it dies while it starts a run of a schedule: before and after its ExportJob is created.
const SCHEDULING: [&str; 2] = ["schedule::status_written", "schedule::job_created"];

/// Where it dies before it deletes a Job.
const DELETING: &str = "apply::deleting_job";

/// Where a transfer, and a cleanup, are held while the controller dies beside them.
const DELIVERED: &str = "seal::success_written";
const CLEANING: &str = "cleanup::staging_removed";

#[tokio::test]
async fn a_controller_that_dies_anywhere_goes_on_where_it_was() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "failpoint-controller").await;
    let coordinator = Coordinator::for_pods(&lab).await;
    change_controller(&lab, json!({"env": [{"name": VARIABLE, "value": coordinator.address()}]})).await;
    for place in PLACES {
        dies_twice(&lab, &world, &coordinator, place).await;
    }
    dies_while_pausing(&lab, &world, &coordinator).await;
    dies_while_cleaning_up(&lab, &world, &coordinator).await;
    dies_while_scheduling(&lab, &world, &coordinator).await;
    change_controller(&lab, json!({"env": [{"name": VARIABLE, "$patch": "delete"}]})).await;
    let names: Vec<String> = PLACES.into_iter().chain([DELETING, CLEANING]).map(name_of).collect();
    world.remove(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The name of the ExportJob that a failpoint is tried with.
fn name_of(place: &str) -> String {
    place.replace("::", "-").replace('_', "-")
}

async fn dies_twice(lab: &Lab, world: &World<'_>, coordinator: &Coordinator, place: &'static str) {
    let (namespace, name) = (&world.namespace, &name_of(place));
    let path = format!("{name}/");
    // Suspended, so that the failpoint is watched before anything begins.
    let spec = World::export(&path, json!({"suspend": true, "delivery": {"mode": "Staged"}}));
    namespace.job(name, spec).await;
    let uid = suspended(world, name).await;
    for time in 0..2 {
        let comes = coordinator.at(place, about(&uid));
        if time == 0 {
            namespace.change(name, json!({"suspend": false})).await;
        }
        dies(lab, world, comes).await;
    }
    let status = namespace.succeeded(name, 3 * MINUTE).await.status.expect("a status");
    assert_eq!(status.attempts, 1, "{name}: a controller's death costs no attempt: {:?}", status.last_error);
    world.whole(&path).await;
    made_once(world, name, &["e1", "t1-1"]).await;
}

/// A pause deletes the export's Job; the controller dies before it does.
async fn dies_while_pausing(lab: &Lab, world: &World<'_>, coordinator: &Coordinator) {
    let (namespace, name) = (&world.namespace, &name_of(DELETING));
    let path = format!("{name}/");
    let gate = Gate::close(&world.database).await;
    let row = Gate::condition("a.hostname = (SELECT min(hostname) FROM assets)");
    namespace.job(name, World::export_where(&path, &row, json!({"delivery": {"mode": "Staged"}}))).await;
    let waits = eventually(2 * MINUTE, async || (gate.waiting().await > 0).then_some(())).await;
    assert!(waits.is_some(), "no chunk comes to the gate");
    let uid = namespace.get(name).await.uid().expect("a uid");
    let comes = coordinator.at(DELETING, about(&uid));
    namespace.change(name, json!({"suspend": true})).await;
    dies(lab, world, comes).await;
    suspended(world, name).await;
    let ended =
        eventually(2 * MINUTE, async || namespace.pods("export").await.is_empty().then_some(())).await;
    assert!(ended.is_some(), "a suspended export goes on");
    gate.open().await;
    namespace.change(name, json!({"suspend": false})).await;
    namespace.succeeded(name, 3 * MINUTE).await;
    world.whole(&path).await;
    made_once(world, name, &["e1", "e2", "t2-1"]).await;
}

/// The controller dies when it has created the cleanup's Job, and again while that is at work.
async fn dies_while_cleaning_up(lab: &Lab, world: &World<'_>, coordinator: &Coordinator) {
    let (namespace, name) = (&world.namespace, &name_of(CLEANING));
    let path = format!("{name}/");
    let in_a_pod = || {
        let host = format!("{name}-");
        move |hit: &Hit| hit.host.starts_with(&host)
    };
    let delivered = coordinator.at(DELIVERED, in_a_pod());
    let cleaning = coordinator.at(CLEANING, in_a_pod());
    let with = json!({
        "delivery": {"mode": "Staged"},
        "podTemplate": {"annotations": {ANNOTATION: coordinator.address()}},
    });
    namespace.job(name, World::export(&path, with)).await;
    let transfer = delivered.held(namespace, 3 * MINUTE).await;
    let uid = namespace.get(name).await.uid().expect("a uid");
    let created = coordinator.at("apply::job_created", about(&uid));
    transfer.go().await;
    dies(lab, world, created).await;
    let cleanup = cleaning.held(namespace, 2 * MINUTE).await;
    kill_controller(lab).await;
    cleanup.go().await;
    controller_ready(lab).await;
    namespace.succeeded(name, 2 * MINUTE).await;
    let is_clean = |job: &ExportJob| job.finalizers().is_empty();
    namespace.job_when(name, "it is cleaned up", 2 * MINUTE, is_clean).await;
    world.whole(&path).await;
    made_once(world, name, &["e1", "t1-1"]).await;
    world.leftovers().none_of_runs(MINUTE).await;
}

/// A token asks for one run, and the controller dies on its way there.
async fn dies_while_scheduling(lab: &Lab, world: &World<'_>, coordinator: &Coordinator) {
    let (namespace, schedules) = (&world.namespace, Schedules(&world.namespace));
    schedules.create("tokens", scheduled_rows("SELECT 1 AS one"), json!({"suspend": true})).await;
    schedules.stands("tokens", "Suspended").await;
    let schedule = namespace.api::<ExportSchedule>().get("tokens").await.expect("the schedule");
    let uid = schedule.uid().expect("a uid");
    let mut made = Vec::new();
    for place in SCHEDULING {
        let comes = coordinator.at(place, about(&uid));
        schedules.change("tokens", json!({"runNow": {"token": place}})).await;
        dies(lab, world, comes).await;
        let run = schedules.run_now("tokens", place).await;
        namespace.succeeded(&run, 2 * MINUTE).await;
        made.push(run);
    }
    let runs = schedules.runs("tokens").await;
    assert_eq!(runs.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), made);
    schedules.created_once("tokens-").await;
    namespace
        .api::<ExportSchedule>()
        .delete("tokens", &DeleteParams::foreground())
        .await
        .expect("it is there");
}

async fn suspended(world: &World<'_>, name: &str) -> String {
    let is_suspended =
        |job: &ExportJob| job.status.as_ref().and_then(|status| status.phase) == Some(Phase::Suspended);
    let job = world.namespace.job_when(name, "it is Suspended", 2 * MINUTE, is_suspended).await;
    job.uid().expect("a uid")
}

fn about(uid: &str) -> impl Fn(&Hit) -> bool + Send + use<> {
    let uid = uid.to_owned();
    move |hit| hit.about.contains(&uid)
}

/// Kills the controller where it is held, and waits for the next one.
async fn dies(lab: &Lab, world: &World<'_>, comes: Awaited) {
    let held = comes.held(&world.namespace, 2 * MINUTE).await;
    kill_controller(lab).await;
    drop(held);
    controller_ready(lab).await;
}

/// Checks by the Events that these Jobs of an ExportJob were made, each once, and besides a cleanup's no other one.
async fn made_once(world: &World<'_>, name: &str, wanted: &[&str]) {
    let events = world.namespace.api::<Event>().list(&ListParams::default()).await.expect("Events");
    let mut uids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for about in events.items.into_iter().filter_map(|event| event.regarding) {
        let (Some("Job"), Some(job), Some(uid)) = (about.kind.as_deref(), about.name, about.uid) else {
            continue;
        };
        // The name, eight digits of the uid, and what tells the Jobs apart.
        let Some(which) = job.strip_prefix(&format!("{name}-")).and_then(|rest| rest.get(9..)) else {
            continue;
        };
        uids.entry(which.to_owned()).or_default().insert(uid);
    }
    uids.retain(|which, _| !which.starts_with('c'));
    let made: Vec<(&str, usize)> = uids.iter().map(|(which, uids)| (which.as_str(), uids.len())).collect();
    let wanted: Vec<(&str, usize)> = wanted.iter().map(|which| (*which, 1)).collect();
    assert_eq!(made, wanted, "{name}: its Jobs, and how many had each name");
}
