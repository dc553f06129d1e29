//! Renders the Jobs of probes, and carries decisions out.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use pgexport_api::order::Order;

use super::decide::{Action, LONGEST_RUN, LONGEST_START, job_name};
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::apply::{create_order, delete_job, ensure_job, ensure_order};
use crate::job::mount::Mounts;
use crate::job::order;
use crate::job::pod::WorkerImage;
use crate::job::render::{self, Blueprint, Policy};

/// What is the same for all probes of a source or sink.
#[derive(Clone, Debug)]
pub struct Rendering<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// A reference to it.
    pub owner: OwnerReference,
    /// What pods see.
    pub mounts: Mounts,
    /// What they are told.
    pub order: Order,
    /// What they run.
    pub image: &'a WorkerImage,
}

impl Rendering<'_> {
    /// The Job of a number.
    #[must_use]
    pub fn job(&self, number: u32) -> Job {
        let name = self.name(number);
        render::job(&self.blueprint(&name, number, &order::sha256(&self.order)))
    }

    /// The ConfigMap of the Job of a number, once the Job has a uid.
    #[must_use]
    pub fn config_map(&self, number: u32, job_uid: &str) -> ConfigMap {
        let name = self.name(number);
        order::config_map(
            self.namespace,
            &name,
            job_uid,
            render::labels(&self.blueprint(&name, number, "")),
            &self.order,
        )
    }

    fn name(&self, number: u32) -> String {
        job_name(&self.owner.name, &self.owner.uid, number)
    }

    fn blueprint<'a>(&'a self, name: &'a str, number: u32, order_sha256: &'a str) -> Blueprint<'a> {
        Blueprint {
            name,
            namespace: self.namespace,
            owner: self.owner.clone(),
            attempt: number,
            policy: Policy::Probe,
            deadline: LONGEST_START.saturating_add(LONGEST_RUN),
            mounts: &self.mounts,
            template: None,
            image: self.image,
            order_sha256,
        }
    }
}

/// Carries out `actions`.
pub async fn apply(
    context: &Context,
    rendering: &Rendering<'_>,
    actions: &[Action],
) -> Result<(), ReconcileError> {
    let (client, namespace) = (&context.client, rendering.namespace);
    for action in actions {
        match action {
            Action::EnsureJob(number) => {
                let uid = match ensure_job(client, namespace, &rendering.job(*number)).await {
                    Ok(uid) => uid,
                    Err(error) => {
                        context.refusals.note(&rendering.owner.uid, &error);
                        return Err(error);
                    }
                };
                create_order(client, namespace, &rendering.config_map(*number, &uid)).await?;
            }
            Action::EnsureOrder { number, uid } => {
                ensure_order(client, namespace, &rendering.config_map(*number, uid)).await?;
            }
            Action::DeleteJob { name, uid } => delete_job(client, namespace, name, uid).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::apply::blocking;
    use kube::Resource;
    use pgexport_api::order::{NamedSource, Task};
    use pgexport_api::{ExportSource, naming};
    use serde_json::json;

    #[test]
    fn a_probe_of_a_source() {
        let source: ExportSource = serde_json::from_value(json!({
            "apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportSource",
            "metadata": {"name": "findings-db", "namespace": "exports", "uid": "50c5e0d1-1111"},
            "spec": {"postgres": {"host": "db.example.com", "database": "findings", "user": "exporter",
                "passwordSecretRef": {"name": "findings-db", "key": "password"}}, "serviceAccountName": "reader"}
        }))
        .unwrap();
        let postgres = source.spec.postgres.clone();
        let defaults = serde_json::from_value(json!({
            "resources": {"limits": {"cpu": "2", "memory": "256Mi"}},
            "tolerations": [{"key": "batch", "operator": "Exists"}]
        }))
        .unwrap();
        let image =
            WorkerImage { image: "example/pgexport:1.0.0".to_owned(), defaults, ..WorkerImage::default() };
        let rendering = Rendering {
            namespace: "exports",
            owner: source.controller_owner_ref(&()).map(blocking).unwrap(),
            mounts: Mounts::default().with_source(&postgres, source.spec.service_account_name.as_deref()),
            order: Order::new(Task::ProbeSource(Box::new(NamedSource::new("findings-db", &source.spec)))),
            image: &image,
        };
        let job = rendering.job(3);
        assert_eq!(job.metadata.labels.as_ref().unwrap()[naming::ATTEMPT_LABEL], "3");
        insta::assert_yaml_snapshot!("source_probe_job", job);
        insta::assert_yaml_snapshot!("source_probe_config_map", rendering.config_map(3, "job-uid"));
    }
}
