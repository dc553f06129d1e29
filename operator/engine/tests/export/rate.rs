//! A limit of bytes a second holds over all connections.

use std::time::Instant;

use pgexport_api::source::Limits;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_in_a_second_than_the_source_allows() {
    let room = Room::new("rate").await;
    // Six chunks of a MiB, in text that the server sends as it is.
    let sql = "SELECT repeat('x', 1024) AS text FROM findings f, generate_series(1, 1) WHERE f.seq <= 6144 AND :chunk";
    let mut order = room.order(sql, false);
    order.source.limits =
        Limits { max_rate: Some(serde_json::from_value("2Mi".into()).unwrap()), ..Limits::default() };
    let began = Instant::now();
    let outcome = export::run(room.context(order, 0)).await.unwrap();
    let Outcome::Delivered(delivered) = outcome else { panic!("{outcome:?}") };
    assert_eq!(delivered.rows, 6144);
    // Six MiB at two a second, but for the first quarter of a second.
    assert!(began.elapsed() >= Duration::from_millis(2700), "{:?}", began.elapsed());
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}
