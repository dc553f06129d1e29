//! A PostgreSQL server of a test's own, beside the peers', where pods reach it.

use pgexport_peers::Postgres;
use pgexport_peers::server::{self, Listen, Validity};
use pgexport_peers::state::StateFolder;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::network::inside_network;

/// A server with the database `findings`, which is empty.
pub struct OwnServer {
    /// Where it is, and who may log in.
    pub postgres: Postgres,
    state: StateFolder,
    _folder: TempDir,
}

impl OwnServer {
    /// Starts it.
    pub async fn up(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(Some(folder.path().join("peers"))).expect("a state folder");
        let listen = Listen::on(lab.peers.postgres.pod.ip());
        let peers = there(&state, async move |state| server::up(&state, listen, None).await).await;
        Self { postgres: peers.expect("a server").postgres, state, _folder: folder }
    }

    /// Has it show another certificate.
    pub async fn certify(&self, validity: Validity) {
        let postgres = self.postgres.clone();
        there(&self.state, async move |state| server::certify(&state, &postgres, validity).await)
            .await
            .expect("a certificate");
    }

    /// Stops it.
    pub async fn down(self) {
        server::down(&self.state, true).await.expect("it ends");
    }
}

/// Does something where the server is.
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
