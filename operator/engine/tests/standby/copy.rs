//! Method Copy from a standby, and the limit of its lag.

use std::time::Duration;

use pgexport_api::job::FormatType;
use pgexport_api::reason::{Class, Reason};
use serde_json::json;

use super::pair::Pair;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_snapshot_of_the_standby_is_seen_over_several_connections_while_it_replays() {
    let world = World::new(Pair::shared().await, "standby_copy").await;
    world.room.sql("CREATE TABLE growing (n int)").await;
    world.pair.catch_up().await;
    let grower = world.room.database.admin().await.unwrap();
    let growing = tokio::spawn(async move {
        loop {
            grower.batch_execute("INSERT INTO growing VALUES (1)").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    world.until_on_standby("the first row", "SELECT EXISTS (SELECT FROM growing)").await;
    let with = json!({"workers": 2, "datasets": [{"name": "rows",
        "sql": "SELECT count(*) AS n, pg_sleep(0.1) IS NULL AS slept, :part AS part FROM growing",
        "chunking": {"strategy": "Values", "values": {"parameter": "part", "type": "int4", "items": [1, 2, 3, 4, 5, 6, 7, 8]}}}]});
    for method in ["Copy", "AuroraS3"] {
        let order = world.order(method, FormatType::Ndjson, &[], &with);
        let files = world.room.deliver(&order).await.unwrap();
        let mut counts: Vec<u64> = files
            .values()
            .map(|file| serde_json::from_slice::<serde_json::Value>(file).unwrap()["n"].as_u64().unwrap())
            .collect();
        assert_eq!(counts.len(), 8);
        counts.dedup();
        assert_eq!(counts.len(), 1, "{method}: one snapshot has one count");
        let now = world.standby.query_one("SELECT count(*) FROM growing", &[]).await.unwrap();
        assert!(
            u64::try_from(now.get::<_, i64>(0)).unwrap() > counts[0],
            "{method}: replay went on meanwhile"
        );
    }
    growing.abort();
    world.assert_quiet().await;
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_is_refused_until_it_has_caught_up() {
    let world = World::new(Pair::own().await, "standby_lag").await;
    let with = json!({"source": {"limits": {"maxReplicaLag": "1s"}}});
    let queries = [("rows", "SELECT seq FROM findings")];
    let order = |method: &str| world.order(method, FormatType::Csv, &queries, &with);
    // The replay itself may be held up by a busy machine for a moment.
    let goes_on = async |method: &str| {
        for _ in 0..50 {
            match world.room.deliver(&order(method)).await {
                Err(error) if error.reason() == Reason::DatabaseBusy => {}
                delivered => return drop(delivered.unwrap()),
            }
        }
        panic!("{method} is refused though nothing holds the replay up");
    };
    goes_on("Copy").await;

    world.standby.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    world.until_on_standby("the pause", "SELECT pg_get_wal_replay_pause_state() = 'paused'").await;
    world.room.sql("CREATE TABLE unseen ()").await;
    let lags = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() AND now() - pg_last_xact_replay_timestamp() > interval '1.5 s'";
    world.until_on_standby("a lag", lags).await;
    for method in ["Copy", "AuroraS3"] {
        let failure = world.room.failure(&order(method)).await;
        assert_eq!(failure.reason, Reason::DatabaseBusy, "{}", failure.message);
        assert_eq!(failure.reason.class(), Class::Environment, "it costs no attempt");
        assert!(
            failure.message.contains("limits.maxReplicaLag of ExportSource db is 1s"),
            "{}",
            failure.message
        );
    }

    world.standby.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    world.pair.catch_up().await;
    for method in ["Copy", "AuroraS3"] {
        goes_on(method).await;
    }
    world.done().await;
}
