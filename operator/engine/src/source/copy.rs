//! A query's rows as a stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt as _};
use pgexport_api::job::Format;
use pgexport_api::reason::Reason;
use tokio_postgres::CopyOutStream;

use super::encoding::Encoding;
use super::error::Stage;
use super::session::Session;
use super::snapshot::Importer;
use super::tap::Outlet;
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
        let Self { session, spent, outlet, .. } = self;
        let session: &Session = session;
        let statement = copy_statement(query, format, &dataset.shapes);
        let starting = Box::pin(async move { session.client().copy_out(&statement).await });
        let encoder = Encoder::new(format, &dataset.columns, &dataset.shapes)?;
        let state = State::New(starting, Box::new(encoder));
        Ok(CopyStream { session, spent, outlet, state, taken: Arc::default() })
    }
}

/// Batches of a query's rows; see [`Importer::copy`].
pub struct CopyStream<'a> {
    session: &'a Session,
    /// See [`Importer::spent`].
    spent: &'a AtomicBool,
    /// See [`Importer::outlet`].
    outlet: &'a mut Option<Outlet>,
    state: State<'a>,
    /// Bytes of rows that have come out of the outlet.
    taken: Arc<AtomicU64>,
}

type Starting<'a> = Pin<Box<dyn Future<Output = Result<CopyOutStream, tokio_postgres::Error>> + Send + 'a>>;

enum State<'a> {
    /// Not begun.
    New(Starting<'a>, Box<Encoder>),
    /// The server plans, and computes its first rows.
    Starting(Starting<'a>, Encoding),
    /// Rows come out of the outlet. The client sees none, and tells the end.
    Running(Pin<Box<CopyOutStream>>, Encoding),
    /// No more come than are there.
    Draining(Encoding),
    /// All is over.
    Ended,
}

impl CopyStream<'_> {
    /// How many bytes of rows have come from the server.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Ends the stream; the importer lives on only after a whole copy, with the outlet for the next one.
    fn end(&mut self, outlet: Option<Outlet>) {
        self.state = State::Ended;
        self.session.set_busy(false);
        self.spent.store(outlet.is_none(), Relaxed);
        if let Some(outlet) = &outlet {
            outlet.set_open(false);
        }
        *self.outlet = outlet;
    }

    fn failed(&mut self, error: tokio_postgres::Error) -> Error {
        self.end(None);
        self.session.error(error, Stage::Run, DOING)
    }
}

impl<'a> Stream for CopyStream<'a> {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this: &mut CopyStream<'a> = &mut self;
        loop {
            match &mut this.state {
                State::New(..) => {
                    let Some(outlet) = this.outlet.take() else {
                        let error = Error::new(Reason::InternalError, "a connection copies twice at once");
                        return Poll::Ready(Some(Err(error)));
                    };
                    this.session.set_busy(true);
                    this.spent.store(true, Relaxed);
                    outlet.set_open(true);
                    if let State::New(starting, encoder) = std::mem::replace(&mut this.state, State::Ended) {
                        this.state = State::Starting(
                            starting,
                            Encoding::start(outlet, *encoder, Arc::clone(&this.taken)),
                        );
                    }
                }
                State::Starting(starting, _) => match ready!(starting.as_mut().poll(context)) {
                    Ok(rows) => {
                        if let State::Starting(_, encoding) = std::mem::replace(&mut this.state, State::Ended)
                        {
                            this.state = State::Running(Box::pin(rows), encoding);
                        }
                    }
                    Err(error) => return Poll::Ready(Some(Err(this.failed(error)))),
                },
                State::Running(rows, encoding) => {
                    // After an error of ours the server goes on sending: dropping the stream cancels it.
                    if let Poll::Ready(Some(batch)) = encoding.poll_next(context) {
                        return Poll::Ready(Some(batch));
                    }
                    match ready!(rows.poll_next_unpin(context)) {
                        Some(Ok(_)) => {
                            let error = Error::new(Reason::InternalError, "rows of a copy went astray");
                            return Poll::Ready(Some(Err(error)));
                        }
                        Some(Err(error)) => return Poll::Ready(Some(Err(this.failed(error)))),
                        None => {
                            encoding.end();
                            if let State::Running(_, encoding) =
                                std::mem::replace(&mut this.state, State::Ended)
                            {
                                this.state = State::Draining(encoding);
                            }
                        }
                    }
                }
                State::Draining(encoding) => {
                    match ready!(encoding.poll_next(context)) {
                        Some(Ok(batch)) => return Poll::Ready(Some(Ok(batch))),
                        Some(Err(error)) => {
                            this.end(None);
                            return Poll::Ready(Some(Err(error)));
                        }
                        None => {}
                    }
                    let outlet = ready!(encoding.poll_outlet(context));
                    let (outlet, error) = match outlet {
                        Ok(outlet) => (Some(outlet), None),
                        Err(error) => (None, Some(error)),
                    };
                    this.end(outlet);
                    return Poll::Ready(error.map(Err));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for CopyStream<'_> {
    fn drop(&mut self) {
        if matches!(self.state, State::Starting(..) | State::Running(..)) {
            self.session.cancel_soon();
        }
    }
}

impl std::fmt::Debug for CopyStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CopyStream").field("session", &self.session).finish_non_exhaustive()
    }
}
