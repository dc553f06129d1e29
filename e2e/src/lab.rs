//! The cluster and the peers.

use kube::Client;
use pgexport_peers::Peers;

/// A cluster with the operator installed, and the servers that its pods reach.
pub struct Lab {
    /// The API server, as administrator.
    pub client: Client,
    /// PostgreSQL and S3.
    pub peers: Peers,
}

impl Lab {
    /// Finds both by `KUBECONFIG` and the peers' state, as `make test` and `make lab-up` leave them.
    pub async fn find() -> Self {
        // The peers' TLS and kube's are the same; a second installation only says so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let peers = Peers::load().expect("the peers: run `make lab-up`");
        let client = Client::try_default().await.expect("the cluster: run `make lab-up`, and set KUBECONFIG");
        Self { client, peers }
    }
}
