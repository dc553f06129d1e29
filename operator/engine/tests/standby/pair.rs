//! A primary and its hot standby.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use pgexport_peers::server::{self, Listen};
use pgexport_peers::state::StateFolder;
use pgexport_peers::{Peers, Postgres};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// They stop when they are dropped.
pub(crate) struct Pair {
    pub(crate) peers: Peers,
    state: StateFolder,
    _folder: TempDir,
}

/// The pair of tests that only read.
static SHARED: Mutex<Weak<Pair>> = Mutex::const_new(Weak::new());

impl Pair {
    /// One of a test's own.
    pub(crate) async fn own() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(Some(folder.path().join("peers"))).unwrap();
        let listen = Listen { standby: true, ..Listen::on(Ipv4Addr::LOCALHOST.into()) };
        let version = Peers::load().unwrap().postgres.version;
        let peers = server::up(&state, listen, version).await.unwrap();
        Arc::new(Self { peers, state, _folder: folder })
    }

    /// One for all tests that run now.
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(pair) = shared.upgrade() {
            return pair;
        }
        let pair = Self::own().await;
        *shared = Arc::downgrade(&pair);
        pair
    }

    pub(crate) fn standby(&self) -> &Postgres {
        self.peers.standby.as_ref().unwrap()
    }

    /// Waits until the standby has all that the primary has.
    pub(crate) async fn catch_up(&self) {
        self.standby().catch_up(&self.peers.postgres).await.unwrap();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let state = self.state.clone();
        // Whoever drops it may be in a runtime, where nothing can be waited for.
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server::down(&state, true)).unwrap();
        });
        let stopped = stopping.join();
        assert!(stopped.is_ok() || std::thread::panicking(), "a pair of servers does not stop");
    }
}
