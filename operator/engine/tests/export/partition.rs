//! Files that are named by values, as Hive names partitions.

use pgexport_api::job::ValuesChunking;
use pgexport_engine::cleanup;
use pgexport_engine::manifest::Manifest;

use super::*;

fn order_by_values(room: &Room, values: serde_json::Value, staged: bool) -> RunOrder {
    let mut order = room.order("SELECT f.seq FROM findings f WHERE f.seq = length(:v)", staged);
    order.files =
        Files { layout: Layout::PerChunk, name: Some("v={value}/{dataset}-{part}-{token}".to_owned()) };
    let values: ValuesChunking = serde_json::from_value(values).unwrap();
    order.datasets[0].chunking =
        DatasetChunking { strategy: Strategy::Values, values: Some(values), ..DatasetChunking::default() };
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_lie_in_folders_of_their_values() {
    let room = Room::new("partition").await;
    let items = "SELECT v FROM (VALUES (1, ''), (2, 'a/b=c'), (3, 'é %'), (4, '..')) i(n, v) ORDER BY n";
    let wanted = [("__HIVE_DEFAULT_PARTITION__", 0), ("a%2Fb%3Dc", 5), ("é %25", 3), ("%2E%2E", 2)];
    for staged in [false, true] {
        let values = serde_json::json!({"parameter": "v", "itemsFrom": items});
        let mut order = order_by_values(&room, values, staged);
        order.path = format!("out-{staged}/");
        order.workers = 1;
        match export::run(room.context(order.clone(), 0)).await.unwrap() {
            Outcome::Delivered(delivered) => assert_eq!(delivered.files, 4),
            Outcome::Exported(_) => {
                let context = room.context(order.clone(), 0);
                let delivered = transfer::run(
                    &order,
                    context.secrets,
                    &context.volumes,
                    &context.progress,
                    &context.cancel,
                );
                assert_eq!(delivered.await.unwrap().files, 4);
            }
            other => panic!("{other:?}"),
        }
        let manifest =
            room.peers.s3.get(&room.customer, &format!("{}_manifest.json", order.path)).await.unwrap();
        let manifest = Manifest::read(&manifest).unwrap();
        let paths: Vec<&str> = manifest.paths().collect();
        for ((part, (value, length)), path) in (0..).zip(wanted).zip(&paths) {
            assert_eq!(*path, format!("v={value}/findings-{part:05}-{}.json", order.token()));
            let body = room.peers.s3.get(&room.customer, &format!("{}{path}", order.path)).await.unwrap();
            let rows: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
            let rows: Vec<i64> = rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
            assert_eq!(rows, if length == 0 { vec![] } else { vec![length] }, "{path}");
        }
        let context = room.context(order.clone(), 0);
        cleanup::run(&order.cleanup(), context.secrets, &context.volumes, &context.cancel).await.unwrap();
        let left = room.delivered().await.iter().filter(|(key, _)| key.starts_with(&order.path)).count();
        assert_eq!(left, 4, "what is delivered stays");
    }
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_attempt_left_in_such_folders_is_removed() {
    let room = Room::new("partition-left").await;
    let values = serde_json::json!({"parameter": "v", "items": ["x y", "b"]});
    let order = order_by_values(&room, values, false);
    let context = room.context(order.clone(), 0);
    let sink = store::open(&order.sink.target, context.secrets.clone(), &context.volumes).unwrap();
    for name in ["v=x y/findings-00000", "v=b/findings-00001"] {
        for token in [order.token().as_str(), "ffffffff-1"] {
            let key = format!("out/{name}-{token}.json");
            sink.put(&key, "[]".into(), "application/json", store::PutMode::Create).await.unwrap();
        }
    }
    let cleaned =
        cleanup::run(&order.cleanup(), context.secrets, &context.volumes, &context.cancel).await.unwrap();
    assert_eq!(cleaned.objects, 2);
    let left: Vec<String> = room.delivered().await.into_iter().map(|(key, _)| key).collect();
    assert!(left.len() == 2 && left.iter().all(|key| key.contains("ffffffff-1")), "{left:?}");
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_too_long_for_names_are_refused_before_anything_is_read() {
    let room = Room::new("partition-long").await;
    let values = serde_json::json!({"parameter": "v", "items": ["a", "/".repeat(90)]});
    let failure =
        export::run(room.context(order_by_values(&room, values, false), 0)).await.unwrap_err().to_failure();
    assert_eq!(failure.reason, Reason::ChunkingRefused, "{failure:?}");
    assert!(failure.message.contains("items[1]") && failure.message.contains("272 bytes"), "{failure:?}");
    room.database.drop_database().await.unwrap();
}
