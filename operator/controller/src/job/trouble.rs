//! Why a pod does not start: its waiting reason, its scheduling, or the newest Event of it or its Job.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1 as core;
use pgexport_api::Reason;
use pgexport_api::report::truncate;

/// What may pass by itself is told, and Events are asked for, when a Job's pods have had this long to start.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// Longest text that is taken over from Kubernetes, in bytes.
const MAX_TEXT: usize = 1024;

/// What keeps a pod from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// From the closed vocabulary.
    pub reason: Reason,
    /// What Kubernetes says.
    pub message: String,
    /// Whether it may pass within seconds, as when pods that are just ending still hold a node.
    pub may_pass: bool,
}

impl Trouble {
    /// One that stays until somebody does something.
    #[must_use]
    pub fn new(reason: Reason, message: String) -> Self {
        Self { reason, message, may_pass: false }
    }

    /// Whether it is worth telling, so long after its Job was created.
    #[must_use]
    pub fn is_lasting(&self, since: SignedDuration) -> bool {
        !self.may_pass || since > PATIENCE
    }
}

/// What the status of a pod that has not started says.
#[must_use]
pub fn of_pod(status: &core::PodStatus) -> Option<Trouble> {
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers
        .filter_map(|container| Some((container.image.as_str(), container.state.as_ref()?.waiting.as_ref()?)))
        .find_map(|(image, waiting)| of_waiting(image, waiting));
    waiting.or_else(|| unschedulable(status))
}

fn of_waiting(image: &str, waiting: &core::ContainerStateWaiting) -> Option<Trouble> {
    let reason = waiting.reason.as_deref()?;
    let said = waiting.message.as_deref().unwrap_or(reason);
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            // The kubelet alternates between the error and "Back-off pulling image …: ErrImagePull: the error";
            // without the difference, the status is not written each time.
            let cause = said.split_once("ErrImagePull: ").map_or(said, |(_, cause)| cause);
            let message = format!("image {image} cannot be pulled: {}", truncate(cause, MAX_TEXT));
            Some(Trouble::new(Reason::ImagePullFailed, message))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            let message = format!("the container cannot be started: {}", truncate(said, MAX_TEXT));
            Some(Trouble::new(Reason::PodNotStarted, message))
        }
        _ => None,
    }
}

fn unschedulable(status: &core::PodStatus) -> Option<Trouble> {
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable")).then(|| Trouble {
        reason: Reason::PodNotStarted,
        message: format!(
            "the pod cannot be scheduled: {}",
            truncate(scheduled.message.as_deref().unwrap_or("no node fits"), MAX_TEXT)
        ),
        may_pass: true,
    })
}

/// What the newest of an object's Events says; an older trouble has passed.
#[must_use]
pub fn of_events(events: &[core::Event]) -> Option<Trouble> {
    let newest = events.iter().max_by_key(|event| seen(event))?;
    let what = match newest.reason.as_deref()? {
        "FailedCreate" => "no pod can be created",
        "FailedMount" | "FailedAttachVolume" => "a volume cannot be mounted",
        "FailedScheduling" => "the pod cannot be scheduled",
        "FailedCreatePodSandBox" => "the pod's sandbox cannot be created",
        _ => return None,
    };
    let said = newest.message.as_deref().unwrap_or_default();
    Some(Trouble::new(Reason::PodNotStarted, format!("{what}: {}", truncate(said, MAX_TEXT))))
}

/// When an Event was last seen, by whichever of its four fields its reporter fills.
fn seen(event: &core::Event) -> Option<jiff::Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let once = event.event_time.as_ref().map(|time| time.0);
    let stored = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    [series, last, once, stored].into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waiting(reason: &str, message: &str) -> core::PodStatus {
        serde_json::from_value(json!({"containerStatuses": [{"name": "worker", "image": "example/pgexport:1", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]}))
        .unwrap()
    }

    fn event(reason: &str, time: &str) -> core::Event {
        serde_json::from_value(
            json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": "said",
            "lastTimestamp": time}),
        )
        .unwrap()
    }

    #[test]
    fn both_faces_of_a_failed_pull_read_the_same() {
        let first = of_pod(&waiting("ErrImagePull", "not found"));
        let then =
            of_pod(&waiting("ImagePullBackOff", "Back-off pulling image \"x\": ErrImagePull: not found"));
        assert_eq!(first, then);
        assert_eq!(first.map(|trouble| trouble.reason), Some(Reason::ImagePullFailed));
    }

    #[test]
    fn a_full_node_is_told_once_it_has_stayed_full() {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        let full = of_pod(&serde_json::from_value(status).unwrap()).unwrap();
        assert_eq!([5, 15].map(|since| full.is_lasting(SignedDuration::from_secs(since))), [false, true]);
        let missing = of_pod(&waiting("ErrImagePull", "not found")).unwrap();
        assert!(missing.is_lasting(SignedDuration::ZERO));
    }

    #[test]
    fn a_pod_that_is_on_its_way_has_no_trouble() {
        assert_eq!(of_pod(&waiting("ContainerCreating", "")), None);
        assert_eq!(of_pod(&waiting("PodInitializing", "")), None);
    }

    #[test]
    fn only_the_newest_event_counts() {
        let mount = event("FailedMount", "2026-11-23T10:00:00Z");
        let pulling = event("Pulling", "2026-11-23T10:00:05Z");
        assert!(of_events(std::slice::from_ref(&mount)).is_some());
        assert_eq!(of_events(&[pulling, mount]), None);
        assert!(of_events(&[event("FailedCreate", "2026-11-23T10:00:05Z")]).is_some());
    }
}
