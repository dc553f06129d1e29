//! Carries decisions out.

use kube::ResourceExt;

use super::decide::Action;
use super::render::Rendering;
use crate::context::Context;
use crate::error::ReconcileError;
use crate::job::apply::{delete_job, ensure_job, ensure_order};

/// Carries out `actions`. `rendering` is there for all that create something: only what is valid is decided to be created.
pub async fn apply(
    context: &Context,
    namespace: &str,
    owner_uid: &str,
    rendering: Option<&Rendering<'_>>,
    actions: &[Action],
) -> Result<(), ReconcileError> {
    let client = &context.client;
    for action in actions {
        match (action, rendering) {
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
                ensure_order(client, namespace, &rendering.config_map(*child, &uid)).await?;
            }
            (Action::EnsureOrder { child, uid }, Some(rendering)) => {
                ensure_order(client, namespace, &rendering.config_map(*child, uid)).await?;
            }
            (Action::DeleteJob { name, uid }, _) => delete_job(client, namespace, name, uid).await?,
            (Action::EnsureJob(_) | Action::EnsureOrder { .. }, None) => {}
        }
    }
    Ok(())
}
