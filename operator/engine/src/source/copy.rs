//! A query's rows as a stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use pgexport_api::job::Format;
use pgexport_api::reason::Reason;
use tokio_postgres::CopyOutStream;

use super::error::Stage;
use super::snapshot::Importer;
use crate::encode::{Batch, Encoder, copy_statement};
use crate::error::{Error, Result};
use crate::plan::PlannedDataset;

/// How a failing query is named in messages.
const DOING: &str = "the query failed";

impl Importer {
    /// A stream of a chunk's rows; `dataset` describes their columns. The query runs from the stream's first poll on.
    ///
    /// Nothing is read ahead but what fits the connection's buffers: whoever is slow to take batches slows the server
    /// down. A stream that is dropped before its end cancels the query at the server; such a stream, and one that ends in
    /// an error, leaves the importer of no further use.
    pub async fn copy(
        &mut self,
        query: &str,
        format: &Format,
        dataset: &PlannedDataset,
    ) -> Result<CopyStream<'_>> {
        if self.spent.load(Relaxed) {
            let message = "this connection's transaction has failed; join the snapshot anew";
            return Err(Error::new(Reason::InternalError, message));
        }
        self.session.pin(&self.application_name).await?;
        let importer: &Self = self;
        let statement = copy_statement(query, format, &dataset.shapes);
        let starting = Box::pin(async move { importer.session.client().copy_out(&statement).await });
        let encoder = Encoder::new(format, &dataset.columns, &dataset.shapes);
        Ok(CopyStream { importer, state: State::New(starting), message: Bytes::new(), encoder })
    }
}

/// Batches of a query's rows; see [`Importer::copy`].
pub struct CopyStream<'a> {
    importer: &'a Importer,
    state: State<'a>,
    /// What has not been encoded of the last message.
    message: Bytes,
    encoder: Encoder,
}

type Starting<'a> = Pin<Box<dyn Future<Output = Result<CopyOutStream, tokio_postgres::Error>> + Send + 'a>>;

enum State<'a> {
    /// Not begun.
    New(Starting<'a>),
    /// The server plans, and computes its first rows.
    Starting(Starting<'a>),
    /// Rows come.
    Running(Pin<Box<CopyOutStream>>),
    /// All is over.
    Ended,
}

impl CopyStream<'_> {
    /// Ends the stream; the importer lives on only after a whole copy.
    fn end(&mut self, whole: bool) {
        self.state = State::Ended;
        self.importer.session.set_busy(false);
        self.importer.spent.store(!whole, Relaxed);
    }

    /// Encodes the message, or enough of it for a batch.
    fn encode(&mut self) -> Result<Option<Batch>> {
        let mut piece = &*self.message;
        let batch = self.encoder.push(&mut piece);
        let left = if batch.is_ok() { piece.len() } else { 0 };
        self.message.advance(self.message.len() - left);
        batch
    }

    fn failed(&mut self, error: tokio_postgres::Error) -> Error {
        self.end(false);
        self.importer.session.error(error, Stage::Run, DOING)
    }
}

impl<'a> Stream for CopyStream<'a> {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this: &mut CopyStream<'a> = &mut self;
        loop {
            if !this.message.is_empty() {
                // After an error of ours the server goes on sending: dropping the stream cancels it.
                if let Some(batch) = this.encode().transpose() {
                    return Poll::Ready(Some(batch));
                }
            }
            match &mut this.state {
                State::New(_) => {
                    this.importer.session.set_busy(true);
                    this.importer.spent.store(true, Relaxed);
                    if let State::New(starting) = std::mem::replace(&mut this.state, State::Ended) {
                        this.state = State::Starting(starting);
                    }
                }
                State::Starting(starting) => match ready!(starting.as_mut().poll(context)) {
                    Ok(rows) => this.state = State::Running(Box::pin(rows)),
                    Err(error) => return Poll::Ready(Some(Err(this.failed(error)))),
                },
                State::Running(rows) => match ready!(rows.poll_next_unpin(context)) {
                    Some(Ok(message)) => this.message = message,
                    Some(Err(error)) => return Poll::Ready(Some(Err(this.failed(error)))),
                    None => {
                        let last = this.encoder.finish();
                        this.end(last.is_ok());
                        return Poll::Ready(last.transpose());
                    }
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for CopyStream<'_> {
    fn drop(&mut self) {
        if matches!(self.state, State::Starting(_) | State::Running(_)) {
            self.importer.session.cancel_soon();
        }
    }
}

impl std::fmt::Debug for CopyStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CopyStream").field("importer", &self.importer).finish_non_exhaustive()
    }
}
