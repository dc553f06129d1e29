//! Reconciles `ExportSources`: a probe logs in, and says what it found.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use pgexport_api::ExportSource;
use pgexport_api::naming::PROBE_REQUEST_ANNOTATION;
use pgexport_api::order::{NamedSource, Order, Task};
use pgexport_api::source::ExportSourceStatus;

use crate::context::{Context, whole_seconds_now};
use crate::error::ReconcileError;
use crate::event;
use crate::job::apply::blocking;
use crate::job::mount::Mounts;
use crate::probe::apply::{Rendering, apply};
use crate::probe::decide::{self as probe, State, Subject, decide};
use crate::probe::observe::observe;
use crate::status::{Written, is_current, replace};

/// After a conflict, the watch brings the newer object; this is for when it does not.
const AFTER_CONFLICT: Duration = Duration::from_secs(2);

/// One reconciliation of an ExportSource.
pub async fn reconcile(context: &Context, source: Arc<ExportSource>) -> Result<Action, ReconcileError> {
    let (Some(namespace), Some(owner)) = (source.namespace(), source.controller_owner_ref(&()).map(blocking))
    else {
        return Ok(Action::await_change());
    };
    if source.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = whole_seconds_now();
    let name = source.name_any();
    let prior = source.status.clone().unwrap_or_default();
    let state = State { conditions: prior.conditions.clone(), probe: prior.probe.clone() };
    let subject = Subject {
        kind: "ExportSource",
        name: &name,
        uid: &owner.uid,
        generation: source.meta().generation.unwrap_or_default(),
        requested_at: source.annotations().get(PROBE_REQUEST_ANNOTATION).map(String::as_str),
        staging: false,
        is_awaited: context.stores.is_source_awaited(&namespace, &name),
    };

    let observed = observe(context, &namespace, &subject, &state, now).await?;
    let decision = decide(&subject, &observed, &state, now);
    let aurora_s3 = if decision.server.is_some() { decision.aurora_s3 } else { prior.aurora_s3.clone() };
    let status = ExportSourceStatus {
        observed_generation: Some(subject.generation),
        conditions: decision.state.conditions,
        server: decision.server.or_else(|| prior.server.clone()),
        login_may: decision.login_may.unwrap_or_else(|| prior.login_may.clone()),
        aurora_s3,
        probe: decision.state.probe,
    };
    let may_act = if status != prior {
        let updated = ExportSource { status: Some(status), ..source.as_ref().clone() };
        replace(&context.client, &namespace, &updated).await? == Written::Done
    } else if decision.actions.iter().any(probe::Action::needs_current_status) {
        is_current(&context.client, &namespace, source.as_ref()).await?
    } else {
        true
    };
    if !may_act {
        return Ok(Action::requeue(AFTER_CONFLICT));
    }
    event::publish(&context.recorder, &source.object_ref(&()), decision.events).await;
    let postgres = &source.spec.postgres;
    let rendering = Rendering {
        namespace: &namespace,
        owner: owner.clone(),
        mounts: Mounts::default().with_source(postgres, source.spec.service_account_name.as_deref()),
        order: Order::new(Task::ProbeSource(Box::new(NamedSource::new(&name, &source.spec)))),
        image: &context.image,
    };
    apply(context, &rendering, &decision.actions).await?;
    Ok(decision.requeue.map_or_else(Action::await_change, Action::requeue))
}
