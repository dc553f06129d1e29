//! Deliveries of `pgexport run`, read by others: Python, jq, PostgreSQL, pyarrow and DuckDB. Each finds the values that the
//! database has, of every kind of type and of texts that readers get wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

#[path = "../manifest/mod.rs"]
mod manifest;

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use futures::SinkExt as _;
use pgexport_peers::{Peers, TestDatabase};
use serde_json::{Value, json};
use tokio_postgres::{Client, SimpleQueryMessage};

/// What exports pin, for those who ask the database itself.
const PINS: &str = "SET DateStyle = ISO; SET IntervalStyle = iso_8601; SET TimeZone = UTC; SET extra_float_digits = 1; SET bytea_output = hex";

/// What marks NULL where a reader cannot tell it from an empty text.
const NULL: &str = "~null~";

struct Desk {
    peers: Peers,
    database: TestDatabase,
    admin: Client,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_database(hint).await.unwrap();
        let admin = database.admin().await.unwrap();
        admin.batch_execute(include_str!("table.sql")).await.unwrap();
        admin.batch_execute(PINS).await.unwrap();
        Self { peers, database, admin, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Delivers the rows of a query into the folder `exports/NAME`.
    fn export(&self, name: &str, sql: &str, job: &Value) {
        let postgres = &self.peers.postgres;
        let mut spec = json!({
            "sourceRef": {"name": "db"}, "sinkRef": {"name": "folder"}, "path": format!("{name}/"),
            "datasets": [{"name": "kinds", "sql": sql}],
        });
        spec.as_object_mut().unwrap().extend(job.as_object().unwrap().clone());
        let documents = [
            manifest::secret(
                "db",
                &json!({"ca.crt": postgres.ca_pem, "password": postgres.exporter.password}),
            ),
            manifest::source(postgres, &self.database.name, "db", "db"),
            manifest::object("ExportSink", "folder", &json!({"volume": {"claimName": "exports"}})),
            manifest::object("ExportJob", "kinds", &spec),
        ];
        let file = format!("{name}.yaml");
        std::fs::write(self.path(&file), manifest::file(&documents)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_pgexport"))
            .current_dir(self.folder.path())
            .args(["run", "-f", &file, "--staging-dir", "staging"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Data files of a delivery, in their order.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let folder = self.path("exports").join(name);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('_'));
        files.sort();
        files
    }

    /// What the database says of a query: each value's text, and each row as JSON.
    async fn write_truth(&self, sql: &str) {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for message in self.admin.simple_query(sql).await.unwrap() {
            match message {
                SimpleQueryMessage::RowDescription(found) => {
                    columns = found.iter().map(|column| column.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    rows.push(
                        (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect::<Vec<_>>(),
                    );
                }
                _ => {}
            }
        }
        let json =
            self.admin.query(&format!("SELECT row_to_json(q.*)::text FROM ({sql}) q"), &[]).await.unwrap();
        let json: Vec<String> = json.iter().map(|row| row.get(0)).collect();
        assert!(rows.len() > 10 && rows.len() == json.len());
        let truth = json!({"columns": columns, "rows": rows, "json": json, "null": NULL});
        std::fs::write(self.path("truth.json"), truth.to_string()).unwrap();
    }

    /// Has the other readers check deliveries against the truth.
    fn check(&self, check: &str, files: &[PathBuf]) {
        let python = pgexport_peers::state::root().join("readers/bin/python");
        assert!(python.exists(), "{} is missing: run e2e/prerequisites.sh tests", python.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_back/read_back.py");
        let mut command = Command::new(python);
        command.arg(script).arg(check).arg(self.path("truth.json")).args(files);
        let output = command.output().unwrap();
        let (said, wrong) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{check}: {said}{wrong}");
        assert!(said.contains("values are equal"), "{check}: {said}");
    }

    async fn done(self) {
        self.database.drop_database().await.unwrap();
    }
}

const ALL: &str = "SELECT * FROM kinds";

#[tokio::test(flavor = "multi_thread")]
async fn csv_is_read_by_python_and_by_postgresql() {
    let desk = Desk::new("read-csv").await;
    desk.write_truth(ALL).await;
    desk.export("csv", ALL, &json!({"format": {"type": "CSV", "csv": {"null": NULL}}}));
    desk.check("csv", &desk.files("csv"));

    // By default NULL is nothing and the empty text is quoted, which PostgreSQL tells apart.
    let split = json!({
        "format": {"type": "CSV"}, "files": {"layout": "Single"},
        "datasets": [{"name": "kinds", "sql": "SELECT * FROM kinds k WHERE :chunk"}],
        "chunking": {"strategy": "Table", "table": {"name": "kinds", "alias": "k", "chunks": 3}},
    });
    desk.export("single", ALL, &split);
    let files = desk.files("single");
    assert_eq!(files.len(), 1, "{files:?}");
    desk.admin.batch_execute("CREATE TABLE read (LIKE kinds)").await.unwrap();
    let copy = desk.admin.copy_in("COPY read FROM STDIN (FORMAT csv, HEADER)").await.unwrap();
    let mut copy = Box::pin(copy);
    copy.send(Bytes::from(std::fs::read(&files[0]).unwrap())).await.unwrap();
    assert_eq!(copy.as_mut().finish().await.unwrap(), 49);
    for (one, other) in [("read", "kinds"), ("kinds", "read")] {
        let differing = format!(
            "SELECT r.id FROM {one} r WHERE NOT EXISTS (SELECT FROM {other} k WHERE k.id = r.id AND r::text = k::text AND row_to_json(r)::text = row_to_json(k)::text)"
        );
        let ids = desk.admin.query(&differing, &[]).await.unwrap();
        let ids: Vec<i32> = ids.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, Vec::<i32>::new(), "rows of {one} that are not in {other}");
    }
    desk.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_by_python_and_by_jq() {
    let desk = Desk::new("read-json").await;
    desk.write_truth(ALL).await;
    let split = json!({
        "datasets": [{"name": "kinds", "sql": "SELECT * FROM kinds k WHERE :chunk"}],
        "chunking": {"strategy": "Table", "table": {"name": "kinds", "alias": "k", "chunks": 3}},
    });
    for (format, layout, files) in [("NDJSON", "PerChunk", 3), ("JSON", "PerChunk", 3), ("JSON", "Single", 1)]
    {
        let mut job = split.clone();
        job["format"] = json!({"type": format});
        job["files"] = json!({"layout": layout});
        let name = format!("{format}-{layout}");
        desk.export(&name, ALL, &job);
        let found = desk.files(&name);
        assert_eq!(found.len(), files, "{found:?}");
        desk.check(&format.to_lowercase(), &found);
    }
    desk.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_is_read_by_pyarrow_and_by_duckdb() {
    let desk = Desk::new("read-parquet").await;
    // Arrays of several dimensions, infinite days and the like are refused, as docs/formats.md says.
    let sound = "SELECT * FROM kinds WHERE NOT odd";
    desk.write_truth(sound).await;
    for compression in ["Zstd", "Snappy"] {
        let job = json!({"format": {"type": "Parquet", "parquet": {"compression": compression}}});
        desk.export(compression, sound, &job);
        desk.check("parquet", &desk.files(compression));
    }
    let joined = json!({
        "format": {"type": "Parquet"}, "files": {"layout": "Single"},
        "datasets": [{"name": "kinds", "sql": "SELECT * FROM kinds k WHERE NOT odd AND :chunk"}],
        "chunking": {"strategy": "Table", "table": {"name": "kinds", "alias": "k", "chunks": 3}},
    });
    desk.export("joined", sound, &joined);
    let files = desk.files("joined");
    assert_eq!(files.len(), 1, "{files:?}");
    desk.check("parquet", &files);
    desk.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_read_by_duckdb() {
    let desk = Desk::new("read-partitions").await;
    for (column, parameter_type) in [("day", "date"), ("kind", "text")] {
        desk.write_truth(&format!("SELECT id, {column} AS value FROM days")).await;
        for format in ["Parquet", "CSV", "NDJSON"] {
            let sql = format!("SELECT id FROM days WHERE {column} = :value");
            let name = format!("{column}-{format}");
            let job = json!({
                "format": {"type": format}, "files": {"name": "value={value}/{dataset}-{part}-{token}"},
                "chunking": {"strategy": "Values", "values": {
                    "parameter": "value", "type": parameter_type, "itemsFrom": format!("SELECT DISTINCT {column} FROM days"),
                }},
            });
            desk.export(&name, &sql, &job);
            desk.check(&format!("partitions-{}", format.to_lowercase()), &[desk.path("exports").join(&name)]);
        }
    }
    desk.done().await;
}
