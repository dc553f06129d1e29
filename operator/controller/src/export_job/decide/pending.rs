//! Before an attempt to export: is everything there, and is it time?

use pgexport_api::condition::{ConditionType, Truth};
use pgexport_api::order::{self, Refusal};
use pgexport_api::report::Failure;
use pgexport_api::{Class, Phase, Reason};

use super::draft::{Draft, RECHECK, SOON};
use crate::event::Notice;
use crate::export_job::admission::{Admission, Database};
use crate::export_job::validate::{Readiness, Validated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Begins the next attempt, or says why not.
pub fn pending(draft: &mut Draft<'_>) {
    if draft.is_waiting_for_next_attempt() {
        return;
    }
    if !draft.is_settled() {
        return;
    }
    match &draft.verdict.run {
        Err(refusal) => refused(draft, refusal),
        Ok(validated) => {
            let moved = order::moved(&validated.order, &draft.status);
            match moved.map_or_else(|| validated.readiness.clone(), Readiness::NotReady) {
                Readiness::Ready => admitted(draft, validated),
                Readiness::NotReady(refusal) => refused(draft, &refusal),
                Readiness::Probing(message) => {
                    leave_queue(draft);
                    draft.condition(ConditionType::Accepted, Truth::Unknown, "Probing", &message);
                    draft.reconciling("Probing", &message);
                    out_of_time(draft, &Refusal { reason: Reason::SourceNotReady, message });
                }
            }
        }
    }
}

/// Nothing of its own keeps it from beginning. Do others?
fn admitted(draft: &mut Draft<'_>, validated: &Validated) {
    let order = &validated.order;
    let database = Database::new(&order.source.postgres);
    let (reason, message) = match &draft.observed.admission {
        Some(Admission::Admitted) => {
            draft.begin_export();
            return;
        }
        // It was not asked for. It will be.
        None => {
            draft.wake_in(SOON);
            return;
        }
        Some(Admission::Queued { place, of, why }) => {
            queued(draft, &format!("place {place} of {of} in the queue for {database}: {why}"));
            return;
        }
        Some(Admission::TooLarge { needs, limit }) => (
            Reason::ConnectionLimit,
            format!(
                "it needs {needs} connections (chunking.parallelism, one for the snapshot, with method AuroraS3 one a worker, and with runLedger another one), and limits.maxConnections for {database} is {limit}: {}",
                Reason::ConnectionLimit.hint()
            ),
        ),
        Some(Admission::LocationInUse { by }) => (
            Reason::LocationInUse,
            format!(
                "ExportJob {by}, which has not ended or is not cleaned up yet, delivers to {} too: {}",
                order.location(),
                Reason::LocationInUse.hint()
            ),
        ),
    };
    refused(draft, &Refusal { reason, message });
}

/// Its turn has not come. No clock runs meanwhile.
fn queued(draft: &mut Draft<'_>, message: &str) {
    if draft.status.phase != Some(Phase::Queued) {
        draft.tell(Notice::normal("Queued", message));
    }
    draft.status.phase = Some(Phase::Queued);
    draft.condition(
        ConditionType::Accepted,
        Truth::True,
        "Accepted",
        "what it refers to exists and is ready",
    );
    draft.reconciling("Queued", message);
    let mut failures = draft.failures();
    if failures.environment == 0 {
        failures.environment_since = None;
    }
    draft.set_failures(failures);
    draft.wake_in(RECHECK);
}

/// What it waits for from now on is not its turn. The time in the queue does not count.
fn leave_queue(draft: &mut Draft<'_>) {
    if draft.status.phase == Some(Phase::Queued) {
        draft.status.phase = Some(Phase::Pending);
        draft.status.resume_time = Some(Time(draft.now));
    }
}

fn refused(draft: &mut Draft<'_>, refusal: &Refusal) {
    leave_queue(draft);
    draft.condition(ConditionType::Accepted, Truth::False, refusal.reason.as_str(), &refusal.message);
    blocked(draft, refusal);
}

/// Something other than a Job's failure keeps the ExportJob from going on.
pub fn blocked(draft: &mut Draft<'_>, refusal: &Refusal) {
    if refusal.reason.class() == Class::Permanent {
        draft.fail(&failure(refusal));
        return;
    }
    draft.record_error(&failure(refusal));
    draft.stalled(refusal.reason, &refusal.message);
    out_of_time(draft, refusal);
}

/// Fails what has been blocked for too long.
fn out_of_time(draft: &mut Draft<'_>, refusal: &Refusal) {
    let mut failures = draft.failures();
    let since = failures.environment_since.get_or_insert(Time(draft.now)).0;
    draft.set_failures(failures);
    let deadline = draft.start_deadline(draft.status.attempts == 0, since);
    if draft.now >= deadline {
        let message = format!("{}; it was not put right within {}", refusal.message, draft.start_field());
        draft.fail(&failure(&Refusal { reason: refusal.reason, message }));
        return;
    }
    draft.wake_at(deadline);
    draft.wake_in(RECHECK);
}

/// A refusal's message says itself what to do.
fn failure(refusal: &Refusal) -> Failure {
    Failure {
        reason: refusal.reason,
        sql_state: None,
        message: refusal.message.clone(),
        hint: None,
        chunk: None,
    }
}
