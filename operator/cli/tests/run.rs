//! `pgexport run`, as somebody at a terminal uses it, against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod manifest;

use std::path::Path;
use std::process::{Command, Output};

use pgexport_peers::{Peers, TestDatabase};
use serde_json::{Value, json};

struct Desk {
    peers: Peers,
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_findings_database(hint).await.unwrap();
        Self { peers, database, folder: tempfile::tempdir().unwrap() }
    }

    /// The manifests: without a Secret of the password, which is in the environment.
    fn write(&self, job: &Value) {
        let postgres = &self.peers.postgres;
        let mut spec = json!({
            "sourceRef": {"name": "db"}, "sinkRef": {"name": "folder"}, "path": "out/",
            "datasets": [{"name": "findings", "sql": "SELECT seq, title FROM findings WHERE tenant_id IS NOT NULL"}],
            "format": {"type": "NDJSON"},
        });
        spec.as_object_mut().unwrap().extend(job.as_object().unwrap().clone());
        let documents = [
            manifest::secret("ca", &json!({"ca.crt": postgres.ca_pem})),
            manifest::source(postgres, &self.database.name, "my-db", "ca"),
            manifest::object("ExportSink", "folder", &json!({"volume": {"claimName": "exports"}})),
            manifest::object("ExportJob", "findings", &spec),
        ];
        std::fs::write(self.folder.path().join("export.yaml"), manifest::file(&documents)).unwrap();
    }

    fn run(&self, password: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pgexport"))
            .current_dir(self.folder.path())
            .env("PGEXPORT_SECRET_MY_DB_PASSWORD", password)
            .args(["run", "-f", "export.yaml"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(&self.peers.postgres.exporter.password, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(!stderr.contains(&self.peers.postgres.exporter.password));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_delivered_into_the_folder_of_the_claims_name() {
    let desk = Desk::new("run").await;
    desk.write(&json!({}));
    let said = desk.run_well(&[]);
    assert!(said.contains("findings: 10000 rows"), "{said}");
    let out = desk.folder.path().join("exports/out");
    let names = files(&out);
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(&names[..2], ["_SUCCESS", "_manifest.json"]);
    assert_eq!(std::fs::read_to_string(out.join(&names[2])).unwrap().lines().count(), 10_000);
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_joined_by_way_of_a_folder_that_is_gone_afterwards() {
    let desk = Desk::new("run-single").await;
    desk.write(&json!({
        "datasets": [{"name": "findings", "sql": "SELECT seq FROM findings f WHERE :chunk"}],
        "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 4}},
        "format": {"type": "JSON"}, "files": {"layout": "Single"},
    }));
    desk.run_well(&["--staging-dir", "staging", "--volume", "exports=elsewhere"]);
    let out = desk.folder.path().join("elsewhere/out");
    let names = files(&out);
    assert_eq!(names.len(), 3, "{names:?}");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(out.join(&names[2])).unwrap()).unwrap();
    assert_eq!(rows.len(), 10_000);
    assert!(files(&desk.folder.path().join("staging")).is_empty(), "staged chunks are left");
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_delivery_is_replaced_where_the_manifest_says_so() {
    let desk = Desk::new("run-replace").await;
    let out = desk.folder.path().join("exports/out");
    desk.write(&json!({}));
    desk.run_well(&[]);
    let mut before = files(&out);
    desk.run_well(&[]);
    assert_eq!(files(&out), before, "the same name and spec: nothing is left to do");
    desk.write(&json!({"delivery": {"ifExists": "Replace"}}));
    for _ in 0..2 {
        desk.run_well(&[]);
        let after = files(&out);
        assert_eq!(after.len(), 3, "{after:?}");
        assert_ne!(after[2], before[2], "each run is an ExportJob of its own");
        before = after;
    }
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_columns_or_compressed_as_the_job_says() {
    let desk = Desk::new("run-formats").await;
    for (format, compression, ending, magic) in [
        ("NDJSON", "Gzip", ".ndjson.gz", &[0x1f, 0x8b][..]),
        ("CSV", "Zstd", ".csv.zst", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("Parquet", "None", ".parquet", b"PAR1"),
    ] {
        desk.write(
            &json!({"format": {"type": format}, "compression": compression, "path": format!("{format}/")}),
        );
        let said = desk.run_well(&[]);
        assert!(said.contains("10000 rows"), "{said}");
        let out = desk.folder.path().join("exports").join(format);
        let name = files(&out).pop().unwrap();
        assert!(name.ends_with(ending), "{name}");
        assert!(std::fs::read(out.join(&name)).unwrap().starts_with(magic), "{name}");
    }
    desk.write(&json!({"format": {"type": "Parquet"}, "compression": "Gzip"}));
    let refused = desk.run(&desk.peers.postgres.exporter.password, &[]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("format.parquet.compression"), "{stderr}");
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_the_chunks_queries_without_values_and_writes_nothing() {
    let desk = Desk::new("dry-run").await;
    desk.write(&json!({
        "datasets": [{"name": "findings", "sql": "SELECT seq FROM findings f WHERE title <> :title AND :chunk"}],
        "parameters": [{"name": "title", "type": "text", "value": "a secret value"}],
        "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 3}},
    }));
    let said = desk.run_well(&["--dry-run"]);
    assert_eq!(said.matches("-- chunk").count(), 3, "{said}");
    assert!(said.contains("ctid") && said.contains(":title") && said.contains("bigint"), "{said}");
    assert!(!said.contains("a secret value"), "{said}");
    assert!(said.contains("156MiB a worker") && said.contains("within its limit of 512Mi"), "{said}");
    desk.write(&json!({
        "datasets": [{"name": "findings", "sql": "SELECT seq FROM findings"}], "format": {"type": "Parquet"},
        "chunking": {"parallelism": 16}, "podTemplate": {"resources": {"limits": {"memory": "512Mi"}}},
    }));
    let said = desk.run_well(&["--dry-run"]);
    assert!(said.contains("920MiB a worker") && said.contains("more than its limit of 512Mi"), "{said}");
    assert!(said.contains("Auto: public.findings is small"), "{said}");
    assert!(!desk.folder.path().join("exports").exists());
    desk.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_with_its_fix_and_an_exit_code() {
    let desk = Desk::new("run-wrong").await;
    desk.write(&json!({}));
    let output = desk.run("wrong", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{stderr}");
    assert!(
        stderr.contains("AuthenticationFailed") && stderr.contains("exporter") && stderr.contains("fix:"),
        "{stderr}"
    );

    desk.write(&json!({"datasets": [{"name": "findings", "sql": "SELECT nothing FROM findings"}]}));
    let output = desk.run(&desk.peers.postgres.exporter.password, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(stderr.contains("InvalidQuery") && stderr.contains("nothing"), "{stderr}");

    desk.write(&json!({"sinkRef": {"name": "other"}}));
    let output = desk.run("", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{stderr}");
    assert!(stderr.contains("ExportSink other is not in the manifests"), "{stderr}");

    desk.write(&json!({"chunkking": {}}));
    let output = desk.run("", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("spec.chunkking"), "{stderr}");
    desk.database.drop_database().await.unwrap();
}

#[test]
fn help_names_every_command() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgexport")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["run", "controller", "worker", "crds", "reference"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{help}");
    }
}
