//! A database of one's own, and orders that read it.

use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use pgexport_api::job::{
    ColumnChunking, Compression, Consistency, DatasetChunking, Files, Format, FormatType, IfExists,
    ParameterValue, Strategy, TableChunking,
};
use pgexport_api::order::{
    DatasetOrder, DeliveryPath, NamedSink, NamedSource, ParameterOrder, RunIdentity, RunOrder, Target,
};
use pgexport_api::report::Failure;
use pgexport_api::sink::Volume;
use pgexport_api::source::{Limits, Postgres, SecretKeyRef, Tls, TlsMode};
use pgexport_engine::encode::{Batch, Payload};
use pgexport_engine::error::{Error, Result};
use pgexport_engine::plan::{Plan, PlannedDataset, chunk_query, make};
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_engine::source::{Connector, Holder, Importer};
use pgexport_peers::{Peers, TestDatabase};
use tokio_postgres::Client;

pub(crate) struct World {
    pub(crate) peers: Peers,
    pub(crate) database: TestDatabase,
    pub(crate) admin: Client,
}

impl World {
    /// An empty database.
    pub(crate) async fn new(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_database(hint).await.unwrap();
        let admin = database.admin().await.unwrap();
        Self { peers, database, admin }
    }

    /// A database with these statements run.
    pub(crate) async fn with(hint: &str, sql: &str) -> Self {
        let world = Self::new(hint).await;
        world.admin.batch_execute(sql).await.unwrap();
        world
    }

    /// A database with findings and assets.
    pub(crate) async fn with_findings(hint: &str) -> Self {
        let peers = Peers::load().unwrap();
        let database = peers.postgres.create_findings_database(hint).await.unwrap();
        let admin = database.admin().await.unwrap();
        Self { peers, database, admin }
    }

    pub(crate) async fn done(self) {
        self.database.drop_database().await.unwrap();
    }

    /// The connection of the exporter, with the CA in a Secret.
    pub(crate) fn postgres(&self) -> Postgres {
        let address = self.peers.postgres.host;
        Postgres {
            host: address.ip().to_string(),
            port: address.port(),
            database: self.database.name.clone(),
            user: self.peers.postgres.exporter.user.clone(),
            password_secret_ref: Some(key("login", "password")),
            iam_auth: None,
            tls: Tls {
                mode: TlsMode::VerifyFull,
                ca_secret_ref: Some(key("login", "ca.crt")),
                ca_config_map_ref: None,
            },
            settings: std::collections::BTreeMap::default(),
        }
    }

    pub(crate) fn secrets(&self) -> MemorySecrets {
        let mut secrets = MemorySecrets::default();
        let password = &self.peers.postgres.exporter.password;
        secrets.insert("login", "password", Secret::new(format!("{password}\n").into_bytes()));
        secrets.insert("login", "ca.crt", Secret::new(self.peers.postgres.ca_pem.clone().into_bytes()));
        secrets
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(&self.postgres(), Arc::new(self.secrets()))
    }

    /// An order of one data set.
    pub(crate) fn order(&self, sql: &str, format: FormatType) -> RunOrder {
        RunOrder {
            run: RunIdentity {
                namespace: "tests".to_owned(),
                name: self.database.name.clone(),
                uid: "0b0c".to_owned(),
                attempt: 1,
                spec_sha256: String::new(),
                created: Timestamp::UNIX_EPOCH,
            },
            source: NamedSource {
                name: "source".to_owned(),
                postgres: self.postgres(),
                allow_privileged_login: false,
                limits: Limits::default(),
                method: pgexport_api::source::Method::Copy,
                kms_key_id: None,
                run_ledger: None,
            },
            sink: NamedSink {
                name: "sink".to_owned(),
                target: Target::Volume(Volume { claim_name: "claim".to_owned(), path: String::new() }),
                staging: false,
            },
            delivery: DeliveryPath::Direct,
            looks_ahead: false,
            consistency: Consistency::Snapshot,
            path: "path/".to_owned(),
            datasets: vec![DatasetOrder {
                name: "rows".to_owned(),
                sql: sql.to_owned(),
                chunking: DatasetChunking::default(),
                expect: None,
            }],
            parameters: Vec::new(),
            format: Format { format_type: format, csv: None, parquet: None },
            compression: Compression::None,
            files: Files::default(),
            window: None,
            if_exists: IfExists::Fail,
            workers: 1,
            parallelism: 4,
        }
    }

    pub(crate) async fn holder(&self) -> Holder {
        Holder::begin(&self.connector(), "pgexport/tests/holder").await.unwrap()
    }

    pub(crate) async fn importer(&self, holder: &Holder) -> Importer {
        Importer::join(&self.connector(), holder.snapshot(), &self.label("importer")).await.unwrap()
    }

    /// A name for connections that no other test has.
    pub(crate) fn label(&self, role: &str) -> String {
        format!("{}/{role}", self.database.name)
    }

    /// Plans an order, and gives the plan up.
    pub(crate) async fn plan(&self, order: &RunOrder) -> Result<Plan> {
        let holder = self.holder().await;
        let plan = make(&holder, order).await;
        holder.finish().await;
        plan
    }

    /// What planning finds out of a query's result.
    pub(crate) async fn dataset(
        &self,
        holder: &Holder,
        sql: &str,
        format: &Format,
    ) -> Result<PlannedDataset> {
        let order = RunOrder { format: format.clone(), ..self.order(sql, format.format_type) };
        Ok(make(holder, &order).await?.datasets.remove(0))
    }

    /// All that a query sends, planned in a holder's transaction.
    pub(crate) async fn drain(
        &self,
        holder: &Holder,
        importer: &mut Importer,
        sql: &str,
        format: &Format,
    ) -> Result<Vec<u8>> {
        let dataset = self.dataset(holder, sql, format).await?;
        drain(importer, sql, format, &dataset).await
    }

    /// Why a query cannot be planned.
    pub(crate) async fn refusal(&self, sql: &str) -> Failure {
        match self.plan(&self.order(sql, FormatType::Ndjson)).await {
            Ok(plan) => panic!("{sql} was planned: {plan:?}"),
            Err(error) => told(&error),
        }
    }

    /// The rows of all chunks, read by as many connections as there are chunks (eight at the most), in their order.
    pub(crate) async fn read(&self, holder: &Holder, order: &RunOrder, plan: &Plan) -> Vec<Vec<u8>> {
        let mut reads = futures::stream::iter(plan.chunks.iter().map(|chunk| async {
            let mut importer = self.importer(holder).await;
            let query = chunk_query(order, plan, chunk).unwrap();
            let dataset = &plan.datasets[chunk.dataset as usize];
            let data = drain(&mut importer, &query, &order.format, dataset).await.unwrap();
            importer.finish().await;
            data
        }))
        .buffered(8);
        let mut chunks = Vec::new();
        while let Some(data) = reads.next().await {
            chunks.push(data);
        }
        chunks
    }

    /// A connection that is not the engine's, in a snapshot, with what is pinned set.
    pub(crate) async fn referee(&self, holder: &Holder) -> Client {
        let client = self.database.admin().await.unwrap();
        let pins = format!(
            "SET DateStyle = ISO; SET IntervalStyle = iso_8601; SET TimeZone = UTC; SET extra_float_digits = 1;
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
            holder.snapshot().id
        );
        client.batch_execute(&pins).await.unwrap();
        client
    }

    /// What `COPY` says of a query in a snapshot.
    pub(crate) async fn reference(&self, holder: &Holder, copy: &str) -> Vec<u8> {
        let client = self.referee(holder).await;
        let mut stream = Box::pin(client.copy_out(copy).await.unwrap());
        let mut data = Vec::new();
        while let Some(row) = stream.next().await {
            data.extend_from_slice(&row.unwrap());
        }
        data
    }

    /// How many backends have this application name and are running something.
    pub(crate) async fn active(&self, label: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'";
        self.admin.query_one(sql, &[&label]).await.unwrap().get(0)
    }

    /// Waits until a question to the server has the answer `wanted`.
    pub(crate) async fn eventually(&self, what: &str, sql: &str, wanted: &str) {
        for _ in 0..200 {
            if self.text(sql).await == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{what}: {sql} is {:?} after ten seconds, not {wanted:?}", self.text(sql).await);
    }

    async fn text(&self, sql: &str) -> String {
        match self.admin.simple_query(sql).await.unwrap().get(1) {
            Some(tokio_postgres::SimpleQueryMessage::Row(row)) => row.get(0).unwrap_or_default().to_owned(),
            _ => String::new(),
        }
    }
}

/// The bytes of a batch that is of bytes.
pub(crate) fn bytes(batch: &Batch) -> &[u8] {
    match &batch.data {
        Payload::Bytes(bytes) => bytes,
        Payload::Records(_) => panic!("record batches have no bytes"),
    }
}

/// All that a query sends.
pub(crate) async fn drain(
    importer: &mut Importer,
    query: &str,
    format: &Format,
    dataset: &PlannedDataset,
) -> Result<Vec<u8>> {
    let mut stream = importer.copy(query, format, dataset).await?;
    let (mut data, mut rows) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let bytes = bytes(&batch);
        assert!(!bytes.is_empty(), "batches are worth their while");
        let end: &[u8] = if format.format_type == FormatType::Json { b"}" } else { b"\n" };
        assert!(
            bytes.ends_with(end) || bytes.len() >= 128 * 1024,
            "only rows that are larger than a batch are cut"
        );
        rows += batch.rows;
        data.extend_from_slice(bytes);
    }
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    match format.format_type {
        FormatType::Ndjson => assert_eq!(rows, lines - 1, "a line is a row"),
        FormatType::Json if rows > 0 => assert_eq!(rows, lines, "a row is a line"),
        FormatType::Json => assert_eq!(data, b""),
        FormatType::Csv | FormatType::Parquet => {}
    }
    Ok(data)
}

/// Sorted lines, to compare as multisets.
pub(crate) fn multiset<'a>(data: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = data
        .into_iter()
        .flat_map(|data| data.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec))
        .collect();
    lines.sort_unstable();
    lines
}

pub(crate) fn told(error: &Error) -> Failure {
    error.to_failure()
}

pub(crate) fn key(name: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: name.to_owned(), key: key.to_owned() }
}

pub(crate) fn by_column(name: &str, chunks: u32) -> DatasetChunking {
    let column = Some(ColumnChunking { name: name.to_owned(), chunks });
    DatasetChunking { strategy: Strategy::Column, column, table: None, values: None }
}

pub(crate) fn by_table(name: &str, alias: Option<&str>, chunks: u32) -> DatasetChunking {
    let table = Some(TableChunking { name: name.to_owned(), alias: alias.map(str::to_owned), chunks });
    DatasetChunking { strategy: Strategy::Table, column: None, table, values: None }
}

pub(crate) fn parameter(name: &str, parameter_type: &str, value: Option<&str>) -> ParameterOrder {
    ParameterOrder {
        name: name.to_owned(),
        parameter_type: parameter_type.to_owned(),
        value: value.map_or(ParameterValue::Null, |text| ParameterValue::Text(text.to_owned())),
        sensitive: false,
    }
}
