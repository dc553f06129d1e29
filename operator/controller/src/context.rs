//! What reconciliations share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;

use crate::error::{ErrorBackoff, ReconcileError};
use crate::job::pod::WorkerImage;
use crate::metrics::Metrics;
use crate::progress::Poller;
use crate::watch::Stores;

/// What reconciliations of one scope (all namespaces, or one) share. The stores may lag behind the API server.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What pods run.
    pub image: WorkerImage,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What the watches see.
    pub stores: Stores,
    /// Asks workers for their counters.
    pub progress: Poller,
    /// When statuses were last written.
    pub progress_writes: Writes,
    /// What the API server refused to create.
    pub refusals: Refusals,
    /// Lets ExportJobs begin, one at a time.
    pub admission: Admissions,
    /// Counts reconciliations.
    pub metrics: Metrics,
    /// Waits after errors.
    pub backoff: ErrorBackoff,
}

/// What admissions need, over all scopes.
#[derive(Clone, Debug)]
pub struct Admissions {
    /// Held by the one that is being admitted.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// The namespaces that the controller watches. Empty: all.
    pub namespaces: Arc<Vec<String>>,
}

/// When an object's status was last written, by its uid.
#[derive(Debug, Default)]
pub struct Writes(Mutex<HashMap<String, Instant>>);

impl Writes {
    /// Whether the last write is so long ago.
    pub fn is_due(&self, uid: &str, interval: Duration) -> bool {
        lock(&self.0).get(uid).is_none_or(|last| last.elapsed() >= interval)
    }

    /// Notes a write, and forgets those that are too old to matter.
    pub fn mark(&self, uid: &str) {
        let mut writes = lock(&self.0);
        writes.retain(|_, last| last.elapsed() < Duration::from_mins(1));
        writes.insert(uid.to_owned(), Instant::now());
    }
}

/// Why the last Job of an owner could not be created, by the owner's uid.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, String>>);

impl Refusals {
    /// What was said.
    pub fn get(&self, owner_uid: &str) -> Option<String> {
        lock(&self.0).get(owner_uid).cloned()
    }

    /// What was said; it is then forgotten.
    pub fn take(&self, owner_uid: &str) -> Option<String> {
        lock(&self.0).remove(owner_uid)
    }

    /// Notes what the API server said, when it refused for good as far as the request goes: quota, admission, a
    /// terminating namespace. That is a fact of the next decision.
    pub fn note(&self, owner_uid: &str, error: &ReconcileError) {
        if let ReconcileError::Api { source, .. } = error
            && let kube::Error::Api(status) = source.as_ref()
            && (400..500).contains(&status.code)
            && status.code != 409
            && status.code != 429
        {
            lock(&self.0).insert(owner_uid.to_owned(), status.message.clone());
        }
    }

    /// Forgets it.
    pub fn clear(&self, owner_uid: &str) {
        lock(&self.0).remove(owner_uid);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, in whole seconds, as the API keeps times: what is written reads back the same.
#[must_use]
pub fn whole_seconds_now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
