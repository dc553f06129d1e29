//! One watch a kind: it fills a store, and says which objects are to be reconciled.

use std::fmt::Debug;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedSender;
use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use pgexport_api::{ExportJob, ExportSchedule, ExportSink, ExportSource, Phase, naming};
use serde::de::DeserializeOwned;
use tokio::sync::watch as channel;

use crate::export_job::admission::next_in_line;

/// The objects of one scope, as the watches see them.
#[derive(Clone)]
pub struct Stores {
    /// `ExportJobs`.
    pub export_jobs: Store<DeserializeGuard<ExportJob>>,
    /// `ExportSchedules`.
    pub schedules: Store<DeserializeGuard<ExportSchedule>>,
    /// `ExportSources`.
    pub sources: Store<DeserializeGuard<ExportSource>>,
    /// `ExportSinks`.
    pub sinks: Store<DeserializeGuard<ExportSink>>,
    /// Jobs that are managed by pgexport.
    pub jobs: Store<Job>,
    /// Their pods.
    pub pods: Store<Pod>,
    /// How many of the six have been filled once.
    pub filled: channel::Receiver<usize>,
}

/// Counts the watches of a scope that have been filled once.
///
/// `Store::wait_until_ready` of kube 5 serves one waiter: of several, it wakes only the one that asked last
/// (`kube_runtime::utils::delayed_init`).
#[derive(Clone, Debug)]
pub struct Filled(Arc<channel::Sender<usize>>);

impl Filled {
    /// A counter, and where it is read. Readers are told when the last counter is gone.
    #[must_use]
    pub fn new() -> (Self, channel::Receiver<usize>) {
        let (sender, receiver) = channel::channel(0);
        (Self(Arc::new(sender)), receiver)
    }

    fn count(&self) {
        self.0.send_modify(|filled| *filled += 1);
    }
}

impl Stores {
    /// Waits until each has been filled once. `false` when the controller stops before.
    pub async fn wait_until_ready(&self) -> bool {
        self.filled.clone().wait_for(|filled| *filled >= 6).await.is_ok()
    }

    /// Whether an ExportJob waits for this ExportSource.
    #[must_use]
    pub fn is_source_awaited(&self, namespace: &str, name: &str) -> bool {
        !self.jobs_where(namespace, |job| is_pending(job) && job.spec.source_ref.name == name).is_empty()
    }

    /// Whether an ExportJob waits for this ExportSink.
    #[must_use]
    pub fn is_sink_awaited(&self, namespace: &str, name: &str) -> bool {
        let concerns = |job: &ExportJob| {
            is_pending(job) && self.sinks_of(namespace, job).iter().any(|sink| sink == name)
        };
        !self.jobs_where(namespace, concerns).is_empty()
    }

    /// The names of the sinks that an ExportJob delivers to, or stages at.
    fn sinks_of(&self, namespace: &str, job: &ExportJob) -> Vec<String> {
        let source = self.sources.get(&ObjectRef::new(&job.spec.source_ref.name).within(namespace));
        let staging = source
            .as_ref()
            .and_then(|source| Some(source.0.as_ref().ok()?.spec.staging.as_ref()?.sink_ref.name.clone()));
        std::iter::once(job.spec.sink_ref.name.clone()).chain(staging).collect()
    }

    fn jobs_where(
        &self,
        namespace: &str,
        concerns: impl Fn(&ExportJob) -> bool,
    ) -> Vec<Arc<DeserializeGuard<ExportJob>>> {
        self.export_jobs.state_filter(|guard| {
            guard
                .0
                .as_ref()
                .is_ok_and(|job| job.metadata.namespace.as_deref() == Some(namespace) && concerns(job))
        })
    }
}

/// Asks for reconciliations. The queues end with the controller, which is why nobody minds a closed one.
#[derive(Clone)]
pub struct Queues {
    /// Of `ExportJobs`.
    pub export_jobs: UnboundedSender<ObjectRef<DeserializeGuard<ExportJob>>>,
    /// Of `ExportSchedules`.
    pub schedules: UnboundedSender<ObjectRef<DeserializeGuard<ExportSchedule>>>,
    /// Of `ExportSources`.
    pub sources: UnboundedSender<ObjectRef<DeserializeGuard<ExportSource>>>,
    /// Of `ExportSinks`.
    pub sinks: UnboundedSender<ObjectRef<DeserializeGuard<ExportSink>>>,
}

impl Queues {
    /// An ExportSchedule was touched.
    pub fn schedule(&self, schedule: &DeserializeGuard<ExportSchedule>) {
        let _ = self.schedules.unbounded_send(ObjectRef::from_obj(schedule));
    }

    /// An ExportJob was touched: the schedule that made it may go on. What one that has not begun refers to may be probed sooner.
    pub fn export_job(&self, stores: &Stores, job: &DeserializeGuard<ExportJob>) {
        let _ = self.export_jobs.unbounded_send(ObjectRef::from_obj(job));
        let makers = job.owner_references().iter().filter(|owner| owner.kind == ExportSchedule::kind(&()));
        for maker in makers {
            let schedule = ObjectRef::new(&maker.name).within(&job.namespace().unwrap_or_default());
            let _ = self.schedules.unbounded_send(schedule);
        }
        let (Some(namespace), Ok(job)) = (job.namespace(), &job.0) else { return };
        if !is_exporting(job) {
            // It may have left room for others.
            for next in next_in_line(stores, job) {
                let _ = self.export_jobs.unbounded_send(next);
            }
        }
        if is_pending(job) {
            let _ = self.sources.unbounded_send(ObjectRef::new(&job.spec.source_ref.name).within(&namespace));
            for sink in stores.sinks_of(&namespace, job) {
                let _ = self.sinks.unbounded_send(ObjectRef::new(&sink).within(&namespace));
            }
        }
    }

    /// An ExportSource was touched: its `ExportJobs` may go on, and its staging is to be probed as such.
    pub fn source(&self, stores: &Stores, source: &DeserializeGuard<ExportSource>) {
        let _ = self.sources.unbounded_send(ObjectRef::from_obj(source));
        let Some(namespace) = source.namespace() else { return };
        let name = source.name_any();
        self.enqueue(&stores.jobs_where(&namespace, |job| is_live(job) && job.spec.source_ref.name == name));
        if let Some(staging) = source.0.as_ref().ok().and_then(|source| source.spec.staging.as_ref()) {
            let _ = self.sinks.unbounded_send(ObjectRef::new(&staging.sink_ref.name).within(&namespace));
        }
    }

    /// An ExportSink was touched: `ExportJobs` that deliver or stage there may go on, and failures may be told.
    pub fn sink(&self, stores: &Stores, sink: &DeserializeGuard<ExportSink>) {
        let _ = self.sinks.unbounded_send(ObjectRef::from_obj(sink));
        let Some(namespace) = sink.namespace() else { return };
        let name = sink.name_any();
        let concerns = |job: &ExportJob| {
            (is_live(job) && stores.sinks_of(&namespace, job).contains(&name)) || is_told(job, &name)
        };
        self.enqueue(&stores.jobs_where(&namespace, concerns));
    }

    /// A Job or a pod was touched: its labels say for whom it was made. What it really belongs to is checked there.
    pub fn child(&self, object: &impl ResourceExt) {
        let labels = object.labels();
        let (Some(namespace), Some(kind), Some(name)) =
            (object.namespace(), labels.get(naming::OWNER_KIND_LABEL), labels.get(naming::OWNER_LABEL))
        else {
            return;
        };
        match kind.as_str() {
            "exportjob" => drop(self.export_jobs.unbounded_send(ObjectRef::new(name).within(&namespace))),
            "exportsource" => drop(self.sources.unbounded_send(ObjectRef::new(name).within(&namespace))),
            "exportsink" => drop(self.sinks.unbounded_send(ObjectRef::new(name).within(&namespace))),
            _ => {}
        }
    }

    fn enqueue(&self, jobs: &[Arc<DeserializeGuard<ExportJob>>]) {
        for job in jobs {
            let _ = self.export_jobs.unbounded_send(ObjectRef::from_obj(job.as_ref()));
        }
    }
}

/// Whether it has not ended.
fn is_live(job: &ExportJob) -> bool {
    !job.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_terminal)
}

/// Whether this ExportSink is told of its failure, or would be.
fn is_told(job: &ExportJob, sink: &str) -> bool {
    let names_it =
        job.spec.on_failure.as_ref().is_some_and(|on_failure| on_failure.notify_sink_ref.name == sink);
    let is_over = job.status.as_ref().and_then(|status| status.notification.as_ref());
    names_it && is_over.is_none_or(|notification| notification.completion_time.is_none())
}

/// Whether it reads its database.
fn is_exporting(job: &ExportJob) -> bool {
    job.meta().deletion_timestamp.is_none()
        && job.status.as_ref().and_then(|status| status.phase) == Some(Phase::Exporting)
}

/// Whether it waits for an attempt to begin.
fn is_pending(job: &ExportJob) -> bool {
    job.status.as_ref().and_then(|status| status.phase).is_none_or(|phase| phase == Phase::Pending)
}

/// Watches one kind until `stop`. `touched` gets each object that has changed, when the store has it already.
pub async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    filled: Filled,
    strip: impl FnMut(&mut K),
    mut touched: impl FnMut(&K),
    stop: impl Future<Output = ()>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(api, config).default_backoff().modify(strip).reflect(writer).take_until(stop);
    decode(events, filled, &mut touched).await;
}

async fn decode<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    filled: Filled,
    touched: &mut impl FnMut(&K),
) where
    K: Resource<DynamicType = ()>,
{
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    let mut said = None;
    let mut first = Some(&filled);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::Delete(object)) => touched(&object),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.push(object),
            Ok(Event::InitDone) => {
                if said.take().is_some() {
                    tracing::info!(kind = %K::kind(&()), "a watch is up again");
                }
                // Only now the store holds what was listed.
                if let Some(filled) = first.take() {
                    filled.count();
                }
                std::mem::take(&mut listed).iter().for_each(&mut *touched);
            }
            Err(error) => {
                // It is taken up again each second or so, and says the same each time: a missing CRD, say.
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!(kind = %K::kind(&()), error, "a watch failed and is taken up again");
                }
                said = Some(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, stream};

    #[test]
    fn listed_objects_are_handed_on_when_the_store_has_them() {
        let pod = |name: &str| Pod {
            metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Pod::default()
        };
        let mut seen = Vec::new();
        let (filled, count) = Filled::new();
        let events = vec![Ok(Event::Init), Ok(Event::InitApply(pod("a")))];
        block_on(decode(stream::iter(events), filled.clone(), &mut |pod: &Pod| seen.push(pod.name_any())));
        assert!(seen.is_empty());
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(pod("a"))),
            Ok(Event::InitDone),
            Ok(Event::Delete(pod("b"))),
        ];
        block_on(decode(stream::iter(events), filled.clone(), &mut |pod: &Pod| seen.push(pod.name_any())));
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(*count.borrow(), 1, "the first list filled the store");
    }
}
