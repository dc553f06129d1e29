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
use pgexport_api::{ExportJob, ExportSink, ExportSource, naming};
use serde::de::DeserializeOwned;

/// The objects of one scope, as the watches see them.
#[derive(Clone)]
pub struct Stores {
    /// `ExportJobs`.
    pub export_jobs: Store<DeserializeGuard<ExportJob>>,
    /// `ExportSources`.
    pub sources: Store<DeserializeGuard<ExportSource>>,
    /// `ExportSinks`.
    pub sinks: Store<DeserializeGuard<ExportSink>>,
    /// Jobs that are managed by pgexport.
    pub jobs: Store<Job>,
    /// Their pods.
    pub pods: Store<Pod>,
}

impl Stores {
    /// Waits until each has been filled once. `false` when the controller stops before.
    pub async fn wait_until_ready(&self) -> bool {
        self.export_jobs.wait_until_ready().await.is_ok()
            && self.sources.wait_until_ready().await.is_ok()
            && self.sinks.wait_until_ready().await.is_ok()
            && self.jobs.wait_until_ready().await.is_ok()
            && self.pods.wait_until_ready().await.is_ok()
    }
}

/// Asks for reconciliations. The queues end with the controller, which is why nobody minds a closed one.
#[derive(Clone)]
pub struct Queues {
    /// Of `ExportJobs`.
    pub export_jobs: UnboundedSender<ObjectRef<DeserializeGuard<ExportJob>>>,
    /// Of `ExportSources`.
    pub sources: UnboundedSender<ObjectRef<DeserializeGuard<ExportSource>>>,
    /// Of `ExportSinks`.
    pub sinks: UnboundedSender<ObjectRef<DeserializeGuard<ExportSink>>>,
}

impl Queues {
    /// An ExportJob was touched.
    pub fn export_job(&self, job: &DeserializeGuard<ExportJob>) {
        let _ = self.export_jobs.unbounded_send(ObjectRef::from_obj(job));
    }

    /// An ExportSource was touched: its `ExportJobs` may go on, and its staging is to be probed as such.
    pub fn source(&self, stores: &Stores, source: &DeserializeGuard<ExportSource>) {
        let _ = self.sources.unbounded_send(ObjectRef::from_obj(source));
        let Some(namespace) = source.namespace() else { return };
        let name = source.name_any();
        self.live_jobs(stores, &namespace, |job| job.spec.source_ref.name == name);
        if let Some(staging) = source.0.as_ref().ok().and_then(|source| source.spec.staging.as_ref()) {
            let _ = self.sinks.unbounded_send(ObjectRef::new(&staging.sink_ref.name).within(&namespace));
        }
    }

    /// An ExportSink was touched: `ExportJobs` that deliver or stage there may go on.
    pub fn sink(&self, stores: &Stores, sink: &DeserializeGuard<ExportSink>) {
        let _ = self.sinks.unbounded_send(ObjectRef::from_obj(sink));
        let Some(namespace) = sink.namespace() else { return };
        let name = sink.name_any();
        self.live_jobs(stores, &namespace, |job| {
            let source = stores.sources.get(&ObjectRef::new(&job.spec.source_ref.name).within(&namespace));
            let staging = source.as_ref().and_then(|source| source.0.as_ref().ok()?.spec.staging.as_ref());
            job.spec.sink_ref.name == name || staging.is_some_and(|staging| staging.sink_ref.name == name)
        });
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

    fn live_jobs(&self, stores: &Stores, namespace: &str, concerns: impl Fn(&ExportJob) -> bool) {
        let jobs: Vec<Arc<DeserializeGuard<ExportJob>>> = stores.export_jobs.state_filter(|guard| {
            guard.0.as_ref().is_ok_and(|job| {
                let phase = job.status.as_ref().and_then(|status| status.phase);
                job.metadata.namespace.as_deref() == Some(namespace)
                    && !phase.is_some_and(pgexport_api::Phase::is_terminal)
                    && concerns(job)
            })
        });
        for job in jobs {
            self.export_job(&job);
        }
    }
}

/// Watches one kind until `stop`. `touched` gets each object that has changed, when the store has it already.
pub async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    strip: impl FnMut(&mut K),
    mut touched: impl FnMut(&K),
    stop: impl Future<Output = ()>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let events = watcher(api, config).default_backoff().modify(strip).reflect(writer).take_until(stop);
    decode(events, &mut touched).await;
}

async fn decode<K>(events: impl Stream<Item = watcher::Result<Event<K>>>, touched: &mut impl FnMut(&K))
where
    K: Resource<DynamicType = ()>,
{
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    let mut said = None;
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
        let events = vec![Ok(Event::Init), Ok(Event::InitApply(pod("a")))];
        block_on(decode(stream::iter(events), &mut |pod: &Pod| seen.push(pod.name_any())));
        assert!(seen.is_empty());
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(pod("a"))),
            Ok(Event::InitDone),
            Ok(Event::Delete(pod("b"))),
        ];
        block_on(decode(stream::iter(events), &mut |pod: &Pod| seen.push(pod.name_any())));
        assert_eq!(seen, ["a", "b"]);
    }
}
