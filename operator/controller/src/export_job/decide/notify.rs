//! After a run has failed: whom `onFailure.notifySinkRef` names is told, by a Job of its own. The run's end stays what it is,
//! whether that goes well or not, and a deletion waits only a little for it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{self, ConditionType, Truth};
use pgexport_api::job::{Backoff, ChildKind, Notification};
use pgexport_api::order::Message;
use pgexport_api::report::{Failure, Outcome};
use pgexport_api::{ExportJobStatus, Phase, Reason};

use super::Action;
use super::draft::{Draft, RECHECK, SOON, after, human_duration, signed};
use crate::event::Notice;
use crate::export_job::child::Child;
use crate::job::fact::{JobFacts, JobState};
use crate::job::failure::{self, sentence};

/// How long it is tried.
const BUDGET: SignedDuration = SignedDuration::from_hours(1);
/// How long a deletion waits for it.
const BUDGET_OF_DELETION: SignedDuration = SignedDuration::from_mins(1);

/// The attempt that is under way.
pub fn under_way(notification: Option<&Notification>) -> Option<Child> {
    notification
        .filter(|notification| notification.completion_time.is_none())
        .filter(|notification| notification.next_attempt_time.is_none() && notification.attempts > 0)
        .map(|notification| Child::notification(notification.attempts))
}

/// Whether nothing is to be told any more.
pub fn is_over(status: &ExportJobStatus) -> bool {
    status.notification.as_ref().is_none_or(|notification| notification.completion_time.is_some())
}

/// Says that a failure could not be told, before there is one. It comes before all else that is decided, so that the order of
/// conditions settles at once.
pub fn foretell(draft: &mut Draft<'_>) {
    let is_over = draft.prior.phase.is_some_and(Phase::is_terminal);
    if draft.subject.spec.on_failure.is_none() || is_over {
        return;
    }
    match &draft.observed.receiver {
        Some(Err(refusal)) => {
            let message = format!("if this run failed, nobody could be told: {}", refusal.message);
            draft.condition(ConditionType::Notified, Truth::Unknown, refusal.reason.as_str(), &message);
        }
        _ => condition::remove(&mut draft.status.conditions, ConditionType::Notified),
    }
}

/// Tells of a failure. Of another end there is nothing to tell.
pub fn notify(draft: &mut Draft<'_>) {
    match draft.status.phase {
        Some(Phase::Failed) if draft.subject.spec.on_failure.is_some() => tell(draft),
        Some(phase) if phase.is_terminal() => {
            condition::remove(&mut draft.status.conditions, ConditionType::Notified);
        }
        _ => {}
    }
}

fn tell(draft: &mut Draft<'_>) {
    let notification = draft.status.notification.clone().unwrap_or_else(|| due(draft));
    draft.status.notification = Some(notification.clone());
    if notification.completion_time.is_some() {
        return;
    }
    let deadline = deadline(draft, &notification);
    if draft.now >= deadline {
        give_up(draft, notification);
        return;
    }
    match under_way(Some(&notification)) {
        Some(child) => supervise(draft, notification, child),
        None => wait_or_begin(draft, notification),
    }
    if !is_over(&draft.status) {
        draft.wake_at(deadline);
    }
}

/// It is due from now on.
fn due(draft: &Draft<'_>) -> Notification {
    Notification {
        id: Message::id(draft.subject.uid),
        start_time: Time(draft.now),
        attempts: 0,
        next_attempt_time: None,
        completion_time: None,
    }
}

fn wait_or_begin(draft: &mut Draft<'_>, notification: Notification) {
    if let Some(next) = notification.next_attempt_time.as_ref().filter(|next| draft.now < next.0) {
        draft.wake_at(next.0);
        return;
    }
    let attempts = notification.attempts.saturating_add(1);
    draft.status.notification = Some(Notification { attempts, next_attempt_time: None, ..notification });
    draft.status.jobs.retain(|job| job.kind != ChildKind::Notification);
    let message = match draft.trouble(ChildKind::Notification) {
        Some(before) if attempts > 1 => {
            format!("its failure is being told, by attempt {attempts}; before: {before}")
        }
        _ => "its failure is being told".to_owned(),
    };
    draft.condition(ConditionType::Notified, Truth::False, "Notifying", &message);
    ensure(draft, Child::notification(attempts));
}

fn supervise(draft: &mut Draft<'_>, notification: Notification, child: Child) {
    let observed = draft.observed;
    let Some(job) = observed.find(&draft.name(child)) else {
        ensure(draft, child);
        return;
    };
    draft.record_job(ChildKind::Notification, job);
    match (&job.state, job.success()) {
        (JobState::Complete, Some(Outcome::Notified { status })) => done(draft, notification, job, *status),
        (JobState::Complete, _) => {
            let message = format!("Job {} ended without a report", job.name);
            failed(draft, notification, job, &failure::failure(Reason::WorkerLost, message));
        }
        _ if job.has_settled(draft.now) => {
            let before = draft.trouble(ChildKind::Notification);
            let failure = failure::of_bounded_job(job, "the time of one notification", before.as_deref());
            failed(draft, notification, job, &failure);
        }
        (JobState::Active, _) if job.is_live() => {
            if let Some(trouble) = &job.trouble {
                blocked(draft, trouble.reason, &format!("Job {}: {}", job.name, trouble.message));
            }
            if job.is_waiting() && matches!(observed.receiver, Some(Ok(_))) {
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
    let (observed, name) = (draft.observed, draft.name(child));
    draft.wake_in(RECHECK);
    if observed.foreign.contains(&name) {
        let message = format!("a Job {name} exists that does not belong to this ExportJob: remove it");
        blocked(draft, Reason::PodNotStarted, &message);
        return;
    }
    match &observed.receiver {
        None => {}
        Some(Err(refusal)) => blocked(draft, refusal.reason, &refusal.message),
        Some(Ok(_)) => {
            if let Some(said) = &observed.refused {
                blocked(draft, Reason::PodNotStarted, &format!("Job {name} cannot be created: {said}"));
            }
            if !draft.subject.guarded {
                // It is not deleted before somebody was told, as by a schedule that keeps no failed runs.
                draft.act(Action::Guard);
            }
            draft.act(Action::EnsureJob(child));
            draft.wake_in(SOON);
        }
    }
}

fn blocked(draft: &mut Draft<'_>, reason: Reason, message: &str) {
    let message = format!("its failure is not told yet: {message}");
    draft.condition(ConditionType::Notified, Truth::False, reason.as_str(), &message);
}

fn done(draft: &mut Draft<'_>, notification: Notification, job: &JobFacts, status: u16) {
    let message = format!("ExportSink {} was told of its failure, and answered with {status}", sink(draft));
    draft.condition(ConditionType::Notified, Truth::True, "Notified", &message);
    draft.tell(Notice::normal("Notified", message).about(&job.name));
    complete(draft, notification);
}

fn failed(draft: &mut Draft<'_>, notification: Notification, job: &JobFacts, failure: &Failure) {
    let wait = signed(Backoff::default().wait(notification.attempts));
    let next = after(draft.now, wait);
    draft.wake_at(next);
    blocked(draft, failure.reason, &sentence(failure));
    let message = format!(
        "attempt {} to tell of the failure failed, and the next one begins after {}: {}",
        notification.attempts,
        human_duration(wait),
        sentence(failure)
    );
    draft.tell(Notice::warning("NotificationFailed", message).about(&job.name));
    draft.status.notification = Some(Notification { next_attempt_time: Some(Time(next)), ..notification });
}

/// When it is given up.
fn deadline(draft: &Draft<'_>, notification: &Notification) -> Timestamp {
    let deadline = after(notification.start_time.0, BUDGET);
    match draft.subject.deleting {
        None => deadline,
        Some(deleted) if draft.is_namespace_going() => deleted,
        Some(deleted) => deadline.min(after(deleted, BUDGET_OF_DELETION)),
    }
}

fn give_up(draft: &mut Draft<'_>, notification: Notification) {
    let why = condition::find(&draft.status.conditions, ConditionType::Notified)
        .map_or("", |condition| condition.message.as_str());
    let reason = Reason::NotificationGivenUp;
    let message = format!("ExportSink {} could not be told in time ({why}): {}", sink(draft), reason.hint());
    draft.condition(ConditionType::Notified, Truth::False, reason.as_str(), &message);
    draft.tell(Notice::warning(reason.as_str(), message));
    draft.stop_notification();
    complete(draft, notification);
}

fn complete(draft: &mut Draft<'_>, notification: Notification) {
    draft.status.notification = Some(Notification {
        next_attempt_time: None,
        completion_time: Some(Time(draft.now)),
        ..notification
    });
}

/// The name of the ExportSink that is told.
fn sink<'a>(draft: &Draft<'a>) -> &'a str {
    draft.subject.spec.on_failure.as_ref().map_or("", |on_failure| on_failure.notify_sink_ref.name.as_str())
}
