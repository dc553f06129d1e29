//! What killed exports leave, and what is left of it when it has been cleaned up.

use pgexport_engine::cleanup;

use super::*;

/// Runs until a chunk waits and others are on their way, and kills it.
async fn killed_at_the_gate(room: &Room, order: RunOrder) {
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    // With it dies whatever it has begun, as with a process.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = runtime.spawn(export::run(room.context(order, 0)));
    at_the_gate(room).await;
    // The others' files are finished by then, and wait for the gated one.
    for _ in 0..1200 {
        if left(room).await > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::task::spawn_blocking(|| runtime.shutdown_timeout(Duration::from_secs(9))).await.unwrap();
    assert!(run.await.unwrap_err().is_cancelled());
}

/// Open uploads at the customer, and whatever is in the staging.
async fn left(room: &Room) -> usize {
    let s3 = &room.peers.s3;
    s3.open_uploads(&room.customer).await.unwrap().len()
        + s3.open_uploads(&room.staging).await.unwrap().len()
        + s3.list(&room.staging, "").await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_export_leaves_nothing_once_it_is_cleaned_up() {
    for staged in [false, true] {
        let room = Room::new("killed").await;
        let order = room.order(GATED, staged);
        killed_at_the_gate(&room, order.clone()).await;
        assert!(left(&room).await > 1, "the test sees what is left behind");
        let context = room.context(order.clone(), 0);
        let cleaned =
            cleanup::run(&order.cleanup(), context.secrets, &context.volumes, &context.cancel).await.unwrap();
        assert!(cleaned.objects + cleaned.uploads > 1 && cleaned.remains.is_none(), "{cleaned:?}");
        assert_eq!(left(&room).await, 0);
        assert!(room.delivered().await.is_empty());
        room.database.drop_database().await.unwrap();
    }
}

/// A pod that was lost after it had made its files visible is replaced by one that reads another snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerun_never_mixes_its_files_with_those_of_its_former_pod() {
    let room = Room::new("rerun").await;
    let mut order = room.order(ALL, false);
    export::run(room.context(order.clone(), 0)).await.unwrap();
    let before = room.delivered().await;
    for name in ["_SUCCESS", "_manifest.json"] {
        let key = format!("{}{name}", order.path);
        room.peers.s3.client().delete_object().bucket(&room.customer).key(key).send().await.unwrap();
    }
    let admin = room.database.admin().await.unwrap();
    admin.batch_execute("UPDATE findings SET title = title || '!' WHERE seq = 1").await.unwrap();
    let error = export::run(room.context(order.clone(), 0)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::StoreError);
    assert!(error.to_string().contains("is there already, with other bytes"), "{error}");
    assert!(room.delivered().await == before && !room.is_sealed().await);
    room.assert_quiet().await;

    order.run.attempt = 2;
    let context = room.context(order.clone(), 0);
    export::run(context.clone()).await.unwrap();
    cleanup::run(&order.cleanup(), context.secrets, &context.volumes, &context.cancel).await.unwrap();
    let files = room.delivered().await;
    assert!(files.iter().all(|(key, _)| key.contains(&order.token())) && room.is_sealed().await);
    assert!(rows_of(&files) == room.rows().await);
    room.database.drop_database().await.unwrap();
}
