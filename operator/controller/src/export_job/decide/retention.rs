//! What a run has staged may be kept for a while after it has failed, for whoever wants to look at it. Then the first cleanup
//! leaves it, and another one removes it: after that time, or as soon as the ExportJob is deleted.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::Phase;
use pgexport_api::job::{Cleanup, StagingKept};
use pgexport_api::order::CleanupPart;

use super::cleanup::FIRST_WAIT;
use super::draft::{Draft, after};
use crate::export_job::validate::ValidatedCleanup;

/// What the attempt that is under way, or the next one, removes.
pub fn part(cleanup: &Cleanup) -> CleanupPart {
    match &cleanup.staging_kept {
        None => CleanupPart::Everything,
        Some(StagingKept { location_free_time: None, .. }) => CleanupPart::AllButStaged,
        Some(StagingKept { location_free_time: Some(_), .. }) => CleanupPart::Staged,
    }
}

/// Notes until when what is staged is kept, before a Job is made that would remove it.
pub fn plan(draft: &mut Draft<'_>, validated: &ValidatedCleanup) {
    let Some(until) = until(draft, validated) else { return };
    if let Some(cleanup) = &mut draft.status.cleanup {
        let kept = StagingKept { until: Time(until), location_free_time: None, remains: None };
        cleanup.staging_kept.get_or_insert(kept);
    }
}

fn until(draft: &Draft<'_>, validated: &ValidatedCleanup) -> Option<Timestamp> {
    if draft.status.phase != Some(Phase::Failed) || draft.subject.deleting.is_some() {
        return None;
    }
    let retention = validated.staging_retention;
    // The API keeps whole seconds.
    let seconds = retention.as_secs() + u64::from(retention.subsec_nanos() > 0);
    let retention = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let until = after(draft.status.completion_time.as_ref()?.0, retention);
    (until > draft.now).then_some(until)
}

/// The rest is removed, but for `remains`, or given up: from now on nothing is done until the time is over.
pub fn wait(draft: &mut Draft<'_>, cleanup: Cleanup, remains: Option<String>) {
    let Some(StagingKept { until, .. }) = cleanup.staging_kept.clone() else { return };
    draft.status.cleanup = Some(Cleanup {
        start_time: until.clone(),
        next_attempt_time: Some(until.clone()),
        staging_kept: Some(StagingKept { until, location_free_time: Some(Time(draft.now)), remains }),
        ..cleanup
    });
    // It may be over already.
    come_due(draft);
    if let Some(next) = draft.status.cleanup.as_ref().and_then(|cleanup| cleanup.next_attempt_time.clone()) {
        draft.wake_at(next.0);
    }
}

/// Says until when, in a sentence, and how to end it.
pub fn told(cleanup: &Cleanup, what: &str) -> String {
    let until = cleanup.staging_kept.as_ref().map(|kept| kept.until.0.to_string()).unwrap_or_default();
    format!(
        "{what} is kept until {until} (spec.staging.retention.onFailure of the ExportSource) and then removed; delete the ExportJob to remove it at once"
    )
}

/// Ends the wait when the time is over, and any retention when the ExportJob is deleted. The time to clean up counts from
/// then: an operator that was away has as much of it as any other.
pub fn come_due(draft: &mut Draft<'_>) {
    let (now, is_deleting) = (draft.now, draft.subject.deleting.is_some());
    let Some(cleanup) = draft.status.cleanup.as_mut().filter(|cleanup| cleanup.completion_time.is_none())
    else {
        return;
    };
    let Some(kept) = &cleanup.staging_kept else { return };
    let soon = Time(after(now, FIRST_WAIT));
    if kept.location_free_time.is_none() {
        if is_deleting {
            // A Job that is at work would keep it: another one takes its place.
            cleanup.staging_kept = None;
            cleanup.next_attempt_time.get_or_insert(soon);
        }
    } else if cleanup.next_attempt_time.as_ref() == Some(&kept.until) && (is_deleting || now >= kept.until.0)
    {
        cleanup.start_time = Time(now);
        cleanup.next_attempt_time = Some(soon);
    }
}
