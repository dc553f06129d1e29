//! Recovery conflicts: the primary has removed rows that a query or a snapshot of the standby still needs.

use std::sync::Arc;

use pgexport_api::exit::ExitCode;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::{Class, Reason};
use pgexport_api::report::Failure;
use pgexport_engine::source::{Connector, Holder};
use serde_json::json;

use super::pair::Pair;
use super::room::told;
use super::world::{World, rows};

/// A standby that waits for nobody.
async fn hasty(hint: &str) -> World {
    let world = World::new(Pair::own().await, hint).await;
    world.room.sql("CREATE TABLE doomed AS SELECT generate_series(1, 1000) n").await;
    world.standby.batch_execute("ALTER SYSTEM SET max_standby_streaming_delay = '50ms'").await.unwrap();
    world.standby.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    world.pair.catch_up().await;
    world
}

/// The primary removes rows for good that every snapshot of before could see.
async fn remove_rows(world: &World) {
    world.room.sql("UPDATE doomed SET n = n + 1").await;
    world.room.sql("VACUUM doomed").await;
}

/// Exports while its only chunk waits at a gate, until a conflict comes.
async fn conflict(world: &World, order: &RunOrder) -> Failure {
    let closed = world.gate(7).await;
    let context = world.room.context(order, 0);
    let running = tokio::spawn(pgexport_engine::export::run(context));
    world.somebody_waits().await;
    remove_rows(world).await;
    let error = running.await.unwrap().unwrap_err();
    drop(closed);
    told(&error)
}

/// The next pod of an attempt, or that of the next attempt.
async fn again(world: &World, order: &RunOrder, attempt: u32) {
    let mut order = order.clone();
    order.run.attempt = attempt;
    assert_eq!(rows(&world.room.deliver(&order).await.unwrap()), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_a_query_that_conflicts_costs_a_pod_and_the_next_one_of_the_attempt_succeeds() {
    let world = hasty("standby_conflict").await;
    for method in ["Copy", "AuroraS3"] {
        let order = world.gated(method, &[7], &json!({"consistency": "PerChunk"}));
        let failure = conflict(&world, &order).await;
        assert_eq!(
            (failure.reason, failure.sql_state.as_deref()),
            (Reason::QueryCancelled, Some("40001")),
            "{method}"
        );
        // By this code, the Job replaces the pod.
        assert_eq!(
            (failure.reason.class(), failure.reason.exit_code()),
            (Class::Transient, ExitCode::Transient)
        );
        assert!(failure.message.contains("conflict with recovery"), "{}", failure.message);
        assert!(failure.hint.unwrap().contains("max_standby_streaming_delay"));
        again(&world, &order, 1).await;
        if method == "AuroraS3" {
            let uid = &order.run.uid;
            let runs = format!(
                "SELECT concat_ws(' ', attempt, state, sqlstate, standby) FROM pgexport.run WHERE job_uid = '{uid}' ORDER BY run_id"
            );
            assert_eq!(world.room.texts(&runs).await, ["1 failed 40001 t", "1 succeeded t"]);
            let attempts = format!(
                "SELECT concat_ws(' ', attempt, state, succeeded, failed, reason, sqlstate, chunk, standby) FROM pgexport.attempts('{uid}')"
            );
            assert_eq!(world.room.texts(&attempts).await, ["1 exported 1 1 t"]);
        }
    }
    world.assert_quiet().await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_conflicts_is_terminated_which_costs_an_attempt() {
    let world = hasty("standby_holder").await;
    let order = world.gated("Copy", &[7], &json!({}));
    // Alone, it is idle in its transaction.
    let secrets = Arc::clone(&world.room.context(&order, 0).secrets);
    let connector = Connector::new(&order.source.postgres, secrets);
    let holder = Holder::begin(&connector, "pgexport/tests/holder").await.unwrap();
    remove_rows(&world).await;
    let lost = told(&holder.closed().await);
    assert_eq!(
        (lost.reason, lost.sql_state.as_deref()),
        (Reason::SnapshotLost, Some("40001")),
        "{}",
        lost.message
    );
    assert!(lost.message.contains("conflict with recovery"), "{}", lost.message);
    holder.finish().await;

    // With chunks under way, either is told of first.
    for method in ["Copy", "AuroraS3"] {
        let order = world.gated(method, &[7], &json!({}));
        let failure = conflict(&world, &order).await;
        let exit_code = match failure.reason {
            Reason::SnapshotLost => ExitCode::SnapshotLost,
            Reason::QueryCancelled => ExitCode::Transient,
            reason => panic!("{method}: {reason}: {}", failure.message),
        };
        assert_eq!((failure.reason.exit_code(), failure.reason.class()), (exit_code, Class::Transient));
        assert_eq!(failure.sql_state.as_deref(), Some("40001"), "{}", failure.message);
        again(&world, &order, 2).await;
    }
    world.assert_quiet().await;
    world.done().await;
}
