//! Which run is due, whether it may begin, and which ones are left out.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::job::Window;
use pgexport_api::naming::RESTORED_LABEL;
use pgexport_api::schedule::{ConcurrencyPolicy, HandledToken, PlannedRun};

use super::super::calendar::Calendar;
use super::super::child;
use super::draft::Draft;
use super::{Action, RunOutcome};
use crate::event::Notice;

/// So many runs may be active under Allow.
const MOST_ACTIVE: usize = 100;
/// Runs that are left out are counted up to this.
const MOST_COUNTED: usize = 100;

/// A run that may begin now.
#[derive(Clone, Debug)]
struct Candidate {
    time: Timestamp,
    token: Option<String>,
}

impl Candidate {
    /// The name of its ExportJob.
    fn name(&self, schedule: &str) -> String {
        match &self.token {
            Some(token) => child::asked_for(schedule, token),
            None => child::scheduled(schedule, self.time),
        }
    }
}

/// Starts a run, if one is due and may begin.
pub fn start(draft: &mut Draft<'_>, calendar: &Calendar) {
    draft.accept();
    count_anew(draft);
    if draft.subject.restored {
        rest(draft);
        return;
    }
    if draft.subject.spec.suspend {
        draft.stands("Suspended", "spec.suspend is true: no runs are made");
    } else {
        let ahead = draft.handled();
        let message = if ahead > draft.now {
            format!("the clock has gone back: scheduled times up to {ahead} are dealt with")
        } else {
            "runs are made when spec.schedule says".to_owned()
        };
        draft.stands("Scheduled", message);
    }
    if let Some(run) = draft.status.starting.take() {
        if is_withdrawn(draft, &run) {
            withdraw(draft, run);
        } else if is_overdue(draft, calendar, &run) {
            let note = format!("ExportJob {} could not be created in time, and is left out", run.name);
            draft.tell_outcome(RunOutcome::Missed, Notice::warning("RunMissed", note).about_run(run.name));
        } else {
            begin(draft, run);
            return;
        }
    }
    for candidate in [asked_for(draft), due(draft, calendar)].into_iter().flatten() {
        match window(draft, &candidate) {
            Err(why) => pass_over(draft, &candidate, &why),
            Ok(window) if is_free(draft) => {
                plan(draft, candidate, window);
                return;
            }
            Ok(_) => {
                hold(draft, &candidate);
                return;
            }
        }
    }
}

/// One that was restored rests until somebody has looked at it: what it has delivered before, its status does not say any more.
fn rest(draft: &mut Draft<'_>) {
    let message = format!(
        "a backup restored it, without its status: correct window.initialStart, then remove the label {RESTORED_LABEL}"
    );
    draft.stands("Suspended", message);
    if let Some(asked) = &draft.subject.spec.run_now {
        draft.status.run_now.get_or_insert(HandledToken { token: asked.token.clone(), job: None });
    }
}

/// A schedule that was changed, or suspended, counts from now: what it would have made before is not made up for.
fn count_anew(draft: &mut Draft<'_>) {
    let spec = draft.subject.spec;
    let effective = format!("{} {}", spec.schedule.trim(), spec.time_zone);
    let known = draft.prior.effective_schedule.as_ref();
    let is_changed = known.is_some_and(|known| *known != effective);
    // It rested: it was suspended, or could not be kept.
    let is_resumed = known.is_some() && draft.prior.next_schedule_time.is_none();
    draft.handle(if is_changed || is_resumed { draft.now } else { draft.handled() });
    draft.status.effective_schedule = Some(effective);
}

/// Whether nobody wants a run any more whose ExportJob is not there yet: its schedule was suspended, or its token was taken back.
fn is_withdrawn(draft: &Draft<'_>, run: &PlannedRun) -> bool {
    let spec = draft.subject.spec;
    match &run.token {
        None => spec.suspend,
        Some(token) => spec.run_now.as_ref().is_none_or(|asked| asked.token != *token),
    }
}

fn withdraw(draft: &mut Draft<'_>, run: PlannedRun) {
    let why = if let Some(token) = run.token {
        draft.status.run_now = Some(HandledToken { token, job: None });
        "spec.runNow was taken back"
    } else {
        "the schedule was suspended"
    };
    let note = format!("ExportJob {} is left out: {why} before it could be created", run.name);
    draft.tell_outcome(RunOutcome::Skipped, Notice::normal("RunSkipped", note).about_run(run.name));
}

/// The run that `runNow` asks for, if it has not been made.
fn asked_for(draft: &Draft<'_>) -> Option<Candidate> {
    let asked = draft.subject.spec.run_now.as_ref()?;
    let is_new = draft.status.run_now.as_ref().is_none_or(|handled| handled.token != asked.token);
    let time = asked.scheduled_time.as_ref().map_or(draft.now, |time| whole_seconds(time.0));
    is_new.then(|| Candidate { time, token: Some(asked.token.clone()) })
}

/// The run that is due by the schedule: the latest one. Those before it are left out.
fn due(draft: &mut Draft<'_>, calendar: &Calendar) -> Option<Candidate> {
    if draft.subject.spec.suspend {
        return None;
    }
    let latest = calendar.latest(draft.handled(), draft.now)?;
    leave_out_older(draft, calendar, latest);
    let late = draft.now.duration_since(latest);
    let deadline = deadline(draft);
    // One that others are cancelled for was in time when that began.
    let is_expected =
        draft.subject.spec.concurrency_policy == ConcurrencyPolicy::Replace && draft.stood("Replacing");
    if deadline.is_some_and(|deadline| late > deadline) && !is_expected {
        draft.handle(latest);
        let note =
            format!("the run of {latest} could not begin within spec.startingDeadline, and is left out");
        let run = child::scheduled(draft.subject.name, latest);
        draft.tell_outcome(RunOutcome::Missed, Notice::warning("RunMissed", note).about_run(run));
        return None;
    }
    let missed = deadline
        .and_then(|deadline| latest.checked_add(deadline.saturating_add(SignedDuration::from_secs(1))).ok());
    draft.wake = missed.filter(|missed| *missed > draft.now);
    Some(Candidate { time: latest, token: None })
}

fn deadline(draft: &Draft<'_>) -> Option<SignedDuration> {
    let deadline = std::time::Duration::from(draft.subject.spec.starting_deadline?);
    Some(SignedDuration::try_from(deadline).unwrap_or(SignedDuration::MAX))
}

/// Whether a run whose ExportJob is not there yet comes too late: the next one is due, or its deadline has passed.
fn is_overdue(draft: &Draft<'_>, calendar: &Calendar, run: &PlannedRun) -> bool {
    let time = run.scheduled_time.0;
    // One that others were cancelled for may be late.
    let may_be_late = draft.subject.spec.concurrency_policy == ConcurrencyPolicy::Replace;
    let is_late = deadline(draft).is_some_and(|deadline| draft.now.duration_since(time) > deadline);
    run.token.is_none()
        && (calendar.next(time).is_some_and(|next| next <= draft.now) || (is_late && !may_be_late))
}

fn leave_out_older(draft: &mut Draft<'_>, calendar: &Calendar, latest: Timestamp) {
    let mut older = Vec::new();
    let mut last = draft.handled();
    while let Some(time) = calendar.next(last).filter(|time| *time < latest && older.len() < MOST_COUNTED) {
        older.push(time);
        last = time;
    }
    let (Some(first), Some(before)) =
        (older.first().copied(), calendar.latest(draft.handled(), latest - SignedDuration::from_secs(1)))
    else {
        return;
    };
    draft.handle(before);
    let which = match older.len() {
        1 => format!("the run of {first}"),
        MOST_COUNTED => format!("{MOST_COUNTED} runs or more, from {first} to {before},"),
        count => format!("{count} runs, from {first} to {before},"),
    };
    let note =
        format!("{which} did not begin before the next one was due, and only the latest is made up for");
    let run = child::scheduled(draft.subject.name, before);
    let number = older.len() as u64;
    draft.tell_outcomes(RunOutcome::Skipped, number, Notice::warning("RunSkipped", note).about_run(run));
}

/// What a run is to deliver: from where the last one that succeeded has ended. `Err` where that is nothing.
fn window(draft: &Draft<'_>, candidate: &Candidate) -> Result<Option<Window>, String> {
    let Some(window) = &draft.subject.spec.window else { return Ok(None) };
    if candidate.time > draft.now {
        return Err(format!("runNow.scheduledTime {} has not come yet", candidate.time));
    }
    let delay = SignedDuration::try_from(std::time::Duration::from(window.settle_delay)).unwrap_or_default();
    let start = draft.status.window.as_ref().map_or(window.initial_start.0, |done| done.last_end.0);
    match candidate.time.checked_sub(delay) {
        Ok(end) if whole_seconds(end) > whole_seconds(start) => {
            Ok(Some(Window { start: Time(whole_seconds(start)), end: Time(whole_seconds(end)) }))
        }
        _ => Err(format!(
            "its window would end at {} less window.settleDelay, and windows are delivered, or begin, at {start}",
            candidate.time
        )),
    }
}

/// The API keeps times in whole seconds: a window that ended between two of them would begin again before its end.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A run with nothing to deliver is left out.
fn pass_over(draft: &mut Draft<'_>, candidate: &Candidate, why: &str) {
    let note = format!("the run of {} is left out: {why}", candidate.time);
    let run = candidate.name(draft.subject.name);
    draft.tell_outcome(RunOutcome::Skipped, Notice::normal("RunSkipped", note).about_run(run));
    match &candidate.token {
        Some(token) => draft.status.run_now = Some(HandledToken { token: token.clone(), job: None }),
        None => draft.handle(candidate.time),
    }
}

fn is_free(draft: &Draft<'_>) -> bool {
    let most = match draft.subject.spec.concurrency_policy {
        ConcurrencyPolicy::Allow => MOST_ACTIVE,
        ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace => 1,
    };
    draft.observed.active().count() < most
}

/// The run has to wait for others, which are cancelled where the schedule says so.
fn hold(draft: &mut Draft<'_>, candidate: &Candidate) {
    let names: Vec<&str> = draft.observed.active().take(3).map(|run| run.name.as_str()).collect();
    let message = format!("the run of {} waits until {} has ended", candidate.time, names.join(", "));
    if draft.subject.spec.concurrency_policy != ConcurrencyPolicy::Replace {
        if !draft.stood("Waiting") {
            let run = candidate.name(draft.subject.name);
            draft.tell(Notice::normal("RunWaiting", message.clone()).about_run(run));
        }
        draft.stands("Waiting", message);
        return;
    }
    for run in draft.observed.active().filter(|run| !run.is_cancelling()) {
        draft.actions.push(Action::Cancel { name: run.name.clone(), uid: run.uid.clone() });
        let note = format!("ExportJob {} is cancelled for the run of {}", run.name, candidate.time);
        draft.events.push(Notice::normal("RunReplaced", note).about_run(&run.name));
    }
    draft.stands("Replacing", message);
}

/// Notes a run, and begins it.
fn plan(draft: &mut Draft<'_>, candidate: Candidate, window: Option<Window>) {
    let name = candidate.name(draft.subject.name);
    if let Some(token) = &candidate.token {
        draft.status.run_now = Some(HandledToken { token: token.clone(), job: Some(name.clone()) });
    } else {
        draft.handle(candidate.time);
        draft.status.last_schedule_time = Some(Time(candidate.time));
    }
    let note = format!("ExportJob {name} for {}", candidate.time);
    draft.tell_outcome(RunOutcome::Started, Notice::normal("RunStarted", note).about_run(&name));
    let run = PlannedRun { name, scheduled_time: Time(candidate.time), token: candidate.token, window };
    begin(draft, run);
}

/// Has the ExportJob of a noted run created.
fn begin(draft: &mut Draft<'_>, run: PlannedRun) {
    draft.status.active.push(run.name.clone());
    draft.status.starting = Some(run.clone());
    if draft.observed.foreign.contains(&run.name) {
        let message = format!("ExportJob {} exists, and this schedule has not made it: remove it", run.name);
        draft.stalls("NameTaken", message);
        return;
    }
    if let Some(refused) = &draft.observed.refused {
        let message = format!("ExportJob {} cannot be created: {refused}", run.name);
        draft.stalls("RunNotCreated", message);
    }
    draft.actions.push(Action::Start(run));
}
