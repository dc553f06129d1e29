//! What the failure of a Job means: the most telling of its pods' last words, or what Kubernetes says where there is none.

use pgexport_api::exit::ExitCode;
use pgexport_api::report::Failure;
use pgexport_api::{Class, Reason};

use super::fact::{Ended, JobFacts, JobState, PodFacts};

/// The failure of a Job. `deadline` names the field of the spec that bounds it.
#[must_use]
pub fn of_job(job: &JobFacts, deadline: &str) -> Failure {
    let worst = job
        .failures()
        .map(|(pod, ended, report)| (ended.at, report.cloned().unwrap_or_else(|| without_report(pod, ended))))
        .max_by_key(|(at, failure)| (weight(failure.reason), *at))
        .map(|(_, failure)| failure);
    let timed_out = has_timed_out(job);
    let worst = match (worst, job.disrupted_pod()) {
        // What a disrupted pod has begun goes with it, and its successor says no more than that.
        (Some(failure), Some(pod)) if is_a_loss(&failure) => Some(disrupted(&pod.name, &failure.message)),
        (worst, _) => worst,
    };
    match worst {
        // Pods that were stopped at the deadline say that they were interrupted.
        worst if timed_out && worst.as_ref().is_none_or(|failure| weight(failure.reason) < 4) => {
            let before = worst
                .filter(|failure| weight(failure.reason) > 1)
                .map_or_else(String::new, |failure| format!("; before: {}", failure.message));
            failure(
                Reason::DeadlineExceeded,
                format!("Job {} was not done within {deadline}{before}", job.name),
            )
        }
        Some(failure) => failure,
        None => failure(
            Reason::WorkerLost,
            format!("Job {} failed, and none of its pods is left to say why", job.name),
        ),
    }
}

/// The failure of a Job whose time no field of the spec bounds. `before` is what was known to be wrong with it: where it was not
/// done in time, that is why.
#[must_use]
pub fn of_bounded_job(job: &JobFacts, bound: &str, before: Option<&str>) -> Failure {
    let failure = of_job(job, bound);
    if failure.reason != Reason::DeadlineExceeded {
        return failure;
    }
    let before = before.map_or_else(String::new, |before| format!("; before: {before}"));
    Failure { message: format!("{}{before}", failure.message), hint: None, ..failure }
}

/// The failure of an attempt whose pod was disrupted.
#[must_use]
pub fn disrupted(pod: &str, before: &str) -> Failure {
    failure(Reason::Disrupted, format!("pod {pod} was drained, evicted or preempted: {before}"))
}

/// Whether nothing says more of a failure than that a pod is gone.
#[must_use]
pub fn is_a_loss(failure: &Failure) -> bool {
    weight(failure.reason) < 2
}

/// Whether it ended at its deadline.
#[must_use]
pub fn has_timed_out(job: &JobFacts) -> bool {
    match &job.state {
        JobState::Failing { reason, .. } | JobState::Failed { reason } => reason == "DeadlineExceeded",
        JobState::Active | JobState::Complete => false,
    }
}

/// A failure of this reason, with the vocabulary's hint.
#[must_use]
pub fn failure(reason: Reason, message: impl Into<String>) -> Failure {
    Failure {
        reason,
        sql_state: None,
        message: message.into(),
        hint: Some(reason.hint().to_owned()),
        chunk: None,
    }
}

/// How telling a reason is. What one worker met makes others lose the snapshot, and those are then stopped.
fn weight(reason: Reason) -> u8 {
    match (reason, reason.class()) {
        (Reason::Interrupted | Reason::WorkerLost, _) => 0,
        (Reason::SnapshotLost | Reason::Disrupted, _) => 1,
        (Reason::OutOfMemory, _) => 3,
        (_, Class::Transient) => 2,
        (_, Class::Environment) => 4,
        (_, Class::Permanent) => 5,
    }
}

fn without_report(pod: &PodFacts, ended: &Ended) -> Failure {
    let name = &pod.name;
    if ended.out_of_memory {
        return failure(
            Reason::OutOfMemory,
            format!("pod {name} needed more memory than its limit and was killed"),
        );
    }
    let note = ended.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
    let Some(code) = ended.exit_code else {
        let reason = if pod.disrupted { Reason::Disrupted } else { Reason::WorkerLost };
        return failure(reason, format!("pod {name} ended without an exit code{note}"));
    };
    let reason = if code == i32::from(ExitCode::SnapshotLost.code()) {
        Reason::SnapshotLost
    } else if pod.disrupted {
        Reason::Disrupted
    } else if code == i32::from(ExitCode::Terminated.code()) {
        Reason::Interrupted
    } else if code == i32::from(ExitCode::Usage.code()) {
        Reason::InternalError
    } else {
        Reason::WorkerLost
    };
    failure(reason, format!("pod {name} ended with exit code {code} and no report{note}"))
}

/// A failure in a sentence, with what to do.
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    match failure.hint.as_deref().filter(|hint| !hint.is_empty()) {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::fact::ContainerState;
    use jiff::Timestamp;
    use pgexport_api::report::Outcome;

    fn pod(name: &str, second: i64, exit_code: i32, reason: Option<Reason>) -> PodFacts {
        PodFacts {
            name: name.to_owned(),
            uid: name.to_owned(),
            index: None,
            container: ContainerState::Ended(Ended {
                exit_code: Some(exit_code),
                out_of_memory: exit_code == 137,
                at: Timestamp::from_second(second).ok(),
                outcome: reason.map(|reason| Outcome::Failed(failure(reason, name))),
                note: None,
            }),
            deleting: None,
            disrupted: false,
            started: None,
            address: None,
        }
    }

    fn job(reason: &str, pods: Vec<PodFacts>) -> JobFacts {
        JobFacts {
            name: "j".to_owned(),
            uid: "u".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            state: JobState::Failed { reason: reason.to_owned() },
            deleting: None,
            direct: false,
            order_sha256: None,
            image: None,
            workers: 1,
            pods,
            trouble: None,
            progress: None,
            namespace_is_going: false,
        }
    }

    fn reason(kubernetes: &str, pods: Vec<PodFacts>) -> Reason {
        of_job(&job(kubernetes, pods), "spec.deadlines.run").reason
    }

    #[test]
    fn the_most_telling_last_word_wins() {
        let interrupted = || pod("interrupted", 9, 143, Some(Reason::Interrupted));
        let lost = || pod("lost", 8, 78, Some(Reason::SnapshotLost));
        let broken = || pod("broken", 7, 69, Some(Reason::ConnectionLost));
        let refused = || pod("refused", 6, 77, Some(Reason::AccessDenied));
        let wrong = || pod("wrong", 5, 65, Some(Reason::DataError));
        assert_eq!(reason("", vec![interrupted(), lost()]), Reason::SnapshotLost);
        assert_eq!(reason("", vec![interrupted(), lost(), broken()]), Reason::ConnectionLost);
        assert_eq!(reason("", vec![interrupted(), lost(), broken(), refused()]), Reason::AccessDenied);
        assert_eq!(reason("", vec![interrupted(), lost(), broken(), refused(), wrong()]), Reason::DataError);
    }

    #[test]
    fn what_a_disrupted_pod_takes_with_it_is_a_disruption() {
        let disrupted = |index: u32, code: i32, reason: Option<Reason>| PodFacts {
            disrupted: true,
            index: Some(index),
            ..pod("drained", 1, code, reason)
        };
        let successor = || PodFacts { index: Some(0), ..pod("successor", 2, 78, Some(Reason::SnapshotLost)) };
        let cases = [
            (vec![disrupted(0, 143, Some(Reason::Interrupted)), successor()], Reason::Disrupted),
            (vec![disrupted(0, 137, None)], Reason::OutOfMemory),
            (vec![disrupted(0, 101, None)], Reason::Disrupted),
            // Another worker's disruption is no matter: its share is done by its successor.
            (vec![disrupted(1, 143, Some(Reason::Interrupted)), successor()], Reason::SnapshotLost),
            // What a worker says itself is told, whatever becomes of its pod.
            (vec![disrupted(0, 65, Some(Reason::DataError))], Reason::DataError),
        ];
        for (pods, expected) in cases {
            assert_eq!(reason("", pods.clone()), expected, "{pods:?}");
        }
    }

    #[test]
    fn of_equals_the_newest_wins() {
        let pods = vec![
            pod("old", 1, 69, Some(Reason::StoreError)),
            pod("new", 2, 69, Some(Reason::ConnectionLost)),
        ];
        assert_eq!(reason("", pods), Reason::ConnectionLost);
    }

    #[test]
    fn silent_pods_are_read_by_their_exit() {
        assert_eq!(reason("", vec![pod("a", 1, 137, None)]), Reason::OutOfMemory);
        assert_eq!(reason("", vec![pod("a", 1, 143, None)]), Reason::Interrupted);
        assert_eq!(reason("", vec![pod("a", 1, 78, None)]), Reason::SnapshotLost);
        assert_eq!(reason("", vec![pod("a", 1, 101, None)]), Reason::WorkerLost);
        assert_eq!(reason("", vec![]), Reason::WorkerLost);
    }

    #[test]
    fn a_passed_deadline_names_the_field() {
        let found = of_job(
            &job("DeadlineExceeded", vec![pod("a", 1, 143, Some(Reason::Interrupted))]),
            "spec.deadlines.run (6h)",
        );
        assert_eq!(found.reason, Reason::DeadlineExceeded);
        assert!(found.message.contains("spec.deadlines.run (6h)"), "{}", found.message);
        assert_eq!(
            reason("DeadlineExceeded", vec![pod("a", 1, 65, Some(Reason::DataError))]),
            Reason::DataError
        );
    }
}
