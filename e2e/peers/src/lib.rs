//! The real servers that the tests run against: PostgreSQL with TLS and SCRAM, and an S3 server with several accounts.
//!
//! The binary `peers` starts and stops them ([`server`]); it writes a record that tests read with [`Peers::load`].
//! Tests share the servers and stay apart by databases and buckets with unique names.

mod aws_s3;
mod error;
pub mod findings;
pub mod postgres;
pub mod receiver;
mod record;
pub mod s3;
pub mod server;
pub mod state;
mod unique;

pub use aws_s3::ROLES_LOCK;
pub use error::PeersError;
pub use postgres::{Login, Postgres, TestDatabase};
pub use receiver::{Received, Receiver};
pub use record::Peers;
pub use s3::{Account, OpenUpload, S3, StoredObject, WRITE_ONLY};
