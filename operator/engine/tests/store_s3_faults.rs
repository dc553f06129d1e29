//! Broken connections to an S3 server are survived; `Proxy` breaks them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use pgexport_api::order::Target;
use pgexport_api::sink::S3;
use pgexport_engine::store::{self, PutMode, Store, Volumes};
use support::proxy::Proxy;
use support::{Backend, noise, s3_target};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

async fn through(backend: &Backend, answers: &'static [u64]) -> Arc<dyn Store> {
    through_slow(backend, answers, Duration::ZERO).await
}

async fn through_slow(backend: &Backend, answers: &'static [u64], late: Duration) -> Arc<dyn Store> {
    let target = Proxy { answers, late, ..Proxy::default() }.target(backend).await;
    store::open(&Target::S3(target), backend.secrets(), &Volumes::mounted("/")).unwrap()
}

async fn whole(store: &dyn Store, key: &str) -> pgexport_engine::Result<Vec<u8>> {
    let pieces: Vec<Bytes> = store.read(key).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn reading_goes_on_where_a_connection_broke() {
    let backend = Backend::s3().await;
    let bytes = noise(3 << 20);
    backend.store().put("file", bytes.clone().into(), "x/y", PutMode::Create).await.unwrap();
    let broken_twice = through(&backend, &[1 << 20, 1 << 20, u64::MAX]).await;
    assert!(whole(broken_twice.as_ref(), "file").await.unwrap() == bytes);
    let always_broken = through(&backend, &[100_000]).await;
    let error = whole(always_broken.as_ref(), "file").await.unwrap_err();
    assert!(error.to_string().contains("from us/file"), "{error}");
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_is_sent_again() {
    let backend = Backend::s3().await;
    let store = through(&backend, &[0, 0, u64::MAX]).await;
    store.put("file", "x".into(), "x/y", PutMode::Replace).await.unwrap();
    assert_eq!(backend.bytes("file").await, b"x");
}

#[tokio::test]
async fn an_upload_is_aborted_though_nobody_waited_for_its_beginning() {
    let backend = Backend::s3().await;
    let store = through_slow(&backend, &[u64::MAX], Duration::from_secs(1)).await;
    let mut upload = store.upload("file", "x/y").await.unwrap();
    let begun = tokio::time::timeout(Duration::from_millis(300), upload.part("x".into())).await;
    assert!(begun.is_err(), "the caller gave up");
    assert_eq!(backend.left_behind().await, ["from us/file"]);
    upload.abort().await;
    assert_eq!(backend.left_behind().await, Vec::<String>::new());
}

/// A server that knows no `DeleteObjects`: each connection whose first request is one is answered 501.
#[tokio::test]
async fn objects_are_removed_one_by_one_where_the_server_takes_no_more() {
    let backend = Backend::s3().await;
    let Backend::S3 { peers, bucket } = &backend else { unreachable!() };
    let (server, listener) = (peers.s3.host, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 512];
                let length = client.read(&mut head).await.unwrap();
                let line = head[..length].split(|byte| *byte == b'\r').next().unwrap_or_default();
                if line.starts_with(b"POST") && line.windows(6).any(|query| query == b"delete") {
                    let answer =
                        b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = client.write_all(answer).await;
                    let _ = client.shutdown().await;
                    // A connection that is closed on bytes unread may lose the answer.
                    let _ = copy(&mut client, &mut tokio::io::sink()).await;
                    return;
                }
                let mut server = TcpStream::connect(server).await.unwrap();
                server.write_all(&head[..length]).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    for key in ["a", "b", "c"] {
        backend.store().put(key, "x".into(), "x/y", PutMode::Create).await.unwrap();
    }
    let target = Target::S3(S3 { endpoint, ..s3_target(peers, bucket) });
    let store = store::open(&target, backend.secrets(), &Volumes::mounted("/")).unwrap();
    store.delete(&["a", "b", "none"].map(str::to_owned)).await.unwrap();
    assert_eq!(backend.visible().await, ["from us/c"]);
}
