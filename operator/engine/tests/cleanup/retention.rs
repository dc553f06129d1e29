//! What is staged is left by one cleanup, and removed by a later one, which touches nothing else.

use pgexport_api::order::{CleanupOrder, CleanupPart};
use pgexport_api::report::Kept;
use support::run::RUN;

use super::*;

async fn clean(part: CleanupPart, order: &RunOrder, staging: &Backend, sink: &Backend) -> Cleaned {
    let order = CleanupOrder { part, ..order.cleanup() };
    cleanup::run(&order, staging.secrets(), &sink.volumes(), &never()).await.unwrap()
}

#[tokio::test]
async fn what_is_staged_stays_until_it_is_its_turn() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let staged = stage(&staging, &order, ONE).await;
    let _mark = staged.mark().await.unwrap();
    let before = staging.visible().await;
    leave_open(staging.store().as_ref(), &format!("{RUN}2/data/findings/00001-ab.ndjson"), 9).await;
    let own = format!("{PATH}findings-00000-0b0c1d2e-2.json");
    put(sink.store().as_ref(), &own).await;
    leave_open(sink.store().as_ref(), &format!("{own}.open"), 9).await;

    let location = staging.store().uri(RUN);
    let kept = Some(Kept { objects: before.len() as u64, location });
    let first = clean(CleanupPart::AllButStaged, &order, &staging, &sink).await;
    assert_eq!(first, Cleaned { objects: 1, uploads: 2, kept: kept.clone(), remains: None });
    let again = clean(CleanupPart::AllButStaged, &order, &staging, &sink).await;
    assert_eq!(again, Cleaned { kept, ..Cleaned::default() });
    assert_eq!((before.len(), staging.visible().await), (6, before), "plan, bodies, sidecars and mark");
    assert_eq!(staging.left_behind().await, Vec::<String>::new());
    assert_eq!(sink.visible().await, Vec::<String>::new());
    assert_eq!(sink.left_behind().await, Vec::<String>::new());

    // By now another run may deliver there.
    put(sink.store().as_ref(), &own).await;
    leave_open(sink.store().as_ref(), &format!("{PATH}_manifest.json"), 9).await;
    let last = clean(CleanupPart::Staged, &order, &staging, &sink).await;
    assert_eq!(last, Cleaned { objects: 6, ..Cleaned::default() });
    assert_eq!(staging.visible().await, Vec::<String>::new());
    assert_eq!(
        (sink.visible().await.len(), sink.left_behind().await.len()),
        (1, 1),
        "the location is not looked at"
    );
}

#[tokio::test]
async fn where_nothing_is_staged_nothing_is_kept() {
    let (staging, sink, order) = room(Backend::volume()).await;
    leave_open(staging.store().as_ref(), &format!("{RUN}2/data/findings/00001-ab.ndjson"), 9).await;
    let cleaned = clean(CleanupPart::AllButStaged, &order, &staging, &sink).await;
    assert_eq!(cleaned, Cleaned { uploads: 1, ..Cleaned::default() });
}

#[tokio::test]
async fn what_may_be_left_at_the_location_is_told_by_the_cleanup_that_looks_there() {
    let (staging, sink, order) = room(Backend::s3().await).await;
    let account = account(&staging, &sink, &WRITE_ONLY).await;
    let _mark = stage(&staging, &order, ONE).await.mark().await.unwrap();
    for (part, is_told) in [(CleanupPart::AllButStaged, true), (CleanupPart::Staged, false)] {
        let order = CleanupOrder { part, ..order.cleanup() };
        let cleaned = cleanup::run(&order, secrets(&account), &sink.volumes(), &never()).await.unwrap();
        assert_eq!(cleaned.remains.is_some_and(|remains| remains.contains(&at(""))), is_told, "{part:?}");
    }
    assert_eq!(staging.visible().await, Vec::<String>::new());
}
