//! Carries decisions out.

use kube::ResourceExt;
use pgexport_api::ExportJob;
use pgexport_failpoint as failpoint;

use super::decide::Action;
use super::finalizer;
use super::render::Rendering;
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::apply::{delete_job, ensure_job, ensure_order, order_exists};
use crate::job::order;

/// Carries out `actions`. `rendering` is there for all that create something: only what is valid is decided to be created.
pub async fn apply(
    context: &Context,
    namespace: &str,
    owner: &ExportJob,
    rendering: Option<&Rendering<'_>>,
    actions: &[Action],
) -> Result<(), ReconcileError> {
    let client = &context.client;
    let owner_uid = &owner.uid().unwrap_or_default();
    for action in actions {
        match (action, rendering) {
            (Action::Guard, _) => finalizer::add(client, namespace, owner).await?,
            (Action::Release, _) => finalizer::remove(client, namespace, owner).await?,
            (Action::EnsureJob(child), Some(rendering)) => {
                let job = rendering.job(*child);
                let uid = match ensure_job(client, namespace, &job).await {
                    Ok(uid) => uid,
                    Err(error) => {
                        context.refusals.note(owner_uid, &error);
                        return Err(error);
                    }
                };
                context.refusals.clear(owner_uid);
                tracing::debug!(namespace, job = job.name_any(), "the Job is there");
                failpoint::hit("apply::job_created", owner_uid).await;
                ensure_order(client, namespace, &rendering.config_map(*child, &uid)).await?;
                failpoint::hit("apply::order_created", owner_uid).await;
            }
            (Action::EnsureOrder { child, uid, sha256 }, Some(rendering)) => {
                let config_map = rendering.config_map(*child, uid);
                if sha256.as_ref() == Some(&order::sha256(&rendering.order(*child))) {
                    ensure_order(client, namespace, &config_map).await?;
                } else if !order_exists(client, namespace, &config_map).await? {
                    // What the Job was made for has changed before its worker was told: it would obey nothing else.
                    delete_job(client, namespace, &config_map.name_any(), uid).await?;
                }
            }
            (Action::DeleteJob { name, uid }, _) => {
                failpoint::hit("apply::deleting_job", owner_uid).await;
                delete_job(client, namespace, name, uid).await?;
            }
            (Action::EnsureJob(_) | Action::EnsureOrder { .. }, None) => {}
        }
    }
    Ok(())
}
