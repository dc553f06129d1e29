//! A worker image that is not there. It changes the controller, so it stands in a binary of its own: nothing else runs.

use std::time::Duration;

use pgexport_api::ConditionType;
use pgexport_e2e::{Lab, Namespace, change_controller, condition, controller, job};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("image").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "image", &database.name).await;
    namespace
        .job("first", job(json!([{"name": "one", "sql": "SELECT 1 AS one"}]), "NDJSON", json!({})))
        .await;
    namespace.succeeded("first", 2 * MINUTE).await;

    let was = worker_image(&lab, "localhost/no-such-image:none").await;
    namespace
        .job(
            "second",
            job(json!([{"name": "one", "sql": "SELECT 1 AS one"}]), "NDJSON", json!({"path": "second/"})),
        )
        .await;
    let stalled = namespace
        .job_when("second", "it is Stalled for its image", 2 * MINUTE, |job| {
            job.status.as_ref().is_some_and(|status| {
                condition(&status.conditions, ConditionType::Stalled)
                    .is_some_and(|(_, reason, _)| reason == "ImagePullFailed")
            })
        })
        .await;
    let status = stalled.status.unwrap();
    let (_, _, message) = condition(&status.conditions, ConditionType::Stalled).unwrap();
    assert!(message.contains("localhost/no-such-image:none"), "{message}");

    worker_image(&lab, &was).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// Has the controller start workers of another image, and returns the former one.
async fn worker_image(lab: &Lab, image: &str) -> String {
    let deployment = controller(lab).await;
    let mut container =
        serde_json::to_value(&deployment.spec.unwrap().template.spec.unwrap().containers[0]).unwrap();
    let args = container["args"].as_array_mut().expect("arguments");
    let flag = args
        .iter_mut()
        .find(|arg| arg.as_str().is_some_and(|arg| arg.starts_with("--worker-image=")))
        .expect("--worker-image=");
    let was = flag.as_str().unwrap()["--worker-image=".len()..].to_owned();
    *flag = Value::String(format!("--worker-image={image}"));
    change_controller(lab, json!({"args": container["args"]})).await;
    was
}
