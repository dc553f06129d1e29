//! Each chunk in a transaction of its own: no snapshot is held, so whoever comes goes on with what is left. Plan and sidecars
//! are the run's, over all attempts.

use pgexport_api::reason::Reason;
use pgexport_api::report::Exported;

use super::staged::{all_finished, export_rest, totals};
use super::{Context, begin};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::staging::Staging;
use crate::store::Put;

/// Worker 0: plans where nobody has, exports what is left of its share, and waits for the others'.
pub(super) async fn lead(context: &Context, staging: &Staging) -> Result<Exported> {
    let plan = plan(context, staging).await?;
    export_rest(context, staging, &plan).await?;
    tracing::info!("this worker's chunks are exported; waiting for the others'");
    all_finished(context, staging, &plan).await?;
    totals(context, &plan, &staging.sidecars().await?)
}

/// The run's plan: the first that is written.
async fn plan(context: &Context, staging: &Staging) -> Result<Plan> {
    if let Some(plan) = staging.plan().await? {
        tracing::info!(chunks = plan.chunks.len(), "going on with the plan of before");
        return Ok(plan);
    }
    let (holder, plan) = begin(context).await?;
    // What planning locked is let go: each chunk looks for itself whether its table is the planned one.
    holder.finish().await;
    match staging.create_plan(&plan).await? {
        Put::Written => Ok(plan),
        Put::Exists => staging
            .plan()
            .await?
            .ok_or_else(|| Error::new(Reason::InternalError, "the staging's plan was there, and is gone")),
    }
}
