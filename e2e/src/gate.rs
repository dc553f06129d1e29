//! A gate in the database: a chunk whose query passes it waits until the test opens it. So faults are timed by what the
//! run has reached, not by luck.

use std::collections::BTreeSet;

use pgexport_peers::TestDatabase;
use tokio_postgres::Client;

/// The advisory lock.
const KEY: i64 = 4711;

/// A closed gate.
pub struct Gate {
    client: Client,
}

impl Gate {
    /// Closes the gate of a database.
    pub async fn close(database: &TestDatabase) -> Self {
        Self::close_by(database.admin().await.expect("a connection")).await
    }

    /// Closes the gate of the database of this connection, such as a standby's.
    pub async fn close_by(client: Client) -> Self {
        client.execute("SELECT pg_advisory_lock($1)", &[&KEY]).await.expect("the lock");
        Self { client }
    }

    /// A condition that is true of every row, and waits at the gate for the one of which `row` holds.
    #[must_use]
    pub fn condition(row: &str) -> String {
        format!("CASE WHEN {row} THEN pg_advisory_xact_lock_shared({KEY}) IS NOT NULL ELSE true END")
    }

    /// How many chunks wait.
    pub async fn waiting(&self) -> usize {
        self.waiters().await.len()
    }

    /// The server's processes that wait, by number. One whose client is gone goes on waiting.
    pub async fn waiters(&self) -> BTreeSet<i32> {
        let sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let rows = self.client.query(sql, &[]).await.expect("pg_locks");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Opens the gate.
    pub async fn open(self) {
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&KEY]).await.expect("the lock");
    }
}
