//! Limits that are looked at before an export begins.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::FormatType;
use pgexport_api::reason::Reason;
use pgexport_api::source::Limits;
use pgexport_engine::export;
use pgexport_engine::secret::Secret;
use pgexport_engine::source::{Connector, load};
use tokio_util::sync::CancellationToken;

use super::world::{World, told};

#[tokio::test]
async fn sessions_at_work_keep_an_export_from_beginning_where_the_login_sees_them() {
    let world = World::new("load").await;
    let role = &world.database.name;
    world.admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let mut order = world.order("SELECT 1 AS one", FormatType::Ndjson);
    order.source.postgres.user.clone_from(role);
    order.source.limits = Limits { max_active_sessions: Some(0), ..Limits::default() };
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
    let secrets = Arc::new(secrets);
    let session =
        Connector::new(&order.source.postgres, secrets.clone()).connect("pgexport/tests/load").await.unwrap();

    let blind = told(&load::check(&session, &order.source).await.unwrap_err());
    assert_eq!(blind.reason, Reason::PermissionDenied);
    assert!(blind.hint.unwrap().contains("GRANT pg_read_all_stats"));

    world.admin.batch_execute(&format!("GRANT pg_read_all_stats TO {role}")).await.unwrap();
    // Other tests' sessions may be at work too: so many are none too many.
    order.source.limits.max_active_sessions = Some(10_000);
    load::check(&session, &order.source).await.unwrap();

    let busy = world.database.admin().await.unwrap();
    let work = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(60)").await });
    order.source.limits.max_active_sessions = Some(0);
    let refused = loop {
        match load::check(&session, &order.source).await {
            Err(error) => break told(&error),
            Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(refused.reason, Reason::DatabaseBusy);
    assert!(refused.message.contains("limits.maxActiveSessions of ExportSource source is 0"), "{refused:?}");
    let preview = export::preview(&order, secrets, &CancellationToken::new()).await;
    assert_eq!(told(&preview.unwrap_err()).reason, Reason::DatabaseBusy);

    work.abort();
    session.close().await;
    world.admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_primary_does_not_lag() {
    let world = World::new("lag").await;
    let mut order = world.order("SELECT 1 AS one", FormatType::Ndjson);
    let most = Duration::from_secs(1).into();
    order.source.limits = Limits { max_replica_lag: Some(most), ..Limits::default() };
    let session = world.connector().connect("pgexport/tests/lag").await.unwrap();
    load::check(&session, &order.source).await.unwrap();
    world.done().await;
}
