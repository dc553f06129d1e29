//! Runs of a standby are recorded on its writer.

use pgexport_api::job::FormatType;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::{Class, Reason};
use pgexport_api::source::{RunTable, ServerRole};
use pgexport_engine::{export, probe};
use serde_json::json;

use super::pair::Pair;
use super::world::{World, rows};

async fn run_table(world: &World, order: &RunOrder) -> RunTable {
    let secrets = world.room.context(order, 0).secrets;
    let probed = probe::source::probe(&order.source, secrets).await.unwrap();
    assert_eq!(probed.server.role, ServerRole::Replica);
    probed.aurora_s3.unwrap().run_table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_from_the_standby_equals_copy_and_is_recorded_on_the_writer() {
    let world = World::new(Pair::shared().await, "standby_equal").await;
    let room = &world.room;
    let chunked = json!({
        "workers": 2,
        "source": {"postgres": {"settings": {"aws_s3.file_bytes": "200000"}}},
        "datasets": [{"name": "findings", "sql": "SELECT f.* FROM findings f WHERE :chunk ORDER BY f.seq",
            "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 6}}}],
    });
    let [standby, writer] = [world.pair.standby(), &room.peers.postgres].map(|server| world.instance(server));
    let (standby, writer) = (standby.await, writer.await);
    for format in [FormatType::Csv, FormatType::Ndjson, FormatType::Json] {
        let copied = room.deliver(&world.order("Copy", format, &[], &chunked)).await.unwrap();
        let order = world.order("AuroraS3", format, &[], &chunked);
        let exported = room.deliver(&order).await.unwrap();
        assert!(copied == exported, "{format:?}: either method delivers the same bytes");
        let uid = &order.run.uid;
        let runs = format!(
            "SELECT concat_ws(' ', count(*), count(DISTINCT pid) > 1, sum(rows_uploaded), min(chunks), bool_and(standby), bool_and(finished_at > started_at), min(instance), max(instance))
             FROM pgexport.run WHERE job_uid = '{uid}' AND state = 'succeeded'"
        );
        assert_eq!(room.texts(&runs).await, [format!("6 t 10000 6 t t {standby} {standby}")]);
        let seen = format!(
            "SELECT count(*) || ' ' || sum(rows_so_far) FROM pgexport.status('{uid}') WHERE state = 'succeeded'"
        );
        assert_eq!(room.texts(&seen).await, ["6 10000"]);
        let attempts = format!(
            "SELECT concat_ws(' ', job, attempt, state, chunks, succeeded, standby, instance) FROM pgexport.attempts('{uid}')"
        );
        assert_eq!(room.texts(&attempts).await, [format!("team/findings 1 exported 6 6 t {standby}")]);
    }
    assert_ne!(standby, writer);
    let per_chunk = json!({"consistency": "PerChunk"});
    let order = world.gated("AuroraS3", &[1, 2, 3], &per_chunk);
    assert_eq!(rows(&room.deliver(&order).await.unwrap()), 30_000);
    world.assert_quiet().await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_and_the_table_say_whether_a_standbys_runs_are_recorded() {
    let world = World::new(Pair::shared().await, "standby_probe").await;
    let room = &world.room;
    let recorded = world.gated("AuroraS3", &[7], &json!({}));
    assert_eq!(run_table(&world, &recorded).await, RunTable::Ready);

    let mut unrecorded = world.gated("AuroraS3", &[7], &json!({}));
    unrecorded.source.run_ledger = None;
    assert_eq!(run_table(&world, &unrecorded).await, RunTable::ReadOnly);
    assert_eq!(rows(&room.deliver(&unrecorded).await.unwrap()), 10_000);

    // It leads to the standby itself.
    let mut misled = world.gated("AuroraS3", &[7], &json!({}));
    misled.source.run_ledger.as_mut().unwrap().port_of_writer = None;
    assert_eq!(run_table(&world, &misled).await, RunTable::ReadOnly);
    assert_eq!(rows(&room.deliver(&misled).await.unwrap()), 10_000);
    assert_eq!(room.texts("SELECT state FROM pgexport.run").await, Vec::<String>::new());

    // Where nobody answers, nothing begins that nobody would see.
    let mut unreachable = recorded.clone();
    unreachable.source.run_ledger.as_mut().unwrap().port_of_writer = Some(1);
    let failure = room.failure(&unreachable).await;
    assert_eq!((failure.reason, failure.reason.class()), (Reason::DatabaseUnreachable, Class::Environment));
    let text = format!("{}; {}", failure.message, failure.hint.unwrap());
    assert!(text.contains("the writer that records runs") && text.contains("spec.runLedger"), "{text}");
    assert!(room.staged(&unreachable).await.is_empty());
    world.assert_quiet().await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_goes_away_meanwhile_loses_and_doubles_nothing() {
    let mut world = World::new(Pair::shared().await, "standby_writer").await;
    // A login that is locked out by this test.
    let login = world.room.peers.postgres.create_login("standby_writer").await.unwrap();
    world
        .room
        .sql(&format!("GRANT pgexport_worker TO {0}; SELECT aws_s3_standin.admit('{0}')", login.user))
        .await;
    world.pair.catch_up().await;
    world.room.peers.postgres.exporter = login.clone();
    let room = &world.room;
    let cut =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", login.user);
    let states = "SELECT concat_ws(' ', state, rows_uploaded) FROM pgexport.run ORDER BY run_id";

    // A connection that breaks is made anew.
    let order = world.gated("AuroraS3", &[7], &json!({}));
    let closed = world.gate(7).await;
    let running = tokio::spawn(export::run(room.context(&order, 0)));
    world.somebody_waits().await;
    room.sql(&cut).await;
    drop(closed);
    running.await.unwrap().unwrap();
    assert_eq!(room.texts(states).await, ["succeeded 10000"]);

    // Where the outcome cannot be written, what is exported counts, once.
    let order = world.gated("AuroraS3", &[7], &json!({}));
    let closed = world.gate(7).await;
    let running = tokio::spawn(export::run(room.context(&order, 0)));
    world.somebody_waits().await;
    room.sql(&format!("ALTER ROLE {} NOLOGIN", login.user)).await;
    room.sql(&cut).await;
    drop(closed);
    running.await.unwrap().unwrap();
    assert_eq!(room.transfer(&order).await.unwrap().rows, 10_000);
    assert_eq!(room.texts(states).await, ["succeeded 10000", "running"]);

    // The cleanup closes it: its backend is gone from the standby.
    room.sql(&format!("ALTER ROLE {} LOGIN", login.user)).await;
    world.pair.catch_up().await;
    assert_eq!(room.clean(&order).await.remains, None);
    assert_eq!(room.texts(states).await, ["succeeded 10000", "lost"]);
    let attempts = "SELECT state FROM pgexport.attempts() ORDER BY started_at";
    assert_eq!(room.texts(attempts).await, ["exported", "lost"]);
    world.assert_quiet().await;
    world.done().await;
}
