//! Carries decisions out.

use kube::ResourceExt;
use pgexport_api::ExportJob;
use pgexport_failpoint as failpoint;

use super::decide::Action;
use super::finalizer;
use super::render::Renderings;
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::apply::{create_order, delete_job, ensure_job, ensure_order, order_exists};
use crate::job::order;

/// Carries out `actions`. What fails keeps nothing else from being done, but that nothing is made of what has no finalizer.
pub async fn apply(
    context: &Context,
    namespace: &str,
    owner: &ExportJob,
    renderings: &Renderings<'_>,
    actions: &[Action],
) -> Result<(), ReconcileError> {
    let mut result = Ok(());
    for action in actions {
        let done = carry_out(context, namespace, owner, renderings, action).await;
        if done.is_err() && *action == Action::Guard {
            return done;
        }
        result = result.and(done);
    }
    result
}

async fn carry_out(
    context: &Context,
    namespace: &str,
    owner: &ExportJob,
    renderings: &Renderings<'_>,
    action: &Action,
) -> Result<(), ReconcileError> {
    let client = &context.client;
    let owner_uid = &owner.uid().unwrap_or_default();
    match action {
        Action::Guard => finalizer::add(client, namespace, owner).await,
        Action::Release => finalizer::remove(client, namespace, owner).await,
        Action::EnsureJob(child) => {
            let Some(job) = renderings.job(*child) else { return Ok(()) };
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
            if let Some(config_map) = renderings.config_map(*child, &uid) {
                create_order(client, namespace, &config_map).await?;
            }
            failpoint::hit("apply::order_created", owner_uid).await;
            Ok(())
        }
        Action::EnsureOrder { child, uid, sha256 } => {
            let (Some(config_map), Some(order)) =
                (renderings.config_map(*child, uid), renderings.order(*child))
            else {
                return Ok(());
            };
            if sha256.as_ref() == Some(&order::sha256(&order)) {
                ensure_order(client, namespace, &config_map).await?;
            } else if !order_exists(client, namespace, &config_map).await? {
                // What the Job was made for has changed before its worker was told: it would obey nothing else.
                delete_job(client, namespace, &config_map.name_any(), uid).await?;
            }
            Ok(())
        }
        Action::DeleteJob { name, uid } => {
            failpoint::hit("apply::deleting_job", owner_uid).await;
            delete_job(client, namespace, name, uid).await
        }
    }
}
