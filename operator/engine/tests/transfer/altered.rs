//! Documents in the staging that somebody else has altered.

use super::*;

/// Transfers after a change to one document, and returns why that failed.
async fn altered(format: FormatType, name: &str, change: impl Fn(&mut Value)) -> pgexport_engine::Error {
    let datasets: &[Dataset<'_>] = &[("findings", &["1\n", "2\n"])];
    let (staging, sink, order) = staged(Backend::volume(), format, Layout::Single, datasets).await;
    let key = format!("{STAGED}{name}");
    let mut document = serde_json::from_slice(&staging.bytes(&key).await).unwrap();
    change(&mut document);
    let body = document.to_string().into();
    staging.store().put(&key, body, "application/json", PutMode::Replace).await.unwrap();
    let error = transfer(&order, &staging, &sink, &never()).await.unwrap_err();
    assert_eq!(sink.visible().await, Vec::<String>::new());
    assert_eq!(sink.left_behind().await, Vec::<String>::new());
    error
}

#[tokio::test]
async fn a_footer_that_is_longer_than_anything_is_refused() {
    for footer in [json!(u64::MAX), json!(u64::MAX - 4), json!(1)] {
        let error =
            altered(FormatType::Parquet, "chunks/00000.json", |sidecar| sidecar["footer"] = footer.clone())
                .await;
        assert_eq!((error.reason(), error.to_failure().chunk), (Reason::InternalError, Some(0)), "{footer}");
    }
}

#[tokio::test]
async fn a_chunk_of_a_data_set_that_is_not_planned_is_not_left_out() {
    let error =
        altered(FormatType::Ndjson, "plan.json", |plan| plan["chunks"][1]["dataset"] = json!(7)).await;
    assert!(error.to_string().contains("contradicts itself"), "{error}");
    let error =
        altered(FormatType::Ndjson, "plan.json", |plan| plan["datasets"][0]["shapes"] = json!([])).await;
    assert!(error.to_string().contains("contradicts itself"), "{error}");
}

#[tokio::test]
async fn more_rows_than_can_be_counted_are_no_panic() {
    let datasets: &[Dataset<'_>] = &[("findings", &["1\n", "2\n"])];
    let (staging, sink, order) =
        staged(Backend::volume(), FormatType::Ndjson, Layout::Single, datasets).await;
    for chunk in ["chunks/00000.json", "chunks/00001.json"] {
        let key = format!("{STAGED}{chunk}");
        let mut sidecar: Value = serde_json::from_slice(&staging.bytes(&key).await).unwrap();
        sidecar["rows"] = json!(u64::MAX);
        let body = sidecar.to_string().into();
        staging.store().put(&key, body, "application/json", PutMode::Replace).await.unwrap();
    }
    let delivered = transfer(&order, &staging, &sink, &never()).await.unwrap();
    assert_eq!(delivered.rows, u64::MAX);
}

#[tokio::test]
async fn objects_without_number_are_read_one_by_one() {
    let unseen = |sidecar: &mut Value| {
        let fields = sidecar.as_object_mut().unwrap();
        fields.retain(|name, _| name != "crc64nvme" && name != "parts");
        fields.insert("objects".to_owned(), json!(u32::MAX));
    };
    let error = altered(FormatType::Ndjson, "chunks/00000.json", unseen).await;
    assert!(error.to_string().contains("_part2 does not exist"), "{error}");
}

#[tokio::test]
async fn a_noted_manifest_of_another_delivery_is_not_delivered() {
    let (staging, sink, order) =
        staged(Backend::volume(), FormatType::Ndjson, Layout::Single, &[("findings", &["1\n", "2\n"])]).await;
    transfer(&order, &staging, &sink, &never()).await.unwrap();
    let noted = format!("{STAGED}delivery.json");
    let honest: Value = serde_json::from_slice(&staging.bytes(&noted).await).unwrap();
    let changes: [fn(&mut Value); 3] = [
        |manifest| manifest["bytes"] = Value::Null,
        |manifest| manifest["datasets"][0]["files"][0]["rows"] = json!(3),
        |manifest| manifest["pgexport"] = json!("of another version"),
    ];
    let mut ended = Vec::new();
    for change in changes {
        let end = ["_manifest.json", "_SUCCESS"].map(|name| format!("{PATH}{name}"));
        sink.store().delete(&end).await.unwrap();
        let mut manifest = honest.clone();
        change(&mut manifest);
        let body = manifest.to_string().into();
        staging.store().put(&noted, body, "application/json", PutMode::Replace).await.unwrap();
        let transferred = transfer(&order, &staging, &sink, &never()).await;
        ended.push((transferred.err().map(|error| error.reason()), sink.visible().await.len()));
    }
    let refused = (Some(Reason::ChecksumMismatch), 1);
    assert_eq!(ended, [refused, refused, (None, 3)], "the last is an earlier try's of another version");
}
