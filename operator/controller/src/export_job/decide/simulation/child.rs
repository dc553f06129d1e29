//! What becomes of a Job.

use pgexport_api::report::{Cleaned, Delivered, Exported, Outcome};

use super::*;
use crate::job::fact::{ContainerState, Ended};
use crate::job::failure::failure;
use crate::job::fixture::pod;
use crate::job::trouble::Trouble;

pub fn happen(job: &mut JobFacts, step: Step, now: Timestamp, cleaned: Cleaned) {
    let ended = |outcome: Option<Outcome>| {
        pod(ContainerState::Ended(Ended {
            exit_code: Some(0),
            out_of_memory: false,
            at: Some(now),
            outcome,
            note: None,
        }))
    };
    let failed = |reason: Reason| vec![ended(Some(Outcome::Failed(failure(reason, "it failed"))))];
    match step {
        Step::PodStarts => {
            job.trouble = None;
            job.pods = vec![pod(ContainerState::Running)];
        }
        Step::PodHangs => {
            job.pods = vec![pod(ContainerState::Waiting(None))];
            job.trouble = Some(Trouble::new(Reason::ImagePullFailed, "no such image".to_owned()));
        }
        // Their node is gone, and nobody says when they have ended.
        Step::PodsAreLost => job.pods.iter_mut().for_each(|pod| pod.deleting = Some(now)),
        Step::PodIsDisrupted => job.pods.iter_mut().for_each(|pod| pod.disrupted = true),
        Step::Completes { with_report } => {
            job.state = JobState::Complete;
            let outcome = if job.name.contains("-0b0c1d2e-n") {
                Outcome::Notified { status: 204 }
            } else if job.name.contains("-0b0c1d2e-c") {
                Outcome::Cleaned(cleaned)
            } else if job.name.contains("-0b0c1d2e-e") && !job.direct {
                exported(now)
            } else {
                delivered(now)
            };
            job.pods = if with_report { vec![ended(Some(outcome))] } else { Vec::new() };
        }
        Step::Fails(reason) => {
            job.state = JobState::Failed { reason: "PodFailurePolicy".to_owned() };
            job.pods = failed(reason);
        }
        Step::BeginsToFail(reason) => {
            job.state = JobState::Failing { since: now, reason: "PodFailurePolicy".to_owned() };
            job.pods = failed(reason);
            job.pods.push(pod(ContainerState::Running));
        }
        _ => {}
    }
}

fn exported(now: Timestamp) -> Outcome {
    Outcome::Exported(Exported {
        chunks: 8,
        rows: 100,
        bytes: 4096,
        snapshot_time: Some(now),
        chunking: Vec::new(),
    })
}

fn delivered(now: Timestamp) -> Outcome {
    Outcome::Delivered(Delivered {
        chunks: 8,
        manifest: "s3://acme-bucket/_manifest.json".to_owned(),
        manifest_sha256: "ab".to_owned(),
        files: 1,
        rows: 100,
        bytes: 5000,
        snapshot_time: Some(now),
        chunking: Vec::new(),
        already: false,
    })
}
