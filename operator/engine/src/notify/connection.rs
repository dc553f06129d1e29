//! The connection to a receiver.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pgexport_api::order::NamedReceiver;
use pgexport_api::reason::Reason;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::{self, Bundle};
use crate::error::{Error, Result};
use crate::secret::Secrets;

/// Where a receiver is. It shows itself without its path, which may be as good as a password.
pub(super) struct Address {
    origin: String,
    authority: Authority,
    path: String,
    over_tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.origin)
    }
}

impl Address {
    /// The address in the receiver's URL. The CRD's rules say the same.
    pub(super) fn of(receiver: &NamedReceiver) -> Result<Self> {
        let invalid = |why: &str| {
            let message = format!("ExportSink {}: spec.http.url {why}", receiver.name);
            Error::new(Reason::InvalidSpec, message)
                .with_hint("write a URL such as https://hooks.example.com/pgexport")
        };
        let uri: Uri = receiver.http.url.parse().map_err(|_| invalid("is no URL"))?;
        let over_tls = uri.scheme() == Some(&Scheme::HTTPS);
        if !over_tls && uri.scheme() != Some(&Scheme::HTTP) {
            return Err(invalid("does not begin with https://"));
        }
        if !over_tls && !receiver.http.allow_insecure {
            return Err(invalid("begins with http://, and spec.http.allowInsecure is not true"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("names no host"))?.clone();
        if authority.as_str().contains('@') {
            return Err(invalid("holds a user: name a token by spec.http.tokenSecretRef instead"));
        }
        let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { origin: receiver.http.origin().to_owned(), authority, path, over_tls })
    }

    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The host, an IPv6 address without its brackets.
    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.over_tls { 443 } else { 80 })
    }

    fn unreachable(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::new(Reason::ReceiverUnreachable, format!("{self} cannot be reached: {error}"))
            .with_source(error)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that nothing was sent over yet.
pub(super) struct Connection<'a> {
    address: &'a Address,
    stream: Box<dyn Stream>,
}

/// Connects, over TLS where the URL says so.
pub(super) async fn open<'a>(
    address: &'a Address,
    receiver: &NamedReceiver,
    secrets: &dyn Secrets,
) -> Result<Connection<'a>> {
    let tls = if address.over_tls { Some(connector(receiver, secrets)?) } else { None };
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(|error| address.unreachable(error))?;
    let Some(tls) = tls else { return Ok(Connection { address, stream: Box::new(stream) }) };
    let name = ServerName::try_from(address.host().to_owned()).map_err(|error| address.unreachable(error))?;
    let stream =
        tls.connect(name, stream).await.map_err(|error| handshake_failed(address, receiver, error))?;
    Ok(Connection { address, stream: Box::new(stream) })
}

impl Connection<'_> {
    /// Sends a request, and returns the status of the answer.
    pub(super) async fn post(self, request: Request<Full<Bytes>>) -> Result<StatusCode> {
        let broken = |error: hyper::Error| self.address.unreachable(error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        driver.abort();
        answer.map(|answer| answer.status()).map_err(broken)
    }
}

fn connector(receiver: &NamedReceiver, secrets: &dyn Secrets) -> Result<TlsConnector> {
    let roots = authority::roots(receiver.http.ca_secret_ref.as_ref().map(Bundle::Secret), secrets)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(Reason::InternalError, format!("TLS cannot be set up: {error}")).with_source(error)
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn handshake_failed(address: &Address, receiver: &NamedReceiver, error: io::Error) -> Error {
    let is_tls = error.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some());
    if !is_tls {
        return address.unreachable(error);
    }
    Error::new(Reason::TlsFailed, format!("{address}: the TLS handshake failed: {error}"))
        .with_hint(format!(
            "check the receiver's certificate; where a private authority has signed it, name that in spec.http.caSecretRef of ExportSink {}",
            receiver.name
        ))
        .with_source(error)
}
