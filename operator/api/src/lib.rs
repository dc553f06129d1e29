//! What pgexport's users and its own processes say to one another: the custom resources of `pgexport.dev/v1alpha1`, their
//! conditions and reasons, and the documents that the controller hands to worker pods ([`order`]) and reads back
//! ([`report`], [`progress`]).
//!
//! This crate holds data and pure functions over it: no client, no I/O, no clock.

pub mod condition;
pub mod crd;
mod duration;
pub mod exit;
pub mod job;
pub mod naming;
pub mod order;
pub mod progress;
pub mod reason;
pub mod report;
pub mod schedule;
pub mod sink;
pub mod size;
pub mod source;
pub mod time_zone;

pub use condition::{Condition, ConditionType};
pub use job::{ExportJob, ExportJobSpec, ExportJobStatus, Phase};
pub use reason::{Class, Reason};
pub use schedule::{ExportSchedule, ExportScheduleSpec, ExportScheduleStatus};
pub use sink::{ExportSink, ExportSinkSpec};
pub use source::{ExportSource, ExportSourceSpec};

/// The API group of all kinds.
pub const GROUP: &str = "pgexport.dev";
/// The only served version.
pub const VERSION: &str = "v1alpha1";
