//! Exports from a hot standby whose primary removes rows that they still see.

use std::time::Duration;

use pgexport_api::source::{Method, RunTable, ServerRole};
use pgexport_api::{ExportSource, Reason};
use pgexport_e2e::{Coordinator, Gate, Lab, OwnServer, World, eventually, postgres_spec};
use pgexport_failpoint::ANNOTATION;
use pgexport_peers::Postgres;
use serde_json::{Value, json};
use tokio_postgres::Client;

const MINUTE: Duration = Duration::from_secs(60);

/// A server of the world's with its standby, from which two sources read.
struct Pair<'a> {
    world: World<'a>,
    standby: &'a Postgres,
    /// The superuser on the primary.
    primary: Client,
}

impl<'a> Pair<'a> {
    /// With the sources `copy` and `aurora`, and rows that are there to be removed.
    async fn create(lab: &'a Lab, hint: &str) -> Self {
        let world = World::create(lab, hint).await;
        let peers = &lab.peers;
        let standby = peers.standby.as_ref().expect("a standby");
        let login = &peers.postgres.exporter.user;
        world.database.install_pgexport(login).await.unwrap();
        world.database.install_aws_s3(&peers.s3, login).await.unwrap();
        let primary = world.database.admin().await.unwrap();
        primary.batch_execute("CREATE TABLE doomed AS SELECT generate_series(1, 1000) n").await.unwrap();
        standby.catch_up(&peers.postgres).await.unwrap();

        let mut postgres = postgres_spec(peers, &world.database.name);
        postgres["port"] = json!(standby.pod.port());
        let staging = json!({"sinkRef": {"name": "staging"}});
        world.namespace.source("copy", json!({"postgres": postgres, "staging": staging})).await;
        let writer = peers.postgres.pod;
        let ledger = json!({"hostOfWriter": writer.ip().to_string(), "portOfWriter": writer.port()});
        let aurora =
            json!({"postgres": postgres, "staging": staging, "method": "AuroraS3", "runLedger": ledger});
        world.namespace.source("aurora", aurora).await;
        Self { world, standby, primary }
    }

    /// A superuser on the standby.
    async fn on_standby(&self) -> Client {
        self.standby.admin(&self.world.database.name).await.unwrap()
    }

    /// The primary removes rows for good that every snapshot of before can see, and the standby waits for nobody to let them
    /// go. Who comes after that is not in its way.
    async fn remove_rows(&self) {
        let standby = self.on_standby().await;
        let set = async |setting: &str| {
            standby.batch_execute(&format!("ALTER SYSTEM {setting}")).await.unwrap();
            standby.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        };
        set("SET max_standby_streaming_delay = '50ms'").await;
        self.primary.batch_execute("UPDATE doomed SET n = n + 1").await.unwrap();
        self.primary.batch_execute("VACUUM doomed").await.unwrap();
        self.standby.catch_up(&self.world.namespace.lab.peers.postgres).await.unwrap();
        set("RESET max_standby_streaming_delay").await;
    }

    /// Waits until a query on one of the servers says yes.
    async fn until(&self, what: &str, client: &Client, sql: &str) {
        let holds = eventually(MINUTE, async || {
            client.query_one(sql, &[]).await.expect(what).get::<_, bool>(0).then_some(())
        });
        if holds.await.is_none() {
            self.world.namespace.describe().await;
            panic!("{what}: it has not come");
        }
    }
}

/// An export from the standby, whose first chunk waits at the gate.
fn gated(path: &str, source: &str) -> Value {
    let first = Gate::condition("a.ctid = (SELECT min(ctid) FROM assets)");
    let table = json!({"name": "assets", "alias": "a", "chunks": 3});
    let chunking = json!({"strategy": "Table", "table": table, "parallelism": 3});
    let with = json!({"sourceRef": {"name": source}, "chunking": chunking});
    World::export_where(path, &format!("{first} AND :chunk"), with)
}

#[tokio::test]
async fn a_recovery_conflict_costs_an_attempt_and_the_next_one_delivers() {
    let shared = Lab::find().await;
    let server = OwnServer::with_standby(&shared).await;
    let lab = server.in_lab(&shared);
    let pair = Pair::create(&lab, "standby").await;
    let (world, namespace) = (&pair.world, &pair.world.namespace);
    let coordinator = Coordinator::for_pods(&lab).await;
    let standby = pair.on_standby().await;

    // Two have a query that waits, and one has nothing but its snapshot.
    let gate = Gate::close_by(pair.on_standby().await).await;
    let planned = coordinator.at("export::planned", |hit| hit.host.starts_with("holder-"));
    let held = json!({
        "sourceRef": {"name": "copy"},
        "podTemplate": {
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
            "annotations": {ANNOTATION: coordinator.address()},
        },
    });
    namespace.job("holder", World::export("holder/", held)).await;
    namespace.job("copy", gated("copy/", "copy")).await;
    namespace.job("aurora", gated("aurora/", "aurora")).await;
    let held = planned.held(namespace, 2 * MINUTE).await;
    if eventually(2 * MINUTE, async || (gate.waiting().await == 2).then_some(())).await.is_none() {
        namespace.describe().await;
        panic!("no two chunks wait at the gate");
    }
    let others = "SELECT count(*) = 2 FROM pgexport.run WHERE state = 'succeeded'";
    pair.until("the other chunks", &pair.primary, others).await;

    let holders = format!(
        "FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'pgexport/{}/holder/snapshot'",
        namespace.name
    );
    pair.until("the session with the snapshot", &standby, &format!("SELECT count(*) = 1 {holders}")).await;
    let waiters = gate.waiters().await;
    pair.remove_rows().await;
    pair.until("its end", &standby, &format!("SELECT count(*) = 0 {holders}")).await;
    assert!(gate.waiters().await.is_disjoint(&waiters), "queries are cancelled");
    gate.open().await;
    held.go().await;

    // Where a query runs, it is cancelled, and the session with the snapshot is ended: either is seen first.
    let either = [Reason::SnapshotLost, Reason::QueryCancelled];
    for (name, reasons) in [("holder", &either[..1]), ("copy", &either[..]), ("aurora", &either[..])] {
        let status = namespace.succeeded(name, 3 * MINUTE).await.status.unwrap();
        assert_eq!(status.attempts, 2, "{name}: {:?}", status.last_error);
        let error = status.last_error.expect("what failed");
        assert_eq!(error.sql_state.as_deref(), Some("40001"), "{name}: {}", error.message);
        assert!(reasons.contains(&error.reason), "{name}: {}: {}", error.reason, error.message);
        assert!(error.message.contains("conflict with recovery"), "{name}: {}", error.message);
        world.whole(&format!("{name}/")).await;
    }
    recorded_on_the_writer(&pair).await;
    world.leftovers().none_of_runs(MINUTE).await;
    drop(standby);
    pair.world.remove(&["holder", "copy", "aurora"]).await;
}

/// What the database exported is recorded on the writer, as done by the standby.
async fn recorded_on_the_writer(pair: &Pair<'_>) {
    let namespace = &pair.world.namespace;
    let source: ExportSource = namespace.api().get("aurora").await.unwrap();
    let status = source.status.unwrap();
    assert_eq!(status.server.unwrap().role, ServerRole::Replica);
    assert_eq!(status.aurora_s3.unwrap().run_table, RunTable::Ready);
    let job = namespace.get("aurora").await;
    assert_eq!(job.status.unwrap().method, Some(Method::AuroraS3));
    let runs = "SELECT concat_ws(' ', attempt, state = 'succeeded', count(*), bool_and(standby), bool_and(instance <> pgexport.instance()))
        FROM pgexport.run WHERE job_uid = $1 GROUP BY attempt, state = 'succeeded' ORDER BY 1";
    let runs = pair.primary.query(runs, &[&job.metadata.uid.unwrap()]).await.unwrap();
    let runs: Vec<&str> = runs.iter().map(|run| run.get(0)).collect();
    assert_eq!(runs, ["1 f 1 t t", "1 t 2 t t", "2 t 3 t t"]);
}
