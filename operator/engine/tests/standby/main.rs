//! Exports from a hot standby, and what only a standby does. Each pair of servers is a test's own, or shared by those that do
//! not hold up its replay.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which fail by it"
)]

mod conflict;
mod copy;
mod ledger;
mod orphan;
mod pair;
#[allow(dead_code, reason = "shared with the tests of the method AuroraS3")]
#[path = "../aurora/room.rs"]
mod room;
mod world;
