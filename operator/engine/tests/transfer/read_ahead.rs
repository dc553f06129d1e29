//! Bodies of several ranges, and of many chunks, which are read ahead.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::FutureExt as _;
use pgexport_api::order::{DeliveryPath, Target};
use pgexport_engine::store::{RANGE, Store};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::support::noise;
use super::support::proxy::Proxy;
use super::*;

/// Requests for bodies wait here until so many do so at the same time; from then on all pass.
struct Gate {
    wanted: usize,
    waiting: AtomicUsize,
    /// How many waited when it was opened.
    together: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    fn new(wanted: usize) -> Arc<Self> {
        let [waiting, together] = [0, 0].map(AtomicUsize::new);
        Arc::new(Self { wanted, waiting, together, open: Semaphore::new(0) })
    }

    async fn pass(&self) {
        if self.waiting.fetch_add(1, SeqCst) + 1 == self.wanted {
            // Whoever comes now is one too many.
            sleep(Duration::from_millis(300)).await;
            self.together.store(self.waiting.load(SeqCst), SeqCst);
            self.open.close();
        }
        // It gives nothing: it is closed when it is open.
        let _ = self.open.acquire().await;
    }

    fn proxy(self: &Arc<Self>) -> Proxy {
        let gate = self.clone();
        before_bodies(move |_| {
            let gate = gate.clone();
            async move { gate.pass().await }
        })
    }
}

/// A proxy that does something before a body is asked for; the request's head is given.
fn before_bodies<F>(before: impl Fn(String) -> F + Send + Sync + 'static) -> Proxy
where
    F: Future<Output = ()> + Send + 'static,
{
    let before = move |head: String| {
        let is_body = head.lines().next().is_some_and(|line| line.contains("/data/"));
        if is_body { before(head).boxed() } else { std::future::ready(()).boxed() }
    };
    Proxy { before: Arc::new(before), ..Proxy::default() }
}

/// Has the transfer read the staging by way of a proxy.
async fn through(proxy: Proxy, order: &mut RunOrder, staging: &Backend) {
    let DeliveryPath::Staged { staging: named } = &mut order.delivery else { unreachable!() };
    named.target = Target::S3(proxy.target(staging).await);
}

/// Rows of at least so many bytes together, none like another.
fn rows(bytes: usize) -> String {
    let row = |row: &[u8]| format!("{{\"id\":\"{}\"}}\n", hex::encode(row));
    noise(bytes / 2).chunks(5000).map(row).collect()
}

/// The one data file's bytes.
async fn document(sink: &Backend, name: &str) -> String {
    String::from_utf8(sink.bytes(&format!("{PATH}{name}")).await).unwrap()
}

async fn assert_nothing(sink: &Backend) {
    assert_eq!(sink.visible().await, Vec::<String>::new());
    assert_eq!(sink.left_behind().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_of_many_chunks_is_read_several_ranges_at_once_and_in_order() {
    // 3, 1, 1, 1, 2, 1 and 1 ranges.
    let bodies = [rows(2 * RANGE), rows(10), String::new(), rows(70_000), rows(RANGE), rows(10), rows(20)];
    let chunks: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let datasets: &[Dataset<'_>] = &[("findings", &chunks)];
    let (staging, sink, mut order) =
        staged(Backend::s3().await, FormatType::Json, Layout::Single, datasets).await;
    let gate = Gate::new(2 * order.parallelism as usize);
    through(gate.proxy(), &mut order, &staging).await;
    let never = never();
    let delivered = timeout(Duration::from_mins(1), transfer(&order, &staging, &sink, &never));
    delivered.await.expect("ranges are read one after the other").unwrap();
    let text = bodies.concat();
    assert_eq!(gate.together.load(SeqCst), gate.wanted, "more are read than there is room for");
    let wanted = format!("[\n{}\n]\n", text.trim_end().replace('\n', ",\n"));
    assert!(document(&sink, "findings-0b0c1d2e-2.json").await == wanted);
    assert_eq!(gate.waiting.load(SeqCst), 10, "each range is asked for once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_transferred_side_by_side_share_the_room() {
    let body = rows(2 * RANGE);
    let datasets: &[Dataset<'_>] = &[("findings", &[body.as_str(); 3])];
    let (staging, sink, mut order) =
        staged(Backend::s3().await, FormatType::Ndjson, Layout::PerChunk, datasets).await;
    order.parallelism = 2;
    let gate = Gate::new(4);
    through(gate.proxy(), &mut order, &staging).await;
    let never = never();
    let delivered = timeout(Duration::from_mins(1), transfer(&order, &staging, &sink, &never));
    delivered.await.expect("two files do not use the room of two").unwrap();
    assert_eq!(gate.together.load(SeqCst), gate.wanted, "more are read than there is room for");
    for part in 0..3 {
        assert!(document(&sink, &format!("findings-0000{part}-0b0c1d2e-2.ndjson")).await == body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_range_is_read_on_where_its_connection_broke() {
    let body = rows(3 * RANGE);
    let datasets: &[Dataset<'_>] = &[("findings", &["1\n", &body, "2\n"])];
    let (staging, sink, mut order) =
        staged(Backend::volume(), FormatType::Ndjson, Layout::Single, datasets).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let proxy = before_bodies(move |head| {
        let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).map(str::to_owned);
        noted.lock().unwrap().extend(range);
        std::future::ready(())
    });
    // The first request for each whole range; what is read on is not cut.
    let cut = |head: &str| {
        let from =
            head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split('-').next()?.parse().ok());
        from.is_some_and(|from: usize| from.is_multiple_of(RANGE)).then_some(3 << 20)
    };
    through(Proxy { cut: Arc::new(cut), ..proxy }, &mut order, &staging).await;
    transfer(&order, &staging, &sink, &never()).await.unwrap();
    assert!(document(&sink, "findings-0b0c1d2e-2.ndjson").await == format!("1\n{body}2\n"));
    let ranges = asked.lock().unwrap().clone();
    let is_resumed =
        |range: &&String| !range.split('-').next().unwrap().parse::<usize>().unwrap().is_multiple_of(RANGE);
    assert!(ranges.iter().filter(is_resumed).count() >= 3, "{ranges:?}");
}

/// A transfer of a body of four ranges, of which two are read ahead: something happens when the third is asked for.
async fn meanwhile<F>(
    third: impl Fn(Arc<dyn Store>, String) -> F + Send + Sync + 'static,
    cancel: &CancellationToken,
) -> pgexport_engine::Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let body = rows(3 * RANGE);
    let datasets: &[Dataset<'_>] = &[("findings", &[&body, "1\n"])];
    let (staging, sink, mut order) =
        staged(Backend::s3().await, FormatType::Json, Layout::Single, datasets).await;
    order.parallelism = 1;
    let key = Staging::open(staging.store(), &order).sidecar(0).await.unwrap().unwrap().key;
    let (store, range) = (staging.store(), format!("bytes={}-", 2 * RANGE));
    let proxy = before_bodies(move |head| {
        if head.contains(&range) {
            third(store.clone(), key.clone()).boxed()
        } else {
            std::future::ready(()).boxed()
        }
    });
    through(proxy, &mut order, &staging).await;
    let error = transfer(&order, &staging, &sink, cancel).await.unwrap_err();
    assert_nothing(&sink).await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_replaced_between_its_ranges_is_not_delivered() {
    let replace = |store: Arc<dyn Store>, key: String| async move {
        store.put(&key, rows(4 * RANGE).into(), "x/y", PutMode::Replace).await.unwrap();
    };
    let error = meanwhile(replace, &never()).await;
    assert_eq!((error.reason(), error.to_failure().chunk), (Reason::StoreError, Some(0)));
    assert!(error.to_string().contains("was replaced while it was read"), "{error}");

    let remove = |store: Arc<dyn Store>, key: String| async move {
        store.delete(&[key]).await.unwrap();
    };
    let error = meanwhile(remove, &never()).await;
    assert_eq!((error.reason(), error.to_failure().chunk), (Reason::StoreError, Some(0)));
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_is_stopped_between_two_ranges_leaves_nothing() {
    let cancel = never();
    let stop = cancel.clone();
    let stopped = move |_, _| {
        stop.cancel();
        std::future::pending()
    };
    assert_eq!(meanwhile(stopped, &cancel).await.reason(), Reason::Interrupted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_longer_or_shorter_than_its_sidecar_says_is_told_with_all_its_bytes() {
    let body = rows(2 * RANGE);
    let datasets: &[Dataset<'_>] = &[("findings", &["1\n", &body, "2\n"])];
    let (staging, sink, order) =
        staged(Backend::volume(), FormatType::Ndjson, Layout::Single, datasets).await;
    let key = Staging::open(staging.store(), &order).sidecar(1).await.unwrap().unwrap().key;
    for bytes in [0, 5, RANGE, RANGE + 1, body.len() - 1, body.len() + 1, 4 * RANGE] {
        staging.store().put(&key, noise(bytes).into(), "x/y", PutMode::Replace).await.unwrap();
        let error = transfer(&order, &staging, &sink, &never()).await.unwrap_err();
        assert_eq!((error.reason(), error.to_failure().chunk), (Reason::ChecksumMismatch, Some(1)));
        let wanted = format!("has {bytes} bytes with CRC64NVME");
        assert!(error.to_string().contains(&wanted), "{wanted}: {error}");
        assert_nothing(&sink).await;
    }
}
