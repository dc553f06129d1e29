//! A database on a primary, which is exported from its standby, with the table of runs on the primary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgexport_api::job::{Format, FormatType};
use pgexport_api::order::RunOrder;
use pgexport_peers::Postgres;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::pair::Pair;
use super::room::{Room, lines, merge};

pub(crate) struct World {
    pub(crate) pair: Arc<Pair>,
    pub(crate) room: Room,
    /// The superuser on the standby.
    pub(crate) standby: Client,
}

impl World {
    pub(crate) async fn new(pair: Arc<Pair>, hint: &str) -> Self {
        let room = Room::on(pair.peers.clone(), hint).await;
        pair.catch_up().await;
        let standby = pair.standby().admin(&room.database.name).await.unwrap();
        Self { pair, room, standby }
    }

    /// An order that reads from the standby, and records on the primary.
    pub(crate) fn order(
        &self,
        method: &str,
        format_type: FormatType,
        queries: &[(&str, &str)],
        with: &Value,
    ) -> RunOrder {
        let (standby, writer) = (self.pair.standby().host, self.pair.peers.postgres.host);
        let mut from_standby = json!({"source": {
            "postgres": {"host": standby.ip().to_string(), "port": standby.port()},
            "runLedger": {"hostOfWriter": writer.ip().to_string(), "portOfWriter": writer.port()},
        }});
        merge(&mut from_standby, with);
        let format = Format { format_type, csv: None, parquet: None };
        self.room.order(method, &format, queries, &from_standby)
    }

    /// Chunks of 10,000 rows, each of which waits at its first row for the advisory lock of its number on the standby.
    pub(crate) fn gated(&self, method: &str, gates: &[u32], with: &Value) -> RunOrder {
        let sql = "SELECT f.seq, :gate AS gate FROM findings f WHERE CASE WHEN f.seq = 1 THEN pg_advisory_xact_lock_shared(:gate) IS NOT NULL ELSE true END ORDER BY f.seq";
        let mut waiting = json!({"datasets": [{"name": "rows", "sql": sql, "chunking": {
            "strategy": "Values", "values": {"parameter": "gate", "type": "int4", "items": gates},
        }}]});
        merge(&mut waiting, with);
        self.order(method, FormatType::Csv, &[], &waiting)
    }

    /// A session of the standby that holds a gate's lock.
    pub(crate) async fn gate(&self, number: i64) -> Client {
        let client = self.pair.standby().admin(&self.room.database.name).await.unwrap();
        client.execute("SELECT pg_advisory_lock($1)", &[&number]).await.unwrap();
        client
    }

    /// Waits until somebody waits at a gate.
    pub(crate) async fn somebody_waits(&self) {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        self.until_on_standby("somebody at the gate", waits).await;
    }

    pub(crate) async fn until_on_standby(&self, what: &str, sql: &str) {
        for _ in 0..300 {
            if self.standby.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what} has not come");
    }

    /// `pgexport.instance()` of a server.
    pub(crate) async fn instance(&self, server: &Postgres) -> String {
        let client = server.admin(&self.room.database.name).await.unwrap();
        client.query_one("SELECT pgexport.instance()", &[]).await.unwrap().get(0)
    }

    /// No connection is left on either server.
    pub(crate) async fn assert_quiet(&self) {
        self.room.assert_quiet().await;
        let quiet = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgexport/%'";
        self.until_on_standby("quiet on the standby", quiet).await;
    }

    pub(crate) async fn done(self) {
        let Self { pair, room, standby } = self;
        drop(standby);
        // The standby refuses nobody, but ends who is still connected.
        room.done().await;
        drop(pair);
    }
}

/// Lines of all files but their headers.
pub(crate) fn rows(files: &BTreeMap<String, Vec<u8>>) -> usize {
    files.values().map(|file| lines(file) - 1).sum()
}
