//! Failpoints: named places at which a test holds a process for as long as it likes, or lets it die.
//!
//! They are there with the feature `failpoints` only, which no build for users has: without it, [`hit`] is nothing. With it,
//! and where [`VARIABLE`] names a test's coordinator, a process that comes to a failpoint connects to it, sends a [`Hit`] as a
//! line of JSON, and waits for an [`Answer`] in a line. Where nobody answers, it goes on.

#[cfg(feature = "failpoints")]
mod process;

use serde::{Deserialize, Serialize};

#[cfg(feature = "failpoints")]
pub use process::hit;

/// Whether this build has failpoints.
pub const ENABLED: bool = cfg!(feature = "failpoints");

/// The environment variable with the coordinator's `address:port`. Unset or empty: no failpoint holds.
pub const VARIABLE: &str = "PGEXPORT_FAILPOINTS";

/// The annotation of a worker pod that becomes its [`VARIABLE`].
pub const ANNOTATION: &str = "failpoints.test/coordinator";

/// What a process that comes to a failpoint tells.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The failpoint: `module::step`.
    pub name: String,
    /// What is worked on: a text with the ExportJob's uid in it.
    pub about: String,
    /// The process's number, as it sees it itself: 1 in a pod.
    pub pid: u32,
    /// Its host's name. A pod's tells the Kubernetes Job, and of an export the worker.
    pub host: String,
}

/// What it is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To go on.
    Go,
    /// To end at once, as by SIGKILL.
    Die,
}

impl Answer {
    /// The line that says so, without its end.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Die => "die",
        }
    }
}

/// A failpoint. This build has none.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_name: &str, _about: &str) -> std::future::Ready<()> {
    std::future::ready(())
}
