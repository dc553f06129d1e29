//! The login by a token of IAM database authentication: what a server gets, and what a worker says when that is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

use std::path::Path;
use std::process::{Command, Output};

use pgexport_api::order::{NamedSource, Order, Task};
use pgexport_api::reason::Reason;
use pgexport_api::report::{Failure, Outcome, Report};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that asks for a password over TLS, as RDS does for a token, notes it, and refuses it as RDS does.
struct Server {
    port: u16,
    ca_pem: String,
    password: JoinHandle<String>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, ca_pem) = pgexport_peers::receiver::acceptor([127, 0, 0, 1].into()).unwrap();
        let password = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // SSLRequest; every message that follows it is read whole.
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            read(&mut stream).await;
            stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'p', "a PasswordMessage");
            let password = read(&mut stream).await;
            let fields = b"SFATAL\0VFATAL\0C28000\0MPAM authentication failed for user \"exporter\"\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap();
            let refusal = [b"E".as_slice(), &length.to_be_bytes(), fields].concat();
            stream.write_all(&refusal).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(password).unwrap().trim_end_matches('\0').to_owned()
        });
        Self { port, ca_pem, password }
    }
}

/// The rest of a message, without its length.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut bytes = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Has a worker probe a source whose authorities stand in the ConfigMap `rds-ca`.
fn probe(folder: &Path, port: u16, environment: &[(&str, &str)]) -> (Output, Failure) {
    let source: NamedSource = serde_json::from_value(json!({"name": "db", "postgres": {
        "host": "127.0.0.1", "port": port, "database": "findings", "user": "exporter",
        "iamAuth": {"region": "eu-west-1"}, "tls": {"caConfigMapRef": {"name": "rds-ca", "key": "global-bundle.pem"}},
    }}))
    .unwrap();
    let order = serde_json::to_vec(&Order::new(Task::ProbeSource(Box::new(source)))).unwrap();
    std::fs::write(folder.join("order.json"), order).unwrap();
    let path = |name: &str| folder.join(name).into_os_string();
    let output = Command::new(env!("CARGO_BIN_EXE_pgexport"))
        .args(["worker", "probe", "--port", "0"])
        .args(["--order".into(), path("order.json"), "--report".into(), path("report.json")])
        .args(["--secrets".into(), path("secrets"), "--config-maps".into(), path("config-maps")])
        .env_clear()
        .env("HOME", folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let report = std::fs::read_to_string(folder.join("report.json")).unwrap();
    match Report::from_termination_message(&report).unwrap().outcome {
        Outcome::Failed(failure) => (output, failure),
        outcome => panic!("{outcome:?}"),
    }
}

/// A folder with the ConfigMap `rds-ca`, which holds these authorities.
fn mounted(authorities: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("config-maps/rds-ca");
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::write(bundle.join("global-bundle.pem"), authorities.concat()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_a_token_over_tls_and_its_refusal_names_what_to_check() {
    let server = Server::start().await;
    // As in Amazon's bundle, the authority is one of many.
    let [before, after] =
        [(), ()].map(|()| pgexport_peers::receiver::acceptor([127, 0, 0, 1].into()).unwrap().1);
    let folder = mounted(&[&before, &server.ca_pem, &after]);
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", secret)];
    let port = server.port;
    let (output, failure) =
        tokio::task::spawn_blocking(move || probe(folder.path(), port, &keys)).await.unwrap();
    assert_eq!((failure.reason, output.status.code()), (Reason::AuthenticationFailed, Some(77)));
    let hint = failure.hint.unwrap();
    for part in ["GRANT rds_iam TO exporter", "rds-db:connect on arn:aws:rds-db:eu-west-1", "own endpoint"] {
        assert!(hint.contains(part), "{hint}");
    }
    assert!(failure.message.contains("PAM authentication failed"), "{}", failure.message);
    let token = server.password.await.unwrap();
    assert!(token.starts_with(&format!("127.0.0.1:{port}/?Action=connect&DBUser=exporter&")), "{token}");
    for part in [
        "X-Amz-Expires=900",
        "X-Amz-Credential=AKIDEXAMPLE%2F",
        "%2Feu-west-1%2Frds-db%2F",
        "X-Amz-Signature=",
    ] {
        assert!(token.contains(part), "{token}");
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("X-Amz-Signature") && !said.contains(secret), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_an_identity_says_how_to_give_it_one() {
    let server = Server::start().await;
    let folder = mounted(&[&server.ca_pem]);
    let (_, failure) =
        tokio::task::spawn_blocking(move || probe(folder.path(), server.port, &[])).await.unwrap();
    assert_eq!(failure.reason, Reason::AuthenticationFailed);
    let hint = failure.hint.unwrap();
    assert!(
        failure.message.contains("no AWS identity") && hint.contains("spec.serviceAccountName"),
        "{} {hint}",
        failure.message
    );
}

#[test]
fn a_missing_config_map_and_a_bundle_that_is_none_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let (_, failure) = probe(empty.path(), 1, &[]);
    assert_eq!(failure.reason, Reason::ReferenceNotFound);
    assert!(failure.message.contains("ConfigMap rds-ca") && failure.message.contains("global-bundle.pem"));
    let (_, failure) = probe(mounted(&["no PEM"]).path(), 1, &[]);
    assert_eq!(failure.reason, Reason::SecretInvalid);
    assert!(failure.message.contains("key global-bundle.pem of ConfigMap rds-ca"), "{}", failure.message);
}
