//! The engine against a real PostgreSQL: `make peers-up` starts it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which fail by it"
)]

mod auto;
mod chunking;
mod copying;
mod encoding;
mod instance;
mod load;
mod login;
mod parameters;
mod privilege;
mod queries;
mod settle;
mod snapshot;
mod values;
mod world;
