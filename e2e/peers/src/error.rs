//! What a test or tool that uses the peers can run into.

use std::{net::SocketAddr, path::PathBuf};

/// Why the peers could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// No record: the servers were never started with this state folder.
    #[error("no peers are running ({path} cannot be read): run `make peers-up`")]
    NotUp {
        /// Where the record was expected.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// The record is there and unreadable, perhaps written by an older version.
    #[error("{path} is not a record of running peers: run `make peers-up` again")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The CA certificate of the record cannot be used.
    #[error("the CA certificate of the PostgreSQL peer cannot be used: {0}")]
    Certificate(String),
    /// TLS cannot be set up.
    #[error("TLS towards the PostgreSQL peer cannot be set up")]
    Tls(#[from] rustls::Error),
    /// A PostgreSQL connection or statement failed.
    #[error("{action}")]
    Postgres {
        /// What was being done.
        action: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A standby has not replayed what it should have.
    #[error("the standby at {standby} has not replayed all that its primary did")]
    Behind {
        /// Where it is.
        standby: SocketAddr,
    },
    /// An S3 request failed.
    #[error("{action}")]
    S3 {
        /// What was being done.
        action: String,
        /// The S3 server's answer.
        #[source]
        source: Box<aws_sdk_s3::Error>,
    },
    /// The body of an object broke off.
    #[error("reading {bucket}/{key}")]
    Body {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
        /// Where it broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The S3 server's admin tool cannot be run.
    #[error("{program} cannot be run: run `make peers-up`")]
    AdminTool {
        /// The tool.
        program: PathBuf,
        /// Why it cannot be run.
        #[source]
        source: std::io::Error,
    },
    /// The S3 server's admin tool refused.
    #[error("{action}: {output}")]
    Admin {
        /// What was being done.
        action: String,
        /// What the tool printed.
        output: String,
    },
}

/// Says what was being done when PostgreSQL answered with an error.
pub(crate) fn during(action: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> PeersError {
    move |source| PeersError::Postgres { action: action.into(), source }
}
