//! A source, a customer's bucket and a staging of a test's own, and workers at work on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pgexport_api::job::IfExists;
use pgexport_api::order::{Order, RunIdentity, RunOrder, Task};
use pgexport_api::report::{Delivered, Outcome, Report};
use pgexport_e2e::{Coordinator, Delivery, Held, Process, Signal, expected_rows, ndjson_rows};
use pgexport_peers::{Peers, S3, TestDatabase};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a worker may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Where the files are delivered.
const PATH: &str = "out/";
/// What is exported, in chunks by a column.
const SQL: &str = "SELECT a.* FROM assets a";

/// By which way, and how consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One worker, to the sink.
    Direct,
    /// Two workers, to the staging, under one snapshot.
    Staged,
    /// The same, each chunk for itself.
    PerChunk,
}

/// A run's surroundings.
pub struct Room {
    peers: Peers,
    database: TestDatabase,
    customer: String,
    staging: String,
    folder: TempDir,
    wanted: Vec<Vec<u8>>,
}

/// What a reader of the bucket sees: by key, the tag, when it was written, and the bytes.
pub type Seen = BTreeMap<String, (String, String, Vec<u8>)>;

/// A worker's process.
pub struct Worker {
    child: Child,
    folder: PathBuf,
}

impl Room {
    /// Makes all of it.
    pub async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_findings_database(hint).await.unwrap();
        let customer = peers.s3.create_bucket(&format!("{hint}-customer")).await.unwrap();
        let staging = peers.s3.create_bucket(&format!("{hint}-staging")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (secret, key, value) in [
            ("db", "password", &peers.postgres.exporter.password),
            ("db", "ca.crt", &peers.postgres.ca_pem),
            ("s3", "AWS_ACCESS_KEY_ID", &peers.s3.admin.access_key),
            ("s3", "AWS_SECRET_ACCESS_KEY", &peers.s3.admin.secret_key),
        ] {
            let secret = folder.path().join("secrets").join(secret);
            std::fs::create_dir_all(&secret).unwrap();
            std::fs::write(secret.join(key), value).unwrap();
        }
        let wanted = expected_rows(&database, SQL).await;
        Self { peers, database, customer, staging, folder, wanted }
    }

    /// What an attempt is told.
    pub fn order(&self, way: Way, attempt: u32) -> RunOrder {
        let Peers { postgres, s3, .. } = &self.peers;
        let sink = |name: &str, bucket: &str| {
            let target = json!({"s3": {
                "bucket": bucket, "region": s3.region, "endpoint": s3.host_endpoint(), "forcePathStyle": true,
                "credentialsSecretRef": {"name": "s3"},
            }});
            json!({"name": name, "target": target, "staging": name == "staging"})
        };
        let delivery = match way {
            Way::Direct => json!({"mode": "Direct"}),
            Way::Staged | Way::PerChunk => {
                json!({"mode": "Staged", "staging": sink("staging", &self.staging)})
            }
        };
        let order = json!({
            "run": {
                "namespace": "team", "name": "assets", "uid": "0b0c6f0e-5b0e-4d61-9d8a-6f1f1c3a2b10", "attempt": attempt,
                "specSha256": "0".repeat(64), "created": "2026-11-23T00:00:00Z",
            },
            "source": {"name": "db", "postgres": {
                "host": postgres.host.ip().to_string(), "port": postgres.host.port(), "database": self.database.name,
                "user": postgres.exporter.user, "passwordSecretRef": {"name": "db", "key": "password"},
                "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}},
            }},
            "sink": sink("customer", &self.customer),
            "delivery": delivery,
            "looksAhead": true,
            "path": PATH,
            "datasets": [{"name": "assets", "sql": SQL, "chunking": {
                "strategy": "Column", "column": {"name": "hostname", "chunks": 4},
            }}],
            "consistency": if way == Way::PerChunk { "PerChunk" } else { "Snapshot" },
            "parameters": [],
            "format": {"type": "NDJSON"},
            "files": {"layout": "PerChunk"},
            "workers": if way == Way::Direct { 1 } else { 2 },
            "parallelism": 2,
        });
        serde_json::from_value(order).unwrap()
    }

    /// Has another ExportJob deliver.
    pub async fn deliver_earlier(&self) {
        let own = self.order(Way::Direct, 1);
        let run = RunIdentity {
            name: "earlier".to_owned(),
            uid: "ea511e50-5b0e-4d61-9d8a-6f1f1c3a2b10".to_owned(),
            ..own.run
        };
        self.export(&RunOrder { run, ..own }, 0).delivered().await;
    }

    /// What an attempt is told that replaces an earlier delivery.
    pub fn replacement(&self, way: Way, attempt: u32) -> RunOrder {
        RunOrder { if_exists: IfExists::Replace, ..self.order(way, attempt) }
    }

    /// Starts a worker of an export.
    pub fn export(&self, order: &RunOrder, index: u32) -> Worker {
        self.start(run(order), &["export", "--index", &index.to_string()], "")
    }

    /// Starts a transfer.
    pub fn transfer(&self, order: &RunOrder) -> Worker {
        self.start(run(order), &["transfer"], "")
    }

    /// Starts a worker of `task`, and stops it by SIGSTOP where it comes to the failpoint `place`.
    pub async fn zombie(&self, order: &RunOrder, task: &[&str], place: &str) -> Zombie {
        let coordinator = Coordinator::local().await;
        let stopped = coordinator.at(place, |_| true);
        let worker = self.start(run(order), task, &coordinator.address());
        let Some(held) = stopped.within(PATIENCE).await else {
            panic!("{task:?} does not come to {place}: {}", worker.log());
        };
        worker.signal(Signal::SIGSTOP);
        Zombie { worker, held, _coordinator: coordinator }
    }

    /// Removes what is left of all attempts, as it is done at a run's end.
    pub async fn clean_up(&self, order: &RunOrder) {
        let order = Task::Cleanup(Box::new(order.cleanup()));
        let outcome = self.start(order, &["cleanup"], "").ended().await;
        assert!(matches!(outcome, Outcome::Cleaned(_)), "{outcome:?}");
    }

    /// What a reader of the bucket sees.
    pub async fn seen(&self) -> Seen {
        let s3: &S3 = &self.peers.s3;
        let mut seen = Seen::new();
        for object in s3.list(&self.customer, "").await.unwrap() {
            let bytes = s3.get(&self.customer, &object.key).await.unwrap();
            seen.insert(object.key, (object.tag, object.written, bytes));
        }
        seen
    }

    /// Checks that a finished delivery with each row once is there, and nothing besides.
    pub async fn check(&self, what: &str) {
        let delivery = Delivery::read(&self.peers.s3, &self.customer, PATH).await;
        let success: Value = serde_json::from_slice(&self.read("_SUCCESS").await).unwrap();
        assert_eq!(success["manifestSha256"], self.delivered_manifest().await, "{what}: of another manifest");
        let rows = ndjson_rows(delivery.files_of("assets"));
        assert!(rows == self.wanted, "{what}: what is delivered is not what the database holds");
    }

    /// Removes the database.
    pub async fn done(self) {
        self.database.drop_database().await.unwrap();
    }

    /// The SHA-256 of the manifest that is there.
    pub async fn delivered_manifest(&self) -> String {
        hex::encode(Sha256::digest(self.read("_manifest.json").await))
    }

    async fn read(&self, name: &str) -> Vec<u8> {
        self.peers.s3.get(&self.customer, &format!("{PATH}{name}")).await.unwrap()
    }

    fn start(&self, task: Task, arguments: &[&str], coordinator: &str) -> Worker {
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path()).unwrap().keep();
        std::fs::write(folder.join("order.json"), serde_json::to_vec(&Order::new(task)).unwrap()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgexport"))
            .arg("worker")
            .args(arguments)
            .arg("--order")
            .arg(folder.join("order.json"))
            .arg("--secrets")
            .arg(self.folder.path().join("secrets"))
            .arg("--report")
            .arg(folder.join("report"))
            .args(["--port", "0"])
            .env(pgexport_failpoint::VARIABLE, coordinator)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Worker { child, folder }
    }
}

fn run(order: &RunOrder) -> Task {
    Task::Run(Box::new(order.clone()))
}

impl Worker {
    /// What it reports at its end.
    pub async fn ended(mut self) -> Outcome {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.is_ok_and(|ended| ended.is_ok()), "a worker does not end: {}", self.log());
        let report = std::fs::read_to_string(self.folder.join("report"));
        match report.ok().as_deref().and_then(Report::from_termination_message) {
            Some(report) => report.outcome,
            None => panic!("a worker ended without a report: {}", self.log()),
        }
    }

    /// What it has delivered.
    pub async fn delivered(self) -> Delivered {
        match self.ended().await {
            Outcome::Delivered(delivered) => delivered,
            other => panic!("not a delivery: {other:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        let number = self.child.id().expect("it has not been waited for");
        Process::numbered(number.try_into().unwrap()).signal(signal);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// A worker that is stopped, and taken for dead.
pub struct Zombie {
    worker: Worker,
    held: Held,
    _coordinator: Coordinator,
}

impl Zombie {
    /// Lets it go on, and returns what it reports. One that then waits for others is asked to end.
    pub async fn comes_back(self) -> Outcome {
        /// Within it, one that waits for nobody is done.
        const ALONE: Duration = Duration::from_secs(8);
        let Self { mut worker, held, .. } = self;
        held.go().await;
        worker.signal(Signal::SIGCONT);
        if tokio::time::timeout(ALONE, worker.child.wait()).await.is_err() {
            worker.signal(Signal::SIGTERM);
        }
        worker.ended().await
    }
}
