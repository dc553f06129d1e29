//! A worker that is given up for dead, and comes back when another one has done its work: it changes nothing that a reader
//! sees. Real processes, stopped by SIGSTOP at a failpoint, against a real PostgreSQL and a real S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

mod room;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use pgexport_api::report::{Delivered, Outcome};
use room::{Room, Seen, Way};

/// Longer than the times of files differ by: what is written anew shows.
const TICK: Duration = Duration::from_millis(1100);

/// Where a delivery can be stopped.
const DELIVERY: [&str; 5] = [
    "delivery::uploaded",
    "delivery::file_committed",
    "delivery::committed",
    "seal::manifest_written",
    "seal::success_written",
];

/// Whether a zombie comes back before what all attempts have left is removed, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    BeforeCleanup,
    AfterCleanup,
}

/// Runs a case for each place and each time to come back, side by side, and names those that failed.
async fn each(places: &[&'static str], case: impl AsyncFn(&'static str, Back)) {
    let cases = places.iter().flat_map(|place| {
        [Back::BeforeCleanup, Back::AfterCleanup].map(async |back| {
            let ended = AssertUnwindSafe(case(place, back)).catch_unwind().await;
            ended.err().map(|_| (*place, back))
        })
    });
    let failed: Vec<_> = join_all(cases).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "these failed, as told above: {failed:?}");
}

/// Checks that one that came back does not claim another delivery than `delivered`.
fn claims_nothing_else(what: &str, outcome: &Outcome, delivered: &Delivered) {
    match outcome {
        Outcome::Delivered(claimed) => {
            assert_eq!(claimed.manifest_sha256, delivered.manifest_sha256, "{what}");
        }
        Outcome::Failed(_) | Outcome::Exported(_) | Outcome::ShareExported => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// Checks that all that was there is as it was: no byte, no tag, no time has changed.
fn stands(what: &str, before: &Seen, after: &Seen) {
    for (key, object) in before {
        let Some(now) = after.get(key) else { panic!("{what}: {key} is gone") };
        assert_eq!((&now.0, &now.1), (&object.0, &object.1), "{what}: {key} was written again");
        assert!(now.2 == object.2, "{what}: {key} has other bytes");
    }
}

#[tokio::test]
async fn a_direct_export_that_comes_back_after_the_next_attempt() {
    each(&DELIVERY, async |place, back| {
        let what = format!("{place}, {back:?}");
        let room = Room::new("zombie-direct").await;
        let zombie = room.zombie(&room.order(Way::Direct, 1), &["export"], place).await;
        let next = room.order(Way::Direct, 2);
        let delivered = room.export(&next, 0).delivered().await;
        if back == Back::AfterCleanup {
            room.clean_up(&next).await;
            room.check(&what).await;
            let before = room.seen().await;
            tokio::time::sleep(TICK).await;
            claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
            let after = room.seen().await;
            stands(&what, &before, &after);
            assert_eq!(
                before.len(),
                after.len(),
                "{what}: {:?} were added to {:?}",
                after.keys(),
                before.keys()
            );
        } else {
            let mut before = room.seen().await;
            // What the first attempt has made visible is named by no manifest, and the cleanup's.
            before.retain(|key, _| !key.contains("-0b0c6f0e-1."));
            tokio::time::sleep(TICK).await;
            claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
            stands(&what, &before, &room.seen().await);
            room.clean_up(&next).await;
            stands(&what, &before, &room.seen().await);
        }
        room.check(&what).await;
        room.done().await;
    })
    .await;
}

#[tokio::test]
async fn a_direct_export_that_comes_back_in_the_middle_of_replacing_a_delivery() {
    let places = [
        "delivery::uploaded",
        "delivery::committed",
        "replace::success_removed",
        "replace::manifest_written",
        "replace::success_written",
    ];
    each(&places, async |place, back| {
        let what = format!("{place}, {back:?}");
        let room = Room::new("zombie-replace").await;
        room.deliver_earlier().await;
        let zombie = room.zombie(&room.replacement(Way::Direct, 1), &["export"], place).await;
        let next = room.replacement(Way::Direct, 2);
        let delivered = room.export(&next, 0).delivered().await;
        if back == Back::AfterCleanup {
            room.clean_up(&next).await;
        }
        let mut before = room.seen().await;
        before.retain(|key, _| !key.contains("-0b0c6f0e-1.") || place == "replace::success_written");
        tokio::time::sleep(TICK).await;
        claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
        stands(&what, &before, &room.seen().await);
        room.clean_up(&next).await;
        stands(&what, &before, &room.seen().await);
        room.check(&what).await;
        room.done().await;
    })
    .await;
}

#[tokio::test]
async fn a_transfer_that_comes_back_after_its_successor() {
    each(&DELIVERY, async |place, back| {
        let what = format!("{place}, {back:?}");
        let room = Room::new("zombie-transfer").await;
        let order = room.order(Way::Staged, 1);
        let (leader, other) = futures::join!(room.export(&order, 0).ended(), room.export(&order, 1).ended());
        assert!(matches!(leader, Outcome::Exported(_)), "{what}: {leader:?}");
        assert!(matches!(other, Outcome::ShareExported), "{what}: {other:?}");
        let zombie = room.zombie(&order, &["transfer"], place).await;
        let delivered = room.transfer(&order).delivered().await;
        if back == Back::AfterCleanup {
            room.clean_up(&order).await;
            room.check(&what).await;
        }
        let before = room.seen().await;
        tokio::time::sleep(TICK).await;
        claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
        let after = room.seen().await;
        stands(&what, &before, &after);
        assert_eq!(before.len(), after.len(), "{what}: {:?} were added to {:?}", after.keys(), before.keys());
        room.clean_up(&order).await;
        room.check(&what).await;
        room.done().await;
    })
    .await;
}

#[tokio::test]
async fn a_worker_0_that_comes_back_after_the_next_attempt() {
    let places = [
        "export::planned",
        "staging::plan_stored",
        "staging::body_uploaded",
        "staging::body_stored",
        "staging::sidecar_stored",
    ];
    for way in [Way::Staged, Way::PerChunk] {
        each(&places, async |place, back| {
            let what = format!("{way:?}, {place}, {back:?}");
            let room = Room::new("zombie-leader").await;
            let zombie = room.zombie(&room.order(way, 1), &["export"], place).await;
            let next = room.order(way, 2);
            let (leader, other) =
                futures::join!(room.export(&next, 0).ended(), room.export(&next, 1).ended());
            assert!(matches!(leader, Outcome::Exported(_)), "{what}: {leader:?}");
            assert!(matches!(other, Outcome::ShareExported), "{what}: {other:?}");
            match back {
                // What it does to the staging, the transfer does not see.
                Back::BeforeCleanup => {
                    let outcome = zombie.comes_back().await;
                    let delivered = room.transfer(&next).delivered().await;
                    claims_nothing_else(&what, &outcome, &delivered);
                    room.clean_up(&next).await;
                }
                Back::AfterCleanup => {
                    let delivered = room.transfer(&next).delivered().await;
                    room.clean_up(&next).await;
                    let before = room.seen().await;
                    tokio::time::sleep(TICK).await;
                    claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
                    let after = room.seen().await;
                    stands(&what, &before, &after);
                    assert_eq!(before.len(), after.len(), "{what}");
                }
            }
            room.check(&what).await;
            room.done().await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_worker_1_that_comes_back_after_its_successor() {
    let places = ["staging::body_uploaded", "staging::body_stored", "staging::sidecar_stored"];
    for way in [Way::Staged, Way::PerChunk] {
        each(&places, async |place, back| {
            let what = format!("{way:?}, {place}, {back:?}");
            let room = Room::new("zombie-other").await;
            let order = room.order(way, 1);
            let leader = room.export(&order, 0);
            let zombie = room.zombie(&order, &["export", "--index", "1"], place).await;
            let successor = room.export(&order, 1).ended().await;
            assert!(matches!(successor, Outcome::ShareExported), "{what}: {successor:?}");
            let leader = leader.ended().await;
            assert!(matches!(leader, Outcome::Exported(_)), "{what}: {leader:?}");
            if back == Back::BeforeCleanup {
                zombie.comes_back().await;
                room.transfer(&order).delivered().await;
                room.clean_up(&order).await;
            } else {
                let delivered = room.transfer(&order).delivered().await;
                room.clean_up(&order).await;
                let before = room.seen().await;
                tokio::time::sleep(TICK).await;
                claims_nothing_else(&what, &zombie.comes_back().await, &delivered);
                stands(&what, &before, &room.seen().await);
            }
            room.check(&what).await;
            room.done().await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_attempt_that_comes_back_in_the_middle_of_replacing_a_manifest() {
    let room = Room::new("zombie-replacing").await;
    // The first attempt leaves a manifest, which the second one is about to replace.
    let first = room.zombie(&room.order(Way::Direct, 1), &["export"], "seal::manifest_written").await;
    let second = room.zombie(&room.order(Way::Direct, 2), &["export"], "seal::replacing").await;
    let third = room.order(Way::Direct, 3);
    let delivered = room.export(&third, 0).delivered().await;
    room.clean_up(&third).await;
    let before = room.seen().await;
    tokio::time::sleep(TICK).await;
    for zombie in [second, first] {
        claims_nothing_else("replacing", &zombie.comes_back().await, &delivered);
        stands("replacing", &before, &room.seen().await);
    }
    room.check("replacing").await;
    room.done().await;
}

#[tokio::test]
async fn an_attempt_that_comes_back_and_delivers_before_the_next_one_does() {
    // Seen before the next one writes its manifest, and after it has found that there is no _SUCCESS.
    for place in ["delivery::committed", "seal::replacing"] {
        let room = Room::new("zombie-first").await;
        let first = room.zombie(&room.order(Way::Direct, 1), &["export"], "seal::manifest_written").await;
        let next = room.order(Way::Direct, 2);
        let second = room.zombie(&next, &["export"], place).await;
        let outcome = first.comes_back().await;
        assert!(matches!(outcome, Outcome::Delivered(_)), "{place}: {outcome:?}");
        let outcome = second.comes_back().await;
        let Outcome::Delivered(delivered) = outcome else { panic!("{place}: {outcome:?}") };
        room.clean_up(&next).await;
        assert_eq!(room.delivered_manifest().await, delivered.manifest_sha256, "{place}");
        room.check(place).await;
        room.done().await;
    }
}
