//! Method `AuroraS3` against a real PostgreSQL with the stand-in for `aws_s3`, and a real S3 server: `make peers-up`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which fail by it"
)]

mod equality;
mod odd;
mod orphan;
mod parquet;
mod refusal;
mod room;
