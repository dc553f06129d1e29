//! What can go wrong between the controller and the API server, and how long to wait after it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Why the controller cannot start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration of a cluster, or an unusable one.
    #[error("cannot connect to a Kubernetes API server")]
    Client(#[source] Box<kube::Error>),
    /// The HTTP address is taken, or not of this machine.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The process cannot be told to stop.
    #[error("cannot wait for signals")]
    Signal(#[source] std::io::Error),
    /// A part of the controller panicked.
    #[error("a part of the controller ended unexpectedly")]
    Task(#[source] tokio::task::JoinError),
}

/// Why a reconciliation could not be carried through. All of these are tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or could not be reached.
    #[error("cannot {action} {object}: {source}")]
    Api {
        /// What was tried: a verb.
        action: &'static str,
        /// On what: kind and name.
        object: String,
        /// What the API server, or the connection to it, said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object of this name is there and is not ours.
    #[error("{object} exists and does not belong to this object's owner: remove it")]
    NameTaken {
        /// Kind and name.
        object: String,
    },
    /// The API server returned an object without a field that it always sets.
    #[error("{object} has no {field}")]
    Incomplete {
        /// Kind and name.
        object: String,
        /// The missing field.
        field: &'static str,
    },
}

impl ReconcileError {
    /// An error of the API server, with what was tried on what.
    pub fn api(action: &'static str, object: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { action, object: object.into(), source: Box::new(source) }
    }

    /// A stable word for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::NameTaken { .. } => "name_taken",
            Self::Incomplete { .. } => "incomplete",
        }
    }
}

/// The first wait after an error.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after errors in a row.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Errors in a row, object by object, so that one refused object is tried ever more rarely and the others are not.
#[derive(Debug, Default)]
pub struct ErrorBackoff {
    in_a_row: Mutex<HashMap<String, u32>>,
}

impl ErrorBackoff {
    /// How long to wait after one more error of this object.
    pub fn failed(&self, object: &str) -> Duration {
        let mut in_a_row = self.in_a_row.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = in_a_row.entry(object.to_owned()).or_default();
        *count = count.saturating_add(1);
        FIRST_WAIT.saturating_mul(1 << (*count - 1).min(16)).min(LONGEST_WAIT)
    }

    /// Forgets the errors of an object that was reconciled.
    pub fn succeeded(&self, object: &str) {
        self.in_a_row.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew_after_success() {
        let backoff = ErrorBackoff::default();
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.failed("b").as_secs(), 1);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a").as_secs(), 1);
    }
}
