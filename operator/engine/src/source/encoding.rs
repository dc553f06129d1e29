//! Encoding on a task of its own, so that copies side by side use as many cores.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use pgexport_api::reason::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::tap::{Outlet, Payloads};
use crate::encode::{Batch, Encoder, Payload};
use crate::error::{Error, Result};

/// The room for large values. One is in it at a time, until its bytes are written, or its records are taken: otherwise a worker's
/// memory would be a function of its values' lengths times its connections.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

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
    let (mut ended, mut payloads) = (false, Payloads::default());
    let large = encoder.large();
    let mut room: Option<OwnedSemaphorePermit> = None;
    loop {
        let piece = if ended {
            outlet.next_ready()
        } else {
            tokio::select! {
                piece = outlet.next() => piece,
                said = &mut end => {
                    if said.is_err() {
                        return outlet;
                    }
                    ended = true;
                    continue;
                }
            }
        };
        let Some(piece) = piece else {
            // A connection that is over may have been so after the server's last word, which the client tells.
            if (ended || (&mut end).await.is_ok())
                && let Some(batch) = encoder.finish().transpose()
            {
                // Whoever takes no more needs none.
                let _ = batches.send(batch).await;
            }
            return outlet;
        };
        taken.fetch_add(piece.len() as u64, Relaxed);
        let mut piece: &[u8] = &piece;
        while let Some(mut rows) = payloads.next(&mut piece) {
            while !rows.is_empty() {
                if room.is_none() && encoder.held() > large {
                    room = tokio::select! {
                        room = Arc::clone(&ROOM).acquire_owned() => room.ok(),
                        () = batches.closed() => return outlet,
                    };
                }
                let batch = encoder.push(&mut rows);
                let failed = batch.is_err();
                if let Some(mut batch) = batch.transpose() {
                    // The value has ended, and is in this batch.
                    let mut left = room.take_if(|_| encoder.held() <= large);
                    if let Ok(Batch { data: Payload::Bytes(_), .. }) = &batch
                        && let Some(room) = left.take()
                    {
                        batch = batch.map(|batch| batch.guarded(room));
                    }
                    if batches.send(batch).await.is_err() {
                        return outlet;
                    }
                    if left.is_some() && batches.reserve().await.is_err() {
                        return outlet;
                    }
                }
                if failed {
                    return outlet;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use pgexport_api::job::{Format, FormatType};
    use tokio::io::AsyncReadExt as _;

    use super::super::tap::{Tap, valve};
    use super::*;
    use crate::decode::{Scalar, Shape};
    use crate::plan::Column;

    fn encoder(format: FormatType) -> Encoder {
        let columns = [Column { name: "a".to_owned(), column_type: "text".to_owned() }];
        Encoder::new(
            &Format { format_type: format, csv: None, parquet: None },
            &columns,
            &[Some(Shape::Scalar(Scalar::Text))],
        )
        .unwrap()
    }

    /// A COPY's data of so many rows, as the server's messages.
    fn messages(rows: usize, trailer: bool) -> Vec<u8> {
        let message = |payload: &[u8]| {
            let length = u32::try_from(payload.len() + 4).unwrap();
            [b"d", length.to_be_bytes().as_slice(), payload].concat()
        };
        let mut all = message(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        for _ in 0..rows {
            all.extend(message(b"\0\x01\0\0\0\x03row"));
        }
        if trailer {
            all.extend(message(b"\xff\xff"));
        }
        all
    }

    /// The rows of a connection that is over before the client hears of the end, and whether all went well.
    async fn rows(data: Vec<u8>) -> (usize, bool) {
        let (valve, outlet) = valve();
        outlet.set_open(true);
        let mut encoding = Encoding::start(outlet, encoder(FormatType::Csv), Arc::default());
        let mut tap = Tap::new(std::io::Cursor::new(data), Some(valve));
        let connection = tokio::spawn(async move { tap.read_to_end(&mut Vec::new()).await });
        let mut batches = Vec::new();
        while !connection.is_finished() {
            if let Poll::Ready(batch) = poll_fn(|context| Poll::Ready(encoding.poll_next(context))).await {
                batches.extend(batch);
            }
            tokio::task::yield_now().await;
        }
        connection.await.unwrap().unwrap();
        // The task has time to find the connection over.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        encoding.end();
        while let Some(batch) = poll_fn(|context| encoding.poll_next(context)).await {
            batches.push(batch);
        }
        let well = batches.iter().all(Result::is_ok);
        let rows = batches.into_iter().flatten().map(|batch| {
            let Payload::Bytes(bytes) = batch.data else { panic!("a batch of bytes") };
            std::str::from_utf8(&bytes).unwrap().lines().count()
        });
        (rows.sum(), well)
    }

    #[tokio::test]
    async fn rows_before_the_servers_last_word_are_all_encoded_though_the_connection_is_over() {
        for count in [0, 1, 3, 100_000] {
            assert_eq!(rows(messages(count, true)).await, (count, true));
        }
    }

    /// A copy of one row of so many bytes.
    fn copy_of_a_row(format: FormatType, length: u32) -> Encoding {
        let row = [b"\0\x01", length.to_be_bytes().as_slice(), &vec![b'x'; length as usize]].concat();
        let mut bytes = messages(0, false);
        bytes.extend([b"d", (length + 10).to_be_bytes().as_slice(), &row].concat());
        let (valve, outlet) = valve();
        outlet.set_open(true);
        let mut tap = Tap::new(std::io::Cursor::new(bytes), Some(valve));
        tokio::spawn(async move { tap.read_to_end(&mut Vec::new()).await });
        Encoding::start(outlet, encoder(format), Arc::default())
    }

    /// Whether a batch comes in no time, which is what there is where nothing is waited for.
    async fn comes_soon(encoding: &mut Encoding) -> bool {
        let patience = std::time::Duration::from_millis(300);
        tokio::time::timeout(patience, poll_fn(|context| encoding.poll_next(context))).await.is_ok()
    }

    /// One test for all: there is one room.
    #[tokio::test]
    async fn large_values_are_held_one_at_a_time_until_they_are_let_go() {
        let [large, small] =
            [4, 1].map(|part| u32::try_from(encoder(FormatType::Csv).large()).unwrap() / 2 * part + 1);
        let mut first = copy_of_a_row(FormatType::Csv, large);
        let held = poll_fn(|context| first.poll_next(context)).await.unwrap().unwrap();
        assert_eq!(held.rows, 1);
        assert!(comes_soon(&mut copy_of_a_row(FormatType::Csv, small)).await);
        let mut second = copy_of_a_row(FormatType::Csv, large);
        assert!(!comes_soon(&mut second).await, "the first one's bytes are still there");
        drop(held);
        assert!(comes_soon(&mut second).await);

        // The second batch has no place before the first one is taken.
        let mut records = [(); 2].map(|()| copy_of_a_row(FormatType::Parquet, small));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        records.sort_by_key(|encoding| std::cmp::Reverse(encoding.batches.len()));
        let ready = [0, 1].map(|index: usize| records[index].batches.len());
        assert_eq!(ready, [1, 0], "one is there, and the other waits");
        for encoding in &mut records {
            assert!(comes_soon(encoding).await);
        }
    }

    #[tokio::test]
    async fn data_that_breaks_off_is_no_whole_copy() {
        let (_, well) = rows(messages(3, false)).await;
        assert!(!well);
    }
}
