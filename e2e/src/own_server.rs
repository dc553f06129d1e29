//! A PostgreSQL server of a test's own, beside the peers', where pods reach it.

use pgexport_peers::server::{self, Listen, Validity};
use pgexport_peers::state::StateFolder;
use pgexport_peers::{Peers, Postgres};
use tempfile::TempDir;

use crate::lab::Lab;
use crate::network::{Forwarder, inside_network};

/// A server with the database `findings`, which is empty. It stops when it is dropped.
pub struct OwnServer {
    /// Where it is, and who may log in.
    pub postgres: Postgres,
    /// Its hot standby, if it has one.
    pub standby: Option<Postgres>,
    /// By which this machine reaches them.
    _forwarders: Vec<Forwarder>,
    running: Running,
}

/// Servers with their folder.
struct Running {
    state: StateFolder,
    _folder: TempDir,
}

impl OwnServer {
    /// Starts one.
    pub async fn up(lab: &Lab) -> Self {
        Self::start(lab, false).await
    }

    /// Starts one with a hot standby.
    pub async fn with_standby(lab: &Lab) -> Self {
        Self::start(lab, true).await
    }

    async fn start(lab: &Lab, standby: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(Some(folder.path().join("peers"))).expect("a state folder");
        let running = Running { state, _folder: folder };
        let listen = Listen { standby, ..Listen::on(lab.peers.postgres.pod.ip()) };
        let peers = there(&running.state, async move |state| server::up(&state, listen, None).await).await;
        let Peers { mut postgres, mut standby, .. } = peers.expect("a server");
        let mut forwarders = Vec::new();
        for server in std::iter::once(&mut postgres).chain(&mut standby) {
            let forwarder = Forwarder::to(server.pod).await;
            server.host = forwarder.address();
            forwarders.push(forwarder);
        }
        Self { postgres, standby, _forwarders: forwarders, running }
    }

    /// The lab with this server, and its standby, in place of the peers' PostgreSQL.
    #[must_use]
    pub fn in_lab(&self, lab: &Lab) -> Lab {
        let peers = Peers {
            postgres: self.postgres.clone(),
            standby: self.standby.clone(),
            s3: lab.peers.s3.clone(),
        };
        Lab { client: lab.client.clone(), peers }
    }

    /// Has it show another certificate.
    pub async fn certify(&self, validity: Validity) {
        // As it is reached from there.
        let postgres = Postgres { host: self.postgres.pod, ..self.postgres.clone() };
        there(&self.running.state, async move |state| server::certify(&state, &postgres, validity).await)
            .await
            .expect("a certificate");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let state = self.state.clone();
        // Whoever drops it may be in a runtime, where nothing can be waited for.
        let stopping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(server::down(&state, true)).expect("they end");
        });
        let stopped = stopping.join();
        assert!(stopped.is_ok() || std::thread::panicking(), "a server of a test's own does not stop");
    }
}

/// Does something where the servers are.
async fn there<T: Send + 'static>(
    state: &StateFolder,
    work: impl AsyncFnOnce(StateFolder) -> T + Send + 'static,
) -> T {
    let state = state.clone();
    let work = move || {
        inside_network(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work(state))
        })
    };
    tokio::task::spawn_blocking(work).await.expect("it ends well")
}
