//! A sink whose account may write and do nothing else is delivered to, and never holds anything that looks finished and is not.

use std::time::Duration;

use pgexport_api::sink::Capability;
use pgexport_api::{ConditionType, ExportJob, ExportSink, Phase};
use pgexport_e2e::{Coordinator, Lab, World, condition, eventually, s3_secret, s3_spec};
use pgexport_failpoint::ANNOTATION;
use pgexport_peers::WRITE_ONLY;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// A world whose sink `write-only` delivers to the customer's bucket as somebody who may only write there.
async fn write_only<'a>(lab: &'a Lab, hint: &str) -> World<'a> {
    let world = World::create(lab, hint).await;
    let s3 = &lab.peers.s3;
    let account = s3.create_account("writer").await.unwrap();
    s3.allow(&world.customer, &account, &WRITE_ONLY).await.unwrap();
    world.namespace.secret("writer", &s3_secret(&account)).await;
    let mut spec = s3_spec(&lab.peers, &world.customer, "from-us/");
    spec["credentialsSecretRef"]["name"] = json!("writer");
    world.namespace.create_object("ExportSink", "write-only", json!({"s3": spec})).await.unwrap();
    world
}

/// The small export to that sink, never tried again.
fn export(name: &str, mode: &str, annotations: Value) -> Value {
    let with = json!({
        "sinkRef": {"name": "write-only"},
        "delivery": {"mode": mode},
        "retry": {"limit": 0},
        "podTemplate": {"annotations": annotations},
    });
    World::export(&format!("{name}/"), with)
}

/// What is at an ExportJob's location, seen by the bucket's owner.
async fn found(world: &World<'_>, name: &str) -> Vec<String> {
    let location = World::location(&format!("{name}/"));
    let objects = world.namespace.lab.peers.s3.list(&world.customer, &location).await.unwrap();
    objects.into_iter().map(|object| object.key[location.len()..].to_owned()).collect()
}

/// The ExportJob when it has been cleaned up as far as it could.
async fn cleaned(world: &World<'_>, name: &str) -> ExportJob {
    let is_over = |job: &ExportJob| {
        let cleanup = job.status.as_ref().and_then(|status| status.cleanup.as_ref());
        cleanup.is_some_and(|cleanup| cleanup.completion_time.is_some())
    };
    world.namespace.job_when(name, "it is cleaned up", 3 * MINUTE, is_over).await
}

#[tokio::test]
async fn a_sink_that_grants_only_writing_is_ready_and_delivered_to() {
    let lab = Lab::find().await;
    let world = write_only(&lab, "write-only").await;
    for (name, mode) in [("direct", "Direct"), ("staged", "Staged")] {
        world.namespace.job(name, export(name, mode, json!({}))).await;
    }
    for name in ["direct", "staged"] {
        let job = world.namespace.succeeded(name, 3 * MINUTE).await;
        let delivery = world.whole(&format!("{name}/")).await;
        let rows = job.status.unwrap().output.unwrap().rows;
        assert_eq!(delivery.manifest["rows"], json!(rows), "{name}");
    }
    let status = cleaned(&world, "staged").await.status.unwrap();
    let (truth, reason, message) = condition(&status.conditions, ConditionType::CleanedUp).unwrap();
    assert_eq!(
        (truth, reason),
        ("True", "CleanedUp"),
        "a transfer that ended well has left nothing: {message}"
    );

    let sink = world.namespace.api::<ExportSink>().get("write-only").await.unwrap().status.unwrap();
    let (ready, ..) = condition(&sink.conditions, ConditionType::Ready).unwrap();
    assert_eq!((ready, sink.capabilities.as_slice()), ("True", [Capability::Write].as_slice()));
    world.remove(&["direct", "staged"]).await;
}

#[tokio::test]
async fn a_delivery_that_broke_off_looks_unfinished_and_what_remains_is_told() {
    let lab = Lab::find().await;
    let world = write_only(&lab, "broken-off").await;
    let coordinator = Coordinator::for_pods(&lab).await;
    let annotations = json!({ANNOTATION: coordinator.address()});
    for (name, mode) in [("direct", "Direct"), ("staged", "Staged")] {
        // All files are visible by then, and the manifest is not written.
        let comes = coordinator.at("delivery::committed", move |hit| hit.host.starts_with(name));
        world.namespace.job(name, export(name, mode, annotations.clone())).await;
        let held = comes.held(&world.namespace, 3 * MINUTE).await;
        if mode == "Staged" {
            // Or another pod would take the place of the one that dies, and finish.
            world.namespace.change(name, json!({"cancel": true})).await;
            let is_stopped =
                eventually(MINUTE, async || world.namespace.pods("transfer").await.is_empty().then_some(()));
            assert!(is_stopped.await.is_some(), "the transfer is not stopped");
        }
        held.die().await;
        let phase = world.namespace.ended(name, 3 * MINUTE).await.status.unwrap().phase;
        assert_eq!(phase, Some(if mode == "Staged" { Phase::Cancelled } else { Phase::Failed }), "{name}");

        let status = cleaned(&world, name).await.status.unwrap();
        let left = found(&world, name).await;
        assert!(!left.is_empty(), "{name}: the test shows nothing where nothing is left");
        assert!(!left.iter().any(|key| key.starts_with('_')), "{name}: {left:?}");
        let (truth, reason, message) = condition(&status.conditions, ConditionType::CleanedUp).unwrap();
        assert_eq!((truth, reason), ("False", "PartialOutputRemains"), "{name}: {message}");
        let location = format!("s3://{}/{}", world.customer, World::location(&format!("{name}/")));
        for part in [location.as_str(), "s3:ListBucketMultipartUploads", "s3:DeleteObject", "lifecycle rule"]
        {
            assert!(message.contains(part), "{name}: {part:?} is not in: {message}");
        }
    }
    world.remove(&["direct", "staged"]).await;
}
