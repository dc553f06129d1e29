//! After an attempt has failed: is there another one, and when?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::Truth;
use pgexport_api::job::{ChildKind, Failures};
use pgexport_api::report::Failure;
use pgexport_api::{Class, Phase, Reason};

use super::draft::{Draft, after, human_duration, number, signed};
use super::supervise::doing;
use crate::event::Notice;
use crate::export_job::child::Child;
use crate::job::failure::{self, sentence};

/// So many disruptions end a run.
const MAX_DISRUPTIONS: u32 = 10;
/// The wait after a disruption.
const AFTER_DISRUPTION: SignedDuration = SignedDuration::from_secs(5);

/// Charges a failed attempt to its budget, and plans the next one or ends the ExportJob.
pub fn failed(draft: &mut Draft<'_>, attempt: Child, failure: &Failure) {
    let (kind, _) = doing(attempt.kind);
    draft.condition(kind, Truth::False, failure.reason.as_str(), &failure.message);
    draft.record_error(failure);
    let mut failures = draft.failures();
    let next = match failure.reason.class() {
        _ if failure.reason == Reason::Disrupted => disrupted(draft, &mut failures),
        Class::Permanent => {
            let name = draft.name(attempt);
            draft.fail_by(failure, Some(name));
            return;
        }
        Class::Environment => environment(draft, &mut failures),
        Class::Transient => transient(draft, &mut failures),
    };
    let next = match next {
        Ok(next) => next,
        Err(why) => {
            draft.set_failures(failures);
            let message = format!("{why}: {}", failure.message);
            let last = match failure.reason {
                Reason::Disrupted => failure::failure(Reason::DisruptedTooOften, message),
                _ => Failure { message, ..failure.clone() },
            };
            let name = draft.name(attempt);
            draft.fail_by(&last, Some(name));
            return;
        }
    };
    failures.next_attempt_time = Some(Time(next));
    draft.set_failures(failures);
    if attempt.kind == ChildKind::Export {
        draft.status.phase = Some(Phase::Pending);
    }
    draft.wake_at(next);
    let wait = human_duration(next.duration_since(draft.now));
    let number = number(attempt);
    let reason = failure.reason;
    let message =
        format!("attempt {number} failed, and the next one begins after {wait}: {}", sentence(failure));
    let name = draft.name(attempt);
    if reason.class() == Class::Environment {
        draft.tell(Notice::warning(reason.as_str(), &message).about(name));
        draft.set_stalled(reason, &message);
    } else {
        draft.tell(Notice::warning("Retrying", format!("{reason}: {message}")).about(name));
        draft.reconciling("Retrying", &message);
    }
}

/// Something around the ExportJob has to be put right: that has `deadlines.start`, and costs no attempt.
fn environment(draft: &Draft<'_>, failures: &mut Failures) -> Result<Timestamp, String> {
    failures.environment = failures.environment.saturating_add(1);
    let since = failures.environment_since.get_or_insert(Time(draft.now)).0;
    if draft.now >= after(since, signed(draft.subject.spec.deadlines.start.into())) {
        return Err(format!("it was not put right within {}", draft.start_field()));
    }
    Ok(after(draft.now, wait(draft, failures.environment)))
}

/// A disruption says nothing about the export: it costs no attempt, and is waited for only a little.
fn disrupted(draft: &Draft<'_>, failures: &mut Failures) -> Result<Timestamp, String> {
    failures.disruptions = failures.disruptions.saturating_add(1);
    failures.environment = 0;
    failures.environment_since = None;
    if failures.disruptions >= MAX_DISRUPTIONS {
        return Err(format!("{MAX_DISRUPTIONS} attempts were disrupted, the last one"));
    }
    Ok(after(draft.now, AFTER_DISRUPTION))
}

/// It may pass: that costs an attempt.
fn transient(draft: &Draft<'_>, failures: &mut Failures) -> Result<Timestamp, String> {
    failures.transient = failures.transient.saturating_add(1);
    failures.environment = 0;
    failures.environment_since = None;
    let limit = draft.subject.spec.retry.limit;
    if failures.transient > limit {
        return Err(match failures.transient {
            1 => "the only attempt (spec.retry.limit is 0) failed".to_owned(),
            attempts => format!("{attempts} attempts (spec.retry.limit is {limit}) failed, the last one"),
        });
    }
    Ok(after(draft.now, wait(draft, failures.transient)))
}

/// The wait after so many failures, in whole seconds and one at least.
fn wait(draft: &Draft<'_>, failures: u32) -> SignedDuration {
    let wait = draft.subject.spec.retry.backoff.wait(failures);
    signed(Duration::from_secs(wait.as_secs().max(1)))
}
