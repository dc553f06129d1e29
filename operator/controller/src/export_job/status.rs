//! Writes an ExportJob's status: when it has changed, and for mere progress only every few seconds.

use std::time::Duration;

use kube::ResourceExt;
use pgexport_api::{ExportJob, ExportJobStatus};

use crate::context::Context;
use crate::error::ReconcileError;
use crate::status::{Written, replace};

/// How often a status is written that differs in nothing but progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Writes `status` where it differs from `prior`.
pub async fn write(
    context: &Context,
    namespace: &str,
    job: &ExportJob,
    prior: &ExportJobStatus,
    status: &ExportJobStatus,
) -> Result<Written, ReconcileError> {
    if status == prior {
        return Ok(Written::Unchanged);
    }
    let uid = job.uid().unwrap_or_default();
    if only_progress_differs(prior, status) && !context.progress_writes.is_due(&uid, PROGRESS_INTERVAL) {
        return Ok(Written::Unchanged);
    }
    let written =
        replace(&context.client, namespace, &ExportJob { status: Some(status.clone()), ..job.clone() })
            .await?;
    if written == Written::Done {
        context.progress_writes.mark(&uid);
    }
    Ok(written)
}

fn only_progress_differs(prior: &ExportJobStatus, status: &ExportJobStatus) -> bool {
    ExportJobStatus { progress: status.progress.clone(), ..prior.clone() } == *status
}
