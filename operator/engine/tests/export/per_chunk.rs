//! Chunks that each see a moment of their own, and stay over restarts and attempts.

use pgexport_engine::staging::Sidecar;

use super::*;

fn order(room: &Room, sql: &str, workers: u32, attempt: u32) -> RunOrder {
    let mut order = room.order(sql, true);
    order.consistency = Consistency::PerChunk;
    order.workers = workers;
    order.run.attempt = attempt;
    order
}

fn staging(room: &Room, order: &RunOrder) -> Staging {
    let context = room.context(order.clone(), 0);
    let DeliveryPath::Staged { staging } = &order.delivery else { panic!("a staged order") };
    Staging::open(store::open(&staging.target, context.secrets, &context.volumes).unwrap(), order)
}

/// Runs worker 0 until all chunks but the gated one are finished, and stops it.
async fn stopped_at_the_gate(room: &Room, order: RunOrder, kill: bool) -> Vec<Sidecar> {
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let staging = staging(room, &order);
    let context = room.context(order, 0);
    let cancel = context.cancel.clone();
    let run = tokio::spawn(export::run(context));
    at_the_gate(room).await;
    for _ in 0..200 {
        if staging.finished().await.unwrap().len() == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let finished = staging.sidecars().await.unwrap();
    assert_eq!(finished.len(), 5, "all chunks but one are finished");
    if kill {
        run.abort();
    } else {
        cancel.cancel();
        assert_eq!(run.await.unwrap().unwrap_err().reason(), Reason::Interrupted);
        room.assert_quiet().await;
    }
    finished
}

fn exported(outcome: Outcome) -> pgexport_api::report::Exported {
    let Outcome::Exported(exported) = outcome else { panic!("worker 0 tells the totals: {outcome:?}") };
    exported
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_finished_chunk_is_exported_again() {
    for (kill, attempt) in [(true, 1), (false, 2)] {
        let room = Room::new("resumed").await;
        let finished = stopped_at_the_gate(&room, order(&room, GATED, 1, 1), kill).await;
        let again = order(&room, GATED, 1, attempt);
        let context = room.context(again.clone(), 0);
        let told = exported(export::run(context.clone()).await.unwrap());
        assert_eq!((told.chunks, told.rows, told.snapshot_time), (6, 10_000, None));
        assert_eq!(context.progress.snapshot().chunks_exported, 6, "finished chunks count");
        let all = staging(&room, &again).sidecars().await.unwrap();
        assert_eq!(
            all.iter().filter(|chunk| finished.contains(chunk)).count(),
            5,
            "the same sidecars, times included"
        );
        let added = all.iter().find(|chunk| !finished.contains(chunk)).unwrap();
        assert!(
            added.key.contains(&format!("/{attempt}/data/")),
            "a body lies below its attempt: {}",
            added.key
        );
        assert_eq!(exported(export::run(context.clone()).await.unwrap()), told, "a rerun reports");

        let delivered = transfer::run(
            &again,
            context.secrets.clone(),
            &context.volumes,
            &context.progress,
            &context.cancel,
        )
        .await
        .unwrap();
        assert_eq!((delivered.rows, delivered.snapshot_time), (10_000, None));
        assert!(rows_of(&room.delivered().await) == room.rows().await);
        room.database.drop_database().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_the_chunks_and_a_zombie_changes_nothing() {
    let room = Room::new("shared").await;
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let zombie = tokio::spawn(export::run(room.context(order(&room, GATED, 2, 1), 0)));
    at_the_gate_or_planned(&room, &order(&room, GATED, 2, 1)).await;
    // The next attempt, while the former one is still there.
    let [lead, follow] =
        [0, 1].map(|worker| tokio::spawn(export::run(room.context(order(&room, GATED, 2, 2), worker))));
    assert_eq!(follow.await.unwrap().unwrap(), Outcome::ShareExported);
    gate.execute("SELECT pg_advisory_unlock(1)", &[]).await.unwrap();
    let told = exported(lead.await.unwrap().unwrap());
    assert_eq!((told.chunks, told.rows), (6, 10_000));
    assert_eq!(
        exported(zombie.await.unwrap().unwrap()),
        told,
        "both tell the same: the sidecars name the winners"
    );
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_rewritten_or_changed_between_chunks_is_noticed() {
    for (change, word) in [
        ("VACUUM FULL findings", "table findings was rewritten"),
        ("TRUNCATE findings", "table findings was rewritten"),
        ("CREATE TABLE copy (LIKE findings INCLUDING ALL); INSERT INTO copy SELECT * FROM findings; GRANT SELECT ON copy TO PUBLIC;
          DROP TABLE findings CASCADE; ALTER TABLE copy RENAME TO findings", "or replaced"),
        ("ALTER TABLE findings ADD more int", "other columns"),
    ] {
        let room = Room::new("rewritten").await;
        stopped_at_the_gate(&room, order(&room, GATED, 1, 1), false).await;
        let admin = room.database.admin().await.unwrap();
        admin.batch_execute(change).await.unwrap();
        let again = order(&room, GATED, 1, 2);
        let failure = export::run(room.context(again.clone(), 0)).await.unwrap_err().to_failure();
        assert_eq!(failure.reason, Reason::PlanOutdated, "{change}: {failure:?}");
        assert!(failure.message.contains(word) && failure.chunk.is_some(), "{change}: {failure:?}");
        assert_eq!(staging(&room, &again).finished().await.unwrap().len(), 5, "nothing of it is taken for a chunk");
        room.assert_quiet().await;
        room.database.drop_database().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_chunk_sees_its_own_moment_and_the_plans_time() {
    let room = Room::new("moments").await;
    let sql = "SELECT :snapshot_time AS planned, pg_current_snapshot()::text AS seen FROM findings f WHERE :chunk AND \
               CASE WHEN f.seq = 1 THEN pg_advisory_xact_lock_shared(1) IS NOT NULL ELSE true END";
    stopped_at_the_gate(&room, order(&room, sql, 1, 1), false).await;
    // Another transaction, so that what comes sees another moment.
    room.database.admin().await.unwrap().batch_execute("CREATE TABLE passes (a int)").await.unwrap();
    let again = order(&room, sql, 1, 2);
    let context = room.context(again.clone(), 0);
    export::run(context.clone()).await.unwrap();
    transfer::run(&again, context.secrets.clone(), &context.volumes, &context.progress, &context.cancel)
        .await
        .unwrap();
    let plan = staging(&room, &again).plan().await.unwrap().unwrap();
    assert_eq!(plan.snapshot, None);
    let mut seen = std::collections::BTreeSet::new();
    for row in rows_of(&room.delivered().await) {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        assert_eq!(row["planned"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), plan.time);
        seen.insert(row["seen"].as_str().unwrap().to_owned());
    }
    assert!(seen.len() > 1, "{seen:?}");
    room.database.drop_database().await.unwrap();
}
