//! Before an attempt to export: is everything there, and is it time?

use pgexport_api::condition::{ConditionType, Truth};
use pgexport_api::job::ChildKind;
use pgexport_api::order::Refusal;
use pgexport_api::report::Failure;
use pgexport_api::{Class, Reason};

use super::draft::{Draft, RECHECK, SOON};
use crate::export_job::validate::{Readiness, Validated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Begins the next attempt, or says why not.
pub fn pending(draft: &mut Draft<'_>) {
    if draft.is_waiting_for_next_attempt() {
        return;
    }
    // Never two live Jobs of a kind: what a former attempt has left ends first.
    if draft.observed.jobs.iter().any(|job| !job.has_settled(draft.now)) {
        draft.leave_nothing_running();
        draft.wake_in(SOON);
        return;
    }
    match draft.verdict {
        Err(refusal) => refused(draft, refusal),
        Ok(validated) => {
            match moved(draft, validated).map_or_else(|| validated.readiness.clone(), Readiness::NotReady) {
                Readiness::Ready => draft.begin(ChildKind::Export),
                Readiness::NotReady(refusal) => refused(draft, &refusal),
                Readiness::Probing(message) => {
                    draft.condition(ConditionType::Accepted, Truth::Unknown, "Probing", &message);
                    draft.reconciling("Probing", &message);
                    out_of_time(draft, &Refusal { reason: Reason::SourceNotReady, message });
                }
            }
        }
    }
}

fn refused(draft: &mut Draft<'_>, refusal: &Refusal) {
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

/// The location was told to readers before the first attempt. It does not change with the sink.
pub fn moved(draft: &Draft<'_>, validated: &Validated) -> Option<Refusal> {
    let told = draft.status.location.as_ref()?;
    let now = validated.order.location();
    (*told != now).then(|| Refusal {
        reason: Reason::SinkNotReady,
        message: format!(
            "ExportSink {} now delivers to {now}, and this ExportJob to {told}: change the ExportSink back, or create a new ExportJob",
            validated.order.sink.name
        ),
    })
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
