//! PostgreSQL: connections, the snapshot, and rows.

mod connect;
mod copy;
mod dial;
mod encoding;
pub mod error;
mod fresh;
mod iam;
pub mod load;
pub mod privilege;
mod rate;
mod session;
mod setting;
pub mod settle;
mod snapshot;
mod tap;
mod tls;

pub use connect::{Connector, application_name};
pub use copy::CopyStream;
pub use rate::RateLimit;
pub use session::Session;
pub use snapshot::{Holder, Importer};
pub(crate) use snapshot::{check_instance, lost};
