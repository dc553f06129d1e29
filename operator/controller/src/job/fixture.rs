//! Jobs and pods for tests.

use jiff::Timestamp;

use super::fact::{ContainerState, JobFacts, JobState, PodFacts};

/// A Job that was just made, with one pod that waits.
pub fn fresh(name: String, now: Timestamp) -> JobFacts {
    JobFacts {
        uid: format!("uid-of-{name}"),
        created: now,
        state: JobState::Active,
        deleting: None,
        direct: false,
        workers: 1,
        order_sha256: None,
        image: None,
        pods: vec![pod(ContainerState::Waiting(None))],
        trouble: None,
        progress: None,
        namespace_is_going: false,
        name,
    }
}

/// The pod of index 0.
pub fn pod(container: ContainerState) -> PodFacts {
    PodFacts {
        name: "pod".to_owned(),
        uid: "pod-uid".to_owned(),
        index: Some(0),
        container,
        deleting: None,
        disrupted: false,
        started: None,
        address: None,
    }
}
