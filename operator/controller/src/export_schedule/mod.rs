//! Reconciles `ExportSchedules`: each run is an ExportJob.

pub mod apply;
pub mod calendar;
pub mod child;
pub mod decide;
pub mod fact;
pub mod observe;
pub mod render;
pub mod validate;

#[cfg(test)]
pub mod fixture;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use pgexport_api::{ExportSchedule, naming};
use pgexport_failpoint as failpoint;

use crate::context::{Context, whole_seconds_now};
use crate::error::ReconcileError;
use crate::event;
use crate::job::apply::blocking;
use crate::status::{Written, is_current, replace};
use decide::Subject;
use render::Rendering;

/// After a conflict, the watch brings the newer object; this is for when it does not.
const AFTER_CONFLICT: Duration = Duration::from_secs(2);

/// One reconciliation of an ExportSchedule.
pub async fn reconcile(context: &Context, schedule: Arc<ExportSchedule>) -> Result<Action, ReconcileError> {
    let (Some(namespace), Some(owner)) =
        (schedule.namespace(), schedule.controller_owner_ref(&()).map(blocking))
    else {
        return Ok(Action::await_change());
    };
    if schedule.meta().deletion_timestamp.is_some() {
        // The garbage collector deletes its ExportJobs, which cancel themselves and clean up.
        return Ok(Action::await_change());
    }
    let now = whole_seconds_now();
    let prior = schedule.status.clone().unwrap_or_default();
    let name = schedule.name_any();
    let subject = Subject {
        name: &name,
        generation: schedule.meta().generation.unwrap_or_default(),
        created: schedule.creation_timestamp().map_or(now, |time| time.0),
        spec: &schedule.spec,
        restored: schedule.labels().contains_key(naming::RESTORED_LABEL),
    };

    // validate (pure)
    let verdict = validate::validate(&schedule.spec);
    // observe (client)
    let observed = observe::observe(context, &namespace, &schedule, &prior).await?;
    // decide (pure)
    let decision = decide::decide(&subject, &verdict, &observed, &prior, now);
    // status (client): before anything is done, so that nothing is done upon stale facts
    let may_act = if decision.status != prior {
        let status = Some(decision.status);
        let updated = ExportSchedule { status, ..schedule.as_ref().clone() };
        let written = replace(&context.client, &namespace, &updated).await?;
        if written == Written::Done {
            failpoint::hit("schedule::status_written", &owner.uid).await;
        }
        written == Written::Done
    } else if decision.actions.is_empty() {
        true
    } else {
        is_current(&context.client, &namespace, schedule.as_ref()).await?
    };
    if !may_act {
        return Ok(Action::requeue(AFTER_CONFLICT));
    }
    context.metrics.scheduled(&owner.uid, &decision.outcomes);
    event::publish(&context.recorder, &schedule.object_ref(&()), decision.events).await;
    // render (pure) and apply (client)
    let rendering = Rendering { namespace: &namespace, owner, spec: &schedule.spec };
    apply::apply(context, &rendering, &decision.actions).await?;
    Ok(decision.requeue.map_or_else(Action::await_change, Action::requeue))
}
