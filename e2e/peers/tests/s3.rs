//! The running S3 peer behaves like S3 where exports depend on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use pgexport_peers::{Account, Peers};

/// The smallest part that S3 accepts, unless it is the last one.
const PART: usize = 5 << 20;

fn refusal<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E>>) -> (u16, String) {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => (
            error.raw_response().map_or(0, |response| response.status().as_u16()),
            error.code().unwrap_or_default().to_owned(),
        ),
    }
}

#[tokio::test]
async fn objects_come_back_as_they_went() {
    let s3 = Peers::load().unwrap().s3;
    let bucket = s3.create_bucket("objects come back").await.unwrap();
    for (key, body) in [("a/2", "two"), ("a/1", ""), ("b/sp ace+é", "three")] {
        s3.client()
            .put_object()
            .bucket(&bucket)
            .key(key)
            .body(ByteStream::from_static(body.as_bytes()))
            .send()
            .await
            .unwrap();
        assert_eq!(s3.get(&bucket, key).await.unwrap(), body.as_bytes());
    }
    let listed = s3.list(&bucket, "a/").await.unwrap();
    let listed: Vec<(&str, u64)> = listed.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
    assert_eq!(listed, [("a/1", 0), ("a/2", 3)]);
    assert_eq!(s3.list(&bucket, "").await.unwrap().len(), 3);
}

#[tokio::test]
async fn conditional_create_never_replaces() {
    let s3 = Peers::load().unwrap().s3;
    let bucket = s3.create_bucket("conditional").await.unwrap();
    let create = async |body: &'static str| {
        let body = ByteStream::from_static(body.as_bytes());
        s3.client().put_object().bucket(&bucket).key("once").if_none_match("*").body(body).send().await
    };
    create("first").await.unwrap();
    assert_eq!(refusal(create("second").await), (412, "PreconditionFailed".to_owned()));
    assert_eq!(s3.get(&bucket, "once").await.unwrap(), b"first");
}

#[tokio::test]
async fn multipart_uploads_are_visible_until_completed_or_aborted() {
    let s3 = Peers::load().unwrap().s3;
    let client = s3.client();
    let bucket = s3.create_bucket("multipart").await.unwrap();
    let start = async |key: &str| {
        let upload = client
            .create_multipart_upload()
            .bucket(&bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .unwrap();
        upload.upload_id.unwrap()
    };
    let (kept, dropped) = (start("kept").await, start("dropped").await);
    let keys: Vec<_> = s3.open_uploads(&bucket).await.unwrap().into_iter().map(|upload| upload.key).collect();
    assert_eq!(keys, ["dropped", "kept"]);

    let parts = [vec![b'x'; PART], b"the end".to_vec()];
    let mut completed = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(&parts) {
        let sent = client.upload_part().bucket(&bucket).key("kept").upload_id(&kept).part_number(number);
        let sent = sent.body(ByteStream::from(part.clone())).send().await.unwrap();
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        completed = completed.parts(part.set_checksum_crc32(sent.checksum_crc32).build());
    }
    assert!(s3.list(&bucket, "").await.unwrap().is_empty(), "nothing is visible before completion");
    let complete = client.complete_multipart_upload().bucket(&bucket).key("kept").upload_id(&kept);
    complete.multipart_upload(completed.build()).send().await.unwrap();
    assert!(s3.get(&bucket, "kept").await.unwrap() == parts.concat());

    client.abort_multipart_upload().bucket(&bucket).key("dropped").upload_id(&dropped).send().await.unwrap();
    assert_eq!(s3.open_uploads(&bucket).await.unwrap(), []);
}

#[tokio::test]
async fn strangers_and_missing_buckets_are_refused_as_by_s3() {
    let s3 = Peers::load().unwrap().s3;
    let bucket = s3.create_bucket("refusals").await.unwrap();
    let put = async |account: &Account, bucket: &str| {
        let body = ByteStream::from_static(b"x");
        s3.client_as(account).put_object().bucket(bucket).key("k").body(body).send().await
    };
    let stranger = Account { access_key: "nobody".to_owned(), secret_key: "nothing".to_owned() };
    assert_eq!(refusal(put(&stranger, &bucket).await), (403, "InvalidAccessKeyId".to_owned()));
    let forger = Account { secret_key: "wrong".to_owned(), ..s3.admin.clone() };
    assert_eq!(refusal(put(&forger, &bucket).await), (403, "SignatureDoesNotMatch".to_owned()));
    assert_eq!(refusal(put(&s3.admin, "no-such-bucket").await), (404, "NoSuchBucket".to_owned()));
}

#[tokio::test]
async fn an_account_touches_only_its_own_buckets() {
    let s3 = Peers::load().unwrap().s3;
    let (acme, other) = tokio::try_join!(s3.create_account("acme"), s3.create_account("other")).unwrap();
    let bucket = s3.create_bucket("acme exports").await.unwrap();
    let put = async |account: &Account| {
        let body = ByteStream::from_static(b"x");
        s3.client_as(account).put_object().bucket(&bucket).key("k").body(body).send().await
    };
    assert_eq!(refusal(put(&acme).await), (403, "AccessDenied".to_owned()));
    s3.give_bucket(&bucket, &acme).await.unwrap();
    put(&acme).await.unwrap();
    assert_eq!(refusal(put(&other).await), (403, "AccessDenied".to_owned()));

    s3.allow(&bucket, &other, &["s3:PutObject"]).await.unwrap();
    put(&other).await.unwrap();
    let read = s3.client_as(&other).get_object().bucket(&bucket).key("k").send().await;
    assert_eq!(refusal(read), (403, "AccessDenied".to_owned()), "the policy allows writing only");
}
