//! The client: transport, timeouts, retries.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, Region, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use pgexport_api::sink::S3;

use super::credentials::FromSecret;
use crate::aws::{self, Ambient};
use crate::error::Result;
use crate::secret::Secrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a try of a request may take, when what it carries is small.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// S3 may take minutes to complete a big upload.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
const COMPLETE_TIMEOUT: Duration = Duration::from_mins(10);

/// A body that travels more slowly than this is given up: 64 KiB a second.
const SLOWEST: u64 = 64 * 1024;

/// A server that copies more slowly than this is given up: 1 MiB a second.
const SLOWEST_COPY: u64 = 1024 * 1024;

/// How long a body may stand still.
const STALLED: Duration = Duration::from_secs(30);

const ATTEMPTS: u32 = 3;

pub(super) fn new(s3: &S3, secrets: Arc<dyn Secrets>) -> Result<Client> {
    let http = aws::http_client();
    let region = Region::new(s3.region.clone());
    let credentials = match &s3.credentials_secret_ref {
        Some(secret) => SharedCredentialsProvider::new(FromSecret::new(secrets, secret.name.clone())?),
        None => SharedCredentialsProvider::new(Ambient::new(http.clone(), region.clone())),
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        .http_client(http)
        .force_path_style(s3.force_path_style)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts(ATTEMPT_TIMEOUT))
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED).build());
    config.set_endpoint_url(s3.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

/// The client's settings for a request that carries this many bytes.
pub(super) fn carrying(bytes: usize) -> Builder {
    let travel = Duration::from_secs(bytes as u64 / SLOWEST);
    Config::builder().timeout_config(timeouts(ATTEMPT_TIMEOUT.saturating_add(travel)))
}

/// The client's settings for a request that has the server copy this many bytes: it answers when it is done.
pub(super) fn copying(bytes: u64) -> Builder {
    let work = Duration::from_secs(bytes / SLOWEST_COPY);
    Config::builder().timeout_config(timeouts(ATTEMPT_TIMEOUT.saturating_add(work)))
}

/// The client's settings for the reading of a range: a checksum that comes with it may be the whole object's.
pub(super) fn reading_range() -> Builder {
    Config::builder().response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

/// The client's settings for the completion of an upload.
pub(super) fn completing() -> Builder {
    Config::builder().timeout_config(timeouts(COMPLETE_TIMEOUT))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt).build()
}
