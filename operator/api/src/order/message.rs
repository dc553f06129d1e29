//! What a receiver of notifications is told: the body of the message, as docs/notifications.md documents it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NamedReceiver;
use crate::job::{ExportJobSpec, ExportJobStatus, Phase};
use crate::reason::Reason;

/// The version of [`Message`] that this code writes.
pub const MESSAGE_VERSION: u32 = 1;

/// A message, and whom to send it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotifyOrder {
    /// The receiver.
    pub receiver: NamedReceiver,
    /// The message's id, the same in each try.
    pub id: String,
    /// The message.
    pub message: Message,
}

/// A message, in the form that Standard Webhooks gives to bodies. It holds no query, no parameter's value and no row.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// What has happened.
    #[serde(rename = "type")]
    pub message_type: MessageType,
    /// [`MESSAGE_VERSION`]. Fields may be added in one version; none changes its meaning, and none goes.
    pub version: u32,
    /// When it has happened.
    pub timestamp: Timestamp,
    /// To which run.
    pub data: FailedRun,
}

/// What has happened.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// An ExportJob has ended as Failed.
    #[serde(rename = "exportjob.failed")]
    ExportJobFailed,
}

/// A run that has failed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailedRun {
    /// The ExportJob's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The ExportSchedule that it was made by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Timestamp>,
    /// The ExportSource that it reads.
    pub source: String,
    /// The ExportSink that it delivers to.
    pub sink: String,
    /// Failed.
    pub phase: Phase,
    /// From the closed vocabulary of docs/reference/reasons.md.
    pub reason: Reason,
    /// PostgreSQL's SQLSTATE, where the database refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_state: Option<String>,
    /// What failed, on what.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Attempts to export.
    pub attempts: u32,
    /// Attempts to deliver, over all attempts to export; 0 where exporting is delivering.
    pub transfer_attempts: u32,
    /// When the ExportJob was created.
    pub creation_time: Timestamp,
    /// When its first attempt was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub completion_time: Timestamp,
    /// Where it was to deliver, as a URI, where that was known. Nothing that is finished is there of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl Message {
    /// The message that an ExportJob has failed, as its status tells it; `None` where it does not.
    #[must_use]
    pub fn of_failure(
        (namespace, name, uid): (&str, &str, &str),
        creation_time: Timestamp,
        spec: &ExportJobSpec,
        status: &ExportJobStatus,
    ) -> Option<Self> {
        let phase = status.phase.filter(|phase| *phase == Phase::Failed)?;
        let completion_time = status.completion_time.as_ref()?.0;
        let error = status.last_error.as_ref()?;
        let scheduled = spec.scheduled.as_ref();
        Some(Self {
            message_type: MessageType::ExportJobFailed,
            version: MESSAGE_VERSION,
            timestamp: completion_time,
            data: FailedRun {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
                schedule: scheduled.map(|scheduled| scheduled.schedule.clone()),
                scheduled_time: scheduled.map(|scheduled| scheduled.time.0),
                source: spec.source_ref.name.clone(),
                sink: spec.sink_ref.name.clone(),
                phase,
                reason: error.reason,
                sql_state: error.sql_state.clone(),
                message: error.message.clone(),
                hint: error.hint.clone(),
                attempts: status.attempts,
                transfer_attempts: status.transfer_attempts,
                creation_time,
                start_time: status.start_time.as_ref().map(|time| time.0),
                completion_time,
                location: status.location.clone(),
            },
        })
    }

    /// The id of an ExportJob's message: the same in each try, and no other message's.
    #[must_use]
    pub fn id(uid: &str) -> String {
        format!("{uid}-failed")
    }
}
