//! Exports, from query to delivery, against a real PostgreSQL and a real S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "export/cleanup.rs"]
mod cleanup;
#[path = "export/compression.rs"]
mod compression;
#[path = "export/expect.rs"]
mod expect;
#[path = "export/overlap.rs"]
mod overlap;
#[path = "export/parquet.rs"]
mod parquet;
#[path = "export/partition.rs"]
mod partition;
#[path = "export/per_chunk.rs"]
mod per_chunk;
#[path = "export/rate.rs"]
mod rate;
mod support;

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::{
    Compression, Consistency, DatasetChunking, Files, Format, FormatType, IfExists, Layout, Strategy,
    TableChunking,
};
use pgexport_api::order::{
    DatasetOrder, DeliveryPath, NamedSink, NamedSource, RunIdentity, RunOrder, Target,
};
use pgexport_api::reason::Reason;
use pgexport_api::report::Outcome;
use pgexport_engine::export::{self, Context};
use pgexport_engine::progress::Progress;
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};
use pgexport_engine::source::Connector;
use pgexport_engine::staging::Staging;
use pgexport_engine::store::{self, Volumes};
use pgexport_engine::{Error, transfer};
use pgexport_peers::{Peers, TestDatabase};
use support::s3_target;
use tokio_util::sync::CancellationToken;

/// A source, a customer's bucket and a staging bucket of a test's own.
struct Room {
    peers: Peers,
    database: TestDatabase,
    customer: String,
    staging: String,
}

impl Room {
    async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_findings_database(hint).await.unwrap();
        let customer = peers.s3.create_bucket(&format!("{hint}-customer")).await.unwrap();
        let staging = peers.s3.create_bucket(&format!("{hint}-staging")).await.unwrap();
        Self { peers, database, customer, staging }
    }

    fn context(&self, order: RunOrder, worker: u32) -> Context {
        let mut secrets = MemorySecrets::default();
        let postgres = &self.peers.postgres;
        let account = &self.peers.s3.admin;
        for (name, key, value) in [
            ("db", "password", &postgres.exporter.password),
            ("db", "ca.crt", &postgres.ca_pem),
            ("s3", "AWS_ACCESS_KEY_ID", &account.access_key),
            ("s3", "AWS_SECRET_ACCESS_KEY", &account.secret_key),
        ] {
            secrets.insert(name, key, Secret::new(value.clone().into_bytes()));
        }
        let secrets: Arc<dyn Secrets> = Arc::new(secrets);
        Context {
            connector: Connector::new(&order.source.postgres, Arc::clone(&secrets)),
            order,
            worker,
            secrets,
            volumes: Volumes::folders([].into()),
            progress: Arc::new(Progress::default()),
            cancel: CancellationToken::new(),
        }
    }

    /// An order for the findings by ranges of pages, by two workers where it is staged.
    fn order(&self, sql: &str, staged: bool) -> RunOrder {
        let sink = |name: &str, bucket: &str, staging| NamedSink {
            name: name.to_owned(),
            target: Target::S3(pgexport_api::sink::S3 {
                prefix: String::new(),
                credentials_secret_ref: Some(pgexport_api::source::SecretRef { name: "s3".to_owned() }),
                ..s3_target(&self.peers, bucket)
            }),
            staging,
        };
        let postgres = serde_json::json!({
            "host": self.peers.postgres.host.ip().to_string(),
            "port": self.peers.postgres.host.port(),
            "database": self.database.name,
            "user": self.peers.postgres.exporter.user,
            "passwordSecretRef": {"name": "db", "key": "password"},
            "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}},
        });
        RunOrder {
            run: RunIdentity {
                namespace: "team".to_owned(),
                name: "findings".to_owned(),
                uid: "0b0c6f0e-5b0e-4d61-9d8a-6f1f1c3a2b10".to_owned(),
                attempt: 1,
                spec_sha256: "0".repeat(64),
                created: "2026-11-23T00:00:00Z".parse().unwrap(),
            },
            source: NamedSource {
                name: "db".to_owned(),
                postgres: serde_json::from_value(postgres).unwrap(),
                allow_privileged_login: false,
                limits: pgexport_api::source::Limits::default(),
                method: pgexport_api::source::Method::Copy,
                kms_key_id: None,
                run_ledger: None,
            },
            sink: sink("customer", &self.customer, false),
            delivery: if staged {
                DeliveryPath::Staged { staging: sink("staging", &self.staging, true) }
            } else {
                DeliveryPath::Direct
            },
            looks_ahead: false,
            path: "out/".to_owned(),
            datasets: vec![DatasetOrder {
                name: "findings".to_owned(),
                sql: sql.to_owned(),
                chunking: DatasetChunking {
                    strategy: Strategy::Table,
                    column: None,
                    table: Some(TableChunking {
                        name: "findings".to_owned(),
                        alias: Some("f".to_owned()),
                        chunks: 6,
                    }),
                    values: None,
                },
                expect: None,
            }],
            consistency: Consistency::Snapshot,
            parameters: Vec::new(),
            format: Format { format_type: FormatType::Json, csv: None, parquet: None },
            compression: Compression::None,
            files: Files { layout: if staged { Layout::Single } else { Layout::PerChunk }, name: None },
            window: None,
            if_exists: IfExists::Fail,
            workers: if staged { 2 } else { 1 },
            parallelism: 4,
        }
    }

    /// What the customer finds: data files, by key.
    async fn delivered(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for object in self.peers.s3.list(&self.customer, "").await.unwrap() {
            if !object.key.contains("/_") {
                let body = self.peers.s3.get(&self.customer, &object.key).await.unwrap();
                files.push((object.key, body));
            }
        }
        files
    }

    async fn is_sealed(&self) -> bool {
        self.peers.s3.get(&self.customer, "out/_SUCCESS").await.is_ok()
    }

    /// Nothing goes on: no upload is open, no query runs.
    async fn assert_quiet(&self) {
        for bucket in [&self.customer, &self.staging] {
            let open = self.peers.s3.open_uploads(bucket).await.unwrap();
            assert!(open.is_empty(), "uploads are left open: {open:?}");
        }
        let admin = self.database.admin().await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgexport/%'";
        for _ in 0..50 {
            if admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("a connection is left");
    }

    async fn rows(&self) -> Vec<String> {
        let admin = self.database.admin().await.unwrap();
        admin.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
        let rows = admin.query("SELECT row_to_json(f.*)::text FROM findings f", &[]).await.unwrap();
        let mut rows: Vec<String> =
            rows.iter().map(|row| row.get::<_, String>(0).replace(['\r', '\n'], " ")).collect();
        rows.sort_unstable();
        rows
    }
}

/// The rows of JSON documents of one row a line, sorted.
fn rows_of(files: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut rows = Vec::new();
    for (_, file) in files {
        serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(file).expect("one JSON document");
        let text = std::str::from_utf8(file).unwrap();
        let inner = text.strip_prefix('[').unwrap().strip_suffix("]\n").unwrap();
        rows.extend(
            inner
                .lines()
                .filter(|line| !line.is_empty())
                .map(|line| line.strip_suffix(',').unwrap_or(line).to_owned()),
        );
    }
    rows.sort_unstable();
    rows
}

const ALL: &str = "SELECT f.* FROM findings f WHERE :chunk";
/// Waits, at the first row, for the advisory lock 1.
const GATED: &str = "SELECT f.* FROM findings f WHERE CASE WHEN f.seq = 1 THEN pg_advisory_xact_lock_shared(1) IS NOT NULL ELSE true END AND :chunk";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_delivers_every_row_once_and_says_so_again() {
    let room = Room::new("direct").await;
    let outcome = export::run(room.context(room.order(ALL, false), 0)).await.unwrap();
    let Outcome::Delivered(delivered) = outcome.clone() else { panic!("{outcome:?}") };
    let files = room.delivered().await;
    assert_eq!(files.len(), 6);
    assert!(rows_of(&files) == room.rows().await);
    assert_eq!((delivered.rows, delivered.files, delivered.chunks), (10_000, 6, 6));
    assert!(room.is_sealed().await);
    room.assert_quiet().await;
    assert_eq!((delivered.chunking[0].strategy, delivered.chunking[0].chunks), (Strategy::Table, 6));
    let again = export::run(room.context(room.order(ALL, false), 0)).await.unwrap();
    let wanted = Outcome::Delivered(pgexport_api::report::Delivered { chunking: Vec::new(), ..delivered });
    assert_eq!(again, wanted, "a rerun finds its work done and reports it");
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_and_a_transfer_make_one_document() {
    let room = Room::new("staged").await;
    let order = room.order(ALL, true);
    let [first, second] = [0, 1].map(|worker| room.context(order.clone(), worker));
    let (lead, follow) = tokio::join!(export::run(first.clone()), export::run(second));
    let Outcome::Exported(exported) = lead.unwrap() else { panic!("worker 0 tells the totals") };
    assert_eq!(follow.unwrap(), Outcome::ShareExported);
    assert_eq!((exported.chunks, exported.rows), (6, 10_000));
    assert!(room.delivered().await.is_empty(), "nothing is delivered before the transfer");
    room.assert_quiet().await;

    let deliver =
        || transfer::run(&order, first.secrets.clone(), &first.volumes, &first.progress, &first.cancel);
    let delivered = deliver().await.unwrap();
    let files = room.delivered().await;
    assert_eq!(files.len(), 1);
    assert!(rows_of(&files) == room.rows().await);
    assert_eq!(deliver().await.unwrap(), delivered, "a rerun finds its work done and reports it");
    assert_eq!(export::run(first).await.unwrap(), Outcome::Exported(exported), "so does worker 0's");
    let second = export::run(room.context(order.clone(), 1)).await.unwrap();
    assert_eq!(second, Outcome::ShareExported, "and the other one's, with no snapshot to import");
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_in_the_middle_it_leaves_nothing() {
    for (staged, format_type, compression) in [
        (false, FormatType::Json, Compression::None),
        (true, FormatType::Json, Compression::None),
        (false, FormatType::Parquet, Compression::None),
        (true, FormatType::Ndjson, Compression::Zstd),
    ] {
        let room = Room::new("stopped").await;
        let gate = room.database.admin().await.unwrap();
        gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
        let gated =
            if format_type == FormatType::Parquet { GATED.replace("f.*", "f.seq") } else { GATED.to_owned() };
        let format = Format { format_type, csv: None, parquet: None };
        let order = RunOrder { format, compression, ..room.order(&gated, staged) };
        let context = room.context(order, 0);
        let cancel = context.cancel.clone();
        let run = tokio::spawn(export::run(context));
        at_the_gate(&room).await;
        cancel.cancel();
        let error = run.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Reason::Interrupted, "{error}");
        assert!(room.delivered().await.is_empty());
        assert!(!room.is_sealed().await);
        room.assert_quiet().await;
        drop(gate);
        room.database.drop_database().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_0_gives_the_attempt_up() {
    let room = Room::new("restarted").await;
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let order = room.order(GATED, true);
    let killed = tokio::spawn(export::run(room.context(order.clone(), 0)));
    at_the_gate(&room).await;
    killed.abort();
    let error = export::run(room.context(order, 0)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotLost, "{error}");
    drop(gate);
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_goes_on_where_its_former_pod_was() {
    let room = Room::new("follower").await;
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let order = room.order(GATED, true);
    let lead = tokio::spawn(export::run(room.context(order.clone(), 0)));
    at_the_gate_or_planned(&room, &order).await;
    let former = tokio::spawn(export::run(room.context(order.clone(), 1)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    former.abort();
    let successor = tokio::spawn(export::run(room.context(order, 1)));
    gate.execute("SELECT pg_advisory_unlock(1)", &[]).await.unwrap();
    assert_eq!(successor.await.unwrap().unwrap(), Outcome::ShareExported);
    let Outcome::Exported(exported) = lead.await.unwrap().unwrap() else {
        panic!("worker 0 tells the totals")
    };
    assert_eq!(exported.rows, 10_000);
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_import_gives_the_attempt_up() {
    let room = Room::new("late").await;
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let order = room.order(GATED, true);
    let lead = tokio::spawn(export::run(room.context(order.clone(), 0)));
    at_the_gate_or_planned(&room, &order).await;
    lead.abort();
    let held = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgexport/%' AND datname = current_database()";
    while gate.query_one(held, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = export::run(room.context(order, 1)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotLost, "{error}");
    assert_eq!(error.reason().exit_code().code(), 78, "the Job fails, and a new attempt follows");
    drop(gate);
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holders_connection_lost_is_a_lost_snapshot() {
    let room = Room::new("holder").await;
    let gate = room.database.admin().await.unwrap();
    gate.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
    let run = tokio::spawn(export::run(room.context(room.order(GATED, false), 0)));
    at_the_gate(&room).await;
    let admin = room.database.admin().await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgexport/%/snapshot' AND datname = current_database()";
    assert_eq!(admin.query(sql, &[]).await.unwrap().len(), 1, "one connection holds the snapshot");
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotLost, "{error}");
    assert!(room.delivered().await.is_empty());
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_fails_names_its_chunk_and_not_its_value() {
    let room = Room::new("data").await;
    let sql = "SELECT 1 / (f.seq - 5000) AS x, f.title FROM findings f WHERE :chunk";
    let error: Error = export::run(room.context(room.order(sql, false), 0)).await.unwrap_err();
    let failure = error.to_failure();
    assert_eq!(
        (failure.reason, failure.sql_state.as_deref()),
        (Reason::DataError, Some("22012")),
        "{failure:?}"
    );
    assert!(failure.chunk.is_some());
    assert!(room.delivered().await.is_empty());
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}

/// Waits until a chunk waits for the gate.
async fn at_the_gate(room: &Room) {
    let admin = room.database.admin().await.unwrap();
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for _ in 0..200 {
        if admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no chunk came to the gate");
}

/// Waits until there is a plan, whoever has the gated chunk.
async fn at_the_gate_or_planned(room: &Room, order: &RunOrder) {
    let context = room.context(order.clone(), 0);
    let DeliveryPath::Staged { staging } = &order.delivery else { panic!("a staged order") };
    let staging =
        Staging::open(store::open(&staging.target, context.secrets, &context.volumes).unwrap(), order);
    for _ in 0..200 {
        if staging.plan().await.unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no plan");
}

/// The server plans for a minute: it computes what it takes for a constant.
#[tokio::test]
async fn planning_is_given_up_at_once() {
    let room = Room::new("planning").await;
    let admin = room.database.admin().await.unwrap();
    let slow = "CREATE FUNCTION public.slow() RETURNS bool IMMUTABLE LANGUAGE plpgsql
                AS 'BEGIN PERFORM pg_sleep(60); RETURN true; END';
                GRANT EXECUTE ON FUNCTION public.slow() TO PUBLIC";
    admin.batch_execute(slow).await.unwrap();
    let planning = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'active' AND query LIKE 'EXPLAIN%slow()%'";
        admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    for dry in [true, false] {
        let context =
            room.context(room.order("SELECT f.id FROM findings f WHERE :chunk AND slow()", false), 0);
        let cancel = context.cancel.clone();
        let stop = async {
            while planning().await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cancel.cancel();
            std::time::Instant::now()
        };
        let ended = async {
            let ended = if dry {
                export::preview(&context.order, Arc::clone(&context.secrets), &cancel).await.map(drop)
            } else {
                export::run(context).await.map(drop)
            };
            (ended, std::time::Instant::now())
        };
        let ((ended, end), stopped) = tokio::join!(ended, stop);
        assert_eq!(ended.unwrap_err().reason(), Reason::Interrupted);
        assert!(end - stopped < Duration::from_secs(4), "{:?}", end - stopped);
        assert_eq!(planning().await, 0, "the server has given up too");
    }
}
