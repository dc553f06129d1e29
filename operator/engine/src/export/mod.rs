//! An export: the plan, this worker's share of the chunks, and where they go.
//!
//! Worker 0 takes the snapshot, plans, and holds the snapshot until every chunk of every worker is exported. When it goes,
//! the attempt goes with it; any other worker can be replaced. Where each chunk is read in a transaction of its own, there is
//! no snapshot, and whoever comes goes on with what is left.

mod attempt;
mod aurora;
mod chunk_file;
mod direct;
pub(crate) mod expect;
mod per_chunk;
mod share;
mod staged;

use std::sync::Arc;

use pgexport_api::job::DatasetChunks;
use pgexport_api::order::{DeliveryPath, RunOrder};
use pgexport_api::reason::Reason;
use pgexport_api::report::{Delivered, Outcome};
use pgexport_api::source::Method;
use pgexport_failpoint as failpoint;
use tokio_util::sync::CancellationToken;

use crate::aurora::Extension;
use crate::error::{Error, Result};
use crate::manifest::{Arrival, arrive};
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::secret::Secrets;
use crate::source::{Connector, Holder, application_name, load, privilege, settle};
use crate::store::{self, Volumes};

/// What a worker has to work with.
#[derive(Clone, Debug)]
pub struct Context {
    /// What is to be done.
    pub order: RunOrder,
    /// The number of this worker, from 0.
    pub worker: u32,
    /// Opens all connections to the source: what it knows of a login is asked for once.
    pub connector: Connector,
    /// Where Secrets come from.
    pub secrets: Arc<dyn Secrets>,
    /// Where PersistentVolumeClaims are.
    pub volumes: Volumes,
    /// What this worker counts.
    pub progress: Arc<Progress>,
    /// Cancelled when the worker is asked to stop.
    pub cancel: CancellationToken,
}

/// Exports this worker's share, and says how it ended. Stopped or failed, it leaves no upload and no query behind.
pub async fn run(context: Context) -> Result<Outcome> {
    match context.order.delivery.clone() {
        DeliveryPath::Direct => direct::run(&context).await.map(Outcome::Delivered),
        DeliveryPath::Staged { staging } => {
            if let Some(delivered) = look_ahead(&context).await? {
                let is_leader = context.worker == 0;
                return Ok(if is_leader { Outcome::Delivered(delivered) } else { Outcome::ShareExported });
            }
            // Boxed, both, as they are large futures, and most exports have no log.
            let begun = context.cancel.run_until_cancelled(Box::pin(attempt::begin(&context))).await;
            begun.unwrap_or_else(|| Err(interrupted()))?;
            let exported = if context.worker == 0 {
                staged::lead(&context, &staging).await.map(Outcome::Exported)
            } else {
                staged::follow(&context, &staging).await.map(|()| Outcome::ShareExported)
            };
            Box::pin(attempt::end(&context, exported.as_ref().err())).await;
            let exported = exported?;
            failpoint::hit("export::exported", &context.order.run.uid).await;
            Ok(exported)
        }
    }
}

/// Looks, before all the work, whether there is any to do: the transfer would only find out after it. Each worker looks for
/// itself, as none of them waits for a plan that is not made.
async fn look_ahead(context: &Context) -> Result<Option<Delivered>> {
    let order = &context.order;
    if !order.looks_ahead {
        return Ok(None);
    }
    let sink = store::open(&order.sink.target, Arc::clone(&context.secrets), &context.volumes)?;
    Ok(match arrive(sink.as_ref(), order).await? {
        Arrival::Delivered(delivered) => Some(delivered),
        Arrival::Open(_) => None,
    })
}

/// What a run would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The plan. Its snapshot is gone.
    pub plan: Plan,
    /// The query of each chunk, with parameters as placeholders.
    pub queries: Vec<String>,
}

/// Connects and plans, and exports nothing.
pub async fn preview(
    order: &RunOrder,
    secrets: Arc<dyn Secrets>,
    cancel: &CancellationToken,
) -> Result<Preview> {
    let connector = Connector::new(&order.source.postgres, secrets);
    let (holder, plan) = hold(order, &connector, "plan", cancel).await?;
    holder.finish().await;
    let queries = plan
        .chunks
        .iter()
        .map(|chunk| plan::chunk_query_with_placeholders(order, &plan, chunk))
        .collect::<Result<_>>()?;
    Ok(Preview { plan, queries })
}

/// Takes the snapshot and plans.
async fn begin(context: &Context) -> Result<(Holder, Plan)> {
    let (holder, plan) = hold(&context.order, &context.connector, "snapshot", &context.cancel).await?;
    tracing::info!(chunks = plan.chunks.len(), snapshot_time = %plan.time, "planned");
    for dataset in plan.chunking() {
        let DatasetChunks { dataset, strategy, chunks, reason } = dataset;
        tracing::info!(dataset, ?strategy, chunks, reason, "split");
    }
    context.progress.planned(u32::try_from(plan.chunks.len()).unwrap_or(u32::MAX));
    failpoint::hit("export::planned", &context.order.run.uid).await;
    Ok((holder, plan))
}

/// Takes the snapshot and plans; `role` tells the connection from the run's other ones. Without a plan, the snapshot is let
/// go.
async fn hold(
    order: &RunOrder,
    connector: &Connector,
    role: &str,
    cancel: &CancellationToken,
) -> Result<(Holder, Plan)> {
    let name = application_name(&order.run, role);
    let holding = async {
        let session = connector.connect(&name).await?;
        load::check(&session, &order.source).await?;
        if let Some(window) = &order.window {
            settle::wait(&session, window, settle::PATIENCE).await?;
        }
        if order.source.method == Method::AuroraS3 {
            Extension::find(&session, order.source.kms_key_id.is_some()).await?;
        }
        Holder::begin_on(session, &name).await
    };
    let holder = tokio::select! {
        holder = holding => holder?,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    let planning = async {
        privilege::check(holder.session(), &order.source).await?;
        plan::make(&holder, order).await
    };
    let plan = tokio::select! {
        plan = planning => plan,
        () = cancel.cancelled() => Err(interrupted()),
    };
    match plan {
        Ok(plan) => Ok((holder, plan)),
        Err(error) => {
            holder.finish().await;
            Err(error)
        }
    }
}

/// Exports chunks while the snapshot is held. When its connection breaks, `stop` is cancelled, so that the chunks that are
/// under way are given up.
async fn export_while_held<T>(
    holder: &Holder,
    stop: &CancellationToken,
    export: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(export);
    tokio::select! {
        exported = &mut export => exported,
        lost = holder.closed() => {
            stop.cancel();
            // Chunks that were read to their end were read from the snapshot.
            export.await.map_err(|_| lost)
        }
    }
}

/// The worker was asked to stop.
fn interrupted() -> Error {
    Error::new(Reason::Interrupted, "the worker was stopped before it was done")
}
