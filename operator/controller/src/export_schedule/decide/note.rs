//! What has become of the runs that were started.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgexport_api::schedule::{HandledToken, ScheduleWindowStatus};

use super::super::fact::{RunFacts, RunState};
use super::RunOutcome;
use super::draft::Draft;
use crate::event::Notice;

/// Takes note of runs: of those that have ended, and of what those that are there say about times, windows and tokens. They
/// say it too where the status was lost.
pub fn note(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    if draft.status.starting.as_ref().is_some_and(|run| observed.find(&run.name).is_some()) {
        draft.status.starting = None;
    }
    for name in &draft.prior.active {
        match observed.find(name) {
            Some(run) => tell_end(draft, run),
            None if draft.status.starting.as_ref().is_some_and(|run| run.name == *name) => {}
            None => {
                let note = format!(
                    "ExportJob {name} is gone, and nobody has seen how it ended: it counts as failed"
                );
                draft.tell_outcome(RunOutcome::Failed, Notice::warning("RunVanished", note).about_run(name));
            }
        }
    }
    for run in &observed.runs {
        if run.token.is_none() {
            later(&mut draft.status.last_schedule_time, run.scheduled);
        }
        if let RunState::Succeeded { ended } = run.state {
            later(&mut draft.status.last_successful_time, ended);
            if let Some(window) = &run.window {
                let mut end = draft.status.window.take().map(|window| window.last_end);
                later(&mut end, window.end.0);
                draft.status.window = end.map(|last_end| ScheduleWindowStatus { last_end });
            }
        }
        let asked = draft.subject.spec.run_now.as_ref().map(|asked| &asked.token);
        if let Some(token) = run.token.as_ref().filter(|token| Some(*token) == asked) {
            draft.status.run_now = Some(HandledToken { token: token.clone(), job: Some(run.name.clone()) });
        }
    }
    let mut active: Vec<&RunFacts> = observed.active().collect();
    active.sort_by(|a, b| (a.scheduled, &a.name).cmp(&(b.scheduled, &b.name)));
    draft.status.active = active.into_iter().map(|run| run.name.clone()).collect();
}

fn tell_end(draft: &mut Draft<'_>, run: &RunFacts) {
    let name = &run.name;
    match &run.state {
        RunState::Active { .. } => {}
        RunState::Succeeded { .. } => {
            let note = format!("ExportJob {name} has succeeded");
            draft.tell_outcome(RunOutcome::Succeeded, Notice::normal("RunSucceeded", note).about_run(name));
        }
        RunState::Failed { why } => {
            let note = format!("ExportJob {name} has ended without success: {why}");
            draft.tell_outcome(RunOutcome::Failed, Notice::warning("RunFailed", note).about_run(name));
        }
    }
}

fn later(time: &mut Option<Time>, other: jiff::Timestamp) {
    if time.as_ref().is_none_or(|time| time.0 < other) {
        *time = Some(Time(other));
    }
}
