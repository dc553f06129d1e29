//! Results that are not as expected are not delivered.

use pgexport_api::job::{Consistency, Expect};

use super::*;

fn expecting(room: &Room, staged: bool, expect: Expect) -> RunOrder {
    let mut order = room.order("SELECT f.id, f.title FROM findings f WHERE :chunk", staged);
    order.workers = 1;
    order.datasets[0].expect = Some(expect);
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_rows_are_not_delivered() {
    let room = Room::new("rows").await;
    for (staged, consistency) in
        [(false, Consistency::Snapshot), (true, Consistency::Snapshot), (true, Consistency::PerChunk)]
    {
        let mut order = expecting(&room, staged, Expect { min_rows: Some(10_001), columns: None });
        order.consistency = consistency;
        for _ in 0..2 {
            let failure = export::run(room.context(order.clone(), 0)).await.unwrap_err().to_failure();
            assert_eq!(failure.reason, Reason::ExpectationUnmet, "{failure:?}");
            assert_eq!(
                failure.message,
                "data set findings: expect.minRows is 10001, and the query returned 10000"
            );
            order.run.attempt += u32::from(!staged);
        }
        assert!(room.delivered().await.is_empty());
        assert!(!room.is_sealed().await);
        room.assert_quiet().await;
    }
    let order = expecting(&room, false, Expect { min_rows: Some(10_000), columns: None });
    export::run(room.context(order, 0)).await.expect("as many as expected");
    assert!(room.is_sealed().await);
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_columns_are_refused_before_anything_is_read() {
    let room = Room::new("columns").await;
    let columns = |names: &[&str]| Expect {
        min_rows: None,
        columns: Some(names.iter().map(|name| (*name).to_owned()).collect()),
    };
    for staged in [false, true] {
        let order = expecting(&room, staged, columns(&["id", "severity"]));
        let failure = export::run(room.context(order, 0)).await.unwrap_err().to_failure();
        assert_eq!(failure.reason, Reason::ExpectationUnmet, "{failure:?}");
        assert!(
            failure.message.contains("[id, severity]") && failure.message.contains("[id, title]"),
            "{failure:?}"
        );
        assert!(room.peers.s3.list(&room.staging, "").await.unwrap().is_empty(), "there is not even a plan");
        assert!(room.delivered().await.is_empty());
    }
    let order = expecting(&room, false, columns(&["id", "title"]));
    export::run(room.context(order, 0)).await.unwrap();
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}
