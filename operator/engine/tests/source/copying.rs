//! Rows as bytes, and what becomes of a query whose rows nobody wants any more.

use std::time::Duration;

use futures::StreamExt as _;
use pgexport_api::job::{Csv, Format, FormatType};
use tokio::process::Command;

use super::world::{World, bytes};

const ALL: &str = "SELECT * FROM findings ORDER BY seq";

#[tokio::test]
async fn csv_is_what_psql_writes() {
    let world = World::with_findings("psql").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let postgres = &world.peers.postgres;
    for (csv, options) in [
        (None, ""),
        (
            Some(Csv {
                delimiter: Some(";".to_owned()),
                quote: Some("'".to_owned()),
                escape: Some("\\".to_owned()),
                null: Some("\\N".to_owned()),
                force_quote: vec!["title".to_owned()],
                ..Csv::default()
            }),
            ", DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL '\\N', FORCE_QUOTE (title)",
        ),
    ] {
        let format = Format { format_type: FormatType::Csv, csv, parquet: None };
        let ours = world.drain(&holder, &mut importer, ALL, &format).await.unwrap();
        let psql = Command::new("psql")
            .args(["-X", "-q", "-c", &format!("\\copy ({ALL}) to stdout (format csv{options})")])
            .env("PGHOST", postgres.host.ip().to_string())
            .env("PGPORT", postgres.host.port().to_string())
            .env("PGUSER", &postgres.exporter.user)
            .env("PGPASSWORD", &postgres.exporter.password)
            .env("PGDATABASE", &world.database.name)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &postgres.ca_file)
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGOPTIONS", "-c datestyle=ISO -c intervalstyle=iso_8601 -c timezone=UTC -c extra_float_digits=1 -c bytea_output=hex")
            .output()
            .await
            .unwrap();
        assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
        assert!(ours.len() > 1_000_000);
        assert!(ours == psql.stdout, "the bytes differ ({options})");
    }
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn ndjson_is_what_row_to_json_writes_on_one_line() {
    let world = World::with_findings("row_to_json").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let format = Format { format_type: FormatType::Ndjson, csv: None, parquet: None };
    let ours = world.drain(&holder, &mut importer, ALL, &format).await.unwrap();
    // The binary format passes the text on as it is; here it is asked for row by row.
    let client = world.database.admin().await.unwrap();
    client.batch_execute("SET TimeZone = UTC; SET IntervalStyle = iso_8601").await.unwrap();
    let rows = client.query("SELECT row_to_json(f)::text FROM findings f ORDER BY seq", &[]).await.unwrap();
    let wanted: String =
        rows.iter().map(|row| row.get::<_, String>(0).replace(['\r', '\n'], " ") + "\n").collect();
    assert!(ours == wanted.as_bytes(), "the bytes differ");
    for line in ours.split_inclusive(|byte| *byte == b'\n') {
        // Numbers may be larger than serde has a type for.
        serde_json::from_slice::<serde::de::IgnoredAny>(line)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(line)))
            .unwrap();
    }
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn odd_names_of_columns_are_keys() {
    let world = World::with(
        "names",
        "CREATE TYPE pair AS (a int, b text); CREATE TABLE t AS SELECT ROW(1, 'x')::pair AS q",
    )
    .await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let format = Format { format_type: FormatType::Json, csv: None, parquet: None };
    for (sql, wanted) in [
        ("SELECT q FROM t", r#"{"q":{"a":1,"b":"x"}}"#),
        ("SELECT 1 AS q", r#"{"q":1}"#),
        ("SELECT q.a AS q FROM (SELECT 1 AS a) q", r#"{"q":1}"#),
        ("SELECT 1 AS a, 2 AS a", r#"{"a":1,"a":2}"#),
        ("SELECT NULL::int AS a, NULL::text AS b", r#"{"a":null,"b":null}"#),
        ("SELECT 1", r#"{"?column?":1}"#),
        ("SELECT 1 AS \"k \"\"\\ y\"", r#"{"k \"\\ y":1}"#),
        ("SELECT i FROM generate_series(1, 3) i", "{\"i\":1},\n{\"i\":2},\n{\"i\":3}"),
    ] {
        let rows = world.drain(&holder, &mut importer, sql, &format).await.unwrap();
        assert_eq!(String::from_utf8(rows).unwrap(), wanted, "{sql}");
    }
    for format_type in [FormatType::Json, FormatType::Csv] {
        let format = Format { format_type, csv: None, parquet: None };
        let none = world.drain(&holder, &mut importer, "SELECT 1 AS a WHERE false", &format).await.unwrap();
        assert_eq!(none, b"", "no rows");
    }
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn a_row_of_many_megabytes_passes() {
    let world = World::new("wide").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    for format_type in [FormatType::Json, FormatType::Csv] {
        let format = Format { format_type, csv: None, parquet: None };
        let data = world
            .drain(
                &holder,
                &mut importer,
                "SELECT repeat('x', 20 * 1024 * 1024) AS a FROM generate_series(1, 2)",
                &format,
            )
            .await
            .unwrap();
        assert!(data.len() > 40 * 1024 * 1024);
    }
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

/// An endless query that sends, and one that only computes.
const ENDLESS: [&str; 2] =
    ["SELECT repeat('x', 100), generate_series(1, 1000000000)", "SELECT pg_sleep(600)"];

#[tokio::test]
async fn a_dropped_stream_cancels_its_query() {
    let world = World::new("cancel").await;
    let holder = world.holder().await;
    for sql in ENDLESS {
        let mut importer = world.importer(&holder).await;
        let label = world.label("importer");
        let format = Format { format_type: FormatType::Ndjson, csv: None, parquet: None };
        let dataset = world.dataset(&holder, sql, &format).await.unwrap();
        let mut stream = importer.copy(sql, &format, &dataset).await.unwrap();
        let first = tokio::time::timeout(Duration::from_millis(500), stream.next()).await;
        assert_eq!(first.is_ok(), sql.contains("generate_series"), "{sql}");
        assert_eq!(world.active(&label).await, 1, "{sql}");
        drop(stream);
        let active = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{label}' AND state = 'active'"
        );
        world.eventually("the query is cancelled", &active, "0").await;
        importer.finish().await;
    }
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn a_dropped_importer_leaves_nothing_behind() {
    let world = World::new("abandon").await;
    let holder = world.holder().await;
    for sql in ENDLESS {
        let mut importer = world.importer(&holder).await;
        let label = world.label("importer");
        let format = Format { format_type: FormatType::Ndjson, csv: None, parquet: None };
        let dataset = world.dataset(&holder, sql, &format).await.unwrap();
        let mut stream = importer.copy(sql, &format, &dataset).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
        assert_eq!(world.active(&label).await, 1, "{sql}");
        drop(stream);
        drop(importer);
        let there = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{label}'");
        world.eventually("the backend is gone", &there, "0").await;
    }
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn a_session_cancels_what_it_runs() {
    let world = World::new("session").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let format = Format { format_type: FormatType::Csv, csv: None, parquet: None };
    let dataset = world.dataset(&holder, ENDLESS[1], &format).await.unwrap();
    let mut stream = importer.copy(ENDLESS[1], &format, &dataset).await.unwrap();
    let (ended, ()) = tokio::join!(stream.next(), async {
        world
            .eventually("the query runs", &format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND application_name = '{}'", world.label("importer")), "1")
            .await;
        let session = world.connector().connect("canceller").await.unwrap();
        session.close().await;
        world
            .admin
            .batch_execute(&format!(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'",
                world.label("importer")
            ))
            .await
            .unwrap();
    });
    let failure = ended.unwrap().unwrap_err().to_failure();
    assert_eq!(failure.reason, pgexport_api::reason::Reason::QueryCancelled, "{failure:?}");
    drop(stream);
    holder.finish().await;
    world.done().await;
}

/// The server waits for a client that is slow: nothing is buffered without a bound.
#[tokio::test]
async fn a_slow_consumer_slows_the_server_down() {
    let world = World::new("slow").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let label = world.label("importer");
    let format = Format { format_type: FormatType::Csv, csv: None, parquet: None };
    let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)";
    let dataset = world.dataset(&holder, sql, &format).await.unwrap();
    let mut stream = importer.copy(sql, &format, &dataset).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(bytes(&first).len() < 512 * 1024);
    let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE application_name = '{label}'");
    world.eventually("the server waits", &waits, "ClientWrite").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.eventually("the server still waits", &waits, "ClientWrite").await;
    let mut count = bytes(&first).len();
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        assert!(bytes(&batch).len() < 512 * 1024);
        count += bytes(&batch).len();
    }
    assert_eq!(count, 300_000 * 1001);
    drop(stream);
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}
