//! A run that fails is told to a receiver by a signed message, from a pod, over TLS.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use pgexport_api::{ConditionType, ExportJob, Phase};
use pgexport_e2e::{Lab, Namespace, condition, eventually, inside_network, job};
use pgexport_peers::Receiver;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);
/// The base64 of the bytes 0 to 31.
const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A listener where pods reach it.
fn listen(address: SocketAddr) -> TcpListener {
    inside_network(move || TcpListener::bind(address)).expect("a listener")
}

/// A namespace with the ExportSink `pager` of type http, and a receiver at its URL.
async fn world<'a>(lab: &'a Lab, hint: &str, database: &str) -> (Namespace<'a>, Receiver) {
    let receiver = Receiver::start(listen((lab.peers.postgres.pod.ip(), 0).into())).expect("a receiver");
    let (namespace, ..) = Namespace::furnished(lab, hint, database).await;
    namespace.secret("pager", &[("key", KEY), ("token", "t0ken"), ("ca.crt", &receiver.ca_pem)]).await;
    let key = |key: &str| json!({"name": "pager", "key": key});
    let http = json!({"url": receiver.url("/hook"), "signingSecretRef": key("key"), "tokenSecretRef": key("token"),
        "caSecretRef": key("ca.crt"), "timeout": "3s"});
    namespace.create_object("ExportSink", "pager", json!({"http": http})).await.expect("an ExportSink");
    (namespace, receiver)
}

/// An ExportJob whose failure is told, and that fails.
fn failing() -> Value {
    let parameters =
        json!([{"name": "tenant", "type": "uuid", "value": "5ec0e7aa-0000-4000-8000-000000000000"}]);
    let with = json!({"onFailure": {"notifySinkRef": {"name": "pager"}}, "parameters": parameters});
    let sql = "SELECT * FROM no_such_table WHERE tenant_id = :tenant";
    job(json!([{"name": "findings", "sql": sql}]), "NDJSON", with)
}

async fn told(namespace: &Namespace<'_>) -> ExportJob {
    let is_told = |job: &ExportJob| {
        let conditions = job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition(conditions, ConditionType::Notified).is_some_and(|(status, ..)| status == "True")
    };
    namespace.job_when("bad", "its failure was told", 2 * MINUTE, is_told).await
}

#[tokio::test]
async fn a_receiver_gets_the_documented_body_with_a_signature_that_holds() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("told").await.unwrap();
    let (namespace, receiver) = world(&lab, "told", &database.name).await;
    namespace.job("bad", failing()).await;
    let job = told(&namespace).await;

    let received = receiver.received();
    let [request] = received.as_slice() else { panic!("{} requests: {received:?}", received.len()) };
    assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", request.head);
    assert!(request.is_signed_by(&(0..32).collect::<Vec<u8>>()), "{}", request.head);
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    let (metadata, status) = (job.metadata, job.status.unwrap());
    let uid = metadata.uid.unwrap();
    assert_eq!(request.header("webhook-id"), Some(format!("{uid}-failed").as_str()));
    assert_eq!(status.notification.as_ref().unwrap().id, format!("{uid}-failed"));
    let error = status.last_error.unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!({
        "type": "exportjob.failed", "version": 1, "timestamp": status.completion_time,
        "data": {
            "namespace": namespace.name, "name": "bad", "uid": uid, "source": "db", "sink": "customer",
            "phase": "Failed", "reason": "InvalidQuery", "sqlState": "42P01", "message": error.message,
            "hint": error.hint, "attempts": 1, "transferAttempts": 0, "creationTime": metadata.creation_timestamp,
            "startTime": status.start_time, "completionTime": status.completion_time, "location": status.location,
        },
    });
    assert_eq!(body, expected);
    let text = String::from_utf8_lossy(&request.body);
    assert!(!text.contains("SELECT") && !text.contains("5ec0e7aa"), "{text}");

    // An ExportJob cannot deliver there.
    namespace
        .job(
            "wrong",
            pgexport_e2e::job(
                json!([{"name": "one", "sql": "SELECT 1"}]),
                "NDJSON",
                json!({"sinkRef": {"name": "pager"}}),
            ),
        )
        .await;
    let wrong = namespace.ended("wrong", MINUTE).await.status.unwrap();
    let (_, reason, message) = condition(&wrong.conditions, ConditionType::Failed).unwrap();
    assert_eq!((wrong.phase, reason), (Some(Phase::Failed), "InvalidSpec"));
    assert!(
        message.contains("ExportSink pager is of type http") && message.contains("s3 or volume"),
        "{message}"
    );
    assert_eq!(receiver.received().len(), 1);

    namespace.delete_job("bad", MINUTE).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_was_down_is_told_when_it_is_up() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("down").await.unwrap();
    let (namespace, mut receiver) = world(&lab, "down", &database.name).await;
    receiver.down();
    namespace.job("bad", failing()).await;
    let untold = |job: &ExportJob| {
        let conditions = job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition(conditions, ConditionType::Notified)
            .is_some_and(|(_, reason, _)| reason == "ReceiverUnreachable")
    };
    let job = namespace.job_when("bad", "its failure could not be told", 2 * MINUTE, untold).await;
    assert_eq!(job.status.unwrap().phase, Some(Phase::Failed));
    receiver.up(listen(receiver.address)).expect("it is up");
    let job = told(&namespace).await;
    assert!(job.status.unwrap().notification.unwrap().attempts >= 2);
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(received[0].is_signed_by(&(0..32).collect::<Vec<u8>>()));
    // Its finalizer is gone as soon as it is told and cleaned up.
    let released = eventually(MINUTE, async || {
        namespace
            .get("bad")
            .await
            .metadata
            .finalizers
            .is_none_or(|finalizers| finalizers.is_empty())
            .then_some(())
    });
    assert!(released.await.is_some(), "its finalizer stays");
    namespace.remove().await;
    database.drop_database().await.unwrap();
}
