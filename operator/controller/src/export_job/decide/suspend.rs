//! A run that pauses: its pods end, no clock runs, and no retry is spent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::Phase;
use pgexport_api::condition::{self, ConditionType, Truth};

use super::draft::{Draft, RECHECK};
use super::pending::pending;
use super::{Subject, current};
use crate::event::Notice;
use crate::job::fact::JobState;

/// Whether the ExportJob is to pause now. What has ended well by then is taken note of first.
pub fn is_due(draft: &Draft<'_>) -> bool {
    let is_wanted = is_wanted(draft);
    let ended_well = current(draft.prior).flat_map(crate::export_job::child::Child::runs).any(|run| {
        let name = draft.name(run);
        draft
            .observed
            .jobs
            .iter()
            .any(|job| job.name == name && job.state == JobState::Complete && job.success().is_some())
    });
    is_wanted && !ended_well
}

/// Whether the ExportJob is to pause.
pub fn is_wanted(draft: &Draft<'_>) -> bool {
    draft.subject.spec.suspend || is_unseen_restore(draft.subject, draft.prior.phase)
}

/// Velero restores no status: what has run before would run again. It stays so until somebody removes the label.
fn is_unseen_restore(subject: &Subject<'_>, phase: Option<Phase>) -> bool {
    subject.restored && matches!(phase, None | Some(Phase::Suspended))
}

/// Why it is not Ready while its pods still end. Until then it holds its connections, and its place in the limits.
pub const SUSPENDING: &str = "Suspending";

/// Pauses.
pub fn suspended(draft: &mut Draft<'_>) {
    let message = if draft.subject.spec.suspend {
        "suspended: it goes on when spec.suspend is false"
    } else {
        "suspended, as it was restored from a backup and may have run before: it begins when the label velero.io/restore-name is removed"
    };
    if draft.prior.phase != Some(Phase::Suspended) {
        draft.tell(Notice::normal("Suspended", message));
    }
    let reason = if draft.is_settled() { "Suspended" } else { SUSPENDING };
    draft.status.phase = Some(Phase::Suspended);
    let mut failures = draft.failures();
    failures.next_attempt_time = None;
    failures.environment_since = None;
    draft.set_failures(failures);
    condition::remove(&mut draft.status.conditions, ConditionType::Reconciling);
    condition::remove(&mut draft.status.conditions, ConditionType::Stalled);
    draft.condition(ConditionType::Ready, Truth::False, reason, message);
    draft.status.message = Some(message.to_owned());
    draft.wake_in(RECHECK);
}

/// Goes on: with the transfer, where all chunks are in the staging, otherwise with an attempt to export. Under
/// `consistency: PerChunk` that attempt finds the chunks that are finished.
pub fn resumed(draft: &mut Draft<'_>) {
    draft.tell(Notice::normal("Resumed", "the ExportJob goes on"));
    draft.status.resume_time = Some(Time(draft.now));
    if condition::is_true(&draft.status.conditions, ConditionType::Exported) {
        draft.status.phase = Some(Phase::Transferring);
        let mut failures = draft.failures();
        failures.next_attempt_time = Some(Time(draft.now));
        draft.set_failures(failures);
        draft.reconciling("Resumed", "the ExportJob goes on");
        if draft.is_settled() {
            draft.begin_transfer();
        }
    } else {
        draft.status.phase = Some(Phase::Pending);
        draft.reconciling("Resumed", "the ExportJob goes on");
        pending(draft);
    }
}
