//! Trying a sink: what a delivery needs, with nothing left behind.

use std::sync::Arc;

use pgexport_api::order::NamedSink;
use pgexport_api::reason::Reason;
use pgexport_api::sink::Capability;

use crate::error::Result;
use crate::secret::Secrets;
use crate::store::{self, Volumes};

/// A key that nothing ever has.
const ABSENT: &str = ".pgexport-probe";

/// Begins an upload and aborts it, by which no object ever becomes visible and no right is needed that a delivery does not
/// need. A sink that serves as staging has to be listed and read too. Returns what else it was let do.
pub async fn probe(
    sink: &NamedSink,
    secrets: Arc<dyn Secrets>,
    volumes: &Volumes,
) -> Result<Vec<Capability>> {
    let store = store::open(&sink.target, secrets, volumes)?;
    store.probe(sink.staging).await?;
    // S3 tells who may not list nothing of what is there: a read that is refused then may be one of nothing.
    let tried = [
        (Capability::List, store.list(ABSENT).await.map(drop)),
        (Capability::Read, store.get(ABSENT).await.map(drop)),
        (Capability::ListUploads, store.uploads(ABSENT).await.map(drop)),
    ];
    let mut capabilities = vec![Capability::Write];
    for (capability, done) in tried {
        match done {
            Ok(()) => capabilities.push(capability),
            Err(error) if error.reason() == Reason::AccessDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(capabilities)
}
