//! The network that pods see.

use nix::sched::{CloneFlags, setns};

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
