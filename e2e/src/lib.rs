//! What the end-to-end tests share: a namespace of their own on the cluster, manifests, waiting, and reading what was
//! delivered. Everything here panics on failure, with what a person needs to see: it runs in tests only.

mod delivered;
mod fault;
mod gate;
mod lab;
mod leftover;
mod manifest;
mod namespace;
mod operator;
mod process;
mod volume;
mod wait;
mod world;

pub use delivered::{Delivery, csv_records, json_rows};
pub use fault::{delete_at_once, evict, kill_controller, kill_worker};
pub use gate::Gate;
pub use lab::Lab;
pub use leftover::Leftovers;
pub use manifest::{job, postgres_spec, s3_spec};
pub use namespace::Namespace;
pub use operator::{SYSTEM, controller};
pub use process::{Process, Signal};
pub use volume::claim;
pub use wait::{condition, eventually, ready_message};
pub use world::{Found, World};
