//! Takes the rows of a COPY out of a connection's bytes before the client sees them.
//!
//! tokio-postgres makes an allocation and a hop between tasks of each row, and holds each row as a whole. Here the
//! `CopyData` messages leave the stream in pieces of some tens of KiB, cut anywhere but in a message's head, and the client
//! sees a COPY without rows: its beginning, and its end or error, after all rows before it were taken. Whoever takes pieces
//! slowly slows the server down. (PostgreSQL's documentation, "Message Formats": a byte of type, and a length that counts
//! itself.)
//!
//! A piece is a part of the buffer that was read into: nothing is copied. So the messages' heads are still in it, and
//! [`Payloads`] steps over them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::PollSender;

/// How much is handed on at once, if it is there.
const PIECE: usize = 64 * 1024;
/// A buffer with less room than this is not read into any more: a TLS record has at most as much.
const LEAST_ROOM: usize = 16 * 1024;
/// How many pieces wait for whoever takes them.
const PIECES: usize = 2;
/// The length of a message's type and length.
const HEAD: usize = 5;
const COPY_DATA: u8 = b'd';

/// Where the rows come out. Dropped, what still comes is thrown away.
#[derive(Debug)]
pub(super) struct Outlet {
    open: Arc<AtomicBool>,
    pieces: mpsc::Receiver<Bytes>,
}

impl Outlet {
    /// From here on, rows come out here and not at the client, or the other way round. While nothing is copied.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Relaxed);
    }

    /// The next piece, for [`Payloads`]. `None`: the connection is over. A wait that is given up loses none.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// A piece that is there already. When the client has told the end of a COPY, all of its pieces are.
    pub(super) fn next_ready(&mut self) -> Option<Bytes> {
        self.pieces.try_recv().ok()
    }
}

/// Where the rows leave the stream.
#[derive(Debug)]
pub(super) struct Valve {
    open: Arc<AtomicBool>,
    pieces: PollSender<Bytes>,
}

/// A valve, and where what it lets out arrives.
pub(super) fn valve() -> (Valve, Outlet) {
    let open = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel(PIECES);
    let valve = Valve { open: Arc::clone(&open), pieces: PollSender::new(sender) };
    (valve, Outlet { open, pieces: receiver })
}

/// A stream of the server's messages. Without a valve it is left as it is.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    valve: Option<Valve>,
    /// What was read: messages with rows, and behind them what was not looked at.
    input: BytesMut,
    /// How many bytes at the front of it are to leave.
    rows: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a message.
    Head,
    /// In a message for the client, with so many bytes to come.
    Message(usize),
    /// In a `CopyData` message, with so many bytes to come.
    Row(usize),
}

/// The payloads in pieces that came out of an [`Outlet`].
#[derive(Debug, Default)]
pub(super) struct Payloads {
    /// What is left of the message that the last piece ended in.
    left: usize,
}

impl Payloads {
    /// Takes the next payload, or what the piece has of it, from the piece's front.
    #[inline]
    pub(super) fn next<'a>(&mut self, piece: &mut &'a [u8]) -> Option<&'a [u8]> {
        while self.left == 0 {
            // A head is never cut.
            let ([_, length @ ..], rest) = piece.split_first_chunk::<HEAD>()?;
            *piece = rest;
            self.left = (u32::from_be_bytes(*length) as usize).saturating_sub(HEAD - 1);
        }
        if piece.is_empty() {
            return None;
        }
        let (payload, rest) = piece.split_at(self.left.min(piece.len()));
        *piece = rest;
        self.left -= payload.len();
        Some(payload)
    }
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, valve: Option<Valve>) -> Self {
        Self { stream, valve, input: BytesMut::new(), rows: 0, place: Place::Head }
    }
}

impl<S: AsyncRead + Unpin> Tap<S> {
    /// Sorts what was read, until the client's buffer is full or nothing is left to look at.
    fn poll_sort(
        &mut self,
        valve: &mut Valve,
        context: &mut Context<'_>,
        client: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Some(unseen) = self.input.get(self.rows..).filter(|unseen| !unseen.is_empty()) else {
                return Poll::Ready(Ok(()));
            };
            match self.place {
                Place::Head => {
                    let Some(&[kind, ref length @ ..]) = unseen.first_chunk::<HEAD>() else { break };
                    let Some(payload) = (u32::from_be_bytes(*length) as usize).checked_sub(HEAD - 1) else {
                        let error = io::Error::new(io::ErrorKind::InvalidData, "a message without a length");
                        return Poll::Ready(Err(error));
                    };
                    if kind == COPY_DATA && valve.open.load(Relaxed) {
                        self.rows += HEAD;
                        self.place = if payload == 0 { Place::Head } else { Place::Row(payload) };
                    } else {
                        // Rows arrive before whatever the client is told after them.
                        ready!(self.poll_let_out(valve, context));
                        self.place = Place::Message(payload + HEAD);
                    }
                }
                Place::Row(left) => {
                    let here = left.min(unseen.len());
                    if self.rows >= PIECE {
                        ready!(self.poll_let_out(valve, context));
                    }
                    self.rows += here;
                    self.place = if here == left { Place::Head } else { Place::Row(left - here) };
                }
                Place::Message(_) if client.remaining() == 0 => break,
                Place::Message(left) => {
                    // Nothing is to leave before it.
                    let here = left.min(unseen.len()).min(client.remaining());
                    client.put_slice(&unseen[..here]);
                    self.input.advance(here);
                    self.place = if here == left { Place::Head } else { Place::Message(left - here) };
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the rows out that are there.
    fn poll_let_out(&mut self, valve: &mut Valve, context: &mut Context<'_>) -> Poll<()> {
        if self.rows == 0 {
            return Poll::Ready(());
        }
        let room = ready!(valve.pieces.poll_reserve(context));
        let rows = self.input.split_to(std::mem::take(&mut self.rows)).freeze();
        if room.is_ok() {
            // There is room, and who takes them away now loses them as before. Otherwise nobody takes them any more.
            let _ = valve.pieces.send_item(rows);
        }
        Poll::Ready(())
    }

    /// Makes room to read into. What stands in the buffer leaves it first, so that it need not be copied.
    fn poll_make_room(&mut self, valve: &mut Valve, context: &mut Context<'_>) -> Poll<()> {
        if self.input.capacity() - self.input.len() < LEAST_ROOM {
            ready!(self.poll_let_out(valve, context));
            self.input.reserve(PIECE + LEAST_ROOM);
        }
        Poll::Ready(())
    }

    fn poll_read_through(
        &mut self,
        valve: &mut Valve,
        context: &mut Context<'_>,
        client: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = client.filled().len();
        loop {
            let sorted = self.poll_sort(valve, context, client)?;
            // What the client has got is its own, though more waits for its turn: nobody reads what comes with `Pending`.
            if client.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            ready!(sorted);
            ready!(self.poll_make_room(valve, context));
            match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input)? {
                Poll::Ready(0) => {
                    ready!(self.poll_let_out(valve, context));
                    // The client shall see a message that broke off as that.
                    let rest = self.input.split_to(self.input.len().min(client.remaining()));
                    client.put_slice(&rest);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    // Rows that are there are not kept waiting for others.
                    let _ = self.poll_let_out(valve, context);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        client: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(mut valve) = this.valve.take() else {
            return Pin::new(&mut this.stream).poll_read(context, client);
        };
        let read = this.poll_read_through(&mut valve, context, client);
        this.valve = Some(valve);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Makes connections over TLS whose bytes pass a tap.
pub(super) struct TapTls<T> {
    pub(super) tls: T,
    pub(super) valve: Option<Valve>,
}

impl<S, T> TlsConnect<S> for TapTls<T>
where
    T: TlsConnect<S>,
    T::Stream: Unpin,
    T::Future: Send + 'static,
    T::Error: 'static,
{
    type Stream = Tap<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { tls, valve } = self;
        let connecting = tls.connect(stream);
        Box::pin(async move { Ok(Tap::new(connecting.await?, valve)) })
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use futures::stream;
    use proptest::prelude::*;
    use tokio_util::io::StreamReader;

    use super::*;

    fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), payload].concat()
    }

    /// What the client and the outlet get of bytes that arrive in pieces. The pieces are taken while the client reads.
    async fn sorted(bytes: &[u8], piece: usize, open: bool) -> (Vec<u8>, Vec<u8>) {
        let pieces: Vec<io::Result<Bytes>> =
            bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let (valve, mut outlet) = valve();
        outlet.set_open(open);
        let mut tap = Tap::new(StreamReader::new(stream::iter(pieces)), Some(valve));
        let client = tokio::spawn(async move {
            // As the client reads, which keeps nothing of a read that is pending.
            let mut seen = BytesMut::new();
            while poll_fn(|context| poll_read_buf(Pin::new(&mut tap), context, &mut seen)).await.unwrap() > 0
            {
            }
            seen.to_vec()
        });
        let (mut rows, mut payloads) = (Vec::new(), Payloads::default());
        while let Some(piece) = outlet.next().await {
            // The client runs into pieces that nobody has taken.
            tokio::task::yield_now().await;
            assert!(piece.len() < 3 * PIECE, "{}", piece.len());
            let mut piece: &[u8] = &piece;
            while let Some(payload) = payloads.next(&mut piece) {
                rows.extend_from_slice(payload);
            }
            assert!(piece.is_empty());
        }
        (client.await.unwrap(), rows)
    }

    fn run(future: impl Future<Output = (Vec<u8>, Vec<u8>)>) -> (Vec<u8>, Vec<u8>) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_leave_and_the_rest_stays_however_it_is_cut(
            messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..60),
            piece in 1_usize..5000,
            open in any::<bool>(),
        ) {
            let mut all = Vec::new();
            let mut rows = Vec::new();
            let mut rest = Vec::new();
            for (is_row, payload) in &messages {
                let message = message(if *is_row { COPY_DATA } else { b'D' }, payload);
                all.extend_from_slice(&message);
                if *is_row && open { rows.extend_from_slice(payload) } else { rest.extend_from_slice(&message) }
            }
            prop_assert_eq!(run(sorted(&all, piece, open)), (rest, rows));
        }

        #[test]
        fn a_long_row_passes_in_pieces(length in 0_usize..(8 * PIECE), piece in 1000_usize..100_000) {
            let row = vec![7; length];
            let all = [message(b'H', b"x"), message(COPY_DATA, &row), message(b'c', b"")].concat();
            let rest = [message(b'H', b"x"), message(b'c', b"")].concat();
            prop_assert_eq!(run(sorted(&all, piece, true)), (rest, row));
        }
    }

    #[test]
    fn what_breaks_off_is_seen_to() {
        let all = [message(COPY_DATA, b"row"), vec![b'C', 0, 0]].concat();
        assert_eq!(run(sorted(&all, 100, true)), (vec![b'C', 0, 0], b"row".to_vec()));
    }
}
