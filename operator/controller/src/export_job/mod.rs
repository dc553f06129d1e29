//! Reconciles `ExportJobs`.

pub mod admission;
pub mod apply;
pub mod child;
pub mod decide;
pub mod dereference;
pub mod finalizer;
pub mod notification;
pub mod observe;
pub mod receiver;
pub mod render;
pub mod status;
pub mod validate;

#[cfg(test)]
pub mod fixture;

use std::sync::Arc;
use std::time::Duration;

use futures::join;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use pgexport_api::{ExportJob, Phase, naming};
use pgexport_failpoint as failpoint;

use crate::context::{Context, whole_seconds_now};
use crate::error::ReconcileError;
use crate::event;
use crate::job::apply::blocking;
use crate::status::{Written, is_current};
use decide::Subject;
use render::{Rendering, Renderings, Work};
use validate::Verdict;

/// After a conflict, the watch brings the newer object; this is for when it does not.
const AFTER_CONFLICT: Duration = Duration::from_secs(2);

/// One reconciliation of an ExportJob.
pub async fn reconcile(context: &Context, job: Arc<ExportJob>) -> Result<Action, ReconcileError> {
    let (Some(namespace), Some(owner)) = (job.namespace(), job.controller_owner_ref(&()).map(blocking))
    else {
        return Ok(Action::await_change());
    };
    let guarded = finalizer::is_there(&job);
    let deleting = finalizer::deleted(&job);
    if deleting.is_some() && !guarded {
        // The garbage collector deletes what it owns.
        return Ok(Action::await_change());
    }
    let now = whole_seconds_now();
    let prior = job.status.clone().unwrap_or_default();
    let name = job.name_any();
    let subject = Subject {
        name: &name,
        uid: &owner.uid,
        generation: job.meta().generation.unwrap_or_default(),
        created: job.creation_timestamp().map_or(now, |time| time.0),
        spec: &job.spec,
        restored: job.labels().contains_key(naming::RESTORED_LABEL),
        deleting,
        guarded,
    };

    // dereference (client)
    let references = dereference::dereference(context, &namespace, &job).await?;
    // validate (pure)
    let verdict = Verdict::of(&namespace, &job, &references, &prior, &context.image.metadata_prefixes);
    // observe (client)
    let mut observed = observe::observe(context, &namespace, &job, &prior, now).await?;
    let turn = observe::turn(context, &job, &references, &verdict.run, &prior).await?;
    observed.admission = turn.as_ref().map(|turn| turn.admission.clone());
    observed.receiver = receiver::validate(&namespace, &job, &references);
    // decide (pure)
    let decision = decide::decide(&subject, &verdict, &observed, &prior, now);
    // status (client): before anything is done, so that nothing is done upon stale facts
    failpoint::hit("status::decided", &owner.uid).await;
    let may_act = match status::write(context, &namespace, &job, &prior, &decision.status).await? {
        Written::Conflict => false,
        Written::Unchanged if decision.actions.iter().any(decide::Action::needs_current_status) => {
            is_current(&context.client, &namespace, job.as_ref()).await?
        }
        Written::Done => {
            failpoint::hit("status::written", &owner.uid).await;
            true
        }
        Written::Unchanged => true,
    };
    // Whoever is judged next sees what was written.
    drop(turn);
    if !may_act {
        return Ok(Action::requeue(AFTER_CONFLICT));
    }
    // render (pure) and apply (client)
    let work = if decision.status.phase.is_some_and(Phase::is_terminal) {
        let part = decide::cleanup_part(&decision.status);
        verdict.cleanup.as_ref().ok().map(|validated| Work::Cleanup { validated, part })
    } else {
        verdict.run.as_ref().ok().map(Work::Run)
    };
    let run = work.map(|work| Rendering {
        namespace: &namespace,
        owner: owner.clone(),
        spec: &job.spec,
        work,
        image: &context.image,
    });
    let notification = notification::Rendering::new(
        &namespace,
        &owner,
        &subject,
        &observed,
        &decision.status,
        &context.image,
    );
    let renderings = Renderings { run, notification };
    let reference = job.object_ref(&());
    let told = event::publish(&context.recorder, &reference, decision.events);
    // Boxed, as a future that is joined is kept twice.
    let applying = Box::pin(apply::apply(context, &namespace, &job, &renderings, &decision.actions));
    // Nothing waits for Events.
    let ((), applied) = join!(told, applying);
    applied?;
    Ok(decision.requeue.map_or_else(Action::await_change, Action::requeue))
}
