//! Tells the log of attempts, where there is one, how a worker's export begins and ends.

use std::sync::Arc;
use std::time::Duration;

use pgexport_api::reason::Reason;
use pgexport_api::source::Method;

use super::Context;
use crate::aurora::{Ledger, attempt, ledger};
use crate::error::{Error, Result};
use crate::source::{Session, application_name};

/// How long the end may take to be told: a worker that is stopped has little time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells that the attempt begins. A log that cannot be written keeps nobody from exporting.
///
/// # Errors
/// What would keep the export from beginning too: the database, or the writer that records its runs, cannot be reached.
pub(super) async fn begin(context: &Context) -> Result<()> {
    if !tells(context) || context.worker != 0 {
        return Ok(());
    }
    let Some((session, ledger)) = open(context).await? else { return Ok(()) };
    if let Err(error) = attempt::begin(&session, &ledger, &context.order.run).await {
        tracing::warn!(%error, "the attempt is not in pgexport.attempt");
    }
    close(session, ledger).await;
    Ok(())
}

/// Tells how the attempt has ended: that all of it is exported, or that this worker failed. That one of several workers was
/// stopped, while another one may take its place, is no end.
pub(super) async fn end(context: &Context, error: Option<&Error>) {
    let is_end = match error {
        None => context.worker == 0,
        Some(error) => context.worker == 0 || error.reason() != Reason::Interrupted,
    };
    if !tells(context) || !is_end {
        return;
    }
    let failure = error.map(Error::to_failure);
    let telling = async {
        let Some((session, ledger)) = open(context).await? else { return Ok(()) };
        let told = attempt::finish(&session, &ledger, &context.order.run, failure.as_ref()).await;
        close(session, ledger).await;
        told
    };
    match tokio::time::timeout(PATIENCE, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the attempt's outcome is not in pgexport.attempt"),
        Err(_) => tracing::warn!("the attempt's outcome is not in pgexport.attempt: it took too long"),
    }
}

fn tells(context: &Context) -> bool {
    context.order.source.method == Method::AuroraS3
}

/// A connection to the database, and where its attempts are recorded; `None` where they are not.
async fn open(context: &Context) -> Result<Option<(Session, Ledger)>> {
    let order = &context.order;
    let name = application_name(&order.run, &format!("attempt{}", context.worker));
    let session = context.connector.connect(&name).await?;
    let found = ledger::find(&session, &order.source, Arc::clone(&context.secrets), &name).await?;
    if let Some(ledger) = found.attempts() {
        return Ok(Some((session, ledger)));
    }
    session.close().await;
    Ok(None)
}

async fn close(session: Session, ledger: Ledger) {
    ledger.close().await;
    session.close().await;
}
