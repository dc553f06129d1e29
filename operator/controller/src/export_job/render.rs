//! Renders the Job and the ConfigMap of an attempt. No I/O, and no way to fail.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use pgexport_api::job::{ChildKind, ExportJobSpec};
use pgexport_api::order::{DeliveryPath, Order, Task};

use super::child::Child;
use super::validate::Validated;
use crate::job::order;
use crate::job::pod::WorkerImage;
use crate::job::render::{self, Blueprint, Policy};

/// What is the same for all Jobs of an ExportJob.
#[derive(Clone, Debug)]
pub struct Rendering<'a> {
    /// The ExportJob's namespace.
    pub namespace: &'a str,
    /// A reference to it.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: &'a ExportJobSpec,
    /// What is to be done.
    pub validated: &'a Validated,
    /// What pods run.
    pub image: &'a WorkerImage,
}

impl Rendering<'_> {
    /// The Job of `child`.
    #[must_use]
    pub fn job(&self, child: Child) -> Job {
        let name = self.name(child);
        render::job(&self.blueprint(child, &name))
    }

    /// The ConfigMap of the Job of `child`, once the Job has a uid.
    #[must_use]
    pub fn config_map(&self, child: Child, job_uid: &str) -> ConfigMap {
        let name = self.name(child);
        let mut run = self.validated.order.clone();
        run.run.attempt = child.attempt;
        let labels = render::labels(&self.blueprint(child, &name));
        order::config_map(self.namespace, &name, job_uid, labels, &Order::new(Task::Run(Box::new(run))))
    }

    fn name(&self, child: Child) -> String {
        child.name(&self.owner.name, &self.owner.uid)
    }

    fn blueprint<'a>(&'a self, child: Child, name: &'a str) -> Blueprint<'a> {
        let Validated { order, export_mounts, transfer_mounts, .. } = self.validated;
        let (policy, mounts, deadline) = match (child.kind, &order.delivery) {
            (ChildKind::Transfer, _) => (Policy::Transfer, transfer_mounts, self.spec.deadlines.transfer),
            (ChildKind::Export, DeliveryPath::Direct) => {
                (Policy::DirectExport, export_mounts, self.spec.deadlines.run)
            }
            (ChildKind::Export, DeliveryPath::Staged { .. }) => {
                (Policy::StagedExport { workers: order.workers }, export_mounts, self.spec.deadlines.run)
            }
        };
        Blueprint {
            name,
            namespace: self.namespace,
            owner: self.owner.clone(),
            attempt: child.attempt,
            policy,
            deadline: Duration::from(deadline),
            mounts,
            template: self.spec.pod_template.as_ref(),
            image: self.image,
        }
    }
}
