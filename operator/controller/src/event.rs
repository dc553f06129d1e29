//! Events: one a transition, so that `kubectl describe` tells the story.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use pgexport_api::report::truncate;
use pgexport_api::{GROUP, VERSION};

/// The longest note that the API admits, in bytes.
const MAX_NOTE: usize = 1024;

/// A transition worth telling. Equal reasons within a few minutes are counted in one Event that keeps the first note:
/// what tells two of them apart stands in `reason` or `about`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether somebody may have to act.
    pub warning: bool,
    /// The milestone, or the reason of the failure.
    pub reason: &'static str,
    /// What happened, in a sentence.
    pub note: String,
    /// What it is about, beside the object that it is told of.
    pub about: Option<About>,
}

/// By its name, in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A Kubernetes Job.
    Job(String),
    /// An ExportJob, or the one that there would have been.
    Run(String),
}

impl Notice {
    /// Something went as it should.
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, note: note.into(), about: None }
    }

    /// Something went wrong.
    pub fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason, note: note.into(), about: None }
    }

    /// About a Kubernetes Job.
    #[must_use]
    pub fn about(mut self, job: impl Into<String>) -> Self {
        self.about = Some(About::Job(job.into()));
        self
    }

    /// About an ExportJob.
    #[must_use]
    pub fn about_run(mut self, job: impl Into<String>) -> Self {
        self.about = Some(About::Run(job.into()));
        self
    }
}

impl About {
    fn reference(self, namespace: Option<String>) -> ObjectReference {
        let (api_version, kind, name) = match self {
            Self::Job(name) => ("batch/v1".to_owned(), "Job", name),
            Self::Run(name) => (format!("{GROUP}/{VERSION}"), "ExportJob", name),
        };
        ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind.to_owned()),
            name: Some(name),
            namespace,
            ..ObjectReference::default()
        }
    }
}

/// Publishes Events. They are a courtesy: what cannot be published (in a terminating namespace, say) is only logged.
pub async fn publish(recorder: &Recorder, regarding: &ObjectReference, notices: Vec<Notice>) {
    for notice in notices {
        let secondary = notice.about.map(|about| about.reference(regarding.namespace.clone()));
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
