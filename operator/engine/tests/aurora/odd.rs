//! Queries and results that the extension is not made for.

use pgexport_api::job::FormatType;
use pgexport_api::reason::Reason;
use pgexport_api::report::Outcome;
use pgexport_engine::export;
use serde_json::json;

use super::room::{Room, format, lines, settings, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_may_end_and_quote_as_they_like() {
    let room = Room::new("aurora_odd").await;
    for (sql, wanted) in [
        ("SELECT 1 AS a;", "{\"a\":1}\n"),
        ("SELECT 2 AS a -- done", "{\"a\":2}\n"),
        ("SELECT 3 AS a; -- done;\n", "{\"a\":3}\n"),
        ("-- first\nSELECT 4 /* four */ AS a /* ) */", "{\"a\":4}\n"),
        ("SELECT $q$it's \\ \"$q$ AS a", "{\"a\":\"it's \\\\ \\\"\"}\n"),
        (
            "SELECT $block$a$block$ AS \"$block$\", E'\\x01\\x02\\t' AS b",
            "{\"$block$\":\"a\",\"b\":\"\\u0001\\u0002\\t\"}\n",
        ),
        ("SELECT 1 AS a, '2' AS a", "{\"a\":1,\"a\":\"2\"}\n"),
        ("VALUES (1, NULL)", "{\"column1\":1,\"column2\":null}\n"),
        ("WITH x AS (SELECT '{\n\"k\": [\r\n1]}'::json AS j) TABLE x", "{\"j\":{ \"k\": [  1]}}\n"),
    ] {
        let order = room.order("AuroraS3", &format(FormatType::Ndjson), &[("odd", sql)], &json!({}));
        let files = room.deliver(&order).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let found: Vec<_> = files.values().map(|file| String::from_utf8_lossy(file).into_owned()).collect();
        assert_eq!(found, [wanted], "{sql}");
    }
    for sql in ["SELECT 1) TO PROGRAM 'true' --", "SELECT 1; SELECT 2", "DELETE FROM findings RETURNING *"] {
        let order = room.order("AuroraS3", &format(FormatType::Ndjson), &[("odd", sql)], &json!({}));
        let reason = room.failure(&order).await.reason;
        assert!(matches!(reason, Reason::InvalidQuery | Reason::QueryWrites), "{sql}: {reason}");
    }
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_result_is_an_empty_file_whether_the_database_makes_an_object_or_not() {
    let room = Room::new("aurora_empty").await;
    let queries = [("none", "SELECT seq FROM findings WHERE false")];
    for knob in ["on", "off"] {
        let with = settings(&json!({"aws_s3.empty_file": knob}));
        for (format_type, wanted) in
            [(FormatType::Csv, "seq\n"), (FormatType::Ndjson, ""), (FormatType::Json, "[]\n")]
        {
            let order = room.order("AuroraS3", &format(format_type), &queries, &with);
            let files = room.deliver(&order).await.unwrap();
            assert_eq!(files.values().collect::<Vec<_>>(), [wanted.as_bytes()]);
        }
    }
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_100_megabytes_passes() {
    let room = Room::new("aurora_wide").await;
    let queries = [("wide", "SELECT repeat('0123456789', 10000000) AS t, 7 AS n")];
    for format_type in [FormatType::Csv, FormatType::Json] {
        let order = room.order("AuroraS3", &format(format_type), &queries, &json!({}));
        let file = room.deliver(&order).await.unwrap().into_values().next().unwrap();
        let text = std::str::from_utf8(&file).unwrap();
        assert!(text.contains(&"0123456789".repeat(10_000_000)));
        assert!(file.len() < 100_000_100, "{}", file.len());
        room.clean(&order).await;
    }
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_did_not_write_is_noticed() {
    let room = Room::new("aurora_count").await;
    let queries = [("rows", "SELECT seq FROM findings")];
    let with = settings(&json!({"aws_s3.extra_rows": "5"}));
    let order = room.order("AuroraS3", &format(FormatType::Csv), &queries, &with);
    let Outcome::Exported(exported) = room.export(&order).await.unwrap() else { panic!() };
    assert_eq!(exported.rows, 10_005, "as the database says");
    let failure = told(&room.transfer(&order).await.unwrap_err());
    assert_eq!(failure.reason, Reason::ChecksumMismatch);
    assert!(
        failure.message.contains("10000 rows") && failure.message.contains("10005"),
        "{}",
        failure.message
    );
    assert_eq!(failure.chunk, Some(0));
    assert!(room.peers.s3.list(&room.customer, "").await.unwrap().is_empty(), "nothing is delivered");

    // A part that is lost, and one that is cut.
    let with = settings(&json!({"aws_s3.file_bytes": "20000"}));
    for cut in [false, true] {
        let order = room.order("AuroraS3", &format(FormatType::Csv), &queries, &with);
        room.export(&order).await.unwrap();
        let keys = room.staged(&order).await;
        let second = keys.iter().find(|key| key.ends_with("_part2")).unwrap();
        assert!(keys.iter().any(|key| key.ends_with("_part3")), "{keys:?}");
        let client = room.peers.s3.client();
        if cut {
            let body = room.peers.s3.get(&room.staging, second).await.unwrap();
            let half = body[..body.len() / 2].to_vec();
            client.put_object().bucket(&room.staging).key(second).body(half.into()).send().await.unwrap();
        } else {
            client.delete_object().bucket(&room.staging).key(second).send().await.unwrap();
        }
        let reason = told(&room.transfer(&order).await.unwrap_err()).reason;
        let wanted = if cut { Reason::ChecksumMismatch } else { Reason::StoreError };
        assert_eq!(reason, wanted);
    }
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expectations_are_met_by_what_is_counted() {
    let room = Room::new("aurora_expect").await;
    let with = |rows: u64| {
        json!({"datasets": [{"name": "rows", "sql": "SELECT seq FROM findings", "chunking": {"strategy": "None"},
            "expect": {"minRows": rows}}]})
    };
    room.deliver(&room.order("AuroraS3", &format(FormatType::Csv), &[], &with(10_000))).await.unwrap();
    let failure = room.failure(&room.order("AuroraS3", &format(FormatType::Csv), &[], &with(10_001))).await;
    assert_eq!(failure.reason, Reason::ExpectationUnmet);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_chunk_may_have_a_moment_of_its_own() {
    let room = Room::new("aurora_per_chunk").await;
    let with = json!({
        "consistency": "PerChunk",
        "datasets": [{"name": "findings", "sql": "SELECT f.seq FROM findings f WHERE :chunk ORDER BY f.seq",
            "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 4}}}],
    });
    let order = room.order("AuroraS3", &format(FormatType::Csv), &[], &with);
    let files = room.deliver(&order).await.unwrap();
    assert_eq!(files.len(), 4);
    let rows: usize = files.values().map(|file| lines(file) - 1).sum();
    assert_eq!(rows, 10_000);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_rewritten_between_a_chunks_snapshot_and_its_lock_is_noticed() {
    let room = Room::new("aurora_rewritten").await;
    room.sql("CREATE TABLE late AS SELECT seq FROM findings; GRANT SELECT ON late TO PUBLIC").await;
    let with = json!({
        "consistency": "PerChunk", "parallelism": 1,
        "datasets": [
            {"name": "gated", "sql": "SELECT pg_advisory_xact_lock_shared(7) IS NULL AS gate", "chunking": {"strategy": "None"}},
            {"name": "late", "sql": "SELECT seq FROM late", "chunking": {"strategy": "None"}},
        ],
    });
    let order = room.order("AuroraS3", &format(FormatType::Csv), &[], &with);
    let gate = room.database.admin().await.unwrap();
    gate.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let running = tokio::spawn(export::run(room.context(&order, 0)));
    let waits = |what: &str| {
        format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND {what} AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
    };
    room.until("the first chunk at the gate", &waits("locktype = 'advisory'")).await;
    let rewriting = room.database.admin().await.unwrap();
    rewriting.batch_execute("BEGIN; TRUNCATE late; INSERT INTO late SELECT seq FROM findings").await.unwrap();
    drop(gate);
    // Its snapshot is older than the lock that it waits for.
    room.until("the second chunk", &waits("relation = 'late'::regclass")).await;
    rewriting.batch_execute("COMMIT").await.unwrap();
    let error = running.await.unwrap().expect_err("its rows are lost");
    assert_eq!(error.reason(), Reason::RelationRewritten, "{error}");
    let failed =
        room.texts("SELECT dataset || ' ' || sqlstate FROM pgexport.run WHERE state = 'failed'").await;
    assert_eq!(failed, ["late PX005"]);
    room.assert_quiet().await;
    room.done().await;
}
