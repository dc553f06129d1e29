//! Exports a table to nowhere: all that a worker does, but for the storing. `bench/peers.py` weighs it against a bare drain.
//!
//!     nowhere FORMAT DATABASE TABLE CONNECTIONS

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends at once")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream;
use pgexport_api::job::Compression;
use pgexport_api::order::RunOrder;
use pgexport_engine::Result;
use pgexport_engine::output::{FileWriter, Packer, Role};
use pgexport_engine::plan::{self, Plan};
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_engine::source::{Connector, Holder, Importer};
use pgexport_engine::store::{
    ByteRange, Document, OpenUpload, Pending, Put, PutMode, Reading, Store, Upload, Version,
};
use pgexport_peers::Peers;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [format, database, table, connections] = arguments.as_slice() else {
        eprintln!("usage: nowhere FORMAT DATABASE TABLE CONNECTIONS");
        std::process::exit(64);
    };
    let connections: u32 = connections.parse().unwrap();
    let peers = Peers::load().unwrap();
    let order = order(&peers, format, database, table, connections);
    let mut secrets = MemorySecrets::default();
    secrets.insert("db", "password", Secret::new(peers.postgres.exporter.password.clone().into_bytes()));
    secrets.insert("db", "ca.crt", Secret::new(peers.postgres.ca_pem.clone().into_bytes()));
    let connector = Connector::new(&order.source.postgres, Arc::new(secrets));
    let holder = Holder::begin(&connector, "nowhere").await?;
    let plan = plan::make(&holder, &order).await?;
    let (next, bytes) = (AtomicU32::new(0), AtomicU64::new(0));
    let rows: u64 = try_join_all((0..connections).map(|_| share(&connector, &order, &plan, &next, &bytes)))
        .await?
        .into_iter()
        .sum();
    holder.finish().await;
    println!("{rows} rows, {} bytes", bytes.into_inner());
    Ok(())
}

fn order(peers: &Peers, format: &str, database: &str, table: &str, connections: u32) -> RunOrder {
    let address = peers.postgres.host;
    serde_json::from_value(json!({
        "run": {
            "namespace": "bench", "name": "nowhere", "uid": "0b0c1d2e-0000-4000-8000-000000000000", "attempt": 1,
            "specSha256": "", "created": "2026-11-23T00:00:00Z",
        },
        "source": {"name": "db", "postgres": {
            "host": address.ip().to_string(), "port": address.port(), "database": database,
            "user": peers.postgres.exporter.user, "passwordSecretRef": {"name": "db", "key": "password"},
            "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}},
        }},
        "sink": {"name": "nowhere", "target": {"volume": {"claimName": "nowhere"}}, "staging": false},
        "delivery": {"mode": "Direct"}, "ifExists": "Fail", "looksAhead": false, "path": "", "consistency": "Snapshot",
        "datasets": [{
            "name": "rows", "sql": format!("SELECT t.* FROM {table} t WHERE :chunk"),
            "chunking": {"strategy": "Table", "table": {"name": table, "alias": "t"}},
        }],
        "parameters": [], "format": {"type": format}, "files": {"layout": "PerChunk"}, "workers": 1,
        "parallelism": connections,
    }))
    .unwrap()
}

/// One connection: chunk after chunk, as `export` does it.
async fn share(
    connector: &Connector,
    order: &RunOrder,
    plan: &Plan,
    next: &AtomicU32,
    bytes: &AtomicU64,
) -> Result<u64> {
    let mut importer = Importer::join(connector, plan.snapshot.as_ref().unwrap(), "nowhere").await?;
    let mut rows = 0;
    while let Ok((chunk, dataset)) = plan.chunk(next.fetch_add(1, Relaxed)) {
        let query = plan::chunk_query(order, plan, chunk)?;
        let mut packer = Packer::new(&order.format, Compression::None, dataset, Role::Delivered)?;
        let mut file = FileWriter::begin(&Nowhere, "", "").await?;
        let mut batches = importer.copy(&query, &order.format, dataset).await?;
        let mut ready = packer.head().await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            rows += batch.rows;
            ready.extend(packer.batch(batch).await?);
            for piece in ready.drain(..) {
                file.write(piece).await?;
            }
        }
        for piece in packer.finish().await? {
            file.write(piece).await?;
        }
        bytes.fetch_add(file.bytes(), Relaxed);
        file.finish().await?;
    }
    importer.finish().await;
    Ok(rows)
}

/// A store that takes everything, and keeps nothing.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Store for Nowhere {
    fn uri(&self, key: &str) -> String {
        key.to_owned()
    }
    async fn document(&self, _: &str) -> Result<Option<Document>> {
        Ok(None)
    }
    async fn put(&self, _: &str, _: Bytes, _: &str, _: PutMode) -> Result<Put> {
        Ok(Put::Written)
    }
    async fn list(&self, _: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    async fn read_range(&self, _: &str, _: ByteRange) -> Result<Reading> {
        Ok(Reading { version: None, pieces: stream::empty().boxed() })
    }
    async fn upload(&self, _: &str, _: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(Self))
    }
    async fn delete_version(&self, _: &str, _: &Version) -> Result<bool> {
        Ok(true)
    }
    async fn delete(&self, _: &[String]) -> Result<()> {
        Ok(())
    }
    async fn uploads(&self, _: &str) -> Result<Vec<OpenUpload>> {
        Ok(Vec::new())
    }
    async fn abort_upload(&self, _: &OpenUpload) -> Result<()> {
        Ok(())
    }
    async fn probe(&self, _: bool) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Upload for Nowhere {
    async fn part(&mut self, _: Bytes) -> Result<()> {
        Ok(())
    }
    async fn settle(&mut self) -> Result<()> {
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<Box<dyn Pending>> {
        Ok(self)
    }
    async fn abort(self: Box<Self>) {}
}

#[async_trait]
impl Pending for Nowhere {
    async fn commit(self: Box<Self>) -> Result<Put> {
        Ok(Put::Written)
    }
    async fn abort(self: Box<Self>) {}
}
