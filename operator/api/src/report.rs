//! What a worker says when it ends: the termination message that the kubelet puts into the pod's status.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::DatasetChunks;
use crate::reason::Reason;
use crate::sink::Capability;
use crate::source::{AuroraS3, Server};

/// The kubelet keeps the *last* 4,096 bytes of a termination message: a longer JSON would lose its head.
pub const MAX_BYTES: usize = 3 * 1024;

/// The version of [`Report`] that this code writes.
pub const REPORT_VERSION: u32 = 1;

/// A worker's last word.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a worker ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// Worker 0 of a staged export: all chunks of all workers are in staging.
    Exported(Exported),
    /// Another worker of a staged export: its share is in staging.
    ShareExported,
    /// A transfer, or a direct export: everything is at the location.
    Delivered(Delivered),
    /// A probe of a source.
    SourceProbed {
        /// The server.
        server: Server,
        /// What the login may do beyond reading.
        #[serde(default)]
        login_may: Vec<String>,
        /// What it has for exports by itself, where that is its method.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aurora_s3: Option<AuroraS3>,
    },
    /// A probe of a sink.
    SinkProbed {
        /// What it was let do.
        #[serde(default)]
        capabilities: Vec<Capability>,
    },
    /// A probe of a receiver of notifications.
    ReceiverProbed,
    /// A cleanup.
    Cleaned(Cleaned),
    /// A notification: its receiver has taken it.
    Notified {
        /// The status of its answer, from 200 to 299.
        status: u16,
    },
    /// It failed.
    Failed(Failure),
}

/// What a cleanup has removed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cleaned {
    /// Objects, in the staging and at the location.
    pub objects: u64,
    /// Uploads that were open.
    pub uploads: u64,
    /// What may be left, since the sink does not let it be seen or removed: where, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<String>,
    /// What lies in the staging and was to stay; absent where nothing lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What a cleanup has left in the staging, as it was told to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Objects.
    pub objects: u64,
    /// The folder that they lie in, as a URI.
    pub location: String,
}

/// The totals of a staged export.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Chunks, over all data sets.
    pub chunks: u32,
    /// Rows in them.
    pub rows: u64,
    /// Bytes in staging.
    pub bytes: u64,
    /// The instant of the snapshot; absent where each chunk has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// How each data set was split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunking: Vec<DatasetChunks>,
}

/// The totals of a delivery.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// Chunks, over all data sets.
    pub chunks: u32,
    /// The manifest's URI.
    pub manifest: String,
    /// The manifest's SHA-256, in hexadecimal.
    pub manifest_sha256: String,
    /// Data files.
    pub files: u32,
    /// Rows in them.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The instant of the snapshot; absent where each chunk has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
    /// How each data set was split, by the worker that has read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunking: Vec<DatasetChunks>,
    /// Whether an ExportJob of the same name and spec had delivered it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// A classified error. It never holds a secret, a parameter's value or a row's value.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// From the closed vocabulary.
    pub reason: Reason,
    /// PostgreSQL's SQLSTATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_state: Option<String>,
    /// What failed, on what.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The chunk that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u32>,
}

impl Report {
    /// A report of this version.
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        Self { version: REPORT_VERSION, outcome }
    }

    /// As JSON of at most [`MAX_BYTES`]: long messages, hints and reasons are cut.
    #[must_use]
    pub fn to_termination_message(&self) -> String {
        let mut report = self.clone();
        let mut limit = MAX_BYTES / 2;
        loop {
            // Serialising these plain structs cannot fail.
            let text = serde_json::to_string(&report).unwrap_or_default();
            if text.len() <= MAX_BYTES || limit == 0 {
                return text;
            }
            match &mut report.outcome {
                Outcome::Failed(failure) => {
                    failure.message = truncate(&failure.message, limit).to_owned();
                    failure.hint = failure.hint.as_deref().map(|hint| truncate(hint, limit / 2).to_owned());
                }
                Outcome::Exported(Exported { chunking, .. })
                | Outcome::Delivered(Delivered { chunking, .. }) => {
                    let each = limit / chunking.len().max(1);
                    for dataset in chunking {
                        dataset.reason =
                            dataset.reason.as_deref().map(|reason| truncate(reason, each).to_owned());
                    }
                }
                _ => {}
            }
            limit /= 2;
        }
    }

    /// Reads a termination message; `None` where it is not a report of a version that this code knows.
    #[must_use]
    pub fn from_termination_message(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|report| report.version == REPORT_VERSION)
    }
}

/// The longest prefix of at most `limit` bytes that ends between characters.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::Strategy;

    fn failed(message: &str, hint: &str) -> Report {
        Report::new(Outcome::Failed(Failure {
            reason: Reason::InvalidQuery,
            sql_state: Some("42601".to_owned()),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
            chunk: Some(3),
        }))
    }

    #[test]
    fn a_report_survives_the_way_through_the_kubelet() {
        let report = failed("syntax error", "correct it");
        assert_eq!(Report::from_termination_message(&report.to_termination_message()), Some(report));
    }

    #[test]
    fn what_is_no_report_is_none() {
        for text in ["", "panicked at", "{}", r#"{"version": 99, "outcome": "SinkProbed"}"#] {
            assert_eq!(Report::from_termination_message(text), None, "{text}");
        }
    }

    #[test]
    fn the_totals_of_many_data_sets_are_no_longer_than_the_kubelet_keeps() {
        let chunking = (0..16)
            .map(|number| DatasetChunks {
                dataset: format!("{number:063}"),
                strategy: Strategy::Table,
                chunks: 625,
                reason: Some("its reason \"goes on and on\"; ".repeat(10)),
            })
            .collect();
        let (chunks, rows, bytes) = (10_000, u64::MAX, u64::MAX);
        let exported = Exported { chunks, rows, bytes, snapshot_time: Some(Timestamp::MAX), chunking };
        let text = Report::new(Outcome::Exported(exported)).to_termination_message();
        assert!(text.len() <= MAX_BYTES, "{}", text.len());
        let Some(Report { outcome: Outcome::Exported(read), .. }) = Report::from_termination_message(&text)
        else {
            panic!("it cannot be read again: {text}")
        };
        assert_eq!(read.chunking.len(), 16);
        assert!(read.chunking.iter().all(|dataset| dataset.reason.as_ref().unwrap().starts_with("its")));
    }

    proptest! {
        #[test]
        fn no_report_is_longer_than_the_kubelet_keeps(message in ".{0,5000}", hint in "\\PC{0,5000}") {
            let text = failed(&message, &hint).to_termination_message();
            prop_assert!(text.len() <= MAX_BYTES);
            let Some(Report { outcome: Outcome::Failed(failure), .. }) = Report::from_termination_message(&text) else {
                return Err(TestCaseError::fail("it cannot be read again"));
            };
            prop_assert!(message.starts_with(&failure.message));
            prop_assert_eq!(failure.reason, Reason::InvalidQuery);
        }
    }
}
