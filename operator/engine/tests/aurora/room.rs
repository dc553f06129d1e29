//! A database with the extension's stand-in and the table of runs, a staging bucket and a customer's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::{Format, FormatType};
use pgexport_api::order::RunOrder;
use pgexport_api::report::{Delivered, Failure, Outcome};
use pgexport_engine::export::{self, Context};
use pgexport_engine::progress::Progress;
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};
use pgexport_engine::source::Connector;
use pgexport_engine::store::Volumes;
use pgexport_engine::{Error, Result, cleanup, transfer};
use pgexport_peers::{Peers, TestDatabase};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

pub(crate) struct Room {
    pub(crate) peers: Peers,
    pub(crate) database: TestDatabase,
    pub(crate) admin: Client,
    pub(crate) customer: String,
    pub(crate) staging: String,
}

impl Room {
    /// With the findings, the stand-in and the table of runs.
    pub(crate) async fn new(hint: &str) -> Self {
        Self::on(Peers::load().unwrap(), hint).await
    }

    /// The same on other servers.
    pub(crate) async fn on(peers: Peers, hint: &str) -> Self {
        let room = Self::bare_on(peers, hint).await;
        let login = &room.peers.postgres.exporter.user;
        room.database.install_pgexport(login).await.unwrap();
        room.database.install_aws_s3(&room.peers.s3, login).await.unwrap();
        room
    }

    /// With the findings only.
    pub(crate) async fn bare(hint: &str) -> Self {
        Self::bare_on(Peers::load().unwrap(), hint).await
    }

    async fn bare_on(peers: Peers, hint: &str) -> Self {
        let database = peers.postgres.create_findings_database(hint).await.unwrap();
        let admin = database.admin().await.unwrap();
        let customer = peers.s3.create_bucket(&format!("{hint}-customer")).await.unwrap();
        let staging = peers.s3.create_bucket(&format!("{hint}-staging")).await.unwrap();
        Self { peers, database, admin, customer, staging }
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap();
    }

    /// The texts of a query's first column.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// An order by this method, with a uid of its own. `with` is merged into it.
    pub(crate) fn order(
        &self,
        method: &str,
        format: &Format,
        queries: &[(&str, &str)],
        with: &Value,
    ) -> RunOrder {
        let target = |bucket: &str, prefix: &str| {
            json!({"s3": {
                "bucket": bucket, "prefix": prefix, "region": self.peers.s3.region, "endpoint": self.peers.s3.host_endpoint(),
                "forcePathStyle": true, "credentialsSecretRef": {"name": "s3"},
            }})
        };
        let uid = format!("{:08x}-5b0e-4d61-9d8a-6f1f1c3a2b10", rand());
        let address = self.peers.postgres.host;
        let datasets: Vec<Value> = queries
            .iter()
            .map(|(name, sql)| json!({"name": name, "sql": sql, "chunking": {"strategy": "None"}}))
            .collect();
        let mut order = json!({
            "run": {
                "namespace": "team", "name": "findings", "uid": uid, "attempt": 1, "specSha256": "0".repeat(64),
                "created": "2026-11-23T00:00:00Z",
            },
            "source": {"name": "db", "method": method, "postgres": {
                "host": address.ip().to_string(), "port": address.port(), "database": self.database.name,
                "user": self.peers.postgres.exporter.user, "passwordSecretRef": {"name": "db", "key": "password"},
                "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}},
            }},
            "sink": {"name": "customer", "target": target(&self.customer, "")},
            "delivery": {"mode": "Staged", "staging": {"name": "staging", "target": target(&self.staging, "in/"), "staging": true}},
            "looksAhead": false, "path": format!("{uid}/"), "datasets": datasets, "consistency": "Snapshot", "parameters": [],
            "format": format, "files": {"layout": "PerChunk"}, "workers": 1, "parallelism": 4,
        });
        merge(&mut order, with);
        serde_json::from_value(order).unwrap()
    }

    pub(crate) fn context(&self, order: &RunOrder, worker: u32) -> Context {
        let mut secrets = MemorySecrets::default();
        let (postgres, account) = (&self.peers.postgres, &self.peers.s3.admin);
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
            order: order.clone(),
            worker,
            secrets,
            volumes: Volumes::folders([].into()),
            progress: Arc::new(Progress::default()),
            cancel: CancellationToken::new(),
        }
    }

    /// Exports by as many workers as the order has.
    pub(crate) async fn export(&self, order: &RunOrder) -> Result<Outcome> {
        let workers = (0..order.workers).map(|worker| export::run(self.context(order, worker)));
        futures::future::try_join_all(workers).await.map(|mut outcomes| outcomes.swap_remove(0))
    }

    pub(crate) async fn transfer(&self, order: &RunOrder) -> Result<Delivered> {
        let context = self.context(order, 0);
        transfer::run(order, context.secrets, &context.volumes, &context.progress, &context.cancel).await
    }

    /// Exports and transfers, and returns the files' bytes by data set and part.
    pub(crate) async fn deliver(&self, order: &RunOrder) -> Result<BTreeMap<String, Vec<u8>>> {
        self.export(order).await?;
        self.transfer(order).await?;
        let token = order.token();
        let mut files = BTreeMap::new();
        for object in self.peers.s3.list(&self.customer, &order.path).await.unwrap() {
            if !object.key.contains("/_") {
                let body = self.peers.s3.get(&self.customer, &object.key).await.unwrap();
                let name = object.key.rsplit('/').next().unwrap().replace(&token, "");
                files.insert(name, body);
            }
        }
        Ok(files)
    }

    pub(crate) async fn failure(&self, order: &RunOrder) -> Failure {
        told(&self.deliver(order).await.expect_err("it was delivered"))
    }

    pub(crate) async fn clean(&self, order: &RunOrder) -> pgexport_api::report::Cleaned {
        let context = self.context(order, 0);
        cleanup::run(&order.cleanup(), context.secrets, &context.volumes, &context.cancel).await.unwrap()
    }

    /// The keys below the run's folder in the staging.
    pub(crate) async fn staged(&self, order: &RunOrder) -> Vec<String> {
        let prefix = format!("in/team/findings/{}/", order.run.uid);
        let objects = self.peers.s3.list(&self.staging, &prefix).await.unwrap();
        objects.into_iter().map(|object| object.key).collect()
    }

    /// Nothing goes on: no upload is open, no query runs, no connection is left.
    pub(crate) async fn assert_quiet(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgexport/%'";
        for _ in 0..150 {
            if self.admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                for bucket in [&self.customer, &self.staging] {
                    let open = self.peers.s3.open_uploads(bucket).await.unwrap();
                    assert!(open.is_empty(), "uploads are left open: {open:?}");
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("a connection is left");
    }

    /// Waits until a query on the database says so.
    pub(crate) async fn until(&self, what: &str, sql: &str) {
        for _ in 0..300 {
            if self.admin.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what} has not come");
    }

    pub(crate) async fn done(self) {
        self.database.drop_database().await.unwrap();
    }
}

/// How many lines a file has.
pub(crate) fn lines(file: &[u8]) -> usize {
    std::str::from_utf8(file).unwrap().lines().count()
}

pub(crate) fn told(error: &Error) -> Failure {
    error.to_failure()
}

pub(crate) fn format(format_type: FormatType) -> Format {
    Format { format_type, csv: None, parquet: None }
}

/// Source settings, which the stand-in is steered by.
pub(crate) fn settings(settings: &Value) -> Value {
    json!({"source": {"postgres": {"settings": settings}}})
}

pub(crate) fn merge(base: &mut Value, with: &Value) {
    match (base, with) {
        (Value::Object(base), Value::Object(with)) => {
            for (key, value) in with {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, with) => *base = with.clone(),
    }
}

fn rand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    u32::try_from(RandomState::new().hash_one(()) & 0xffff_ffff).unwrap()
}
