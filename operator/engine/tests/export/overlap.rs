//! One connection's chunks: the next one is read while the end of the one before is on its way to the store.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::support::proxy::Proxy;
use super::*;

/// Parts of uploads wait here until they are let through.
struct Hold {
    come: AtomicUsize,
    open: Semaphore,
}

impl Hold {
    /// An export over one connection, whose first two of six chunks are read, and of which one part waits.
    async fn export(room: &Room) -> (Arc<Self>, Context, JoinHandle<Result<Outcome, Error>>) {
        let hold = Arc::new(Self { come: AtomicUsize::new(0), open: Semaphore::new(0) });
        let gate = hold.clone();
        let before = move |head: String| {
            let gate = gate.clone();
            let is_part = head.lines().next().is_some_and(|line| line.contains("partNumber="));
            async move {
                if is_part {
                    gate.come.fetch_add(1, SeqCst);
                    // It gives nothing: it is closed when it is open.
                    let _ = gate.open.acquire().await;
                }
            }
            .boxed()
        };
        let proxy = Proxy { before: Arc::new(before), ..Proxy::default() };
        let mut order = room.order(ALL, false);
        order.parallelism = 1;
        let Target::S3(sink) = &mut order.sink.target else { unreachable!() };
        sink.endpoint = Some(proxy.endpoint(room.peers.s3.host).await);
        let context = room.context(order, 0);
        let run = tokio::spawn(export::run(context.clone()));
        // A chunk has a sixth of 10,000 rows.
        for _ in 0..300 {
            if context.progress.snapshot().rows > 3000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Whoever comes now is one too many.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let rows = context.progress.snapshot().rows;
        assert!((3000..4000).contains(&rows), "{rows} rows are read, and two chunks have 3,333");
        assert_eq!(hold.come.load(SeqCst), 1, "the next chunk's part waits for the first one's");
        (hold, context, run)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_read_while_the_last_part_of_the_one_before_travels() {
    let room = Room::new("overlap").await;
    let (hold, _, run) = Hold::export(&room).await;
    hold.open.close();
    run.await.unwrap().unwrap();
    assert!(rows_of(&room.delivered().await) == room.rows().await);
    assert_eq!(hold.come.load(SeqCst), 6, "each chunk is a part");
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_up_the_chunk_that_travels_and_the_one_that_waits() {
    let room = Room::new("overlap-stop").await;
    let (_, context, run) = Hold::export(&room).await;
    context.cancel.cancel();
    assert_eq!(run.await.unwrap().unwrap_err().reason(), Reason::Interrupted);
    assert!(!room.is_sealed().await);
    room.assert_quiet().await;
    room.database.drop_database().await.unwrap();
}
