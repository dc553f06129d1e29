//! A receiver of webhooks over TLS, as tests need one: it keeps what it gets, and answers what it is told to.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What it answers where nothing else is asked for.
const ACCEPTED: &str = "204 No Content";
/// No request of a test is longer.
const MAX_REQUEST: usize = 64 * 1024;

/// A receiver. It ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    /// The authority that signs its certificate, as PEM.
    pub ca_pem: String,
    acceptor: Acceptor,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

/// TLS, without anything to show of it.
#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Acceptor")
    }
}

#[derive(Debug, Default)]
struct State {
    /// Connections on which TLS was agreed upon.
    handshakes: usize,
    received: Vec<Received>,
    answers: VecDeque<String>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The request line and the headers, as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header; its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether its signature holds, as Standard Webhooks define it, by this key alone.
    #[must_use]
    pub fn is_signed_by(&self, key: &[u8]) -> bool {
        let (Some(id), Some(time)) = (self.header("webhook-id"), self.header("webhook-timestamp")) else {
            return false;
        };
        let signed = [format!("{id}.{time}.").as_bytes(), &self.body].concat();
        let signature = format!("v1,{}", BASE64_STANDARD.encode(hmac_sha256(key, &signed)));
        self.header("webhook-signature") == Some(signature.as_str())
    }
}

/// HMAC-SHA256 as RFC 2104 defines it, for keys of at most 64 bytes, on another SHA-256 than the one that signs.
fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> {
        let mut block = key.to_vec();
        block.resize(64, 0);
        block.iter().map(|key| key ^ byte).collect()
    };
    let inner = Sha256::digest([&pad(0x36), data].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

impl Receiver {
    /// Receives on `listener` from now on.
    pub fn start(listener: std::net::TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (acceptor, ca_pem) = acceptor(address.ip()).map_err(std::io::Error::other)?;
        let (acceptor, state) = (Acceptor(acceptor), Arc::<Mutex<State>>::default());
        let task = spawn(listener, &acceptor, &state)?;
        Ok(Self { address, ca_pem, acceptor, state, task })
    }

    /// Nothing answers any more.
    pub fn down(&self) {
        self.task.abort();
    }

    /// It receives again, on a listener at its address.
    pub fn up(&mut self, listener: std::net::TcpListener) -> std::io::Result<()> {
        self.task = spawn(listener, &self.acceptor, &self.state)?;
        Ok(())
    }

    /// Its URL with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What the next requests are answered with, such as `503 Busy`, or a status and headers. Later ones are accepted.
    pub fn answer(&self, answers: &[&str]) {
        self.state().answers.extend(answers.iter().map(|&answer| answer.to_owned()));
    }

    /// What it has got so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// On how many connections TLS was agreed upon so far.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.state().handshakes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    listener: std::net::TcpListener,
    acceptor: &Acceptor,
    state: &Arc<Mutex<State>>,
) -> std::io::Result<AbortHandle> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(tokio::spawn(accept(listener, acceptor.0.clone(), Arc::clone(state))).abort_handle())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            lock(&state).handshakes += 1;
            let Some(received) = read(&mut stream).await else { return };
            let answer = {
                let mut state = lock(&state);
                state.received.push(received);
                state.answers.pop_front().unwrap_or_else(|| ACCEPTED.to_owned())
            };
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhushed");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

/// One request, whose body's length is told.
async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
            let received = Received { head, body: bytes[end + 4..].to_vec() };
            let length: usize = received.header("content-length")?.parse().ok()?;
            if received.body.len() >= length {
                return Some(received);
            }
        }
        if bytes.len() > MAX_REQUEST || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// TLS by a certificate for this address, and the authority that has signed it, as PEM.
pub fn acceptor(address: IpAddr) -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let ca_pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![address.to_string()])?
        .signed_by(&key, &Issuer::new(authority, authority_key))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca_pem))
}
