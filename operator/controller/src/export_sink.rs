//! Reconciles `ExportSinks`: a probe tries to write, and where the sink serves as staging, to read and to list. A receiver of
//! notifications is only connected to: nobody is told anything by a probe.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use pgexport_api::ExportSink;
use pgexport_api::naming::PROBE_REQUEST_ANNOTATION;
use pgexport_api::order::{NamedReceiver, NamedSink, Order, Target, Task};
use pgexport_api::sink::{ExportSinkSpec, ExportSinkStatus, Http};

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

/// One reconciliation of an ExportSink.
pub async fn reconcile(context: &Context, sink: Arc<ExportSink>) -> Result<Action, ReconcileError> {
    let (Some(namespace), Some(owner)) = (sink.namespace(), sink.controller_owner_ref(&()).map(blocking))
    else {
        return Ok(Action::await_change());
    };
    if sink.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let Some(kind) = Kind::of(&sink.spec) else {
        // The CRD refuses it; only a cluster whose CRD was replaced gets here.
        tracing::warn!(namespace, sink = sink.name_any(), "the ExportSink names none of s3, volume and http");
        return Ok(Action::await_change());
    };
    let now = whole_seconds_now();
    let name = sink.name_any();
    let prior = sink.status.clone().unwrap_or_default();
    let state = State { conditions: prior.conditions.clone(), probe: prior.probe.clone() };
    let subject = Subject {
        kind: "ExportSink",
        name: &name,
        uid: &owner.uid,
        generation: sink.meta().generation.unwrap_or_default(),
        requested_at: sink.annotations().get(PROBE_REQUEST_ANNOTATION).map(String::as_str),
        staging: is_staging(context, &namespace, &name),
        is_awaited: context.stores.is_sink_awaited(&namespace, &name),
    };

    let observed = observe(context, &namespace, &subject, &state, now).await?;
    let decision = decide(&subject, &observed, &state, now);
    let staging = decision.state.probe.as_ref().is_some_and(|probe| probe.staging);
    let status = ExportSinkStatus {
        observed_generation: Some(subject.generation),
        conditions: decision.state.conditions,
        location: Some(sink.spec.location()),
        capabilities: decision.capabilities.unwrap_or_else(|| prior.capabilities.clone()),
        probe: decision.state.probe,
    };
    let may_act = if status != prior {
        let updated = ExportSink { status: Some(status), ..sink.as_ref().clone() };
        replace(&context.client, &namespace, &updated).await? == Written::Done
    } else if decision.actions.iter().any(probe::Action::needs_current_status) {
        is_current(&context.client, &namespace, sink.as_ref()).await?
    } else {
        true
    };
    if !may_act {
        return Ok(Action::requeue(AFTER_CONFLICT));
    }
    event::publish(&context.recorder, &sink.object_ref(&()), decision.events).await;
    let rendering = Rendering {
        namespace: &namespace,
        owner: owner.clone(),
        mounts: kind.mounts(sink.spec.service_account_name.as_deref()),
        order: Order::new(kind.probe(name.clone(), staging)),
        image: &context.image,
    };
    apply(context, &rendering, &decision.actions).await?;
    Ok(decision.requeue.map_or_else(Action::await_change, Action::requeue))
}

/// What a sink is for.
enum Kind {
    /// Files are delivered there.
    Target(Target),
    /// Failures are told there.
    Receiver(Http),
}

impl Kind {
    fn of(spec: &ExportSinkSpec) -> Option<Self> {
        match (&spec.s3, &spec.volume, &spec.http) {
            (Some(s3), None, None) => Some(Self::Target(Target::S3(s3.clone()))),
            (None, Some(volume), None) => Some(Self::Target(Target::Volume(volume.clone()))),
            (None, None, Some(http)) => Some(Self::Receiver(http.clone())),
            _ => None,
        }
    }

    fn mounts(&self, service_account: Option<&str>) -> Mounts {
        match self {
            Self::Target(target) => Mounts::default().with_target(target, service_account),
            Self::Receiver(http) => Mounts::default().with_receiver(http, service_account),
        }
    }

    fn probe(self, name: String, staging: bool) -> Task {
        match self {
            Self::Target(target) => Task::ProbeSink(NamedSink { name, target, staging }),
            Self::Receiver(http) => Task::ProbeReceiver(NamedReceiver { name, http }),
        }
    }
}

/// Whether an ExportSource of the namespace names it as staging.
fn is_staging(context: &Context, namespace: &str, name: &str) -> bool {
    let stagings = context.stores.sources.state_filter(|guard| {
        guard.0.as_ref().is_ok_and(|source| {
            source.metadata.namespace.as_deref() == Some(namespace)
                && source.spec.staging.as_ref().is_some_and(|staging| staging.sink_ref.name == name)
        })
    });
    !stagings.is_empty()
}
