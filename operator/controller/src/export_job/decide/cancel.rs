//! A run that is to end before its time: `spec.cancel` was set, or the ExportJob deleted.

use pgexport_api::condition::{ConditionType, Truth};
use pgexport_api::report::{Delivered, Outcome};
use pgexport_api::{Phase, Reason};

use super::draft::Draft;
use super::supervise::delivered;
use crate::event::Notice;
use crate::job::fact::JobFacts;

/// Whether the run is to end now.
pub fn is_wanted(draft: &Draft<'_>) -> bool {
    draft.subject.spec.cancel || draft.subject.deleting.is_some()
}

/// Stops the pods. When nothing of them is left, the run has ended: Cancelled, unless its last word is that it has delivered.
pub fn cancelled(draft: &mut Draft<'_>) {
    if let Some((job, totals)) = last_word(draft) {
        delivered(draft, job, totals);
        return;
    }
    let why =
        if draft.subject.deleting.is_some() { "the ExportJob was deleted" } else { "spec.cancel is true" };
    if !draft.is_settled() {
        draft.reconciling("Cancelling", &format!("cancelling, since {why}: its pods are being stopped"));
        return;
    }
    let message = format!("cancelled, since {why}; had it delivered by then, that stays");
    draft.end(Phase::Cancelled);
    draft.set_stalled(Reason::Cancelled, &message);
    draft.condition(ConditionType::Failed, Truth::True, Reason::Cancelled.as_str(), &message);
    draft.tell(Notice::normal(Reason::Cancelled.as_str(), message));
}

/// What a pod said that had delivered before it was stopped.
fn last_word<'a>(draft: &Draft<'a>) -> Option<(&'a JobFacts, &'a Delivered)> {
    let observed = draft.observed;
    observed.jobs.iter().find_map(|job| match job.success() {
        Some(Outcome::Delivered(totals)) => Some((job, totals)),
        _ => None,
    })
}
