//! ExportJobs that have ended are kept for a while, and then deleted.

use super::super::fact::{RunFacts, RunState};
use super::Action;
use super::draft::Draft;

/// Deletes the oldest of those that have ended, beyond what is to be kept. What they have delivered stays.
pub fn prune(draft: &mut Draft<'_>) {
    let limits = draft.subject.spec.history_limits;
    let is_success = |run: &RunFacts| matches!(run.state, RunState::Succeeded { .. });
    for (of_success, limit) in [(true, limits.succeeded), (false, limits.failed)] {
        let ended =
            draft.observed.runs.iter().filter(|run| !run.is_active() && is_success(run) == of_success);
        let mut ended: Vec<&RunFacts> = ended.collect();
        ended.sort_by(|a, b| (b.scheduled, &b.name).cmp(&(a.scheduled, &a.name)));
        // One that is not cleaned up or told of yet takes a place, and goes later.
        let beyond = ended.into_iter().skip(limit as usize).filter(|run| run.is_removable);
        let actions = beyond.map(|run| Action::Delete { name: run.name.clone(), uid: run.uid.clone() });
        draft.actions.extend(actions);
    }
}
