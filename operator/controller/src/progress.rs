//! Reads the counters of running workers at their pods' addresses. Losing them loses the display of progress, nothing else:
//! no error of it is ever more than a missing answer.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pgexport_api::progress::{MAX_BYTES, PATH, PORT, WorkerProgress};

use crate::job::fact::JobFacts;

/// How long all workers of a Job together are waited for.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The last counters of each pod, by Job.
type Counters = HashMap<String, HashMap<String, WorkerProgress>>;

/// Asks workers for their counters.
#[derive(Debug)]
pub struct Poller {
    client: Client<HttpConnector, Empty<Bytes>>,
    last: Mutex<Counters>,
}

impl Default for Poller {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        // No connection is kept: a pod's address may be another pod's next time. Redirects are not followed.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, last: Mutex::default() }
    }
}

impl Poller {
    /// Asks the running pods of a Job, at most for a second, and adds up their last answers and those of pods that have
    /// ended. `None` before any answer.
    pub async fn poll(&self, job: &JobFacts) -> Option<WorkerProgress> {
        let running = job.pods.iter().filter(|pod| pod.is_running() && pod.deleting.is_none());
        let requests = running.filter_map(|pod| Some((pod.uid.as_str(), pod.address?)));
        let answers =
            join_all(requests.map(|(uid, address)| async move { Some((uid, self.ask(address).await?)) }))
                .await;
        let mut last = self.lock();
        for (uid, answer) in answers.into_iter().flatten() {
            last.entry(job.uid.clone()).or_default().insert(uid.to_owned(), answer);
        }
        sum(last.get(&job.uid))
    }

    /// The last answers of a Job's pods, added up.
    #[must_use]
    pub fn last(&self, job_uid: &str) -> Option<WorkerProgress> {
        sum(self.lock().get(job_uid))
    }

    /// Forgets a Job, and those that are not known: their end may have passed while the watch was down.
    pub fn forget(&self, job_uid: &str, known: &HashSet<String>) {
        self.lock().retain(|uid, _| uid != job_uid && known.contains(uid));
    }

    async fn ask(&self, address: IpAddr) -> Option<WorkerProgress> {
        tokio::time::timeout(TIMEOUT, self.get(address)).await.ok().flatten()
    }

    async fn get(&self, address: IpAddr) -> Option<WorkerProgress> {
        let uri: Uri = format!("http://{}{PATH}", SocketAddr::new(address, PORT)).parse().ok()?;
        let response =
            self.client.get(uri).await.ok().filter(|response| response.status() == StatusCode::OK)?;
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers count their own chunks, and all of them know the number of all chunks.
fn sum(pods: Option<&HashMap<String, WorkerProgress>>) -> Option<WorkerProgress> {
    pods?.values().copied().reduce(|one, other| WorkerProgress {
        chunks: one.chunks.max(other.chunks),
        chunks_exported: one.chunks_exported.saturating_add(other.chunks_exported),
        chunks_transferred: one.chunks_transferred.saturating_add(other.chunks_transferred),
        rows: one.rows.saturating_add(other.rows),
        bytes: one.bytes.saturating_add(other.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_counters_add_up_but_for_the_number_of_chunks() {
        let counters = |chunks_exported, rows| WorkerProgress {
            chunks: 8,
            chunks_exported,
            chunks_transferred: 0,
            rows,
            bytes: 10,
        };
        let pods = HashMap::from([("a".to_owned(), counters(2, 100)), ("b".to_owned(), counters(3, 50))]);
        let expected =
            WorkerProgress { chunks: 8, chunks_exported: 5, chunks_transferred: 0, rows: 150, bytes: 20 };
        assert_eq!(sum(Some(&pods)), Some(expected));
        assert_eq!(sum(None), None);
    }

    #[test]
    fn jobs_that_are_gone_are_forgotten() {
        let poller = Poller::default();
        for uid in ["gone", "known", "unknown"] {
            let pods = HashMap::from([("pod".to_owned(), WorkerProgress::default())]);
            poller.lock().insert(uid.to_owned(), pods);
        }
        poller.forget("gone", &HashSet::from(["gone".to_owned(), "known".to_owned()]));
        let left = ["gone", "known", "unknown"].map(|uid| poller.last(uid).is_some());
        assert_eq!(left, [false, true, false]);
    }

    #[tokio::test]
    async fn a_silent_address_is_no_answer() {
        // TEST-NET-1 (RFC 5737) never answers.
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(Poller::default().ask(address).await, None);
    }
}
