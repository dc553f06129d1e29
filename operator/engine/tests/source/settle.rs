//! A window is exported when all of its rows are there to be seen.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pgexport_api::job::{FormatType, Window};
use pgexport_api::reason::Reason;
use pgexport_engine::export;
use pgexport_engine::secret::Secret;
use pgexport_engine::source::{Connector, Session, settle};
use serde_json::json;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::world::{World, told};

const AT_ONCE: Duration = Duration::ZERO;

async fn clock(client: &Client) -> Timestamp {
    client.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0)
}

fn until(end: Timestamp) -> Window {
    let mut window: Window =
        serde_json::from_value(json!({"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:00:00Z"}))
            .unwrap();
    window.end.0 = end;
    window
}

/// Waits in the background; the result is sent when it is there.
fn waiting(
    session: Arc<Session>,
    window: Window,
) -> tokio::task::JoinHandle<pgexport_engine::error::Result<()>> {
    tokio::spawn(async move { settle::wait(&session, &window, Duration::from_mins(1)).await })
}

#[tokio::test]
async fn a_transaction_that_began_before_the_end_is_waited_for() {
    let world = World::new("settle").await;
    let role = &world.database.name;
    world.admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let mut order = world.order("SELECT 1 AS one", FormatType::Ndjson);
    order.source.postgres.user.clone_from(role);
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
    let secrets = Arc::new(secrets);
    let connector = Connector::new(&order.source.postgres, secrets.clone());
    let session = Arc::new(connector.connect("pgexport/tests/settle").await.unwrap());
    drop(connector);

    let now = clock(&world.admin).await;
    let blind = told(&settle::wait(&session, &until(now), AT_ONCE).await.unwrap_err());
    assert_eq!(blind.reason, Reason::PermissionDenied);
    assert!(blind.hint.unwrap().contains("GRANT pg_read_all_stats"));
    world.admin.batch_execute(&format!("GRANT pg_read_all_stats TO {role}")).await.unwrap();
    settle::wait(&session, &until(clock(&world.admin).await), AT_ONCE).await.unwrap();

    // pgexport's own transactions are not in the way; another database's neither, or the tests beside this one would be.
    let own = world.database.admin().await.unwrap();
    own.batch_execute("SET application_name = 'pgexport/tests/own'; BEGIN; SELECT 1").await.unwrap();

    let writer = world.database.admin().await.unwrap();
    let before = clock(&writer).await;
    writer.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let end = clock(&world.admin).await;
    let unsettled = told(&settle::wait(&session, &until(end), AT_ONCE).await.unwrap_err());
    assert_eq!(unsettled.reason, Reason::WindowNotSettled);
    assert!(unsettled.message.contains("1 transactions are open"), "{}", unsettled.message);
    settle::wait(&session, &until(before), AT_ONCE).await.expect("it began after this one's end");

    let waits = waiting(Arc::clone(&session), until(end));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!waits.is_finished(), "it is exported while a transaction is open");
    order.window = Some(until(end));
    let order = Arc::new(order);
    let preview = tokio::spawn({
        let order = Arc::clone(&order);
        async move { export::preview(&order, secrets, &CancellationToken::new()).await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!preview.is_finished(), "an export takes its snapshot while a transaction is open");
    writer.batch_execute("COMMIT").await.unwrap();
    waits.await.unwrap().unwrap();
    let plan = preview.await.unwrap().unwrap().plan;
    assert!(plan.time > end);

    drop(own);
    Arc::into_inner(session).unwrap().close().await;
    world.admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn the_servers_clock_has_to_have_passed_the_end() {
    let world = World::new("settle-clock").await;
    let session = Arc::new(world.connector().connect("pgexport/tests/clock").await.unwrap());
    let end = clock(&world.admin).await + SignedDuration::from_secs(30);
    let early = told(&settle::wait(&session, &until(end), AT_ONCE).await.unwrap_err());
    assert_eq!(early.reason, Reason::WindowNotSettled);
    assert!(early.message.contains("by the server's clock"), "{}", early.message);
    Arc::into_inner(session).unwrap().close().await;
    world.done().await;
}
