//! The control plane of pgexport: it watches ExportSources, ExportSinks and ExportJobs, decides purely over observed facts,
//! and lets Kubernetes Jobs do the work. It never touches data or credentials.
//!
//! Each kind is reconciled in steps, each in a file of its own: `dereference` (client), `validate` (pure), `observe`
//! (client), `decide` (pure), `status` (client), `render` (pure), `apply` (client). The status is written before
//! anything is created, with the resource version that was decided upon: whoever decided on stale facts creates nothing.

mod config;
mod error;
mod event;

pub use config::Config;
pub use error::Error;

/// Runs the controller until SIGTERM or SIGINT, and then until running reconciliations are done.
#[allow(clippy::unused_async, reason = "grows")]
pub async fn run(_config: Config) -> Result<(), Error> {
    Ok(())
}
