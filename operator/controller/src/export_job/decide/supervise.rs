//! While an attempt is under way: what has become of its Job?

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::condition::{self, ConditionType, Truth};
use pgexport_api::job::{ChildKind, Output};
use pgexport_api::order::{self, Refusal};
use pgexport_api::report::{Delivered, Exported, Failure, Outcome};
use pgexport_api::{Phase, Reason};

use super::draft::{Draft, SOON, after, human_duration, number, signed};
use super::{Action, failed, pending, progress, suspend};
use crate::event::Notice;
use crate::export_job::child::{Child, MAX_RERUNS};
use crate::job::fact::{JobFacts, JobState};
use crate::job::failure;

/// How often workers are asked for their counters.
const POLL: Duration = Duration::from_secs(3);
/// How often a Job that is coming to its end is looked at.
const ENDING: Duration = Duration::from_secs(10);
/// The reason while some of a Job's pods have started, and others have not.
const PARTLY: &str = "PartlyStarted";

/// Supervises an attempt, which is its first run and the reruns of it.
pub fn supervise(draft: &mut Draft<'_>, attempt: Child) {
    let observed = draft.observed;
    let recorded = draft.prior.jobs.iter().find(|job| job.kind == attempt.kind).map(|job| job.name.as_str());
    if let Some(name) = recorded.filter(|name| observed.find(name).is_none()) {
        let message = format!("Job {name} was deleted before it was done");
        failed(draft, attempt, failure::failure(Reason::WorkerLost, message));
        return;
    }
    let latest = attempt.runs().rev().find_map(|run| Some((run, observed.find(&draft.name(run))?)));
    let Some((run, job)) = latest else {
        ensure(draft, attempt);
        return;
    };
    draft.record_job(run.kind, job);
    match &job.state {
        JobState::Complete => match (job.success(), run.kind) {
            (Some(Outcome::Exported(totals)), ChildKind::Export) => exported(draft, job, totals),
            (Some(Outcome::Delivered(totals)), _) => delivered(draft, job, totals),
            _ => without_report(draft, run, job),
        },
        _ if job.has_settled(draft.now) && matches!(job.state, JobState::Active) => {
            let deleted = format!("Job {} was deleted before it was done", job.name);
            failed(draft, attempt, failure::failure(Reason::WorkerLost, deleted));
        }
        _ if job.has_settled(draft.now) => {
            let failure = if failure::has_timed_out(job) && !has_run(draft, run, job) {
                not_started(job)
            } else {
                failure::of_job(job, &deadline_field(draft, run.kind))
            };
            failed(draft, attempt, failure);
        }
        JobState::Active if job.is_live() => under_way(draft, run, job),
        _ => {
            draft.reconciling("Ending", &format!("Job {} is coming to its end", job.name));
            draft.wake_in(ENDING);
        }
    }
}

/// An attempt has failed: also by a disruption that was seen before its pod was gone.
fn failed(draft: &mut Draft<'_>, attempt: Child, failure: Failure) {
    let (kind, _) = doing(attempt.kind);
    let was_disrupted = is_disrupted(draft, kind) && failure::is_a_loss(&failure);
    let failure = if was_disrupted && failure.reason != Reason::Disrupted {
        failure::failure(
            Reason::Disrupted,
            format!("its pod was drained, evicted or preempted: {}", failure.message),
        )
    } else {
        failure
    };
    failed::failed(draft, attempt, &failure);
}

/// Whether it was seen that a pod was disrupted that takes the attempt with it. The pod may be gone before its Job has failed.
fn is_disrupted(draft: &Draft<'_>, kind: ConditionType) -> bool {
    condition::find(&draft.prior.conditions, kind)
        .is_some_and(|found| found.reason == Reason::Disrupted.as_str())
}

/// Asks for a Job that is not there.
pub fn ensure(draft: &mut Draft<'_>, child: Child) {
    let name = draft.name(child);
    if draft.observed.foreign.contains(&name) {
        let message = format!("a Job {name} exists that does not belong to this ExportJob: remove it");
        pending::blocked(draft, &Refusal { reason: Reason::PodNotStarted, message });
        return;
    }
    match &draft.verdict.run {
        Err(refusal) => pending::blocked(draft, refusal),
        Ok(validated) => {
            if let Some(refusal) = order::moved(&validated.order, &draft.status) {
                pending::blocked(draft, &refusal);
                return;
            }
            if let Some(said) = &draft.observed.refused {
                let message = format!("Job {name} cannot be created: {said}");
                pending::blocked(draft, &Refusal { reason: Reason::PodNotStarted, message });
            }
            if draft.status.phase.is_some_and(|phase| !phase.is_terminal()) {
                if !draft.subject.guarded {
                    draft.act(Action::Guard);
                }
                draft.act(Action::EnsureJob(child));
                draft.wake_in(SOON);
            }
        }
    }
}

fn under_way(draft: &mut Draft<'_>, run: Child, job: &JobFacts) {
    if let Some(pod) = job.lost_pod(draft.now) {
        // Kubernetes would wait for its end, until somebody removes the node.
        let message = format!("pod {} is lost with its node: Job {} is given up", pod.name, job.name);
        draft.act(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
        draft.reconciling("Ending", &message);
        draft.wake_in(ENDING);
        return;
    }
    if job.namespace_is_going {
        let message = format!("Job {} is given up: its namespace is being deleted", job.name);
        draft.act(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
        draft.reconciling("Ending", &message);
        draft.wake_in(ENDING);
        return;
    }
    if run.kind == ChildKind::Export && has_outdated_image(draft, job) {
        begin_with_new_image(draft, job);
        return;
    }
    watch(draft, run, job);
    let goes_on = draft.status.phase.is_some_and(|phase| !phase.is_terminal());
    if goes_on && job.is_waiting() && draft.verdict.run.is_ok() {
        draft.act(Action::EnsureOrder { child: run, uid: job.uid.clone(), sha256: job.order_sha256.clone() });
    }
}

fn watch(draft: &mut Draft<'_>, run: Child, job: &JobFacts) {
    let (kind, doing) = doing(run.kind);
    // A disruption is kept in mind also where other pods have not started: its pod may soon be gone.
    let is_disrupted = job.disrupted_pod().is_some() || is_disrupted(draft, kind);
    if !was_under_way(draft, run.kind) && !job.has_started_all() && !is_disrupted {
        starting(draft, run, job);
        return;
    }
    let reason = if is_disrupted { Reason::Disrupted.as_str() } else { doing };
    draft.condition(kind, Truth::False, reason, "not all chunks are done");
    let mut failures = draft.failures();
    // Whoever works for so long has found in order what was to be put right: what fails later has a budget of its own.
    let budget = signed(draft.subject.spec.deadlines.start.into());
    if job.is_running(draft.now) && draft.now >= after(job.created, budget) {
        failures.environment = 0;
    }
    if failures.environment == 0 {
        failures.environment_since = None;
    }
    draft.set_failures(failures);
    draft.status.progress = Some(progress::under_way(draft.status.progress.as_ref(), run.kind, job));
    match job.trouble.as_ref().filter(|_| !job.is_running(draft.now)) {
        Some(trouble) => {
            draft.stalled(trouble.reason, &format!("{}; {}", trouble.message, trouble.reason.hint()));
        }
        None => draft.reconciling(doing, &format!("{doing}: attempt {}", number(run))),
    }
    draft.wake_in(POLL);
}

/// The condition of a kind of Job, and its reason while all of its pods have started.
pub fn doing(kind: ChildKind) -> (ConditionType, &'static str) {
    match kind {
        ChildKind::Export => (ConditionType::Exported, "Exporting"),
        ChildKind::Transfer => (ConditionType::Delivered, "Transferring"),
        ChildKind::Cleanup => (ConditionType::CleanedUp, "CleaningUp"),
        ChildKind::Notification => (ConditionType::Notified, "Notifying"),
    }
}

/// Whether all pods were seen to have started. Pods that ran may be gone; that they did is remembered.
fn was_under_way(draft: &Draft<'_>, kind: ChildKind) -> bool {
    let (kind, doing) = doing(kind);
    condition::find(&draft.prior.conditions, kind)
        .is_some_and(|found| found.reason == doing || found.reason == Reason::Disrupted.as_str())
}

/// Whether any of its pods ran, as far as that was seen.
fn has_run(draft: &Draft<'_>, run: Child, job: &JobFacts) -> bool {
    let (kind, _) = doing(run.kind);
    let partly = condition::find(&draft.prior.conditions, kind).is_some_and(|found| found.reason == PARTLY);
    partly || was_under_way(draft, run.kind) || job.has_started()
}

/// Whether its image cannot be pulled, and others would be made of another image by now.
fn has_outdated_image(draft: &Draft<'_>, job: &JobFacts) -> bool {
    let is_pulled_in_vain =
        job.trouble.as_ref().is_some_and(|trouble| trouble.reason == Reason::ImagePullFailed);
    is_pulled_in_vain
        && !job.has_started()
        && job.image.as_ref().is_some_and(|image| *image != draft.observed.image)
}

/// Nothing of the attempt has run: the next one begins as soon as its Job is gone, and costs no retry.
fn begin_with_new_image(draft: &mut Draft<'_>, job: &JobFacts) {
    let message = format!("Job {} is given up: the operator's worker image has changed since", job.name);
    draft.act(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() });
    draft.status.phase = Some(Phase::Pending);
    draft.reconciling("Restarting", &message);
    draft.tell(Notice::normal("Restarting", message).about(&job.name));
    draft.wake_in(SOON);
}

/// What keeps a Job from starting.
fn not_started(job: &JobFacts) -> Failure {
    match &job.trouble {
        Some(trouble) => failure::failure(trouble.reason, format!("Job {}: {}", job.name, trouble.message)),
        None => failure::failure(Reason::PodNotStarted, format!("no pod of Job {} ran", job.name)),
    }
}

fn starting(draft: &mut Draft<'_>, run: Child, job: &JobFacts) {
    let is_first = run.kind == ChildKind::Export && run.attempt == 1;
    let deadline = draft.start_deadline(is_first, job.created);
    let started = job.started_workers();
    let count = if started == 0 { "no pod".to_owned() } else { format!("{started} of {} pods", job.workers) };
    let trouble = match &job.trouble {
        None => failure::failure(Reason::PodNotStarted, format!("{count} of Job {} started yet", job.name)),
        Some(_) => not_started(job),
    };
    if started > 0 {
        // Those that run go on exporting what they can.
        let message = format!("{count} have started");
        draft.condition(doing(run.kind).0, Truth::False, PARTLY, &message);
        draft.status.progress = Some(progress::under_way(draft.status.progress.as_ref(), run.kind, job));
    }
    if draft.now >= deadline {
        let had = if started == 0 { "no pod was running" } else { "not all pods were running" };
        let message = format!("{}; {had} within {}", trouble.message, draft.start_field());
        draft.fail(&failure::failure(trouble.reason, message));
        return;
    }
    if job.trouble.is_some() {
        draft.record_error(&trouble);
        draft.stalled(trouble.reason, &failure::sentence(&trouble));
    } else {
        let progress = if started == 0 { String::new() } else { format!(", {count} have started") };
        let message = format!("{}: attempt {} is starting{progress}", doing(run.kind).1, number(run));
        draft.reconciling("Starting", &message);
    }
    draft.wake_at(deadline);
    draft.wake_in(SOON);
}

/// All is in staging: the totals are kept, because pods may be collected, and the transfer begins.
fn exported(draft: &mut Draft<'_>, job: &JobFacts, totals: &Exported) {
    draft.status.progress = Some(progress::exported(totals));
    draft.status.snapshot_time = totals.snapshot_time.map(whole_seconds);
    draft.status.chunking.clone_from(&totals.chunking);
    draft.status.failures = None;
    let message =
        format!("exported to staging: {} and {}", count(totals.chunks, "chunk"), count(totals.rows, "row"));
    draft.condition(ConditionType::Exported, Truth::True, "Exported", &message);
    draft.tell(Notice::normal("Exported", message).about(&job.name));
    if suspend::is_wanted(draft) {
        suspend::suspended(draft);
    } else {
        draft.begin_transfer();
    }
}

/// All is at the location.
pub fn delivered(draft: &mut Draft<'_>, job: &JobFacts, totals: &Delivered) {
    let location = draft.status.location.clone().unwrap_or_default();
    let was = if totals.already { "had been delivered before" } else { "delivered" };
    let message =
        format!("{was} to {location}: {} and {}", count(totals.files, "file"), count(totals.rows, "row"));
    let reason = if totals.already { "AlreadyDelivered" } else { "Delivered" };
    draft.status.progress = Some(progress::delivered(totals));
    draft.status.snapshot_time =
        draft.status.snapshot_time.take().or(totals.snapshot_time.map(whole_seconds));
    if !totals.chunking.is_empty() {
        draft.status.chunking.clone_from(&totals.chunking);
    }
    draft.status.output = Some(Output {
        location,
        manifest: totals.manifest.clone(),
        manifest_sha256: totals.manifest_sha256.clone(),
        files: totals.files,
        rows: totals.rows,
        bytes: totals.bytes,
    });
    draft.end(Phase::Succeeded);
    condition::remove(&mut draft.status.conditions, ConditionType::Reconciling);
    condition::remove(&mut draft.status.conditions, ConditionType::Stalled);
    draft.condition(ConditionType::Exported, Truth::True, "Exported", "all chunks are exported");
    draft.condition(ConditionType::Delivered, Truth::True, reason, &message);
    draft.condition(ConditionType::Complete, Truth::True, reason, &message);
    draft.condition(ConditionType::Ready, Truth::True, "Complete", &message);
    draft.status.message = Some(message.clone());
    let notice = if totals.already { reason } else { "Complete" };
    draft.tell(Notice::normal(notice, message).about(&job.name));
    draft.leave_nothing_running();
}

/// A Job that ended well, whose pods were collected before their last word was read, is run again under a new name.
fn without_report(draft: &mut Draft<'_>, run: Child, job: &JobFacts) {
    if run.rerun < MAX_RERUNS {
        draft.reconciling("Rerunning", &format!("Job {} ended without a report and is run again", job.name));
        ensure(draft, run.rerun(run.rerun + 1));
    } else {
        let message = format!("Job {} and its reruns ended without a report", job.name);
        failed(draft, run, failure::failure(Reason::WorkerLost, message));
    }
}

fn deadline_field(draft: &Draft<'_>, kind: ChildKind) -> String {
    let deadlines = &draft.subject.spec.deadlines;
    let (field, deadline) = match kind {
        ChildKind::Export => ("run", deadlines.run),
        ChildKind::Transfer | ChildKind::Cleanup | ChildKind::Notification => {
            ("transfer", deadlines.transfer)
        }
    };
    let deadline = human_duration(signed(deadline.into()));
    format!("spec.deadlines.{field} ({deadline}) after {}", draft.start_field())
}

/// `1 file`, `2 files`.
fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// The API keeps times in whole seconds.
fn whole_seconds(time: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(time.as_second()).unwrap_or(time))
}
