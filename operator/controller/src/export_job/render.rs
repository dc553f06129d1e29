//! Renders the Job and the ConfigMap of an attempt. No I/O, and no way to fail.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use pgexport_api::job::{ChildKind, ExportJobSpec};
use pgexport_api::order::{CleanupOrder, CleanupPart, DeliveryPath, Order, Task};

use super::child::Child;
use super::notification;
use super::validate::{Validated, ValidatedCleanup};
use crate::job::order;
use crate::job::pod::WorkerImage;
use crate::job::render::{self, Blueprint, Policy};

/// How long one attempt to clean up may take, its pod's start included.
pub const CLEANUP_DEADLINE: Duration = Duration::from_mins(5);

/// What is the same for all Jobs of a run.
#[derive(Clone, Debug)]
pub struct Rendering<'a> {
    /// The ExportJob's namespace.
    pub namespace: &'a str,
    /// A reference to it.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: &'a ExportJobSpec,
    /// What is to be done.
    pub work: Work<'a>,
    /// What pods run.
    pub image: &'a WorkerImage,
}

/// What Jobs are made for.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// To export, and to transfer.
    Run(&'a Validated),
    /// To remove what the run has left.
    Cleanup {
        /// What is there.
        validated: &'a ValidatedCleanup,
        /// What of it goes now.
        part: CleanupPart,
    },
}

/// What the Jobs of an ExportJob are made of. Only what is valid is decided to be created.
#[derive(Clone, Debug)]
pub struct Renderings<'a> {
    /// Those of the run.
    pub run: Option<Rendering<'a>>,
    /// Those that tell of its failure, which need nothing of what the run needs.
    pub notification: Option<notification::Rendering<'a>>,
}

impl Renderings<'_> {
    /// The Job of `child`.
    #[must_use]
    pub fn job(&self, child: Child) -> Option<Job> {
        match child.kind {
            ChildKind::Notification => self.notification.as_ref().map(|rendering| rendering.job(child)),
            _ => self.run.as_ref().map(|rendering| rendering.job(child)),
        }
    }

    /// The ConfigMap of the Job of `child`, once the Job has a uid.
    #[must_use]
    pub fn config_map(&self, child: Child, job_uid: &str) -> Option<ConfigMap> {
        match child.kind {
            ChildKind::Notification => {
                self.notification.as_ref().map(|rendering| rendering.config_map(child, job_uid))
            }
            _ => self.run.as_ref().map(|rendering| rendering.config_map(child, job_uid)),
        }
    }

    /// What the worker of `child` is told.
    #[must_use]
    pub fn order(&self, child: Child) -> Option<Order> {
        match child.kind {
            ChildKind::Notification => self.notification.as_ref().map(notification::Rendering::order),
            _ => self.run.as_ref().map(|rendering| rendering.order(child)),
        }
    }
}

impl Rendering<'_> {
    /// The Job of `child`.
    #[must_use]
    pub fn job(&self, child: Child) -> Job {
        let name = self.name(child);
        render::job(&self.blueprint(child, &name, &order::sha256(&self.order(child))))
    }

    /// The ConfigMap of the Job of `child`, once the Job has a uid.
    #[must_use]
    pub fn config_map(&self, child: Child, job_uid: &str) -> ConfigMap {
        let name = self.name(child);
        let order = self.order(child);
        let labels = render::labels(&self.blueprint(child, &name, ""));
        order::config_map(self.namespace, &name, job_uid, labels, &order)
    }

    /// What the worker of `child` is told.
    #[must_use]
    pub fn order(&self, child: Child) -> Order {
        match self.work {
            Work::Run(validated) => {
                let mut run = validated.order.clone();
                run.run.attempt = child.attempt;
                Order::new(Task::Run(Box::new(run)))
            }
            Work::Cleanup { validated, part } => {
                Order::new(Task::Cleanup(Box::new(CleanupOrder { part, ..validated.order.clone() })))
            }
        }
    }

    fn name(&self, child: Child) -> String {
        child.name(&self.owner.name, &self.owner.uid)
    }

    /// Kubernetes counts from the Job's creation, and users from the start of its pods.
    fn with_start(&self, deadline: kube::core::Duration) -> Duration {
        Duration::from(deadline).saturating_add(self.spec.deadlines.start.into())
    }

    fn blueprint<'a>(&'a self, child: Child, name: &'a str, order_sha256: &'a str) -> Blueprint<'a> {
        let deadlines = &self.spec.deadlines;
        let (policy, mounts, deadline, template) = match self.work {
            Work::Cleanup { validated, .. } => {
                (Policy::Cleanup, &validated.mounts, CLEANUP_DEADLINE, validated.template.as_ref())
            }
            Work::Run(validated) => {
                let (policy, mounts, deadline) = match (child.kind, &validated.order.delivery) {
                    (ChildKind::Transfer, _) => {
                        (Policy::Transfer, &validated.transfer_mounts, deadlines.transfer)
                    }
                    (_, DeliveryPath::Direct) => {
                        (Policy::DirectExport, &validated.export_mounts, deadlines.run)
                    }
                    (_, DeliveryPath::Staged { .. }) => {
                        let policy = Policy::StagedExport { workers: validated.order.workers };
                        (policy, &validated.export_mounts, deadlines.run)
                    }
                };
                (policy, mounts, self.with_start(deadline), self.spec.pod_template.as_ref())
            }
        };
        Blueprint {
            name,
            namespace: self.namespace,
            owner: match self.work {
                // A deletion in the foreground would remove it before it has done its work.
                Work::Cleanup { .. } => OwnerReference { block_owner_deletion: None, ..self.owner.clone() },
                Work::Run(_) => self.owner.clone(),
            },
            attempt: child.attempt,
            policy,
            deadline,
            mounts,
            template,
            image: self.image,
            order_sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export_job::fixture::{direct, job, references, sink, source};
    use crate::export_job::validate::{validate, validate_cleanup};
    use kube::Resource;
    use pgexport_api::{ExportJob, ExportJobStatus};
    use serde_json::json;
    use std::sync::Arc;

    fn image() -> WorkerImage {
        WorkerImage {
            image: "example/pgexport:1.0.0".to_owned(),
            pull_policy: Some("IfNotPresent".to_owned()),
            pull_secrets: vec!["pull".to_owned()],
            log_filter: Some("info".to_owned()),
            defaults: serde_json::from_value(
                json!({"nodeSelector": {"pool": "batch"}, "priorityClassName": "batch"}),
            )
            .unwrap(),
            metadata_prefixes: Vec::new(),
            failpoints: false,
        }
    }

    fn rendered(
        job: &ExportJob,
        references: &super::super::dereference::References,
        child: Child,
    ) -> (Job, ConfigMap) {
        rendered_with(&image(), job, references, child)
    }

    fn rendered_with(
        image: &WorkerImage,
        job: &ExportJob,
        references: &super::super::dereference::References,
        child: Child,
    ) -> (Job, ConfigMap) {
        let run = validate("exports", job, references).unwrap();
        let status = ExportJobStatus {
            attempts: 1,
            location: Some(run.order.location()),
            staging: run.order.staging().map(|staging| staging.target.location()),
            ..ExportJobStatus::default()
        };
        let cleanup = validate_cleanup("exports", job, references, &status, &[]).unwrap();
        let work = match child.kind {
            ChildKind::Cleanup => Work::Cleanup { validated: &cleanup, part: CleanupPart::Everything },
            _ => Work::Run(&run),
        };
        let rendering = Rendering {
            namespace: "exports",
            owner: job.controller_owner_ref(&()).map(crate::job::apply::blocking).unwrap(),
            spec: &job.spec,
            work,
            image,
        };
        (rendering.job(child), rendering.config_map(child, "job-uid"))
    }

    #[test]
    fn a_staged_export() {
        let (job, config_map) = rendered(&job(&json!({})), &references(), Child::export(2));
        insta::assert_yaml_snapshot!("staged_export_job", job);
        insta::assert_yaml_snapshot!("staged_export_config_map", config_map);
    }

    #[test]
    fn a_direct_export_to_a_volume() {
        let volume = json!({"spec": {"s3": null, "volume": {"claimName": "exports", "path": "out/"}, "serviceAccountName": "writer"}});
        let references = super::super::dereference::References {
            sink: super::super::dereference::Reference::Found(Arc::new(sink("acme", &volume))),
            ..references()
        };
        let mut job = direct();
        job.spec.pod_template = serde_json::from_value(json!({
            "resources": {"limits": {"memory": "1Gi"}}, "nodeSelector": {"disk": "fast"}, "priorityClassName": "low",
            "tolerations": [{"key": "batch", "operator": "Exists"}]
        }))
        .unwrap();
        insta::assert_yaml_snapshot!("direct_export_job", rendered(&job, &references, Child::export(1)).0);
    }

    #[test]
    fn a_transfer() {
        insta::assert_yaml_snapshot!(
            "transfer_job",
            rendered(&job(&json!({})), &references(), Child::transfer(2, 1).rerun(1)).0
        );
    }

    #[test]
    fn authorities_may_stand_in_a_config_map_that_may_be_missing() {
        let patch = json!({"spec": {"serviceAccountName": "reader", "postgres": {
            "passwordSecretRef": null, "iamAuth": {"region": "eu-west-1"},
            "tls": {"caSecretRef": null, "caConfigMapRef": {"name": "rds-ca", "key": "bundle.pem"}}}}});
        let references = super::super::dereference::References {
            source: super::super::dereference::Reference::Found(Arc::new(source(&patch))),
            ..references()
        };
        let (pod, order) = rendered(&job(&json!({})), &references, Child::export(1));
        let pod = pod.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some("reader"));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let volumes = serde_json::to_value(&pod.volumes).unwrap();
        let mounted = json!({"name": "config-map-0", "configMap": {"name": "rds-ca", "optional": true,
            "items": [{"key": "bundle.pem", "path": "bundle.pem"}]}});
        assert!(volumes.as_array().unwrap().contains(&mounted), "{volumes:#}");
        assert!(!volumes.to_string().contains("findings-db"), "{volumes:#}");
        let mounts = serde_json::to_value(&pod.containers[0].volume_mounts).unwrap();
        assert!(mounts.to_string().contains("/var/run/pgexport/config-maps/rds-ca"), "{mounts:#}");
        assert!(order.data.unwrap()[order::ORDER_KEY].contains("\"iamAuth\":{\"region\":\"eu-west-1\"}"));
    }

    #[test]
    fn no_pod_is_told_of_failpoints_but_by_a_build_that_has_them() {
        for failpoints in [false, true] {
            let image = WorkerImage { failpoints, ..image() };
            let (pod, _) = rendered_with(&image, &job(&json!({})), &references(), Child::export(1));
            let pod = serde_json::to_string(&pod).unwrap();
            assert_eq!(pod.contains(pgexport_failpoint::VARIABLE), failpoints, "{pod}");
        }
    }

    #[test]
    fn a_cleanup() {
        let (cleanup, order) = rendered(&job(&json!({})), &references(), Child::cleanup(3));
        insta::assert_yaml_snapshot!("cleanup_job", cleanup);
        insta::assert_yaml_snapshot!("cleanup_config_map", order);
    }

    #[test]
    fn an_order_reads_back_with_the_attempts_number() {
        let (_, config_map) = rendered(&job(&json!({})), &references(), Child::export(7));
        let text = &config_map.data.unwrap()[order::ORDER_KEY];
        let order: Order = serde_json::from_str(text).unwrap();
        let Task::Run(run) = order.task else { panic!("not a run") };
        assert_eq!(run.run.attempt, 7);
        assert_eq!(run.token(), "0b0c1d2e-7");
    }

    #[test]
    fn no_order_holds_more_of_a_secret_than_its_name() {
        let (job, config_map) = rendered(&job(&json!({})), &references(), Child::export(1));
        let pod = serde_json::to_string(&job).unwrap();
        assert!(
            !pod.contains("secretKeyRef"),
            "a Secret in the environment would show in the pod's description"
        );
        assert!(config_map.data.unwrap()[order::ORDER_KEY].contains("\"passwordSecretRef\""));
    }
}
