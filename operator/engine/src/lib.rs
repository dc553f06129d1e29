//! pgexport's data plane. It reads PostgreSQL under one exported snapshot, in parallel chunks ([`source`], [`plan`]),
//! decodes and encodes rows ([`decode`], [`encode`]) or has the database write them by itself ([`aurora`]), writes files to object stores and folders ([`store`], [`output`]),
//! stages and transfers them ([`staging`], [`transfer`]), seals each delivery with a manifest ([`manifest`]), removes
//! what a run has left ([`cleanup`]), and tells of one that has failed ([`notify`]).
//!
//! Workers in a cluster and `pgexport run` on a laptop are two fronts of this one engine. It knows no Kubernetes client.

mod authority;
mod aws;

pub mod aurora;
pub mod cleanup;
pub mod decode;
pub mod encode;
pub mod error;
pub mod export;
pub mod manifest;
pub mod memory;
pub mod notify;
pub mod output;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod secret;
pub mod source;
pub mod sql;
pub mod staging;
pub mod store;
pub mod transfer;

pub use error::{Error, Result};
