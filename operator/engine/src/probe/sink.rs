//! Trying a sink: what a delivery needs, with nothing left behind.

use std::sync::Arc;

use pgexport_api::order::NamedSink;

use crate::error::Result;
use crate::secret::Secrets;
use crate::store::{self, Volumes};

/// Begins an upload and aborts it, by which no object ever becomes visible and no right is needed that a delivery does not
/// need. A sink that serves as staging is listed and read too.
pub async fn probe(sink: &NamedSink, secrets: Arc<dyn Secrets>, volumes: &Volumes) -> Result<()> {
    store::open(&sink.target, secrets, volumes)?.probe(sink.staging).await
}
