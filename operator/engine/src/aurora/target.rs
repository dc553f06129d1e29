//! Where a database writes: the staging's bucket, as the extension names it.

use pgexport_api::order::{self, DeliveryPath, RunOrder};
use pgexport_api::reason::Reason;

use crate::error::{Error, Result};

/// The bucket, and how it is written. The sink's endpoint and credentials are for our own client: the database goes to its
/// own region's S3, by its own role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The bucket.
    pub bucket: String,
    /// What the staging's keys begin with.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// The KMS key; none is the extension's own.
    pub kms_key: Option<String>,
}

impl Target {
    /// The staging of an order.
    ///
    /// # Errors
    /// [`Reason::StagingRequired`] where that is no bucket.
    pub fn of(order: &RunOrder) -> Result<Self> {
        let DeliveryPath::Staged { staging } = &order.delivery else { return Err(no_bucket()) };
        let order::Target::S3(s3) = &staging.target else { return Err(no_bucket()) };
        Ok(Self {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            region: s3.region.clone(),
            kms_key: order.source.kms_key_id.clone(),
        })
    }
}

fn no_bucket() -> Error {
    Error::new(Reason::StagingRequired, "method AuroraS3 writes to a staging in S3, and there is none")
}
