//! Renders the Job and the ConfigMap of a notification: nothing of the run is needed for it, neither what it refers to nor what
//! its pods ask for, which may be what it has failed for.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use pgexport_api::ExportJobStatus;
use pgexport_api::order::{Message, NotifyOrder, Order, Task};

use super::child::Child;
use super::decide::{Observed, Subject};
use super::receiver::Receiver;
use crate::job::order;
use crate::job::pod::WorkerImage;
use crate::job::render::{self, Blueprint, Policy};

/// How long one attempt to tell may take, its pod's start included.
const DEADLINE: Duration = Duration::from_mins(5);

/// What is the same for all Jobs that tell of an ExportJob's failure.
#[derive(Clone, Debug)]
pub struct Rendering<'a> {
    namespace: &'a str,
    owner: OwnerReference,
    receiver: &'a Receiver,
    id: &'a str,
    message: Message,
    image: &'a WorkerImage,
}

impl<'a> Rendering<'a> {
    /// What is to be told, and to whom; `None` where there is nothing to tell, or nobody.
    #[must_use]
    pub fn new(
        namespace: &'a str,
        owner: &OwnerReference,
        subject: &Subject<'_>,
        observed: &'a Observed,
        status: &'a ExportJobStatus,
        image: &'a WorkerImage,
    ) -> Option<Self> {
        let receiver = observed.receiver.as_ref()?.as_ref().ok()?;
        let id = &status.notification.as_ref()?.id;
        let identity = (namespace, subject.name, subject.uid);
        let message = Message::of_failure(identity, subject.created, subject.spec, status)?;
        // A deletion in the foreground would remove it before it has done its work.
        let owner = OwnerReference { block_owner_deletion: None, ..owner.clone() };
        Some(Self { namespace, owner, receiver, id, message, image })
    }

    /// The Job of `child`.
    #[must_use]
    pub fn job(&self, child: Child) -> Job {
        let name = self.name(child);
        render::job(&self.blueprint(child, &name, &order::sha256(&self.order())))
    }

    /// The ConfigMap of the Job of `child`, once the Job has a uid.
    #[must_use]
    pub fn config_map(&self, child: Child, job_uid: &str) -> ConfigMap {
        let name = self.name(child);
        let labels = render::labels(&self.blueprint(child, &name, ""));
        order::config_map(self.namespace, &name, job_uid, labels, &self.order())
    }

    /// What its worker is told.
    #[must_use]
    pub fn order(&self) -> Order {
        Order::new(Task::Notify(Box::new(NotifyOrder {
            receiver: self.receiver.receiver.clone(),
            id: self.id.to_owned(),
            message: self.message.clone(),
        })))
    }

    fn name(&self, child: Child) -> String {
        child.name(&self.owner.name, &self.owner.uid)
    }

    fn blueprint<'b>(&'b self, child: Child, name: &'b str, order_sha256: &'b str) -> Blueprint<'b> {
        Blueprint {
            name,
            namespace: self.namespace,
            owner: self.owner.clone(),
            attempt: child.attempt,
            policy: Policy::Notify,
            deadline: DEADLINE,
            mounts: &self.receiver.mounts,
            template: None,
            image: self.image,
            order_sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use pgexport_api::job::{LastError, Notification};
    use pgexport_api::{Phase, Reason};
    use serde_json::json;

    use super::*;
    use crate::export_job::fixture::{UID, at, created, job, merge, references, tell_pager};
    use crate::export_job::receiver::validate;
    use crate::job::apply::blocking;

    fn failed() -> ExportJobStatus {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
        ExportJobStatus {
            phase: Some(Phase::Failed),
            attempts: 2,
            start_time: Some(Time(at("2026-11-23T10:00:01Z"))),
            completion_time: Some(Time(at("2026-11-23T10:05:00Z"))),
            location: Some("s3://acme-bucket/from-us/findings/2026-11-23/".to_owned()),
            last_error: Some(LastError {
                reason: Reason::InvalidQuery,
                sql_state: Some("42P01".to_owned()),
                message: "data set findings: relation \"findings\" does not exist".to_owned(),
                hint: Some("correct it".to_owned()),
                chunk: None,
                time: Time(at("2026-11-23T10:04:59Z")),
            }),
            notification: Some(Notification {
                id: Message::id(UID),
                start_time: Time(at("2026-11-23T10:05:00Z")),
                attempts: 1,
                next_attempt_time: None,
                completion_time: None,
            }),
            ..ExportJobStatus::default()
        }
    }

    /// The Job and the ConfigMap of an ExportJob that differs from the fixture's by `patch`.
    fn rendered(patch: &serde_json::Value) -> (Job, ConfigMap) {
        let mut told = tell_pager();
        merge(&mut told, patch);
        let job = job(&told);
        let observed = Observed { receiver: validate("exports", &job, &references()), ..Observed::default() };
        let owner = job.controller_owner_ref(&()).map(blocking).unwrap();
        let subject = Subject {
            name: "acme-findings",
            uid: UID,
            generation: 1,
            created: created(),
            spec: &job.spec,
            restored: false,
            deleting: None,
            guarded: true,
        };
        let image = WorkerImage { image: "example/pgexport:1.0.0".to_owned(), ..WorkerImage::default() };
        let status = failed();
        let rendering = Rendering::new("exports", &owner, &subject, &observed, &status, &image).unwrap();
        let child = Child::notification(3);
        (rendering.job(child), rendering.config_map(child, "job-uid"))
    }

    #[test]
    fn a_notification() {
        let scheduled = json!({"scheduled": {"schedule": "nightly", "time": "2026-11-23T09:00:00Z"}});
        let (job, config_map) = rendered(&scheduled);
        insta::assert_yaml_snapshot!("notification_job", job);
        insta::assert_yaml_snapshot!("notification_config_map", config_map);
    }

    #[test]
    fn it_needs_nothing_of_what_the_run_may_have_failed_for() {
        let (plain, _) = rendered(&json!({}));
        let greedy = json!({"podTemplate": {"nodeSelector": {"no": "such-node"}, "labels": {"app": "x"},
            "resources": {"requests": {"memory": "999Gi"}}}});
        assert_eq!(rendered(&greedy).0.spec.unwrap().template, plain.spec.unwrap().template);
    }

    #[test]
    fn no_message_holds_a_query_a_value_or_a_secret() {
        let (_, config_map) = rendered(&json!({}));
        let text = &config_map.data.unwrap()[order::ORDER_KEY];
        for word in ["SELECT", "0b0c0000-0000", "password"] {
            assert!(!text.contains(word), "{text}");
        }
        assert!(text.contains("\"signingSecretRef\":{\"name\":\"pager\",\"key\":\"key\"}"), "{text}");
    }
}
