//! Exports that go well, on a real cluster.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use pgexport_api::ConditionType;
use pgexport_e2e::{
    Delivery, Gate, Lab, Namespace, condition, csv_records, eventually, job, json_rows, postgres_spec,
};
use pgexport_peers::{TestDatabase, findings};
use serde_json::{Value, json};
use tokio_postgres::Client;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn apply_exports_a_query_straight_to_the_sink() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("direct").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "direct", &database.name).await;

    let sql = "SELECT seq, title, description, attributes FROM findings WHERE severity = :severity";
    let spec = job(
        json!([{"name": "findings", "sql": sql}]),
        "JSON",
        json!({
            "path": "{namespace}/{job}/",
            "parameters": [{"name": "severity", "type": "finding_severity", "value": "critical"}],
        }),
    );
    namespace.job("findings", spec).await;
    let done = namespace.succeeded("findings", 2 * MINUTE).await;

    let location = format!("from-us/{}/findings/", namespace.name);
    let delivery = Delivery::read(&lab.peers.s3, &customer, &location).await;
    let wanted =
        rows_as_json(&database.admin().await.unwrap(), &sql.replace(":severity", "'critical'")).await;
    let files = delivery.files_of("findings");
    assert_eq!(files.len(), 1, "one chunk is one file");
    assert_eq!(json_rows(files[0]), wanted, "rows differ from row_to_json's");
    assert!(!wanted.is_empty());

    let status = done.status.unwrap();
    assert_eq!(status.observed_generation, done.metadata.generation);
    assert_eq!(status.attempts, 1);
    assert_eq!(status.location.as_deref(), Some(format!("s3://{customer}/{location}").as_str()));
    let output = status.output.unwrap();
    assert_eq!(output.rows, wanted.len() as u64);
    assert_eq!(output.bytes, files[0].len() as u64);
    assert_eq!(status.progress.unwrap().percent, 100);
    for kind in [
        ConditionType::Accepted,
        ConditionType::Exported,
        ConditionType::Delivered,
        ConditionType::Complete,
        ConditionType::Ready,
    ] {
        assert_eq!(condition(&status.conditions, kind).map(|found| found.0), Some("True"), "{kind:?}");
    }
    for kind in [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::Failed] {
        assert_ne!(condition(&status.conditions, kind).map(|found| found.0), Some("True"), "{kind:?}");
    }
    assert_eq!(delivery.manifest["parameters"][0]["name"], "severity");

    let story = events_of(&namespace, "findings", "Complete").await;
    for reason in ["Accepted", "AttemptStarted", "Complete"] {
        assert!(story.iter().any(|event| event == reason), "no Event {reason} in {story:?}");
    }
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn json_under_writes_equals_the_snapshot() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_database("snapshot-json").await.unwrap();
    load(&database.admin().await.unwrap()).await;
    let (namespace, customer, staging) = Namespace::furnished(&lab, "snapshot-json", &database.name).await;

    let gate = Gate::close(&database).await;
    namespace
        .job("findings", job(gated_datasets(), "JSON", json!({"files": {"layout": "Single"}, "workers": 2})))
        .await;
    let wanted = while_held_back(gate, &database, &namespace, &staging, Wanted::Json).await;
    let done = namespace.succeeded("findings", 6 * MINUTE).await;

    let delivery = Delivery::read(&lab.peers.s3, &customer, "from-us/out/").await;
    for (dataset, rows) in &wanted {
        let files = delivery.files_of(dataset);
        assert_eq!(files.len(), 1, "{dataset} is one file");
        let delivered = json_rows(files[0]);
        assert_eq!(delivered.len(), rows.len(), "{dataset}: count of rows");
        assert!(delivered == *rows, "{dataset}: rows differ from the snapshot's");
        assert_eq!(parsed_by_python(files[0]), rows.len(), "{dataset}: Python's json reads another count");
    }
    let progress = done.status.unwrap().progress.unwrap();
    assert_eq!(progress.chunks, 8);
    assert_eq!((progress.chunks_exported, progress.chunks_transferred), (8, 8));
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn csv_under_writes_equals_psqls_copy() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_database("snapshot-csv").await.unwrap();
    load(&database.admin().await.unwrap()).await;
    let (namespace, customer, staging) = Namespace::furnished(&lab, "snapshot-csv", &database.name).await;

    let gate = Gate::close(&database).await;
    namespace
        .job(
            "findings",
            job(
                gated_datasets(),
                "CSV",
                json!({"format": {"type": "CSV", "csv": {"header": false}}, "workers": 2}),
            ),
        )
        .await;
    let wanted = while_held_back(gate, &database, &namespace, &staging, Wanted::Csv).await;
    namespace.succeeded("findings", 6 * MINUTE).await;

    let delivery = Delivery::read(&lab.peers.s3, &customer, "from-us/out/").await;
    assert_eq!(delivery.files.len(), 8, "a file a chunk");
    for (dataset, rows) in &wanted {
        let delivered = csv_records(delivery.files_of(dataset));
        assert_eq!(delivered.len(), rows.len(), "{dataset}: count of rows");
        assert!(delivered == *rows, "{dataset}: rows differ from psql's");
    }
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn chunks_of_a_column_lose_no_row_and_csv_has_one_header_a_file() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("column").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "column", &database.name).await;
    let sql = "SELECT seq, due, title, cost FROM findings";
    let spec = job(
        json!([{"name": "findings", "sql": sql}]),
        "CSV",
        json!({"chunking": {"strategy": "Column", "column": {"name": "due", "chunks": 5}}}),
    );
    namespace.job("by-column", spec).await;
    namespace.succeeded("by-column", 2 * MINUTE).await;

    let delivery = Delivery::read(&lab.peers.s3, &customer, "from-us/out/").await;
    let files = delivery.files_of("findings");
    assert_eq!(files.len(), 5);
    let bodies =
        files.iter().map(|file| file.strip_prefix(b"seq,due,title,cost\n".as_slice()).expect("a header"));
    let wanted = psql_csv(&lab, &database.name, "", sql);
    assert!(csv_records(bodies) == csv_records([wanted.as_slice()]), "rows differ from psql's");
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_volume_takes_a_delivery() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("volume").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "volume", &database.name).await;
    let folder = pgexport_e2e::claim(&namespace, "exports").await;
    namespace
        .create_object("ExportSink", "disk", json!({"volume": {"claimName": "exports", "path": "acme/"}}))
        .await
        .unwrap();
    let spec = job(
        json!([{"name": "assets", "sql": "SELECT * FROM assets"}]),
        "NDJSON",
        json!({"sinkRef": {"name": "disk"}}),
    );
    namespace.job("to-disk", spec).await;
    let status = namespace.succeeded("to-disk", 2 * MINUTE).await.status.expect("a status");
    assert_eq!(
        serde_json::to_value(&status.chunking).unwrap(),
        json!([{"dataset": "assets", "strategy": "None", "chunks": 1, "reason": "public.assets is small"}]),
        "Auto says what it came to"
    );

    let delivered = folder.join("acme/out");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(delivered.join("_manifest.json")).unwrap()).unwrap();
    assert!(delivered.join("_SUCCESS").exists());
    let path = manifest["datasets"][0]["files"][0]["path"].as_str().unwrap();
    let body = std::fs::read(delivered.join(path)).unwrap();
    let mut rows: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    rows.sort_unstable();
    assert_eq!(rows, rows_as_json(&database.admin().await.unwrap(), "SELECT * FROM assets").await);
    assert_eq!(std::fs::read_dir(&delivered).unwrap().count(), 3, "a temporary file is left");
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn an_empty_result_is_one_valid_empty_document() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("empty").await.unwrap();
    let (namespace, customer, _) = Namespace::furnished(&lab, "empty", &database.name).await;
    let spec = job(
        json!([{"name": "findings", "sql": "SELECT * FROM findings WHERE seq < 0 AND :chunk"}]),
        "JSON",
        json!({"chunking": {"strategy": "Table", "table": {"name": "findings"}}, "files": {"layout": "Single"}}),
    );
    namespace.job("nothing", spec).await;
    namespace.succeeded("nothing", 2 * MINUTE).await;
    let delivery = Delivery::read(&lab.peers.s3, &customer, "from-us/out/").await;
    assert_eq!(serde_json::from_slice::<Value>(delivery.files_of("findings")[0]).unwrap(), json!([]));
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_replaced_probe_request_probes_again() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("probe").await.unwrap();
    let (namespace, _, _) = Namespace::furnished(&lab, "probe", &database.name).await;
    namespace.source("again", json!({"postgres": postgres_spec(&lab.peers, &database.name)})).await;
    let api: Api<pgexport_api::ExportSource> = namespace.api();
    let first = eventually(MINUTE, async || {
        let status = api.get("again").await.ok()?.status?;
        (condition(&status.conditions, ConditionType::Ready)?.0 == "True").then_some(status)
    })
    .await
    .expect("the source becomes Ready");
    let server = first.server.expect("the server");
    assert!(server.version.starts_with(|digit: char| digit.is_ascii_digit()), "{server:?}");
    let annotation =
        json!({"metadata": {"annotations": {pgexport_api::naming::PROBE_REQUEST_ANNOTATION: "now"}}});
    api.patch("again", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(annotation))
        .await
        .unwrap();
    eventually(MINUTE, async || {
        let probe = api.get("again").await.ok()?.status?.probe?;
        (probe.number > 1 && probe.time.is_some()).then_some(())
    })
    .await
    .expect("a second probe");
    namespace.remove().await;
    database.drop_database().await.unwrap();
}

/// The big data set, on a database of its own.
async fn load(client: &Client) {
    findings::load(client, "findings", findings::BIG).await.expect("the sample data");
}

/// Two data sets in eight chunks; the chunk with the first finding waits at the gate.
fn gated_datasets() -> Value {
    json!([
        {
            "name": "findings",
            "sql": format!(
                "SELECT f.* FROM findings f\nWHERE {} AND :chunk -- gate", Gate::condition("f.seq = 1")),
            "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 6}},
        },
        {
            "name": "assets",
            "sql": format!("{ASSETS};"),
            "chunking": {"strategy": "Column", "column": {"name": "hostname", "chunks": 2}},
        },
    ])
}

/// A query over both tables.
const ASSETS: &str = "SELECT a.*, t.total FROM assets a JOIN (SELECT tenant_id AS tenant, count(*) AS total FROM findings GROUP BY 1) t ON t.tenant = a.tenant_id";

#[derive(Clone, Copy)]
enum Wanted {
    Json,
    Csv,
}

/// What the queries return in the exported snapshot, read while a chunk is held back and other connections write; then
/// the chunk is let go.
async fn while_held_back(
    gate: Gate,
    database: &TestDatabase,
    namespace: &Namespace<'_>,
    staging: &str,
    wanted: Wanted,
) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let lab = namespace.lab;
    let admin = database.admin().await.unwrap();
    let plan = eventually(3 * MINUTE, async || {
        let objects = lab.peers.s3.list(staging, "").await.expect("a listing");
        let key = objects.into_iter().map(|object| object.key).find(|key| key.ends_with("/plan.json"))?;
        let plan: Value = serde_json::from_slice(&lab.peers.s3.get(staging, &key).await.ok()?).ok()?;
        Some(plan)
    })
    .await;
    let Some(plan) = plan else {
        namespace.describe().await;
        panic!("no plan.json in staging");
    };
    let snapshot = plan["snapshot"]["id"].as_str().expect("a snapshot id").to_owned();

    let writes = admin.batch_execute(
        "UPDATE findings SET title = 'rewritten', cost = cost + 1 WHERE seq % 7 = 0;
             DELETE FROM findings WHERE seq % 11 = 0;
             UPDATE assets SET hostname = 'moved-' || hostname;",
    );
    writes.await.unwrap();

    let findings = "SELECT f.* FROM findings f";
    let rows = [("findings", findings), ("assets", ASSETS)].map(|(dataset, sql)| {
        let rows = match wanted {
            // Each row is one line: quotes and delimiters that JSON cannot hold leave it as it is.
            Wanted::Json => {
                let copied = psql(lab, &database.name, &format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSET TRANSACTION SNAPSHOT '{snapshot}';\n\\copy (SELECT translate(row_to_json(q.*)::text, E'\\r\\n', '  ') FROM ({sql}) q) to pstdout (format csv, quote E'\\x01', delimiter E'\\x02')\n"
                ));
                copied.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>()
            }
            Wanted::Csv => {
                let copied = psql_csv(lab, &database.name, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ;\nSET TRANSACTION SNAPSHOT '{snapshot}';\n"), sql);
                csv_records([copied.as_slice()]).into_iter().map(<[u8]>::to_vec).collect()
            }
        };
        let mut rows = rows;
        rows.sort_unstable();
        (dataset, rows)
    });
    gate.open().await;
    BTreeMap::from(rows)
}

/// The rows of a query as `row_to_json` writes them, sorted.
async fn rows_as_json(client: &Client, sql: &str) -> Vec<Vec<u8>> {
    client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
    let rows = client.query(&format!("SELECT row_to_json(q.*)::text FROM ({sql}) q"), &[]).await.unwrap();
    let mut rows: Vec<Vec<u8>> =
        rows.iter().map(|row| row.get::<_, String>(0).replace(['\r', '\n'], " ").into_bytes()).collect();
    rows.sort_unstable();
    rows
}

/// What psql's `\copy … csv` writes of a query.
fn psql_csv(lab: &Lab, database: &str, before: &str, sql: &str) -> Vec<u8> {
    psql(lab, database, &format!("{before}\\copy ({sql}) to pstdout csv\n"))
}

/// What psql prints for a script.
fn psql(lab: &Lab, database: &str, script: &str) -> Vec<u8> {
    let postgres = &lab.peers.postgres;
    let url = format!(
        "host={} port={} dbname={database} user={} sslmode=verify-full sslrootcert={}",
        postgres.host.ip(),
        postgres.host.port(),
        postgres.admin.user,
        postgres.ca_file.display()
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", &url, "--file"])
        .arg(file.path())
        .env("PGPASSWORD", &postgres.admin.password)
        .env("PGTZ", "UTC")
        .env("PGCLIENTENCODING", "UTF8")
        .output()
        .expect("psql");
    assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// How many elements Python's json finds in a document.
fn parsed_by_python(document: &[u8]) -> usize {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(document).unwrap();
    let output = Command::new("python3")
        .args(["-c", "import json, sys; print(len(json.load(open(sys.argv[1], encoding='utf-8'))))"])
        .arg(file.path())
        .output()
        .expect("python3");
    assert!(output.status.success(), "python3: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The reasons of the Events about an ExportJob, as soon as there is one of reason `last`.
async fn events_of(namespace: &Namespace<'_>, name: &str, last: &str) -> Vec<String> {
    let api: Api<Event> = namespace.api();
    let found = eventually(Duration::from_secs(20), async || {
        let events = api.list(&ListParams::default()).await.ok()?;
        let reasons: Vec<String> = events
            .into_iter()
            .filter(|event| {
                event.regarding.as_ref().is_some_and(|about| {
                    about.kind.as_deref() == Some("ExportJob") && about.name.as_deref() == Some(name)
                })
            })
            .filter_map(|event| event.reason)
            .collect();
        reasons.iter().any(|reason| reason == last).then_some(reasons)
    });
    found.await.unwrap_or_else(|| panic!("no Event {last} about ExportJob {name}"))
}
