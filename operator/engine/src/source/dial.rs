//! TCP connections to a server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pgexport_api::reason::Reason;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use super::connect::Address;
use crate::error::{Error, Result};

/// How long one address of the host may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Far below the 350 s after which cloud NATs and load balancers forget an idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// With [`KEEPALIVE_RETRIES`]: a peer that is gone is noticed two minutes after its last word.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;
/// How long what was sent may stay unacknowledged. Keepalives are not sent meanwhile.
const UNACKNOWLEDGED: Duration = Duration::from_mins(2);

/// Connects to the first address of the host that answers.
pub(super) async fn host(address: &Address) -> Result<TcpStream> {
    let unreachable = |error: io::Error| {
        Error::new(Reason::DatabaseUnreachable, format!("{address} cannot be reached: {error}"))
            .with_source(error)
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for peer in lookup_host((address.host.as_str(), address.port)).await.map_err(unreachable)? {
        match self::peer(peer).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

/// Connects to one address.
pub(super) async fn peer(peer: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(peer)).await??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}
