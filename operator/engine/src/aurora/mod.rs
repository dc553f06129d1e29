//! Method `AuroraS3`: the database writes chunks to the staging's bucket by itself, by the extension `aws_s3` of Amazon Aurora
//! and RDS. Workers only say what is to be written, watch, and tell of it in sidecars; nobody of ours has seen the bytes
//! before the transfer counts and hashes them.
//!
//! Where the schema `pgexport` is installed (`sql/`), each call is a row of its table of runs, committed before and after.
//! By it, what a former worker left running is found and ended, and what it left complete is taken over. For a replica, the
//! table is the writer's, where one is named ([`ledger`]). Without it the extension is called alone.

pub mod attempt;
mod error;
mod exporter;
mod extension;
pub mod ledger;
mod orphan;
mod replica;
mod run_table;
pub mod schema;
mod target;

pub use exporter::{Exporter, Request, Uploaded, still_as_planned};
pub use extension::Extension;
pub use ledger::Ledger;
pub use orphan::{Finished, end_orphans, finished};
pub use target::Target;
