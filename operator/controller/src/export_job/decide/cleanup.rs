//! After the end: what the run has left is removed by a Job of its own, and then the finalizer goes. Neither keeps an
//! ExportJob from being deleted for long: what cannot be removed in time is told, and left to the bucket's lifecycle rules.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{ConditionType, Truth};
use pgexport_api::job::{Backoff, ChildKind, Cleanup};
use pgexport_api::order::CleanupPart;
use pgexport_api::report::{Cleaned, Failure, Outcome};
use pgexport_api::{Phase, Reason};

use super::draft::{Draft, RECHECK, SOON, after, human_duration, signed};
use super::{Action, retention};
use crate::event::Notice;
use crate::export_job::child::Child;
use crate::job::fact::{JobFacts, JobState};
use crate::job::failure::{self, sentence};

/// How long after it became due it begins, at the soonest.
pub const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// How long it is tried.
const BUDGET: SignedDuration = SignedDuration::from_hours(1);
/// How long a deletion waits for it.
const BUDGET_OF_DELETION: SignedDuration = SignedDuration::from_mins(10);
/// How long a deletion waits for what is gone itself, such as the ExportSink: rarely is it created anew.
const BUDGET_OF_ORPHAN: SignedDuration = SignedDuration::from_secs(30);

/// The attempt that is under way.
pub fn under_way(cleanup: Option<&Cleanup>) -> Option<Child> {
    cleanup
        .filter(|cleanup| cleanup.completion_time.is_none() && cleanup.next_attempt_time.is_none())
        .filter(|cleanup| cleanup.attempts > 0)
        .map(|cleanup| Child::cleanup(cleanup.attempts))
}

/// Removes what the run has left, or goes on with it. The phase is terminal.
pub fn clean_up(draft: &mut Draft<'_>) {
    retention::come_due(draft);
    let child = under_way(draft.status.cleanup.as_ref());
    let name = child.map(|child| draft.name(child));
    draft.stop_all_but(name.as_deref());
    if !draft.subject.guarded {
        // No Job was ever made, or all is done.
        return;
    }
    if draft.status.cleanup.is_none() && has_left_nothing(draft) {
        draft.release();
        return;
    }
    let cleanup = draft.status.cleanup.clone().unwrap_or_else(|| due(draft));
    draft.status.cleanup = Some(cleanup.clone());
    if cleanup.completion_time.is_some() {
        draft.release();
        return;
    }
    let deadline = deadline(draft, &cleanup);
    if draft.now >= deadline {
        give_up(draft, cleanup);
        return;
    }
    if draft.has_settled_but(name.as_deref()) {
        match child {
            Some(child) => supervise(draft, cleanup, child),
            None => wait_or_begin(draft, cleanup),
        }
    } else {
        draft.wake_in(SOON);
    }
    if let Some(cleanup) = draft.status.cleanup.clone().filter(|cleanup| cleanup.completion_time.is_none()) {
        draft.wake_at(self::deadline(draft, &cleanup));
    }
}

/// A pod that streamed to the sink and was the only one has completed all that it had begun.
fn has_left_nothing(draft: &Draft<'_>) -> bool {
    let status = &draft.status;
    let streamed_once =
        status.phase == Some(Phase::Succeeded) && status.staging.is_none() && status.attempts == 1;
    status.attempts == 0 || streamed_once
}

/// It is due from now on.
fn due(draft: &mut Draft<'_>) -> Cleanup {
    let message = "what the run has left is removed as soon as its pods have ended";
    draft.condition(ConditionType::CleanedUp, Truth::False, "Pending", message);
    Cleanup {
        start_time: Time(draft.now),
        attempts: 0,
        next_attempt_time: Some(Time(after(draft.now, FIRST_WAIT))),
        completion_time: None,
        staging_kept: None,
    }
}

fn wait_or_begin(draft: &mut Draft<'_>, cleanup: Cleanup) {
    if let Some(next) = cleanup.next_attempt_time.as_ref().filter(|next| draft.now < next.0) {
        draft.wake_at(next.0);
        return;
    }
    let attempts = cleanup.attempts.saturating_add(1);
    draft.status.cleanup = Some(Cleanup { attempts, next_attempt_time: None, ..cleanup });
    draft.status.jobs.retain(|job| job.kind != ChildKind::Cleanup);
    let message = "what the run has left is being removed";
    draft.condition(ConditionType::CleanedUp, Truth::False, "CleaningUp", message);
    ensure(draft, Child::cleanup(attempts));
}

fn supervise(draft: &mut Draft<'_>, cleanup: Cleanup, child: Child) {
    let observed = draft.observed;
    let Some(job) = observed.find(&draft.name(child)) else {
        ensure(draft, child);
        return;
    };
    draft.record_job(ChildKind::Cleanup, job);
    match (&job.state, job.success()) {
        (JobState::Complete, Some(Outcome::Cleaned(cleaned))) => done(draft, cleanup, job, cleaned),
        (JobState::Complete, _) => {
            let message = format!("Job {} ended without a report", job.name);
            failed(draft, cleanup, job, &failure::failure(Reason::WorkerLost, message));
        }
        _ if job.has_settled(draft.now) => {
            let before = draft.trouble(ChildKind::Cleanup);
            let failure = failure::of_bounded_job(job, "the time of one cleanup", before.as_deref());
            failed(draft, cleanup, job, &failure);
        }
        (JobState::Active, _) if job.is_live() => {
            if let Some(trouble) = &job.trouble {
                blocked(draft, trouble.reason, &format!("Job {}: {}", job.name, trouble.message));
            }
            if job.is_waiting() && draft.verdict.cleanup.is_ok() {
                let sha256 = job.order_sha256.clone();
                draft.act(Action::EnsureOrder { child, uid: job.uid.clone(), sha256 });
            }
            draft.wake_in(SOON);
        }
        _ => draft.wake_in(SOON),
    }
}

/// Asks for the Job, or says what keeps it from being made.
fn ensure(draft: &mut Draft<'_>, child: Child) {
    let name = draft.name(child);
    draft.wake_in(RECHECK);
    if draft.observed.foreign.contains(&name) {
        let message = format!("a Job {name} exists that does not belong to this ExportJob: remove it");
        blocked(draft, Reason::PodNotStarted, &message);
        return;
    }
    let validated = match &draft.verdict.cleanup {
        Ok(validated) => validated,
        Err(refusal) => {
            blocked(draft, refusal.reason, &refusal.message);
            return;
        }
    };
    retention::plan(draft, validated);
    if let Some(said) = &draft.observed.refused {
        blocked(draft, Reason::PodNotStarted, &format!("Job {name} cannot be created: {said}"));
    }
    draft.act(Action::EnsureJob(child));
    draft.wake_in(SOON);
}

fn blocked(draft: &mut Draft<'_>, reason: Reason, message: &str) {
    let message = format!("what the run has left is not removed yet: {message}");
    draft.condition(ConditionType::CleanedUp, Truth::False, reason.as_str(), &message);
}

fn done(draft: &mut Draft<'_>, cleanup: Cleanup, job: &JobFacts, cleaned: &Cleaned) {
    let former = cleanup.staging_kept.as_ref().and_then(|kept| kept.remains.clone());
    let kept = cleaned.kept.as_ref().filter(|_| retention::part(&cleanup) == CleanupPart::AllButStaged).map(
        |kept| {
            let what = format!("what is staged ({} objects at {})", kept.objects, kept.location);
            retention::told(&cleanup, &what)
        },
    );
    let remains: Vec<String> = [former, cleaned.remains.clone()].into_iter().flatten().collect();
    let is_kept = kept.is_some();
    let (truth, reason, message) = if remains.is_empty() {
        let removed = match (cleaned.objects, cleaned.uploads) {
            (0, 0) => "nothing was left".to_owned(),
            (objects, uploads) => format!("objects removed: {objects}, uploads given up: {uploads}"),
        };
        match kept {
            Some(kept) => (Truth::False, "StagingKept", format!("{kept}. Of the rest: {removed}")),
            None => (Truth::True, "CleanedUp", removed),
        }
    } else {
        let parts: Vec<String> = remains.iter().cloned().chain(kept).collect();
        (Truth::False, Reason::PartialOutputRemains.as_str(), parts.join(". "))
    };
    draft.condition(ConditionType::CleanedUp, truth, reason, &message);
    let notice =
        if remains.is_empty() { Notice::normal(reason, message) } else { Notice::warning(reason, message) };
    draft.tell(notice.about(&job.name));
    if is_kept {
        retention::wait(draft, cleanup, cleaned.remains.clone());
    } else {
        complete(draft, cleanup);
    }
}

fn failed(draft: &mut Draft<'_>, cleanup: Cleanup, job: &JobFacts, failure: &Failure) {
    let wait = signed(Backoff::default().wait(cleanup.attempts));
    let next = after(draft.now, wait);
    draft.wake_at(next);
    blocked(draft, failure.reason, &sentence(failure));
    let message = format!(
        "attempt {} to clean up failed, and the next one begins after {}: {}",
        cleanup.attempts,
        human_duration(wait),
        sentence(failure)
    );
    draft.tell(Notice::warning("CleanupFailed", message).about(&job.name));
    draft.status.cleanup = Some(Cleanup { next_attempt_time: Some(Time(next)), ..cleanup });
}

/// When it is given up.
fn deadline(draft: &Draft<'_>, cleanup: &Cleanup) -> Timestamp {
    let Some(deleted) = draft.subject.deleting else { return after(cleanup.start_time.0, BUDGET) };
    if draft.is_namespace_going() {
        return deleted;
    }
    let is_orphan =
        draft.verdict.cleanup.as_ref().is_err_and(|refusal| refusal.reason == Reason::ReferenceNotFound);
    let budget = if is_orphan { BUDGET_OF_ORPHAN } else { BUDGET_OF_DELETION };
    after(deleted.max(cleanup.start_time.0), budget)
}

fn give_up(draft: &mut Draft<'_>, cleanup: Cleanup) {
    let status = &draft.status;
    let why = pgexport_api::condition::find(&status.conditions, ConditionType::CleanedUp)
        .map_or("", |condition| condition.message.as_str());
    let (staging, location) = (status.staging.as_deref(), status.location.as_deref());
    let part = retention::part(&cleanup);
    let places = match part {
        CleanupPart::Everything => [staging, location],
        CleanupPart::AllButStaged => [None, location],
        CleanupPart::Staged => [staging, None],
    };
    let places: Vec<&str> = places.into_iter().flatten().collect();
    let given_up = format!(
        "what the run has left at {} could not be removed in time ({why}): {}",
        places.join(" and "),
        Reason::CleanupGivenUp.hint()
    );
    let former = cleanup.staging_kept.as_ref().and_then(|kept| kept.remains.clone());
    let kept = (part == CleanupPart::AllButStaged).then(|| retention::told(&cleanup, "what is staged"));
    let message = [former, Some(given_up.clone()), kept].into_iter().flatten().collect::<Vec<_>>().join(". ");
    let reason = Reason::CleanupGivenUp.as_str();
    draft.condition(ConditionType::CleanedUp, Truth::False, reason, &message);
    draft.tell(Notice::warning(reason, message));
    draft.stop_all_but(None);
    if part == CleanupPart::AllButStaged {
        retention::wait(draft, cleanup, Some(given_up));
    } else {
        complete(draft, cleanup);
    }
}

fn complete(draft: &mut Draft<'_>, cleanup: Cleanup) {
    draft.status.cleanup = Some(Cleanup {
        next_attempt_time: None,
        completion_time: Some(Time(draft.now)),
        staging_kept: None,
        ..cleanup
    });
    draft.release();
}
