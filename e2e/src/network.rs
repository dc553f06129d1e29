//! The network that pods see.

use std::net::{Ipv4Addr, SocketAddr};

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Does something in the network where pods find the peers: the cluster's own, where the lab made one. A thread of its own
/// goes there, and ends; sockets and processes that it makes stay there.
pub fn inside_network<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let network = pgexport_peers::state::root().join("cluster/network");
    let enter = move || {
        if network.exists() {
            let network = std::fs::File::open(&network).expect("the cluster's network");
            setns(network, CloneFlags::CLONE_NEWNET).expect("the cluster's network can be entered");
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).expect("the thread ends well")
}

/// A port of this machine that leads to an address which only pods reach, as long as it is kept.
pub struct Forwarder {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// A free port that leads to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, target));
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until either side ends. Where nobody listens, the connection is closed.
async fn forward(mut near: TcpStream, target: SocketAddr) {
    let connect = move || {
        let far = inside_network(move || std::net::TcpStream::connect(target))?;
        far.set_nonblocking(true)?;
        std::io::Result::Ok(far)
    };
    let Ok(Ok(far)) = tokio::task::spawn_blocking(connect).await else { return };
    let Ok(mut far) = TcpStream::from_std(far) else { return };
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
