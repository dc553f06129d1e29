//! Encoding on a task of its own, so that copies side by side use as many cores.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use pgexport_api::reason::Reason;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::tap::Outlet;
use crate::encode::{Batch, Encoder};
use crate::error::{Error, Result};

/// Rows of one copy on their way from the outlet to batches. Dropped, the task ends and the outlet is closed.
#[derive(Debug)]
pub(super) struct Encoding {
    batches: mpsc::Receiver<Result<Batch>>,
    /// Says that the server has sent all; gone when that was said.
    ended: Option<oneshot::Sender<()>>,
    task: JoinHandle<Outlet>,
}

impl Encoding {
    /// Begins to encode what comes out, and counts its bytes. One batch waits for whoever takes it, and one for its place.
    pub(super) fn start(outlet: Outlet, encoder: Encoder, taken: Arc<AtomicU64>) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let (ended, end) = oneshot::channel();
        Self { batches, ended: Some(ended), task: tokio::spawn(encode(outlet, encoder, taken, sender, end)) }
    }

    /// The next batch. `None`: there is none, as the connection is over, or all that the server has sent is encoded.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        self.batches.poll_recv(context)
    }

    /// Says that the server has sent all: no more come out than are there.
    pub(super) fn end(&mut self) {
        if let Some(ended) = self.ended.take() {
            // The task has ended only where it has told why.
            let _ = ended.send(());
        }
    }

    /// Gives the outlet back, after the last batch.
    pub(super) fn poll_outlet(&mut self, context: &mut Context<'_>) -> Poll<Result<Outlet>> {
        let outlet = ready!(Pin::new(&mut self.task).poll_unpin(context));
        Poll::Ready(outlet.map_err(|error| {
            Error::new(Reason::InternalError, "the encoding of rows broke off").with_source(error)
        }))
    }
}

async fn encode(
    mut outlet: Outlet,
    mut encoder: Encoder,
    taken: Arc<AtomicU64>,
    batches: mpsc::Sender<Result<Batch>>,
    mut end: oneshot::Receiver<()>,
) -> Outlet {
    let mut ended = false;
    loop {
        let piece = if ended {
            outlet.next_ready()
        } else {
            tokio::select! {
                piece = outlet.next() => piece,
                said = &mut end => {
                    ended = said.is_ok();
                    if ended { continue } else { return outlet }
                }
            }
        };
        let last = piece.is_none();
        // A connection that is over may have been so after the server's last word, which the client tells.
        if last && !ended && (&mut end).await.is_err() {
            return outlet;
        }
        let mut piece = piece.as_deref().unwrap_or_default();
        taken.fetch_add(piece.len() as u64, Relaxed);
        loop {
            let batch = if last { encoder.finish() } else { encoder.push(&mut piece) };
            let failed = batch.is_err();
            if let Some(batch) = batch.transpose()
                && batches.send(batch).await.is_err()
            {
                return outlet;
            }
            if last || failed {
                return outlet;
            }
            if piece.is_empty() {
                break;
            }
        }
    }
}
