//! One snapshot, many connections.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::{Format, FormatType};
use pgexport_api::reason::Reason;
use pgexport_engine::plan::{chunk_query, lock, make};
use pgexport_engine::secret::Secret;
use pgexport_engine::source::{Connector, Holder, Importer, application_name};

use super::world::{World, by_column};

const CSV: Format = Format { format_type: FormatType::Csv, csv: None, parquet: None };

#[tokio::test]
async fn importers_see_the_same_while_others_write() {
    let world = World::with("same", "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i").await;
    let holder = world.holder().await;
    let mut one = world.importer(&holder).await;
    world
        .admin
        .batch_execute("DELETE FROM t WHERE i > 50; UPDATE t SET i = -i; INSERT INTO t SELECT 1000")
        .await
        .unwrap();
    let mut two = world.importer(&holder).await;
    let sql = "SELECT count(*), sum(i) FROM t";
    let first = world.drain(&holder, &mut one, sql, &CSV).await.unwrap();
    world.admin.batch_execute("DELETE FROM t").await.unwrap();
    assert_eq!(first, b"100,5050\n");
    assert_eq!(world.drain(&holder, &mut two, sql, &CSV).await.unwrap(), first);
    assert_eq!(
        world.drain(&holder, &mut one, sql, &CSV).await.unwrap(),
        first,
        "an importer copies more than once"
    );
    one.finish().await;
    two.finish().await;
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn the_snapshot_tells_time_and_position() {
    let world = World::new("tells").await;
    let before = jiff::Timestamp::now();
    let holder = world.holder().await;
    let snapshot = holder.snapshot();
    assert!(snapshot.time.duration_since(before).abs() < jiff::SignedDuration::from_mins(1), "{snapshot:?}");
    assert!(snapshot.postmaster_start < snapshot.time);
    assert!(snapshot.lsn.as_deref().is_some_and(|lsn| lsn.contains('/')), "{snapshot:?}");
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_lost() {
    let world = World::new("gone").await;
    let holder = world.holder().await;
    let snapshot = holder.snapshot().clone();
    holder.finish().await;
    let error = Importer::join(&world.connector(), &snapshot, "late").await.unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotLost, "{error}");
    world.done().await;
}

#[tokio::test]
async fn a_holder_notices_that_it_was_ended() {
    let world = World::new("ended").await;
    let holder = world.holder().await;
    assert!(tokio::time::timeout(Duration::from_millis(100), holder.closed()).await.is_err(), "it lives");
    world.admin.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgexport/tests/holder' AND datname = current_database()").await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(10), holder.closed()).await.unwrap();
    assert_eq!(error.reason(), Reason::SnapshotLost, "{error}");
    let failure = error.to_failure();
    assert_eq!(failure.sql_state.as_deref(), Some("57P01"), "{failure:?}");
    let error = make(&holder, &world.order("SELECT 1", FormatType::Csv)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost, "{error}");
    world.done().await;
}

#[tokio::test]
async fn another_instance_under_the_same_address_is_noticed() {
    let world = World::new("instance").await;
    let holder = world.holder().await;
    let mut restarted = holder.snapshot().clone();
    restarted.postmaster_start = jiff::Timestamp::UNIX_EPOCH;
    let mut other = holder.snapshot().clone();
    other.visible = "1:1:".to_owned();
    for snapshot in [restarted, other] {
        let error = Importer::join(&world.connector(), &snapshot, "astray").await.unwrap_err();
        assert_eq!(error.reason(), Reason::WrongInstance, "{error}");
    }
    let mut forged = holder.snapshot().clone();
    forged.id = "'; DROP TABLE t; --".to_owned();
    let error = Importer::join(&world.connector(), &forged, "forged").await.unwrap_err();
    assert_eq!(error.reason(), Reason::InternalError, "{error}");
    holder.finish().await;
    world.done().await;
}

#[tokio::test]
async fn tables_rewritten_just_after_the_snapshot_are_noticed() {
    let world = World::with("rewritten", "CREATE TABLE t AS SELECT 1 AS a; CREATE TABLE other AS SELECT 1 AS a; CREATE MATERIALIZED VIEW mv AS SELECT * FROM other;
        CREATE INDEX by_a ON t (a); CREATE TABLE parted (a int) PARTITION BY LIST (a); CREATE TABLE part PARTITION OF parted FOR VALUES IN (1)").await;
    for (sql, rewrite, lost) in [
        ("SELECT * FROM t", "TRUNCATE t", true),
        ("SELECT * FROM t", "ALTER TABLE t ALTER a TYPE bigint", true),
        ("SELECT * FROM t", "VACUUM FULL t", true),
        ("SELECT * FROM t", "CLUSTER t USING by_a", true),
        ("SELECT x.a FROM other, LATERAL (SELECT count(*) AS a FROM t) x", "TRUNCATE t", true),
        ("SELECT * FROM parted", "TRUNCATE part", true),
        // It holds no row of the snapshot; another attempt costs less than telling it from a table that was made anew.
        ("SELECT * FROM parted", "CREATE TABLE fresh PARTITION OF parted FOR VALUES IN (2)", true),
        ("SELECT * FROM mv", "REFRESH MATERIALIZED VIEW mv", true),
        (
            "SELECT * FROM t",
            "BEGIN; ALTER TABLE t RENAME TO old; CREATE TABLE t AS TABLE old; DROP TABLE old; COMMIT",
            true,
        ),
        ("SELECT * FROM t", "VACUUM FULL other", false),
        ("SELECT * FROM t", "CREATE INDEX ON t (a)", false),
        ("SELECT * FROM t", "INSERT INTO t VALUES (2); VACUUM t", false),
    ] {
        let holder = world.holder().await;
        for statement in
            rewrite.split("; ").collect::<Vec<_>>().chunks(if rewrite.starts_with("BEGIN") { 9 } else { 1 })
        {
            world.admin.batch_execute(&statement.join("; ")).await.unwrap();
        }
        let planned = make(&holder, &world.order(sql, FormatType::Csv)).await;
        match planned {
            Ok(_) => assert!(!lost, "{rewrite} went unnoticed"),
            Err(error) => {
                assert!(lost && error.reason() == Reason::RelationRewritten, "{rewrite}: {error}");
                assert!(
                    error.to_string().contains(match sql {
                        _ if rewrite.contains("fresh") => "table fresh",
                        sql if sql.contains("mv") => "mv",
                        sql if sql.contains("parted") => "table part",
                        _ => "table t",
                    }),
                    "{error}"
                );
            }
        }
        holder.finish().await;
    }
    world.done().await;
}

#[tokio::test]
async fn what_is_planned_cannot_be_rewritten_until_the_holder_ends() {
    let world = World::with("locked", "CREATE TABLE t AS SELECT 1 AS a; CREATE INDEX by_a ON t (a)").await;
    let holder = world.holder().await;
    make(&holder, &world.order("SELECT * FROM t", FormatType::Csv)).await.unwrap();
    world.admin.batch_execute("SET lock_timeout = '200ms'").await.unwrap();
    for rewrite in [
        "TRUNCATE t",
        "ALTER TABLE t ALTER a TYPE bigint",
        "CLUSTER t USING by_a",
        "VACUUM FULL t",
        "DROP TABLE t",
    ] {
        let error = world.admin.batch_execute(rewrite).await.expect_err("the holder locks the table");
        assert_eq!(
            error.code().map(tokio_postgres::error::SqlState::code),
            Some("55P03"),
            "{rewrite}: {error}"
        );
    }
    holder.finish().await;
    world.admin.batch_execute("TRUNCATE t").await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn connections_carry_the_names_of_their_chunks() {
    let world = World::new("named").await;
    let holder = world.holder().await;
    let mut importer = world.importer(&holder).await;
    let order = world.order("SELECT 1", FormatType::Csv);
    importer.rename(application_name(&order.run, "00007"));
    let shown = world
        .drain(&holder, &mut importer, "SELECT current_setting('application_name')", &CSV)
        .await
        .unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with("pgexport/tests/named_") && shown.ends_with("/00007\n"), "{shown}");
    importer.finish().await;
    holder.finish().await;
    world.done().await;
}

/// Somebody waits for the holder, and whoever comes next waits behind him.
#[tokio::test]
async fn a_chunk_gives_way_to_who_waits_for_the_holder() {
    let world = World::with("queue", "CREATE TABLE t AS SELECT 1 AS a").await;
    let order = world.order("SELECT * FROM t", FormatType::Csv);
    let holder = world.holder().await;
    let plan = make(&holder, &order).await.unwrap();
    let importer = world.importer(&holder).await;
    let other = world.database.admin().await.unwrap();
    let truncating = tokio::spawn(async move { other.batch_execute("TRUNCATE t").await });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass AND mode = 'AccessExclusiveLock'";
    world.eventually("the TRUNCATE waits", waits, "1").await;
    let query = chunk_query(&order, &plan, &plan.chunks[0]).unwrap();
    let error = lock(importer.session(), &plan, &plan.chunks[0], &query).await.unwrap_err();
    let failure = error.to_failure();
    assert_eq!(
        (failure.reason, failure.sql_state.as_deref()),
        (Reason::DatabaseError, Some("55P03")),
        "{failure:?}"
    );
    assert!(failure.hint.is_some_and(|hint| hint.contains("truncate")));
    importer.finish().await;
    holder.finish().await;
    truncating.await.unwrap().unwrap();
    world.done().await;
}

#[tokio::test]
async fn no_timeout_ends_a_holder_whoever_set_it() {
    let world = World::with(
        "timeouts",
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i; GRANT SELECT ON t TO PUBLIC",
    )
    .await;
    let role = &world.database.name;
    world
        .admin
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret';
             ALTER ROLE {role} SET statement_timeout = '300ms'; ALTER ROLE {role} SET idle_in_transaction_session_timeout = '300ms'"
        ))
        .await
        .unwrap();
    let mut secrets = world.secrets();
    secrets.insert("login", "password", Secret::new(b"secret".to_vec()));
    let mut of_role = world.postgres();
    of_role.user.clone_from(role);
    let mut of_source = world.postgres();
    for name in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        of_source.settings.insert(name.to_owned(), "300ms".to_owned());
    }
    for (postgres, secrets) in [(of_role, secrets), (of_source, world.secrets())] {
        let connector = Connector::new(&postgres, Arc::new(secrets));
        let holder = Holder::begin(&connector, "pgexport/tests/patient").await.unwrap();
        let mut order = world.order("SELECT i, pg_sleep(0.0006) IS NULL AS s FROM t", FormatType::Csv);
        order.datasets[0].chunking = by_column("i", 2);
        make(&holder, &order).await.expect("bounds may take longer than the login's statement_timeout");
        let mut importer =
            Importer::join(&connector, holder.snapshot(), "pgexport/tests/idle").await.unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(900), holder.closed()).await.is_err(),
            "neither idling nor planning ends it"
        );
        assert_eq!(
            world.drain(&holder, &mut importer, "SELECT count(*) FROM t", &CSV).await.unwrap(),
            b"1000\n"
        );
        let slow = world.drain(&holder, &mut importer, "SELECT pg_sleep(5)", &CSV).await.unwrap_err();
        assert_eq!(
            slow.reason(),
            Reason::QueryCancelled,
            "a chunk has the timeout that was asked for: {slow}"
        );
        drop(importer);
        holder.finish().await;
    }
    world.admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    world.done().await;
}
