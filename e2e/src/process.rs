//! Processes of the node, which is this machine: tests stop and kill what no API lets them.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::signal::kill;
use nix::unistd::Pid;

pub use nix::sys::signal::Signal;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(i32);

impl Process {
    /// The process with this number.
    #[must_use]
    pub const fn numbered(number: i32) -> Self {
        Self(number)
    }

    /// The worker, or the controller, in a pod; `None` where none runs.
    #[must_use]
    pub fn of_worker(pod: &Pod) -> Option<Self> {
        // The kubelet names a pod's control group by its uid; systemd's would write it with underscores.
        let uid = pod.uid()?;
        let names = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
        all().find(|process| {
            let cgroup = process.read("cgroup");
            names.iter().any(|name| cgroup.contains(name)) && process.read("comm").trim() == "pgexport"
        })
    }

    /// The API server of the lab's own cluster.
    #[must_use]
    pub fn of_api_server() -> Option<Self> {
        let folder = format!("{}/", pgexport_peers::state::root().join("cluster").display());
        all().find(|process| {
            let command = process.read("cmdline");
            let mut words = command.split('\0');
            words.any(|word| word == "kube-apiserver") && words.any(|word| word.contains(&folder))
        })
    }

    /// The process that started it: for a container, the shim that keeps it.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        // proc(5): the command's name in parentheses may hold anything; the state and the parent follow.
        let stat = self.read("stat");
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().map(Self)
    }

    /// Sends a signal. A process that is gone gets none.
    pub fn signal(self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.0), signal);
    }

    /// Whether it runs, or is stopped.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let stat = self.read("stat");
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    fn read(self, file: &str) -> String {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.0));
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

fn all() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Process))
}
