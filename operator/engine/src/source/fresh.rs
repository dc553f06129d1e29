//! Connections whose transactions see the moment at which they begin.

use super::connect::Connector;
use super::error::Stage;
use super::snapshot::{Importer, begin};
use crate::error::Result;

impl Importer {
    /// Connects, with no snapshot to import. [`Importer::begin_anew`] comes before each copy.
    pub async fn connect(connector: &Connector, application_name: &str) -> Result<Self> {
        let session = connector.connect(application_name).await?;
        Self::on(session, application_name)
    }

    /// Ends the transaction, with all that a query may have set in it, and begins another one.
    pub async fn begin_anew(&mut self) -> Result<()> {
        self.session.roll_back().await;
        let sql = begin(&self.session, false);
        self.session.batch(Stage::Run, "beginning a chunk's transaction", &sql).await?;
        *self.spent.get_mut() = false;
        Ok(())
    }
}
