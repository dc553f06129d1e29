//! Files that are copied by the S3 server, and those that have to be read and written.

use std::time::Duration;

use pgexport_api::job::{Csv, Format};
use pgexport_api::order::{DeliveryPath, Target};
use pgexport_api::source::SecretRef;
use pgexport_engine::secret::{MemorySecrets, Secret};
use pgexport_engine::store::{Copied, CopySource};
use pgexport_peers::{Account, Peers};

use super::support::noise;
use super::*;

/// A staging and a sink, and an account of the customer's that may do everything in the sink.
struct Room {
    staging: Backend,
    sink: Backend,
    order: RunOrder,
    account: Account,
    /// The bodies' sizes together.
    bytes: u64,
}

impl Room {
    async fn new(format: Format, layout: Layout, compression: Compression, bodies: &[&str]) -> Self {
        let (staging, sink) = (Backend::s3().await, Backend::s3().await);
        let (peers, bucket) = parts(&sink);
        let account = peers.s3.create_account("customer").await.unwrap();
        peers.s3.allow(bucket, &account, &["s3:*"]).await.unwrap();
        let mut order = order(format.format_type, layout, sink.target(), staging.target());
        (order.format, order.compression) = (format, compression);
        stage(&staging, &order, &[("findings", bodies)]).await;
        let DeliveryPath::Staged { staging: named } = &mut order.delivery else { unreachable!() };
        let Target::S3(s3) = &mut named.target else { unreachable!() };
        s3.credentials_secret_ref = Some(SecretRef { name: "ours".to_owned() });
        let sidecars = Staging::open(staging.store(), &order).sidecars().await.unwrap();
        let bytes = sidecars.iter().map(pgexport_engine::staging::Sidecar::bytes).sum();
        Self { staging, sink, order, account, bytes }
    }

    /// Lets the customer's account do this in the staging, and nothing else.
    async fn allow(&self, actions: &[&str]) {
        let (peers, bucket) = parts(&self.staging);
        peers.s3.allow(bucket, &self.account, actions).await.unwrap();
    }

    /// Delivers, and returns how many bytes the server has copied.
    async fn deliver(&self) -> pgexport_engine::Result<u64> {
        let mut secrets = MemorySecrets::default();
        let (peers, _) = parts(&self.staging);
        for (name, account) in [("acme", &self.account), ("ours", &peers.s3.admin)] {
            let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
            secrets.insert(name, "AWS_ACCESS_KEY_ID", secret(&account.access_key));
            secrets.insert(name, "AWS_SECRET_ACCESS_KEY", secret(&account.secret_key));
        }
        let progress = Progress::default();
        transfer::run(&self.order, Arc::new(secrets), &self.sink.volumes(), &progress, &never()).await?;
        assert_eq!(progress.snapshot().bytes, self.bytes, "copied or not, they count");
        assert_eq!(progress.snapshot().chunks_transferred, progress.snapshot().chunks);
        assert_eq!(self.sink.left_behind().await, Vec::<String>::new());
        Ok(progress.bytes_copied())
    }

    /// What was delivered, manifest included. Then it is gone.
    async fn take(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for path in self.sink.visible().await {
            let key = path.strip_prefix(PREFIX).unwrap().to_owned();
            files.push((key.clone(), self.sink.bytes(&key).await));
        }
        let keys: Vec<String> = files.iter().map(|(key, _)| key.clone()).collect();
        self.sink.store().delete(&keys).await.unwrap();
        files
    }

    /// In how many parts each data file was stored, as its `ETag` says.
    async fn parts(&self) -> Vec<String> {
        let (peers, bucket) = parts(&self.sink);
        let mut parts = Vec::new();
        for path in self.sink.visible().await.iter().filter(|path| path.contains("findings-")) {
            let head = peers.s3.client().head_object().bucket(bucket).key(path).send().await.unwrap();
            let tag = head.e_tag.unwrap();
            parts.push(tag.trim_matches('"').rsplit_once('-').map_or("", |(_, parts)| parts).to_owned());
        }
        parts
    }
}

fn parts(backend: &Backend) -> (&Peers, &str) {
    let Backend::S3 { peers, bucket } = backend else { unreachable!() };
    (peers, bucket)
}

fn format(format_type: FormatType) -> Format {
    Format { format_type, csv: None, parquet: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_copies_where_the_sinks_account_may_read_the_staging_and_both_ways_deliver_the_same() {
    let big = format!("{}\n", hex::encode(noise(500))).repeat(20_000);
    for (layout, bodies) in [(Layout::PerChunk, &[&*big, "1\n2\n", ""][..]), (Layout::Single, &[&*big])] {
        let room = Room::new(format(FormatType::Ndjson), layout, Compression::None, bodies).await;
        let copies = match layout {
            Layout::PerChunk => ["1", "1", ""].as_slice(),
            Layout::Single => &["1"],
        };
        room.allow(&["s3:GetObject"]).await;
        assert_eq!(room.deliver().await.unwrap(), room.bytes);
        assert_eq!(room.parts().await, copies, "a part of up to 512 MiB is copied at once");
        let by_server = room.take().await;

        room.allow(&["s3:ListBucket"]).await;
        assert_eq!(room.deliver().await.unwrap(), 0, "the customer may not read the staging");
        assert_eq!(room.parts().await[0], "3", "8 MiB each are read and written");
        let written = room.take().await;
        assert!(by_server == written, "the same files, the same manifest");
        let bodies: Vec<_> = bodies.iter().map(|body| body.as_bytes()).collect();
        let files = written.iter().filter(|(key, _)| key.contains("findings-"));
        assert!(files.map(|(_, file)| file.as_slice()).eq(bodies));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_needs_nothing_around_it_is_copied() {
    let plain = Csv { header: false, ..Csv::default() };
    let plain = Format { csv: Some(plain), ..format(FormatType::Csv) };
    let (one, two) = (&["7\n"][..], &["7\n", "8\n"][..]);
    for (format, layout, compression, bodies, is_copied) in [
        (format(FormatType::Ndjson), Layout::PerChunk, Compression::Zstd, two, true),
        // Of nothing there is no copy, and those after it are copied all the same.
        (format(FormatType::Ndjson), Layout::PerChunk, Compression::None, &["", "7\n"], true),
        (plain, Layout::PerChunk, Compression::None, two, true),
        (format(FormatType::Parquet), Layout::PerChunk, Compression::None, two, true),
        (format(FormatType::Parquet), Layout::Single, Compression::None, one, true),
        (format(FormatType::Csv), Layout::PerChunk, Compression::Gzip, two, false),
        (format(FormatType::Json), Layout::PerChunk, Compression::None, two, false),
        (format(FormatType::Json), Layout::PerChunk, Compression::None, &["", ""], false),
        (format(FormatType::Ndjson), Layout::Single, Compression::None, two, false),
    ] {
        let room = Room::new(format.clone(), layout, compression, bodies).await;
        room.allow(&["s3:GetObject"]).await;
        let wanted = if is_copied { room.bytes } else { 0 };
        assert_eq!(room.deliver().await.unwrap(), wanted, "{format:?} {layout:?} {compression:?} {bodies:?}");
        let files = room.take().await;
        let file = &files.iter().find(|(key, _)| key.contains("findings-")).unwrap().1;
        if format.format_type != FormatType::Json {
            let text = String::from_utf8(decompressed(compression, file)).unwrap();
            assert!(text.ends_with(if layout == Layout::Single {
                *bodies.last().unwrap()
            } else {
                bodies[0]
            }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_what_its_sidecar_says_is_not_delivered_by_a_copy_either() {
    let room =
        Room::new(format(FormatType::Ndjson), Layout::PerChunk, Compression::None, &["1\n", "2\n"]).await;
    room.allow(&["s3:GetObject"]).await;
    let staging = Staging::open(room.staging.store(), &room.order);
    let body = staging.sidecar(1).await.unwrap().unwrap().key;
    for wrong in ["3\n", "2\n2\n", ""] {
        room.staging.store().put(&body, wrong.into(), "x/y", PutMode::Replace).await.unwrap();
        let error = room.deliver().await.unwrap_err();
        assert_eq!(
            (error.reason(), error.to_failure().chunk),
            (Reason::ChecksumMismatch, Some(1)),
            "{wrong:?}"
        );
        assert_eq!(room.sink.visible().await, Vec::<String>::new());
        assert_eq!(room.sink.left_behind().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_refused_or_stopped_leaves_nothing() {
    let (staging, sink) = (Backend::s3().await, Backend::s3().await);
    let body = noise(20 << 20);
    let (from, to) = (staging.store(), sink.store());
    let mut writer =
        pgexport_engine::output::FileWriter::begin(from.as_ref(), "a/bödy", "x/y").await.unwrap();
    writer.write(body.clone().into()).await.unwrap();
    let file = writer.finish().await.unwrap();
    file.pending.commit().await.unwrap();
    let source = from.copy_source("a/bödy").unwrap();
    let copy = async |source: &CopySource, cancel: &CancellationToken| {
        to.copy(source, "copy", "x/y", &file.digest, cancel).await
    };

    let elsewhere = |place: &str| Some(format!("http://{place}.example"));
    for (refused, why) in [
        (CopySource { region: "eu-west-1".to_owned(), ..source.clone() }, "different"),
        (CopySource { endpoint: elsewhere("other"), ..source.clone() }, "different"),
        (CopySource { key: "nothing".to_owned(), ..source.clone() }, "NoSuchKey"),
        (CopySource { bucket: "nowhere-at-all".to_owned(), ..source.clone() }, "NoSuchBucket"),
        (CopySource { owner: Some("somebody".to_owned()), ..source.clone() }, "AccessDenied"),
    ] {
        let answer = copy(&refused, &never()).await.unwrap();
        assert!(matches!(&answer, Copied::Refused(said) if said.contains(why)), "{refused:?}: {answer:?}");
        assert_eq!(sink.left_behind().await, Vec::<String>::new(), "{refused:?}");
    }
    for after in [0, 1, 3, 10, 30] {
        let cancel = never();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(after)).await;
            cancel.cancel();
        };
        let (answer, ()) = tokio::join!(copy(&source, &cancel), stop);
        match answer {
            Ok(Copied::Done(pending)) => pending.abort().await,
            Ok(refused @ Copied::Refused(_)) => panic!("{refused:?}"),
            Err(error) => assert_eq!(error.reason(), Reason::Interrupted),
        }
        assert_eq!(sink.left_behind().await, Vec::<String>::new(), "after {after} ms");
    }
    let Copied::Done(pending) = copy(&source, &never()).await.unwrap() else { panic!("refused") };
    assert_eq!(sink.visible().await, Vec::<String>::new(), "it is invisible until it is committed");
    pending.commit().await.unwrap();
    assert!(sink.bytes("copy").await == body);
}
