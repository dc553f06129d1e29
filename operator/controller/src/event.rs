//! Events: one a transition, so that `kubectl describe` tells the story.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use pgexport_api::report::truncate;

/// The longest note that the API admits, in bytes.
const MAX_NOTE: usize = 1024;

/// A transition worth telling. Equal reasons within a few minutes are counted in one Event that keeps the first note:
/// what tells two of them apart stands in `reason` or `job`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether somebody may have to act.
    pub warning: bool,
    /// The milestone, or the reason of the failure.
    pub reason: &'static str,
    /// What happened, in a sentence.
    pub note: String,
    /// The Kubernetes Job that it is about.
    pub job: Option<String>,
}

impl Notice {
    /// Something went as it should.
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, note: note.into(), job: None }
    }

    /// Something went wrong.
    pub fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason, note: note.into(), job: None }
    }

    /// About a Kubernetes Job.
    #[must_use]
    pub fn about(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }
}

/// Publishes Events. They are a courtesy: what cannot be published (in a terminating namespace, say) is only logged.
pub async fn publish(recorder: &Recorder, regarding: &ObjectReference, notices: Vec<Notice>) {
    for notice in notices {
        let secondary = notice.job.map(|name| ObjectReference {
            api_version: Some("batch/v1".to_owned()),
            kind: Some("Job".to_owned()),
            name: Some(name),
            namespace: regarding.namespace.clone(),
            ..ObjectReference::default()
        });
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.to_owned(),
            note: Some(truncate(&notice.note, MAX_NOTE).to_owned()),
            action: "Reconcile".to_owned(),
            secondary,
        };
        if let Err(error) = recorder.publish(&event, regarding).await {
            tracing::debug!(reason = notice.reason, %error, "an Event could not be published");
        }
    }
}
