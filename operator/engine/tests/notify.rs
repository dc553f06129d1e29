//! What a receiver of notifications gets, over real TLS.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::time::Duration;

use pgexport_api::order::{NamedReceiver, NotifyOrder};
use pgexport_api::reason::Reason;
use pgexport_engine::notify::{probe, send};
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_peers::Receiver;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The base64 of the bytes 0 to 31.
const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn start() -> Receiver {
    Receiver::start(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

fn secrets(receiver: &Receiver) -> MemorySecrets {
    let mut secrets = MemorySecrets::default();
    for (key, value) in [("key", KEY), ("token", "t0ken\n"), ("ca.crt", receiver.ca_pem.as_str())] {
        secrets.insert("pager", key, Secret::new(value.as_bytes().to_vec()));
    }
    secrets
}

fn named(url: &str, with: Value) -> NamedReceiver {
    let key = |key: &str| json!({"name": "pager", "key": key});
    let mut http = json!({"url": url, "signingSecretRef": key("key"), "tokenSecretRef": key("token"),
        "caSecretRef": key("ca.crt"), "timeout": "5s"});
    if let (Some(http), Value::Object(with)) = (http.as_object_mut(), with) {
        http.extend(with);
        http.retain(|_, value| !value.is_null());
    }
    NamedReceiver { name: "pager".to_owned(), http: serde_json::from_value(http).unwrap() }
}

fn message() -> Value {
    json!({
        "type": "exportjob.failed",
        "version": 1,
        "timestamp": "2026-11-23T10:05:00Z",
        "data": {
            "namespace": "exports", "name": "acme", "uid": "0b0c1d2e-1111-2222-3333-444444444444",
            "source": "findings-db", "sink": "acme", "phase": "Failed", "reason": "InvalidQuery", "sqlState": "42P01",
            "message": "relation \"findings\" does not exist", "attempts": 1, "transferAttempts": 0,
            "creationTime": "2026-11-23T10:00:00Z", "completionTime": "2026-11-23T10:05:00Z",
        },
    })
}

fn order(receiver: NamedReceiver) -> NotifyOrder {
    let id = "0b0c1d2e-1111-2222-3333-444444444444-failed".to_owned();
    NotifyOrder { receiver, id, message: serde_json::from_value(message()).unwrap() }
}

async fn refusal(order: &NotifyOrder, secrets: &MemorySecrets) -> (Reason, String) {
    let error = send(order, secrets, &CancellationToken::new()).await.unwrap_err();
    let failure = error.to_failure();
    (failure.reason, format!("{} {}", failure.message, failure.hint.unwrap()))
}

#[tokio::test]
async fn a_receiver_gets_the_message_its_token_and_a_signature_that_holds() {
    let receiver = start();
    let order = order(named(&receiver.url("/hook?x=1"), json!({})));
    let before = jiff::Timestamp::now().as_second();
    assert_eq!(send(&order, &secrets(&receiver), &CancellationToken::new()).await.unwrap(), 204);
    let requests = receiver.received();
    let [request] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert!(request.head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), message());
    assert_eq!(request.header("host"), Some(receiver.address.to_string().as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(request.header("webhook-id"), Some(order.id.as_str()));
    let seconds: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((before..=before + 5).contains(&seconds), "{seconds}");
    let key: Vec<u8> = (0..32).collect();
    assert!(request.is_signed_by(&key) && !request.is_signed_by(&key[1..]), "{}", request.head);
}

#[tokio::test]
async fn what_the_receiver_answers_tells_what_to_do_and_is_not_passed_on() {
    let receiver = start();
    let secrets = secrets(&receiver);
    let order = order(named(&receiver.url("/hook"), json!({})));
    let elsewhere = format!("302 Found\r\nLocation: {}", receiver.url("/elsewhere"));
    for (answer, words) in [
        ("401 Unauthorized", "tokenSecretRef"),
        ("404 Not Found", "correct spec.http.url of ExportSink pager"),
        (elsewhere.as_str(), "redirects are not followed"),
        ("500 Oops", "the receiver's log"),
    ] {
        receiver.answer(&[answer]);
        let (reason, told) = refusal(&order, &secrets).await;
        assert_eq!(reason, Reason::ReceiverRefused);
        assert!(told.contains(words) && told.contains(&answer[..3]), "{told}");
        for secret in ["/hook", "hushed", "t0ken", KEY] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    assert_eq!(receiver.received().len(), 4, "a redirect was followed");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_gets_nothing() {
    let receiver = start();
    let order = order(named(&receiver.url("/hook"), json!({"caSecretRef": null})));
    let (reason, told) = refusal(&order, &secrets(&receiver)).await;
    assert_eq!(reason, Reason::TlsFailed);
    assert!(told.contains("spec.http.caSecretRef of ExportSink pager"), "{told}");
    assert_eq!(receiver.received(), []);
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_silent_is_named() {
    let receiver = start();
    let secrets = secrets(&receiver);
    for url in ["https://127.0.0.1:1/hook", "https://nowhere.invalid/hook"] {
        let (reason, told) = refusal(&order(named(url, json!({}))), &secrets).await;
        assert_eq!(reason, Reason::ReceiverUnreachable);
        assert!(told.contains(url.trim_end_matches("/hook")) && told.contains("NetworkPolicies"), "{told}");
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", silent.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let (reason, told) = refusal(&order(named(&url, json!({"timeout": "300ms"}))), &secrets).await;
    assert_eq!(reason, Reason::ReceiverUnreachable);
    assert!(told.contains("300ms") && told.contains("spec.http.timeout"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_unless_it_is_allowed() {
    let receiver = start();
    let secrets = secrets(&receiver);
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", plain.local_addr().unwrap());
    let (reason, told) = refusal(&order(named(&url, json!({}))), &secrets).await;
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(told.contains("spec.http.allowInsecure"), "{told}");

    let served = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut client, _) = plain.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let read = client.read(&mut bytes).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    });
    let order = order(named(&url, json!({"allowInsecure": true})));
    assert_eq!(send(&order, &secrets, &CancellationToken::new()).await.unwrap(), 200);
    assert!(served.await.unwrap().starts_with("POST /hook HTTP/1.1"));
}

#[tokio::test]
async fn a_probe_connects_and_sends_no_request() {
    let receiver = start();
    let secrets = secrets(&receiver);
    probe(&named(&receiver.url("/hook"), json!({})), &secrets).await.unwrap();
    // The client is through with a handshake before the server is.
    let counted = async {
        while receiver.handshakes() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), counted).await.expect("a handshake");
    assert_eq!((receiver.handshakes(), receiver.received()), (1, vec![]));

    let missing =
        named(&receiver.url("/hook"), json!({"signingSecretRef": {"name": "pager", "key": "nothing"}}));
    let error = probe(&missing, &secrets).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotFound);
    let untrusted = named(&receiver.url("/hook"), json!({"caSecretRef": null}));
    assert_eq!(probe(&untrusted, &secrets).await.unwrap_err().reason(), Reason::TlsFailed);
    let closed = named("https://127.0.0.1:1/", json!({}));
    assert_eq!(probe(&closed, &secrets).await.unwrap_err().reason(), Reason::ReceiverUnreachable);
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_an_answer() {
    let receiver = start();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", silent.local_addr().unwrap());
    let (order, cancel) = (order(named(&url, json!({}))), CancellationToken::new());
    cancel.cancel();
    let error = send(&order, &secrets(&receiver), &cancel).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Interrupted);
}
