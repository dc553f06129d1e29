//! Workers that go while the standby exports: what they leave is looked for there, and never on the writer.

use std::sync::Arc;

use pgexport_api::reason::Reason;
use pgexport_engine::export;
use serde_json::json;

use super::pair::Pair;
use super::world::World;

/// On the writer: a run of this chunk has no outcome, and its backend is none of the writer's.
fn runs_elsewhere(uid: &str, chunk: u32) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pgexport.status('{uid}')
           WHERE attempt = 2 AND chunk = {chunk} AND state = 'running' AND backend = 'elsewhere' AND elapsed > interval '0')"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_is_ended_on_the_standby_and_the_writers_backends_are_left_alone() {
    let world = Arc::new(World::new(Pair::shared().await, "standby_orphan").await);
    let mut order = world.gated("AuroraS3", &[7, 8], &json!({"workers": 2}));
    order.run.attempt = 2;
    let uid = order.run.uid.clone();
    let room = &world.room;
    // Of a former attempt: one that the writer is at work on, and one whose backend is gone from the standby.
    let (exporter, database) = (&room.peers.postgres.exporter, &room.database.name);
    let begin = |key: &str, chunk: u32, backend: &str| {
        format!(
            "SELECT pgexport.begin_run('{uid}', 1, 'rows', {chunk}, repeat('0f', 32), 'bucket', '{key}', backend => '{backend}')"
        )
    };
    let on_writer = room.peers.postgres.connect(database, &exporter.user, &exporter.password).await.unwrap();
    let of_writer: String =
        on_writer.query_one("SELECT pgexport.this_backend()::text", &[]).await.unwrap().get(0);
    on_writer.batch_execute(&begin("a", 0, &of_writer)).await.unwrap();
    let gone = world.pair.standby().connect(database, &exporter.user, &exporter.password).await.unwrap();
    let of_gone: String = gone.query_one("SELECT pgexport.this_backend()::text", &[]).await.unwrap().get(0);
    drop(gone);
    on_writer.batch_execute(&begin("b", 1, &of_gone)).await.unwrap();
    let busy = tokio::spawn(async move { on_writer.batch_execute("SELECT pg_sleep(600)").await });
    let alive = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active')";
    room.until("the writer's own run", alive).await;

    let closed = world.gate(8).await;
    let leading = tokio::spawn(export::run(room.context(&order, 0)));
    // What a worker leaves that is killed: its statement goes on, and its connection too, as far as the server knows.
    let dead = tokio::spawn(export::run(room.context(&order, 1)));
    room.until("the second worker's export", &runs_elsewhere(&uid, 1)).await;
    let pid = format!(
        "SELECT pid::text FROM pgexport.run WHERE job_uid = '{uid}' AND attempt = 2 AND chunk = 1 AND state = 'running'"
    );
    let orphan = room.texts(&pid).await;
    world.somebody_waits().await;
    let successor = tokio::spawn(export::run(room.context(&order, 1)));
    assert_eq!(dead.await.unwrap().unwrap_err().reason(), Reason::QueryCancelled);
    room.until("the successor's export", &runs_elsewhere(&uid, 1)).await;
    assert_ne!(room.texts(&pid).await, orphan);
    drop(closed);
    successor.await.unwrap().unwrap();
    leading.await.unwrap().unwrap();
    assert_eq!(room.transfer(&order).await.unwrap().rows, 20_000);

    let runs = format!(
        "SELECT concat_ws(' ', attempt, chunk, state, standby) FROM pgexport.run WHERE job_uid = '{uid}' ORDER BY 1"
    );
    assert_eq!(
        room.texts(&runs).await,
        ["1 0 running f", "1 1 lost t", "2 0 succeeded t", "2 1 cancelled t", "2 1 succeeded t"]
    );
    assert_eq!(room.clean(&order).await.remains, None);
    assert_eq!(room.texts(&runs).await[0], "1 0 running f", "nor by the cleanup");
    assert!(
        room.admin.query_one(alive, &[]).await.unwrap().get::<_, bool>(0),
        "the writer's backend goes on"
    );
    let instances = format!("SELECT DISTINCT instance FROM pgexport.run WHERE job_uid = '{uid}' AND standby");
    assert_eq!(room.texts(&instances).await, [world.instance(world.pair.standby()).await]);
    assert_ne!(room.texts(&instances).await, [world.instance(&room.peers.postgres).await]);
    busy.abort();
    world.assert_quiet().await;
    Arc::into_inner(world).unwrap().done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_the_standby_that_is_complete_and_has_no_sidecar_is_taken_over() {
    let world = World::new(Pair::shared().await, "standby_adopt").await;
    let room = &world.room;
    let order = world.gated("AuroraS3", &[7, 8], &json!({"workers": 2}));
    room.export(&order).await.unwrap();
    let sidecar =
        room.staged(&order).await.into_iter().find(|key| key.ends_with("chunks/00001.json")).unwrap();
    room.peers.s3.client().delete_object().bucket(&room.staging).key(&sidecar).send().await.unwrap();
    // Its snapshot is gone: it could not export anew.
    export::run(room.context(&order, 1)).await.unwrap();
    assert_eq!(room.texts("SELECT state FROM pgexport.run").await, ["succeeded", "succeeded"]);
    assert_eq!(room.transfer(&order).await.unwrap().rows, 20_000);
    world.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_ends_what_the_standby_does_for_it_and_says_so_on_the_writer() {
    let world = World::new(Pair::shared().await, "standby_stop").await;
    let order = world.gated("AuroraS3", &[7], &json!({}));
    let closed = world.gate(7).await;
    let context = world.room.context(&order, 0);
    let cancel = context.cancel.clone();
    let running = tokio::spawn(export::run(context));
    world.somebody_waits().await;
    cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().reason(), Reason::Interrupted);
    assert_eq!(world.room.texts("SELECT state FROM pgexport.run").await, ["cancelled"]);
    let attempts = "SELECT concat_ws(' ', state, reason, cancelled) FROM pgexport.attempts()";
    assert_eq!(world.room.texts(attempts).await, ["interrupted Interrupted 1"]);
    drop(closed);
    world.assert_quiet().await;
    world.done().await;
}
