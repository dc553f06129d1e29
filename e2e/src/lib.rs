//! What the end-to-end tests share: a namespace of their own on the cluster, manifests, waiting, and reading what was
//! delivered. Everything here panics on failure, with what a person needs to see: it runs in tests only.

mod delivered;
mod failpoint;
mod fault;
mod gate;
mod lab;
mod leftover;
mod manifest;
mod namespace;
mod network;
mod operator;
mod own_server;
mod policy;
mod process;
mod schedule;
mod volume;
mod wait;
mod world;

pub use delivered::{Delivery, csv_records, expected_rows, json_rows, ndjson_rows};
pub use failpoint::{Awaited, Coordinator, Held};
pub use fault::{delete_at_once, evict, kill_controller, kill_worker};
pub use gate::Gate;
pub use lab::Lab;
pub use leftover::Leftovers;
pub use manifest::{job, postgres_spec, s3_secret, s3_spec};
pub use namespace::Namespace;
pub use network::inside_network;
pub use operator::{SYSTEM, change_controller, controller, controller_metrics, controller_ready};
pub use own_server::OwnServer;
pub use policy::Policy;
pub use process::{Process, Signal};
pub use schedule::{NEVER, Schedules, scheduled_rows};
pub use volume::claim;
pub use wait::{condition, eventually, ready_message};
pub use world::{Found, World};
