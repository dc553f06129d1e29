//! A connection that is logged in.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use pgexport_api::reason::Reason;
use pgexport_api::report::truncate;
use pgexport_api::source::Server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Connection, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::{Address, Greeting, MAX_APPLICATION_NAME};
use super::error::{Stage, classify};
use super::tap::{Outlet, Tap};
use super::{dial, setting};
use crate::error::{Error, Result};

/// How long a request to cancel may take, and a connection to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection with its settings made. Dropping it ends it: what runs on the server is cancelled, and nothing is left
/// behind but, for at most a few seconds, the task that says so to the server.
pub struct Session {
    client: Client,
    address: Address,
    canceller: Canceller,
    state: Arc<State>,
    /// Where rows of a COPY come out, for whoever copies.
    pub(super) outlet: Option<Outlet>,
    /// Known from the first moment after the login.
    pub(super) greeting: Option<Greeting>,
    _ends_the_task: DropGuard,
}

/// What the session and the task that drives its connection share.
#[derive(Debug, Default)]
struct State {
    /// Whether a statement is under way.
    busy: AtomicBool,
    /// Asks the task to cancel the statement.
    cancel: Notify,
    /// Set when the connection is over.
    closed: CancellationToken,
    /// Why it is over, where the connection itself said so.
    cause: Mutex<Option<(Reason, Option<String>, String)>>,
}

/// Encrypts connections to one host.
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) tls: MakeRustlsConnect,
    pub(super) host: String,
}

impl Encryption {
    /// What encrypts the next connection.
    pub(super) fn connect<S>(&self) -> <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut self.tls.clone(), &self.host);
        connect
    }
}

/// Cancels what runs on a connection, over a connection of its own to the same instance.
#[derive(Clone)]
struct Canceller {
    token: CancelToken,
    encryption: Encryption,
    peer: SocketAddr,
    address: Address,
}

impl Canceller {
    async fn cancel(self) -> Result<()> {
        let unanswered = || {
            let message = format!("{} did not answer to a cancellation", self.address);
            Error::new(Reason::DatabaseUnreachable, message)
        };
        let cancelling = async {
            let stream = dial::peer(self.peer).await.map_err(|error| unanswered().with_source(error))?;
            let sent = self.token.cancel_query_raw(stream, self.encryption.connect::<TcpStream>()).await;
            sent.map_err(|error| classify(error, Stage::Connect, &self.address, "cancelling the query"))
        };
        tokio::time::timeout(GOODBYE, cancelling).await.unwrap_or_else(|_| Err(unanswered()))
    }
}

impl Session {
    /// Drives the connection by a task of its own.
    pub(super) fn start<T>(
        client: Client,
        connection: Connection<Tap<TcpStream>, T>,
        encryption: Encryption,
        peer: SocketAddr,
        outlet: Outlet,
        address: Address,
    ) -> Self
    where
        T: TlsStream + Unpin + Send + 'static,
    {
        let state = Arc::new(State::default());
        let canceller =
            Canceller { token: client.cancel_token(), encryption, peer, address: address.clone() };
        let dropped = CancellationToken::new();
        let ends_the_task = dropped.clone().drop_guard();
        tokio::spawn({
            let (state, canceller, address) = (Arc::clone(&state), canceller.clone(), address.clone());
            async move {
                let ended = drive(connection, &state, canceller, dropped).await;
                if let Some(Err(error)) = ended {
                    let failure = classify(error, Stage::Run, &address, "the session ended").to_failure();
                    let cause = (failure.reason, failure.sql_state, failure.message);
                    *state.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                }
                state.closed.cancel();
            }
        });
        Self {
            client,
            address,
            canceller,
            state,
            outlet: Some(outlet),
            greeting: None,
            _ends_the_task: ends_the_task,
        }
    }

    /// The server, as it was at the login.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.greeting.as_ref().map(|greeting| &greeting.server)
    }

    /// Whether the server has a timeout for transactions: from PostgreSQL 17 on.
    pub(crate) fn has_transaction_timeout(&self) -> bool {
        self.greeting.as_ref().is_some_and(|greeting| greeting.version >= 170_000)
    }

    /// Cancels what runs on this connection. The server does not tell whether something ran.
    pub async fn cancel(&self) -> Result<()> {
        self.canceller.clone().cancel().await
    }

    /// Waits until the connection is over, and says why.
    pub async fn closed(&self) -> Error {
        self.state.closed.cancelled().await;
        self.cause().unwrap_or_else(|| {
            Error::new(Reason::ConnectionLost, format!("the connection to {} is closed", self.address))
        })
    }

    /// Ends the transaction. A statement that nobody awaits any more is cancelled first: the server would take the ROLLBACK
    /// only after it. It does not matter whether the server hears either, as nothing was written.
    pub(super) async fn roll_back(&self) {
        if self.state.busy.load(Relaxed) {
            let _ = self.cancel().await;
        }
        let _ =
            tokio::time::timeout(GOODBYE, self.batch(Stage::Run, "ending the transaction", "ROLLBACK")).await;
    }

    /// Ends the session in order, and waits for it.
    pub async fn close(self) {
        let Self { client, state, .. } = self;
        drop(client);
        let _ = tokio::time::timeout(GOODBYE, state.closed.cancelled()).await;
    }

    /// The pinned settings, and the name under which the server shows the session. A query can change any of them, so they
    /// are made again before each statement in which bytes or quotes matter.
    pub(crate) async fn pin(&self, application_name: &str) -> Result<()> {
        let application_name = truncate(application_name, MAX_APPLICATION_NAME);
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&application_name, Type::TEXT)];
        self.query(Stage::Run, "pinning the session's settings", &setting::pin(), parameters).await.map(drop)
    }

    /// The rows of a statement. `doing` says what it is for, in messages.
    pub(crate) async fn query(
        &self,
        stage: Stage,
        doing: &str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.watched(self.client.query_typed(sql, parameters))
            .await
            .map_err(|error| self.error(error, stage, doing))
    }

    /// The one row of a statement.
    pub(crate) async fn one(
        &self,
        stage: Stage,
        doing: &str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row> {
        let mut rows = self.query(stage, doing, sql, parameters).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::new(
                Reason::InternalError,
                format!("{doing}: the server returned another number of rows than one"),
            )),
        }
    }

    /// Runs statements that return nothing.
    pub(crate) async fn batch(&self, stage: Stage, doing: &str, sql: &str) -> Result<()> {
        self.watched(self.client.batch_execute(sql)).await.map_err(|error| self.error(error, stage, doing))
    }

    /// Awaits a statement; while that is not done, dropping the session cancels it.
    pub(crate) async fn watched<T>(&self, statement: impl Future<Output = T>) -> T {
        self.set_busy(true);
        let done = statement.await;
        self.set_busy(false);
        done
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Relaxed);
    }

    /// Cancels the statement under way, without waiting.
    pub(super) fn cancel_soon(&self) {
        self.state.cancel.notify_one();
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Classifies an error of this session's client.
    pub(crate) fn error(&self, error: tokio_postgres::Error, stage: Stage, doing: &str) -> Error {
        // The connection knows better why it is closed than the client who finds it so.
        match error.is_closed().then(|| self.cause()).flatten() {
            Some(cause) => cause,
            None => classify(error, stage, &self.address, doing),
        }
    }

    fn cause(&self) -> Option<Error> {
        let cause = self.state.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
        cause.map(|(reason, sql_state, message)| {
            let error = Error::new(reason, message);
            match sql_state {
                Some(sql_state) => error.with_sql_state(sql_state),
                None => error,
            }
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Moves bytes until the connection is over, or the session is dropped. `None`: the session was dropped first.
async fn drive<T>(
    mut connection: Connection<Tap<TcpStream>, T>,
    state: &State,
    canceller: Canceller,
    dropped: CancellationToken,
) -> Option<Result<(), tokio_postgres::Error>>
where
    T: TlsStream + Unpin,
{
    // Polled for its messages, and not as a future: that would log notices, in which functions may tell values.
    let mut connection = pin!(poll_fn(move |context| {
        loop {
            match ready!(connection.poll_message(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }));
    let mut cancelling = FuturesUnordered::new();
    loop {
        tokio::select! {
            ended = &mut connection => return Some(ended),
            () = state.cancel.notified() => cancelling.push(canceller.clone().cancel()),
            Some(_) = cancelling.next() => {}
            () = dropped.cancelled() => break,
        }
    }
    // A server that is computing rows does not notice that nobody listens any more, unless it is told.
    if state.busy.load(Relaxed) || !cancelling.is_empty() {
        let _ = canceller.cancel().await;
        return None;
    }
    let _ = tokio::time::timeout(GOODBYE, connection).await;
    None
}
