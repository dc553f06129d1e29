//! Admission: whether an ExportJob's turn has come. What a database may be asked for at once, and who waits for it, and that
//! no two ExportJobs deliver to one location, is judged over all ExportJobs that the controller sees.
//!
//! The watch's store lags, and a lagging store admits too many. So a yes is confirmed by a live list, one ExportJob at a
//! time, and the next one is judged when the status with the attempt's number has been written.

mod claim;
mod observe;
mod queue;

pub use claim::Database;
pub use observe::{Turn, next_in_line, turn};
pub use queue::Admission;
