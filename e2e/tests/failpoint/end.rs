//! Runs that are ended, or pause, while they transfer: what is delivered is whole or absent, and nothing is left over.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::DeleteParams;
use pgexport_api::{ExportJob, Phase};
use pgexport_e2e::{Coordinator, Found, Lab, World};
use pgexport_failpoint::ANNOTATION;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// How a run is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cancel,
    /// It pauses first.
    SuspendAndCancel,
    /// It pauses only.
    SuspendAndResume,
    Delete,
}

/// Where the transfer is held meanwhile: at its beginning, and when all files are there but the manifest.
const PLACES: [&str; 2] = ["transfer::begun", "delivery::committed"];

#[tokio::test]
async fn a_run_that_is_ended_while_it_transfers_is_whole_or_absent_and_leaves_nothing() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "ends-transferring").await;
    let coordinator = Coordinator::for_pods(&lab).await;
    let ends = [End::Cancel, End::SuspendAndCancel, End::SuspendAndResume, End::Delete];
    let runs = PLACES.iter().flat_map(|place| ends.map(|end| (*place, end)));
    let ended =
        futures::future::join_all(runs.map(|(place, end)| ended(&world, &coordinator, place, end))).await;
    world.leftovers().none_of_runs(3 * MINUTE).await;
    let mut left = Vec::new();
    for (path, before, end) in &ended {
        let found = world.found(path, before).await;
        let name = before.name_any();
        let now = world.namespace.api::<ExportJob>().get_opt(&name).await.unwrap();
        let status = now.and_then(|job| job.status);
        let phase = status.as_ref().and_then(|status| status.phase);
        match phase {
            // Nothing of what it had exported is exported again.
            Some(Phase::Succeeded) if *end == End::SuspendAndResume => {
                assert_eq!(found, Found::Whole, "{name}");
                let attempts = status.map(|status| status.attempts);
                assert_eq!(attempts, Some(1), "{name}");
            }
            // Its pod had said its last word before it was stopped.
            Some(Phase::Succeeded) => assert_eq!(found, Found::Whole, "{name}"),
            // It may have delivered between the question and its pod's end, and nobody heard: then that is whole.
            Some(Phase::Cancelled) | None if *end != End::SuspendAndResume => {}
            other => panic!("{name} is {other:?}"),
        }
        left.extend(phase.is_some().then_some(name));
    }
    world.remove(&left.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Ends a run while it is held, and lets it go on. Returns its path, the ExportJob as it was, and how it was ended.
async fn ended(
    world: &World<'_>,
    coordinator: &Coordinator,
    place: &str,
    end: End,
) -> (String, ExportJob, End) {
    let namespace = &world.namespace;
    let name = format!("{}-{end:?}", place.replace("::", "-")).to_lowercase();
    let path = format!("{name}/");
    let job_name = name.clone();
    let comes = coordinator.at(place, move |hit| hit.host.starts_with(&job_name));
    let with = json!({"delivery": {"mode": "Staged"}, "podTemplate": {"annotations": {ANNOTATION: coordinator.address()}}});
    namespace.job(&name, World::export(&path, with)).await;
    let held = comes.held(namespace, 4 * MINUTE).await;
    let before = namespace.get(&name).await;
    match end {
        End::Cancel => namespace.change(&name, json!({"cancel": true})).await,
        End::SuspendAndCancel | End::SuspendAndResume => {
            namespace.change(&name, json!({"suspend": true})).await;
            let is_suspended = |job: &ExportJob| {
                job.status.as_ref().and_then(|status| status.phase) == Some(Phase::Suspended)
            };
            namespace.job_when(&name, "it is Suspended", 2 * MINUTE, is_suspended).await;
        }
        End::Delete => {
            drop(namespace.api::<ExportJob>().delete(&name, &DeleteParams::background()).await.unwrap())
        }
    }
    held.go().await;
    match end {
        End::SuspendAndCancel => namespace.change(&name, json!({"cancel": true})).await,
        End::SuspendAndResume => {
            namespace.change(&name, json!({"suspend": false})).await;
            namespace.succeeded(&name, 4 * MINUTE).await;
        }
        End::Cancel | End::Delete => {}
    }
    (path, before, end)
}
