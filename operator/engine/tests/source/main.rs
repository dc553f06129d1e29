//! The engine against a real PostgreSQL: `make peers-up` starts it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by it")]

mod chunking;
mod copying;
mod login;
mod parameters;
mod queries;
mod snapshot;
mod world;
