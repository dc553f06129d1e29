//! What memory `pgexport run` takes while rows are long or wide, which is what a worker takes.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod manifest;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pgexport_peers::{Peers, TestDatabase};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The bound, in KiB.
const BOUND: u64 = 256 << 10;

/// Rows of 32 MiB that the server makes of tables that are small. CSV does not know of `clean` before its end whether it is quoted,
/// of `late` not much before, and holds `parts` as JSON does.
const SETUP: &str = "
    CREATE TABLE clean AS SELECT i, repeat(md5(i::text), 1 << 20) AS t FROM generate_series(1, 12) i;
    CREATE TABLE late AS SELECT i, repeat(md5(i::text), 1 << 20) || ',\"' AS t FROM generate_series(1, 12) i;
    CREATE TABLE parts AS SELECT i, ARRAY[repeat(md5(i::text), 1 << 19), repeat(md5((-i)::text), 1 << 19)] AS t FROM generate_series(1, 12) i;
    GRANT SELECT ON clean, late, parts TO PUBLIC";

struct Desk {
    peers: Peers,
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(hint: &str, setup: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_database(hint).await.unwrap();
        database.admin().await.unwrap().batch_execute(setup).await.unwrap();
        Self { peers, database, folder: tempfile::tempdir().unwrap() }
    }

    /// The manifests of a job with this data set, over four connections to a bucket.
    fn write(&self, bucket: &str, format: &str, dataset: &Value) {
        let (postgres, s3) = (&self.peers.postgres, &self.peers.s3);
        let documents = [
            manifest::secret(
                "db",
                &json!({"ca.crt": postgres.ca_pem, "password": postgres.exporter.password}),
            ),
            manifest::secret(
                "s3",
                &json!({"AWS_ACCESS_KEY_ID": s3.admin.access_key, "AWS_SECRET_ACCESS_KEY": s3.admin.secret_key}),
            ),
            manifest::source(postgres, &self.database.name, "db", "db"),
            manifest::object(
                "ExportSink",
                "bucket",
                &json!({"s3": {
                    "bucket": bucket, "region": s3.region, "endpoint": s3.host_endpoint(), "forcePathStyle": true,
                    "credentialsSecretRef": {"name": "s3"},
                }}),
            ),
            manifest::object(
                "ExportJob",
                "long",
                &json!({
                    "sourceRef": {"name": "db"}, "sinkRef": {"name": "bucket"}, "path": "out/", "datasets": [dataset],
                    "format": {"type": format}, "chunking": {"parallelism": 4},
                }),
            ),
        ];
        std::fs::write(self.manifests(), manifest::file(&documents)).unwrap();
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("export.yaml")
    }

    /// The files, which are then removed: they take much room.
    async fn take(&self, bucket: &str) -> Vec<Vec<u8>> {
        let s3 = &self.peers.s3;
        let mut files = Vec::new();
        for object in s3.list(bucket, "out/rows").await.unwrap() {
            files.push(s3.get(bucket, &object.key).await.unwrap());
            s3.client().delete_object().bucket(bucket).key(&object.key).send().await.unwrap();
        }
        files
    }

    /// The most memory that the run had, in KiB.
    fn run(&self) -> u64 {
        let mut run = Command::new(env!("CARGO_BIN_EXE_pgexport"))
            .current_dir(self.folder.path())
            .args(["run", "-f"])
            // As in the image.
            .env("MALLOC_ARENA_MAX", "2")
            .arg(self.manifests())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let status = Path::new("/proc").join(run.id().to_string()).join("status");
        let mut most = 0;
        let ended = loop {
            if let Some(ended) = run.try_wait().unwrap() {
                break ended;
            }
            // The kernel keeps the maximum; a process that has ended has none any more.
            let told = std::fs::read_to_string(&status).unwrap_or_default();
            let peak = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            most = most.max(peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(ended.success() && most > 0, "{ended}, {most} KiB");
        most
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_32_mib_over_four_connections_need_less_than_256_mib() {
    let desk = Desk::new("long-rows", SETUP).await;
    let mut found = Vec::new();
    for (table, format) in
        [("clean", "CSV"), ("late", "CSV"), ("parts", "CSV"), ("clean", "NDJSON"), ("parts", "NDJSON")]
    {
        let bucket = desk.peers.s3.create_bucket("long-rows").await.unwrap();
        let dataset = json!({
            "name": "rows", "sql": format!("SELECT i, t FROM {table} WHERE i % 4 = :rest"),
            "chunking": {"strategy": "Values", "values": {"parameter": "rest", "type": "int4", "items": [0, 1, 2, 3]}},
        });
        desk.write(&bucket, format, &dataset);
        let peak = desk.run();
        let files = desk.take(&bucket).await;
        assert_eq!(files.len(), 4, "{table} {format}");
        assert!(files.iter().all(|file| file.len() > 3 * (32 << 20)), "{table} {format}: rows are missing");
        found.push((table, format, peak));
    }
    eprintln!("KiB: {found:?}");
    assert!(found.iter().all(|(_, _, peak)| *peak < BOUND), "{found:?}");
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_over_four_connections_needs_less_than_256_mib_for_rows_of_4_mib_and_for_many_columns() {
    let desk = Desk::new("wide-rows", "").await;
    let columns: Vec<String> =
        (0..20).map(|column| format!("md5({column}::text || i) AS c{column}")).collect();
    let long = "(SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 131072) j) AS t";
    let mut found = Vec::new();
    for (what, columns, rows, least) in
        [("wide", columns.join(", "), 160_000, 12 << 20), ("long", long.to_owned(), 24, 12 << 20)]
    {
        let bucket = desk.peers.s3.create_bucket("wide-rows").await.unwrap();
        let dataset = json!({
            "name": "rows", "sql": format!("SELECT {columns} FROM generate_series(1, {rows}) i WHERE i % 4 = :rest"),
            "chunking": {"strategy": "Values", "values": {"parameter": "rest", "type": "int4", "items": [0, 1, 2, 3]}},
        });
        desk.write(&bucket, "Parquet", &dataset);
        let peak = desk.run();
        let files = desk.take(&bucket).await;
        assert_eq!(files.len(), 4, "{what}");
        assert!(files.iter().all(|file| file.len() > least), "{what}: there is less than a row group");
        found.push((what, peak));
    }
    eprintln!("KiB: {found:?}");
    assert!(found.iter().all(|(_, peak)| *peak < BOUND), "{found:?}");
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_512_mib_arrives_whole_at_the_cost_of_its_length() {
    let desk = Desk::new("longest-row", "").await;
    let bucket = desk.peers.s3.create_bucket("longest-row").await.unwrap();
    // Not a constant, which the server's plan would show, and so hold.
    let sql = "SELECT repeat('0123456789abcdef', n) AS t FROM generate_series(32 << 20, 32 << 20) n";
    desk.write(&bucket, "CSV", &json!({"name": "rows", "sql": sql, "chunking": {"strategy": "None"}}));
    let peak = desk.run();
    let found = Sha256::digest(&desk.take(&bucket).await[0]);
    let mut wanted = Sha256::new_with_prefix("t\n");
    (0..32).for_each(|_| wanted.update("0123456789abcdef".repeat(1 << 20)));
    wanted.update("\n");
    assert!(found == wanted.finalize());
    eprintln!("{peak} KiB");
    assert!(peak < BOUND + (512 << 10), "{peak} KiB");
    desk.database.drop_database().await.unwrap();
}
