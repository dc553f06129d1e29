//! Workers that go while the database exports.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::FormatType;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_engine::export;
use serde_json::json;

use super::room::{Room, format, lines};

/// This attempt's export of the second chunk waits at its gate. One that has only begun may yet fail in other ways.
fn waits(attempt: u32) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pgexport.status()
           WHERE attempt = {attempt} AND chunk = 1 AND backend = 'active' AND waits_for = 'Lock: advisory')"
    )
}

/// Two chunks; each waits at its first row for the advisory lock of its number.
fn gated(room: &Room) -> RunOrder {
    let with = json!({
        "workers": 2,
        "datasets": [{"name": "rows",
            "sql": "SELECT f.seq, :gate AS gate FROM findings f WHERE CASE WHEN f.seq = 1 THEN pg_advisory_xact_lock_shared(:gate) IS NOT NULL ELSE true END ORDER BY f.seq",
            "chunking": {"strategy": "Values", "values": {"parameter": "gate", "type": "int4", "items": [7, 8]}}}],
    });
    room.order("AuroraS3", &format(FormatType::Csv), &[], &with)
}

/// A session that holds a gate's lock.
async fn gate(room: &Room, number: i64) -> tokio_postgres::Client {
    let client = room.database.admin().await.unwrap();
    client.execute("SELECT pg_advisory_lock($1)", &[&number]).await.unwrap();
    client
}

/// Lines of all files but their headers.
fn rows(files: &std::collections::BTreeMap<String, Vec<u8>>) -> usize {
    files.values().map(|file| lines(file) - 1).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_ends_what_the_database_does_for_it() {
    let room = Room::new("aurora_stop").await;
    let order = RunOrder { workers: 1, ..gated(&room) };
    let closed = gate(&room, 8).await;
    let context = room.context(&order, 0);
    let cancel = context.cancel.clone();
    let running = tokio::spawn(export::run(context));
    room.until("the second chunk's export", &waits(1)).await;
    // One that is stopped before it has begun counts as nothing.
    let succeeded = "SELECT EXISTS (SELECT FROM pgexport.run WHERE chunk = 0 AND state = 'succeeded')";
    room.until("the first chunk's end", succeeded).await;
    cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::Interrupted);
    let states = room.texts("SELECT state FROM pgexport.run WHERE chunk = 1").await;
    assert_eq!(states, ["cancelled"], "the worker waited until that was written");
    let attempts = "SELECT concat_ws(' ', state, reason, succeeded + cancelled) FROM pgexport.attempts()";
    assert_eq!(room.texts(attempts).await, ["interrupted Interrupted 2"]);
    room.assert_quiet().await;
    drop(closed);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_whose_worker_was_killed_is_ended_and_done_again_once() {
    let room = Arc::new(Room::new("aurora_killed").await);
    let order = gated(&room);
    let closed = gate(&room, 8).await;
    let (leader, follower) = (room.context(&order, 0), room.context(&order, 1));
    let leading = tokio::spawn(export::run(leader));
    // What a worker leaves that is killed: its statement goes on, and its connection too, as far as the server knows.
    let dead = tokio::spawn(export::run(follower));
    room.until("the second worker's export", &waits(1)).await;
    let pid = "SELECT pid::text FROM pgexport.run WHERE chunk = 1 AND state = 'running'";
    let orphan = room.texts(pid).await;
    let successor = tokio::spawn(export::run(room.context(&order, 1)));
    room.until(
        "the end of the orphan",
        "SELECT EXISTS (SELECT FROM pgexport.run WHERE chunk = 1 AND state = 'cancelled')",
    )
    .await;
    assert_eq!(dead.await.unwrap().unwrap_err().reason(), Reason::QueryCancelled);
    room.until("the successor's export", &waits(1)).await;
    assert_ne!(room.texts(pid).await, orphan);
    // What a DBA sees of it.
    let seen = format!(
        "SELECT EXISTS (SELECT FROM pgexport.status('{}') WHERE chunk = 1 AND state = 'running' AND backend = 'active'
           AND elapsed > interval '0' AND waits_for = 'Lock: advisory')",
        order.run.uid
    );
    room.until("the successor at the gate", &seen).await;
    drop(closed);
    successor.await.unwrap().unwrap();
    leading.await.unwrap().unwrap();
    let delivered = room.transfer(&order).await.unwrap();
    assert_eq!((delivered.rows, delivered.chunks), (20_000, 2));
    let states = room.texts("SELECT chunk || ' ' || state FROM pgexport.run ORDER BY run_id").await;
    let mut sorted = states.clone();
    sorted.sort();
    assert_eq!(sorted, ["0 succeeded", "1 cancelled", "1 succeeded"]);
    room.assert_quiet().await;
    Arc::into_inner(room).unwrap().done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_complete_and_has_no_sidecar_is_taken_over() {
    let room = Room::new("aurora_adopt").await;
    let order = gated(&room);
    room.export(&order).await.unwrap();
    let sidecar =
        room.staged(&order).await.into_iter().find(|key| key.ends_with("chunks/00001.json")).unwrap();
    let before = room.peers.s3.get(&room.staging, &sidecar).await.unwrap();
    room.peers.s3.client().delete_object().bucket(&room.staging).key(&sidecar).send().await.unwrap();
    // Its snapshot is gone: it could not export anew.
    export::run(room.context(&order, 1)).await.unwrap();
    let after = room.peers.s3.get(&room.staging, &sidecar).await.unwrap();
    let key = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap()["key"].clone();
    assert_eq!(key(&before), key(&after));
    assert_eq!(room.texts("SELECT state FROM pgexport.run").await, ["succeeded", "succeeded"]);
    assert_eq!(room.transfer(&order).await.unwrap().rows, 20_000);
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_and_the_cleanup_end_what_goes_on() {
    let room = Room::new("aurora_attempts").await;
    let mut order = RunOrder { workers: 1, ..gated(&room) };
    let closed = gate(&room, 8).await;
    let dead = tokio::spawn(export::run(room.context(&order, 0)));
    room.until("the first attempt's export", &waits(1)).await;

    order.run.attempt = 2;
    let context = room.context(&order, 0);
    let second = tokio::spawn(export::run(context));
    room.until(
        "the end of the first attempt's export",
        "SELECT EXISTS (SELECT FROM pgexport.run WHERE attempt = 1 AND chunk = 1 AND state = 'cancelled')",
    )
    .await;
    assert!(dead.await.unwrap().is_err());
    room.until("the second attempt's export", &waits(2)).await;

    let attempts = "SELECT state FROM pgexport.attempts() ORDER BY attempt";
    assert_eq!(room.texts(attempts).await, ["lost", "running"]);
    let cleaned = room.clean(&order).await;
    assert_eq!(cleaned.remains, None);
    assert!(second.await.unwrap().is_err());
    assert_eq!(room.staged(&order).await, Vec::<String>::new());
    let states = room.texts("SELECT state FROM pgexport.run WHERE chunk = 1 ORDER BY run_id").await;
    assert_eq!(states, ["cancelled", "cancelled"]);
    drop(closed);
    room.assert_quiet().await;
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_gone_is_marked_lost_and_its_chunk_is_exported() {
    let room = Room::new("aurora_lost").await;
    let order = RunOrder { workers: 1, ..gated(&room) };
    let closed = gate(&room, 8).await;
    let dead = tokio::spawn(export::run(room.context(&order, 0)));
    room.until("the first attempt's export", &waits(1)).await;
    room.sql("SELECT pg_terminate_backend(pid) FROM pgexport.run WHERE chunk = 1").await;
    assert_eq!(dead.await.unwrap().unwrap_err().reason(), Reason::ConnectionLost);
    drop(closed);
    let mut again = order.clone();
    again.run.attempt = 2;
    let files = room.deliver(&again).await.unwrap();
    assert_eq!(rows(&files), 20_000);
    let states =
        room.texts("SELECT attempt || ' ' || state FROM pgexport.run WHERE chunk = 1 ORDER BY run_id").await;
    assert_eq!(states, ["1 lost", "2 succeeded"]);
    let attempts =
        "SELECT concat_ws(' ', attempt, state, chunks, lost, reason, chunk, job) FROM pgexport.attempts()";
    assert_eq!(
        room.texts(attempts).await,
        ["1 failed 2 1 ConnectionLost 1 team/findings", "2 exported 2 0 team/findings"]
    );
    room.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_shows_while_the_database_is_busy() {
    let room = Room::new("aurora_progress").await;
    // The stand-in writes when it has computed all: that takes its time too.
    let queries = [("rows", "SELECT n FROM generate_series(1, 5000000) n")];
    let order = room.order("AuroraS3", &format(FormatType::Csv), &queries, &json!({}));
    let context = room.context(&order, 0);
    let progress = Arc::clone(&context.progress);
    let running = tokio::spawn(export::run(context));
    let mut between = 0;
    while !running.is_finished() {
        let rows = progress.snapshot().rows;
        between += u32::from(rows > 0 && rows < 5_000_000);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.await.unwrap().unwrap();
    assert!(between > 0, "nothing showed");
    assert_eq!(progress.snapshot().rows, 5_000_000);
    room.done().await;
}
