//! What an S3 server refuses becomes a reason, and a message that names the thing and the fix.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use pgexport_api::order::{NamedSink, Target};
use pgexport_api::reason::Reason;
use pgexport_api::sink::{Capability, S3};
use pgexport_engine::Error;
use pgexport_engine::output::FileWriter;
use pgexport_engine::probe;
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};
use pgexport_engine::store::{self, Put, PutMode, Volumes};
use pgexport_peers::{Account, Peers, WRITE_ONLY};
use support::{Backend, PREFIX, s3_target, secrets};

/// Probes a bucket, and returns how that failed.
async fn refusal(s3: S3, secrets: Arc<dyn Secrets>) -> Error {
    let sink = NamedSink { name: "acme".to_owned(), target: Target::S3(s3), staging: false };
    probe::sink::probe(&sink, secrets, &Volumes::folders(BTreeMap::new())).await.unwrap_err()
}

#[track_caller]
fn says(error: &Error, reason: Reason, words: &[&str]) {
    let failure = error.to_failure();
    let text = format!("{}; {}", failure.message, failure.hint.unwrap_or_default());
    assert_eq!(failure.reason, reason, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let peers = Peers::load().unwrap();
    let error = refusal(s3_target(&peers, "no-such-bucket"), secrets(&peers.s3.admin)).await;
    says(&error, Reason::BucketNotFound, &["no-such-bucket", &peers.s3.host_endpoint(), "create the bucket"]);
}

#[tokio::test]
async fn wrong_credentials_name_the_secret_and_never_show_it() {
    let Backend::S3 { peers, bucket } = Backend::s3().await else { unreachable!() };
    let wrong_key = Account { secret_key: "wrong-secret".to_owned(), ..peers.s3.admin.clone() };
    let unknown = Account { access_key: "nobody".to_owned(), secret_key: "wrong-secret".to_owned() };
    for account in [wrong_key, unknown] {
        let error = refusal(s3_target(&peers, &bucket), secrets(&account)).await;
        says(&error, Reason::CredentialsRefused, &["Secret acme", &peers.s3.host_endpoint()]);
        assert!(!format!("{error:?}").contains("wrong-secret"), "{error:?}");
    }
}

#[tokio::test]
async fn an_account_without_rights_is_told_the_action_and_the_bucket() {
    let Backend::S3 { peers, bucket } = Backend::s3().await else { unreachable!() };
    let account = peers.s3.create_account("stranger").await.unwrap();
    let error = refusal(s3_target(&peers, &bucket), secrets(&account)).await;
    says(&error, Reason::AccessDenied, &["s3:PutObject", &bucket, PREFIX, "Secret acme"]);
}

#[tokio::test]
async fn a_missing_secret_or_key_is_named_before_any_request() {
    let peers = Peers::load().unwrap();
    let error = refusal(s3_target(&peers, "any"), Arc::new(MemorySecrets::default())).await;
    says(&error, Reason::SecretNotFound, &["acme", "AWS_ACCESS_KEY_ID"]);
    let mut half = MemorySecrets::default();
    half.insert("acme", "AWS_ACCESS_KEY_ID", Secret::new(b"id".to_vec()));
    let error = refusal(s3_target(&peers, "any"), Arc::new(half)).await;
    says(&error, Reason::SecretNotFound, &["acme", "AWS_SECRET_ACCESS_KEY"]);
}

#[tokio::test]
async fn an_address_without_a_server_is_named() {
    let peers = Peers::load().unwrap();
    for endpoint in ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid"] {
        let s3 = S3 { endpoint: Some(endpoint.to_owned()), ..s3_target(&peers, "any") };
        let error = refusal(s3, secrets(&peers.s3.admin)).await;
        says(&error, Reason::StoreUnreachable, &[endpoint]);
    }
}

#[tokio::test]
async fn a_wrong_region_is_told() {
    let Backend::S3 { peers, bucket } = Backend::s3().await else { unreachable!() };
    let s3 = S3 { region: "eu-west-1".to_owned(), ..s3_target(&peers, &bucket) };
    let error = refusal(s3, secrets(&peers.s3.admin)).await;
    says(&error, Reason::BucketNotFound, &["region", "eu-west-1"]);
}

#[tokio::test]
async fn an_account_that_may_only_write_passes_as_sink_and_not_as_staging() {
    let Backend::S3 { peers, bucket } = Backend::s3().await else { unreachable!() };
    let account = peers.s3.create_account("writer").await.unwrap();
    peers.s3.allow(&bucket, &account, &WRITE_ONLY).await.unwrap();
    let mut sink =
        NamedSink { name: "acme".to_owned(), target: Target::S3(s3_target(&peers, &bucket)), staging: false };
    let none = Volumes::folders(BTreeMap::new());
    let capabilities = probe::sink::probe(&sink, secrets(&account), &none).await.unwrap();
    assert_eq!(capabilities, [Capability::Write]);
    let all = probe::sink::probe(&sink, secrets(&peers.s3.admin), &none).await.unwrap();
    assert_eq!(all, [Capability::Write, Capability::List, Capability::Read, Capability::ListUploads]);

    sink.staging = true;
    let error = probe::sink::probe(&sink, secrets(&account), &none).await.unwrap_err();
    says(&error, Reason::AccessDenied, &["s3:ListBucket", &bucket]);

    let store = store::open(&sink.target, secrets(&account), &none).unwrap();
    store.put("document", "x".into(), "text/plain", PutMode::Create).await.unwrap();
    let error = store.get("document").await.unwrap_err();
    says(&error, Reason::AccessDenied, &["s3:GetObject", "from us/document"]);
    assert_eq!(peers.s3.list(&bucket, "").await.unwrap().len(), 1);

    for body in ["", "bytes"] {
        let key = format!("file of {} bytes", body.len());
        let finished = async || {
            let mut writer = FileWriter::begin(store.as_ref(), &key, "text/plain").await.unwrap();
            writer.write(body.into()).await.unwrap();
            writer.finish().await.unwrap().pending
        };
        assert_eq!(finished().await.commit().await.unwrap(), Put::Written);
        assert_eq!(finished().await.commit().await.unwrap(), Put::Exists, "it cannot be compared");
    }
    assert_eq!(peers.s3.open_uploads(&bucket).await.unwrap(), []);
}
