//! What keeps a database from exporting by itself, with what to do.

use pgexport_api::job::FormatType;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::{Class, Reason};
use pgexport_api::source::RunTable;
use pgexport_engine::probe;
use serde_json::{Value, json};

use super::room::{Room, format, lines, settings};

const QUERY: [(&str, &str); 1] = [("rows", "SELECT seq FROM findings ORDER BY seq")];

fn order(room: &Room, with: &Value) -> RunOrder {
    room.order("AuroraS3", &format(FormatType::Ndjson), &QUERY, with)
}

/// Fails for this reason, and says this.
async fn refused(room: &Room, with: &Value, reason: Reason, words: &[&str]) {
    let failure = room.failure(&order(room, with)).await;
    let text = format!("{}; {}", failure.message, failure.hint.unwrap_or_default());
    assert_eq!(failure.reason, reason, "{text}");
    assert_eq!(reason.class(), Class::Environment);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    room.assert_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_is_missing_or_not_granted_is_told_before_any_work() {
    let room = Room::bare("aurora_missing").await;
    let none = json!({});
    refused(&room, &none, Reason::ExtensionUnavailable, &["CREATE EXTENSION aws_s3 CASCADE"]).await;
    room.database.install_aws_s3(&room.peers.s3, "pg_monitor").await.unwrap();
    refused(&room, &none, Reason::ExtensionUnavailable, &["GRANT USAGE ON SCHEMA aws_s3", "exporter"]).await;
    let login = &room.peers.postgres.exporter.user;
    room.sql(&format!("SELECT aws_s3_standin.admit('{login}'), aws_s3_standin.dissociate_role()")).await;
    refused(&room, &none, Reason::CredentialsRefused, &["no IAM role", "s3Export"]).await;
    room.sql("SELECT aws_s3_standin.forget_kms_key()").await;
    room.sql(&format!("SELECT aws_s3_standin.admit('{login}')")).await;
    let key = json!({"source": {"kmsKeyId": "alias/key"}});
    refused(&room, &key, Reason::ExtensionUnavailable, &["ALTER EXTENSION aws_s3 UPDATE"]).await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_s3_answers_to_the_database_has_its_reason() {
    let room = Room::new("aurora_answers").await;
    let folder = room.texts("SELECT current_setting('data_directory') || '/aws_s3'").await.remove(0);
    let role = |name: &str, endpoint: &str, secret: &str| {
        let role = json!({"endpoint": endpoint, "region": room.peers.s3.region,
            "access_key": room.peers.s3.admin.access_key, "secret_key": secret});
        format!(
            "COPY (SELECT '{role}') TO PROGRAM 'cat >\"{folder}/{name}.json\"'; SELECT aws_s3_standin.associate_role('{folder}/{name}.json')"
        )
    };
    let secret = &room.peers.s3.admin.secret_key;
    let name = &room.database.name;
    room.sql(&role(name, "http://127.0.0.1:9", secret)).await;
    refused(&room, &json!({}), Reason::StoreUnreachable, &["does not reach S3", "gateway endpoint"]).await;
    room.sql(&role(name, &room.peers.s3.pod_endpoint(), "wrong")).await;
    refused(&room, &json!({}), Reason::CredentialsRefused, &["s3://"]).await;

    // An account that may write elsewhere only.
    let account = room.peers.s3.create_account("aurora").await.unwrap();
    let role = json!({"endpoint": room.peers.s3.pod_endpoint(), "region": room.peers.s3.region,
        "access_key": account.access_key, "secret_key": account.secret_key});
    room.sql(&format!("COPY (SELECT '{role}') TO PROGRAM 'cat >\"{folder}/{name}.json\"'")).await;
    refused(&room, &json!({}), Reason::AccessDenied, &["s3:PutObject", "s3Export"]).await;
    let table = room
        .texts(
            "SELECT DISTINCT state || ' ' || sqlstate || ' ' || (detail LIKE 'Amazon S3%') FROM pgexport.run",
        )
        .await;
    assert_eq!(table, ["failed 58000 true"], "the table has what S3 said");
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_table_of_runs_the_extension_is_called_alone() {
    let room = Room::bare("aurora_alone").await;
    let login = &room.peers.postgres.exporter.user;
    room.database.install_aws_s3(&room.peers.s3, login).await.unwrap();
    let seen = |order: RunOrder| {
        let secrets = room.context(&order, 0).secrets;
        async move { probe::source::probe(&order.source, secrets).await.unwrap().aurora_s3.unwrap() }
    };
    let told = seen(order(&room, &json!({}))).await;
    assert_eq!((told.run_table, told.kms_key), (RunTable::NotInstalled, true));
    for with in [
        json!({"workers": 2}),
        json!({"consistency": "PerChunk"}),
        settings(&json!({"aws_s3.file_bytes": "20000"})),
    ] {
        let file = room.deliver(&order(&room, &with)).await.unwrap().into_values().next().unwrap();
        assert_eq!(lines(&file), 10_000, "{with}");
    }
    let division = room.order(
        "AuroraS3",
        &format(FormatType::Csv),
        &[("d", "SELECT 1 / (seq - 5) FROM findings")],
        &json!({}),
    );
    let failure = room.failure(&division).await;
    assert_eq!((failure.reason, failure.sql_state.as_deref()), (Reason::DataError, Some("22012")));

    room.database.install_pgexport("pg_monitor").await.unwrap();
    room.assert_quiet().await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_runs_of_the_former_version_records_runs_and_no_attempts() {
    let room = Room::bare("aurora_former").await;
    let login = &room.peers.postgres.exporter.user;
    room.database.install_aws_s3(&room.peers.s3, login).await.unwrap();
    let former = include_str!("../../../../sql/tests/former/1.sql");
    let former: String =
        former.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect();
    let server = room.peers.postgres.admin("postgres").await.unwrap();
    server.execute("SELECT pg_advisory_lock($1)", &[&pgexport_peers::ROLES_LOCK]).await.unwrap();
    room.sql(&former).await;
    room.sql(&format!("GRANT pgexport_worker TO {login}")).await;
    drop(server);
    let former = order(&room, &json!({}));
    let seen = async || {
        let secrets = room.context(&former, 0).secrets;
        probe::source::probe(&former.source, secrets).await.unwrap().aurora_s3.unwrap().run_table
    };
    assert_eq!(seen().await, RunTable::Outdated);
    room.deliver(&former).await.unwrap();
    assert_eq!(room.texts("SELECT state FROM pgexport.run").await, ["succeeded"]);

    room.database.install_pgexport(login).await.unwrap();
    assert_eq!(seen().await, RunTable::Ready);
    room.deliver(&order(&room, &json!({}))).await.unwrap();
    assert_eq!(room.texts("SELECT state FROM pgexport.run").await, ["succeeded", "succeeded"]);
    assert_eq!(room.texts("SELECT state FROM pgexport.attempts()").await, ["exported"]);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_fails_is_told_as_by_copy_and_recorded() {
    let room = Room::new("aurora_query").await;
    let told = |method: &'static str, sql: &'static str| {
        let order = room.order(method, &format(FormatType::Csv), &[("q", sql)], &json!({}));
        let room = &room;
        async move { room.failure(&order).await }
    };
    for sql in ["SELECT 1 / (seq - 5) FROM findings", "SELECT ('x' || seq)::int FROM findings"] {
        let (copy, aurora) = (told("Copy", sql).await, told("AuroraS3", sql).await);
        assert_eq!((copy.reason, copy.sql_state), (aurora.reason, aurora.sql_state.clone()), "{sql}");
        assert!(!aurora.message.contains("'x") && !aurora.message.contains("zero\""), "{}", aurora.message);
        assert_eq!(aurora.chunk, Some(0));
    }
    let slow = settings(&json!({"statement_timeout": "300ms"}));
    let order = room.order("AuroraS3", &format(FormatType::Csv), &[("q", "SELECT pg_sleep(9)")], &slow);
    let failure = room.failure(&order).await;
    assert_eq!(failure.reason, Reason::QueryCancelled);
    assert!(failure.hint.unwrap().contains("statement_timeout is 300ms"));
    let states = room.texts("SELECT state || ' ' || sqlstate FROM pgexport.run ORDER BY run_id").await;
    assert_eq!(states, ["failed 22012", "failed 22P02", "failed 57014"]);
    room.done().await;
}
