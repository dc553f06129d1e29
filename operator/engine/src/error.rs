//! The engine's error: classified once, where it arises, with what a person needs to act.

use pgexport_api::reason::Reason;
use pgexport_api::report::Failure;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A classified error. Its message names what failed, on what; it holds no secret, parameter value or row value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    reason: Reason,
    sql_state: Option<String>,
    message: String,
    hint: Option<String>,
    chunk: Option<u32>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this reason; the message names what failed, on what.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, sql_state: None, message: message.into(), hint: None, chunk: None, source: None }
    }

    /// What to do about it, more exactly than [`Reason::hint`].
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// PostgreSQL's SQLSTATE.
    #[must_use]
    pub fn with_sql_state(mut self, sql_state: impl Into<String>) -> Self {
        self.sql_state = Some(sql_state.into());
        self
    }

    /// The chunk that failed.
    #[must_use]
    pub const fn with_chunk(mut self, chunk: u32) -> Self {
        self.chunk = Some(chunk);
        self
    }

    /// What caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Why it failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What goes into the report.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        Failure {
            reason: self.reason,
            sql_state: self.sql_state.clone(),
            message: self.message.clone(),
            hint: Some(self.hint.clone().unwrap_or_else(|| self.reason.hint().to_owned())),
            chunk: self.chunk,
        }
    }
}
