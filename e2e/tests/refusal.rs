//! What cannot work ends in a condition that names the thing and the fix.

use std::time::Duration;

use pgexport_api::reason::Reason;
use pgexport_api::{ConditionType, ExportJob, Phase};
use pgexport_e2e::{Lab, Namespace, condition, job, postgres_spec, s3_spec};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn one(sql: &str) -> Value {
    json!([{"name": "findings", "sql": sql}])
}

/// An ExportJob that fails at once, and what it says.
async fn failed(hint: &str, sql: &str) -> (Reason, String) {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database(hint).await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, hint, &database.name).await;
    namespace.job("bad", job(one(sql), "NDJSON", json!({}))).await;
    let ended = namespace.ended("bad", 2 * MINUTE).await;
    let status = ended.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Failed));
    assert_eq!(status.attempts, 1, "what only another ExportJob can put right is not tried again");
    let (failed, reason, message) = condition(&status.conditions, ConditionType::Failed).unwrap();
    let last = status.last_error.as_ref().unwrap();
    assert_eq!((failed, reason), ("True", last.reason.as_str()));
    assert!(message.contains(&last.message), "{message}");
    assert!(last.hint.is_some(), "no hint");
    assert!(lab.peers.s3.list(&customer, "").await.unwrap().is_empty(), "something was delivered");
    let said = (last.reason, format!("{message} {}", last.sql_state.as_deref().unwrap_or_default()));
    namespace.remove().await;
    database.drop_database().await.unwrap();
    said
}

#[tokio::test]
async fn a_syntax_error_fails_at_once_and_names_the_place() {
    let (reason, message) = failed("syntax", "SELEC 1").await;
    assert_eq!(reason, Reason::InvalidQuery, "{message}");
    assert!(
        message.contains("SELEC") && message.contains("42601") && message.contains("findings"),
        "{message}"
    );
}

#[tokio::test]
async fn a_query_that_writes_fails_at_once() {
    let (reason, message) = failed("write", "DELETE FROM findings RETURNING *").await;
    assert_eq!(reason, Reason::QueryWrites, "{message}");
}

#[tokio::test]
async fn a_wrong_password_stalls_and_its_correction_lets_the_job_go_on() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("password").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "password", &database.name).await;
    let ca = &lab.peers.postgres.ca_pem;
    namespace.secret("wrong", &[("password", "wrong"), ("ca.crt", ca)]).await;
    let mut postgres = postgres_spec(&lab.peers, &database.name);
    postgres["passwordSecretRef"]["name"] = json!("wrong");
    namespace.source("locked", json!({"postgres": postgres})).await;
    namespace.job("waits", job(one("SELECT 1"), "NDJSON", json!({"sourceRef": {"name": "locked"}}))).await;

    let message = namespace.source_refused("locked").await;
    assert!(message.starts_with("AuthenticationFailed") && message.contains("exporter"), "{message}");
    let stalled = stalled(&namespace, "waits").await;
    assert!(
        stalled.starts_with("SourceNotReady")
            && stalled.contains("locked")
            && stalled.contains("AuthenticationFailed"),
        "{stalled}"
    );

    namespace.secret("wrong", &[("password", &lab.peers.postgres.exporter.password), ("ca.crt", ca)]).await;
    namespace.succeeded("waits", 2 * MINUTE).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn an_unknown_database_is_named() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "database").await;
    namespace.secrets().await;
    namespace.source("db", json!({"postgres": postgres_spec(&lab.peers, "no_such_database")})).await;
    let message = namespace.source_refused("db").await;
    assert!(message.starts_with("DatabaseNotFound") && message.contains("no_such_database"), "{message}");
    namespace.remove().await;
}

#[tokio::test]
async fn a_missing_secret_is_named_with_its_key() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "secret").await;
    namespace.source("db", json!({"postgres": postgres_spec(&lab.peers, "postgres")})).await;
    let message = namespace.source_refused("db").await;
    assert!(
        message.starts_with("SecretNotFound") && message.contains("Secret db") && message.contains("key "),
        "{message}"
    );
    namespace.remove().await;
}

#[tokio::test]
async fn an_unreachable_database_is_named_with_its_address() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "unreachable").await;
    namespace.secrets().await;
    let mut postgres = postgres_spec(&lab.peers, "postgres");
    postgres["port"] = json!(1);
    let host = postgres["host"].as_str().unwrap().to_owned();
    namespace.source("db", json!({"postgres": postgres})).await;
    let message = namespace.source_refused("db").await;
    assert!(
        message.starts_with("DatabaseUnreachable") && message.contains(&format!("{host}:1")),
        "{message}"
    );
    namespace.remove().await;
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "bucket").await;
    namespace.secrets().await;
    namespace.sink("customer", "no-such-bucket", "").await;
    let message = namespace.sink_refused("customer").await;
    assert!(message.starts_with("BucketNotFound") && message.contains("no-such-bucket"), "{message}");
    namespace.remove().await;
}

#[tokio::test]
async fn refused_credentials_are_told_from_refused_access() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "credentials").await;
    let bucket = lab.peers.s3.create_bucket("credentials").await.unwrap();
    let stranger = lab.peers.s3.create_account("stranger").await.unwrap();
    namespace
        .secret("unknown", &[("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")])
        .await;
    namespace
        .secret(
            "stranger",
            &[("AWS_ACCESS_KEY_ID", &stranger.access_key), ("AWS_SECRET_ACCESS_KEY", &stranger.secret_key)],
        )
        .await;
    for secret in ["unknown", "stranger"] {
        let mut s3 = s3_spec(&lab.peers, &bucket, "");
        s3["credentialsSecretRef"]["name"] = json!(secret);
        namespace.create_object("ExportSink", secret, json!({"s3": s3})).await.unwrap();
    }
    let message = namespace.sink_refused("unknown").await;
    assert!(message.starts_with("CredentialsRefused"), "{message}");
    assert!(!message.contains("nothing"), "the secret key is shown: {message}");
    let message = namespace.sink_refused("stranger").await;
    assert!(message.starts_with("AccessDenied") && message.contains(&bucket), "{message}");
    namespace.remove().await;
}

#[tokio::test]
async fn an_unknown_sink_stalls_until_it_is_created() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("reference").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "reference", &database.name).await;
    namespace
        .job("waits", job(one("SELECT 1 AS one"), "NDJSON", json!({"sinkRef": {"name": "later"}})))
        .await;
    let message = stalled(&namespace, "waits").await;
    assert!(message.starts_with("ReferenceNotFound") && message.contains("ExportSink later"), "{message}");
    let bucket = lab.peers.s3.create_bucket("later").await.unwrap();
    namespace.sink("later", &bucket, "").await;
    namespace.succeeded("waits", 2 * MINUTE).await;
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn what_does_not_start_in_time_fails() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("deadline").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "deadline", &database.name).await;
    let with = json!({"sinkRef": {"name": "never"}, "deadlines": {"start": "5s"}});
    namespace.job("late", job(one("SELECT 1"), "NDJSON", with)).await;
    let ended = namespace.ended("late", MINUTE).await;
    let status = ended.status.unwrap();
    let (_, _, message) = condition(&status.conditions, ConditionType::Failed).unwrap();
    assert!(message.contains("deadlines.start") && message.contains("ExportSink never"), "{message}");
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// Waits until an ExportJob is Stalled, and returns `reason: message`.
async fn stalled(namespace: &Namespace<'_>, name: &str) -> String {
    let says = |job: &ExportJob| {
        let status = job.status.as_ref()?;
        let (stalled, reason, message) = condition(&status.conditions, ConditionType::Stalled)?;
        (stalled == "True").then(|| format!("{reason}: {message}"))
    };
    let job = namespace.job_when(name, "it is Stalled", MINUTE, |job| says(job).is_some()).await;
    assert_eq!(job.status.as_ref().unwrap().phase, Some(Phase::Pending));
    says(&job).unwrap()
}
