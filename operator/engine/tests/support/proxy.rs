//! A proxy before an S3 server, which breaks connections, and holds requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use pgexport_api::sink::S3;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Backend, s3_target};

/// What happens before a request for an object is forwarded, of which the head is given.
type Before = Arc<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

/// After how many bytes more of answers a connection breaks, once the request with this head is forwarded.
type Cut = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// How connections are forwarded.
#[derive(Clone)]
pub struct Proxy {
    /// Each until the server has answered with so many bytes: the first number is for the first connection, and the last for
    /// all others.
    pub answers: &'static [u64],
    /// A connection's first answer comes so late.
    pub late: Duration,
    /// What requests for objects wait for.
    pub before: Before,
    /// Which of these break their connection.
    pub cut: Cut,
}

impl Default for Proxy {
    fn default() -> Self {
        let before: Before = Arc::new(|_| std::future::ready(()).boxed());
        Self { answers: &[u64::MAX], late: Duration::ZERO, before, cut: Arc::new(|_| None) }
    }
}

impl Proxy {
    /// The backend, by way of the proxy.
    pub async fn target(self, backend: &Backend) -> S3 {
        let Backend::S3 { peers, bucket } = backend else { unreachable!() };
        let endpoint = Some(self.endpoint(peers.s3.host).await);
        S3 { endpoint, ..s3_target(peers, bucket) }
    }

    /// The server's endpoint, by way of the proxy.
    pub async fn endpoint(self, server: SocketAddr) -> String {
        format!("http://{}", self.listen(server).await)
    }

    async fn listen(self, server: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for connection in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let answer = self.answers[connection.min(self.answers.len() - 1)];
                tokio::spawn(self.clone().forward(client, server, answer));
            }
        });
        address
    }

    async fn forward(self, client: TcpStream, server: SocketAddr, answer: u64) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
        let left = Arc::new(AtomicU64::new(answer));
        let (late, limit) = (self.late, left.clone());
        let requests = tokio::spawn(async move {
            let mut piece = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                // The client sends a request when the one before is answered, and its head at once.
                if piece.starts_with(b"GET ") || piece.starts_with(b"PUT ") {
                    let head = String::from_utf8_lossy(&piece[..length]).into_owned();
                    if let Some(bytes) = (self.cut)(&head) {
                        limit.store(bytes, SeqCst);
                    }
                    (self.before)(head).await;
                }
                if to_server.write_all(&piece[..length]).await.is_err() {
                    break;
                }
            }
        });
        tokio::time::sleep(late).await;
        let mut piece = vec![0; 64 << 10];
        loop {
            let room = piece.len().min(usize::try_from(left.load(SeqCst)).unwrap_or(usize::MAX));
            let Ok(length @ 1..) = from_server.read(&mut piece[..room]).await else { break };
            if to_client.write_all(&piece[..length]).await.is_err() {
                break;
            }
            left.fetch_sub(length as u64, SeqCst);
        }
        let _ = to_client.shutdown().await;
        requests.abort();
    }
}
