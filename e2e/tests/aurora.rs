//! Method `AuroraS3`: the database writes to the staging by itself, here by the stand-in for `aws_s3`.

use std::time::Duration;

use pgexport_api::ExportSource;
use pgexport_api::source::{Method, RunTable};
use pgexport_e2e::{Found, Lab, World, eventually, kill_worker, postgres_spec};
use serde_json::json;
use tokio_postgres::Client;

const MINUTE: Duration = Duration::from_secs(60);

/// A world whose source `aurora` exports by itself.
async fn world<'a>(lab: &'a Lab, hint: &str) -> World<'a> {
    let world = World::create(lab, hint).await;
    let login = &lab.peers.postgres.exporter.user;
    world.database.install_pgexport(login).await.unwrap();
    world.database.install_aws_s3(&lab.peers.s3, login).await.unwrap();
    let mut postgres = postgres_spec(&lab.peers, &world.database.name);
    // The stand-in begins another object after so many bytes.
    postgres["settings"] = json!({"aws_s3.file_bytes": "20000"});
    let spec =
        json!({"postgres": postgres, "method": "AuroraS3", "staging": {"sinkRef": {"name": "staging"}}});
    world.namespace.source("aurora", spec).await;
    world
}

async fn count(client: &Client, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM pgexport.run WHERE {condition}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_exports_by_itself_and_its_table_tells() {
    let lab = Lab::find().await;
    let world = world(&lab, "aurora").await;
    let with = json!({"sourceRef": {"name": "aurora"}, "compression": "Gzip"});
    world.namespace.job("gzip", World::export("gzip/", with)).await;
    let plain = json!({"sourceRef": {"name": "aurora"}});
    world.namespace.job("plain", World::export("plain/", plain)).await;
    world.namespace.succeeded("gzip", 4 * MINUTE).await;
    let job = world.namespace.succeeded("plain", 4 * MINUTE).await;
    let status = job.status.clone().unwrap();
    assert_eq!(status.method, Some(Method::AuroraS3));
    assert_eq!(world.found("plain/", &job).await, Found::Whole);
    let source: ExportSource = world.namespace.api().get("aurora").await.unwrap();
    let told = source.status.unwrap().aurora_s3.unwrap();
    assert_eq!((told.run_table, told.kms_key), (RunTable::Ready, true));

    let admin = world.database.admin().await.unwrap();
    let uid = job.metadata.uid.clone().unwrap();
    let rows = admin
        .query("SELECT state, files, bytes_so_far > 20000 FROM pgexport.status($1)", &[&uid])
        .await
        .unwrap();
    assert_eq!(rows.len(), 3, "one for each chunk");
    for row in rows {
        assert_eq!(row.get::<_, &str>(0), "succeeded");
        assert!(row.get::<_, i64>(1) > 1 && row.get::<_, bool>(2), "in several objects");
    }
    let attempts = admin
        .query(
            "SELECT state, chunks, succeeded, finished_at > started_at FROM pgexport.attempts($1)",
            &[&uid],
        )
        .await
        .unwrap();
    assert_eq!(attempts.len(), 1);
    let (state, chunks): (&str, i32) = (attempts[0].get(0), attempts[0].get(1));
    assert_eq!((state, chunks, attempts[0].get::<_, i64>(2)), ("exported", 3, 3));
    assert!(attempts[0].get::<_, bool>(3));
    drop(admin);
    world.remove(&["gzip", "plain"]).await;
}

#[tokio::test]
async fn a_worker_killed_while_the_database_exports_is_replaced_and_nothing_comes_twice() {
    let lab = Lab::find().await;
    let world = world(&lab, "aurora-kill").await;
    // Half a minute for each chunk.
    let with = json!({"sourceRef": {"name": "aurora"}, "workers": 2});
    world.namespace.job("slow", World::export_where("slow/", "pg_sleep(0.18) IS NOT NULL", with)).await;
    let admin = world.database.admin().await.unwrap();
    let second = "chunk = 1 AND state = 'running'";
    let runs = eventually(3 * MINUTE, async || (count(&admin, second).await > 0).then_some(())).await;
    if runs.is_none() {
        world.namespace.describe().await;
        panic!("the second worker's export does not run");
    }
    kill_worker(&world.namespace.worker(1).await);
    let job = world.namespace.succeeded("slow", 5 * MINUTE).await;
    assert_eq!(world.found("slow/", &job).await, Found::Whole);
    let ended = count(&admin, "chunk = 1 AND state IN ('cancelled', 'failed', 'lost')").await;
    assert!(ended >= 1, "the killed worker's run has an outcome");
    let attempts = job.status.unwrap().attempts;
    let once = count(&admin, &format!("chunk = 1 AND attempt = {attempts} AND state = 'succeeded'")).await;
    assert_eq!((once, count(&admin, "state = 'running'").await), (1, 0));
    drop(admin);
    world.remove(&["slow"]).await;
}
