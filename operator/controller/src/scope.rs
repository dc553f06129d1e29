//! Everything that runs for one scope: the watches, and a queue of reconciliations for each kind.

use std::fmt::Debug;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{self, Action};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{applier, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use pgexport_api::naming::MANAGED_BY;
use pgexport_api::{ExportJob, ExportSchedule, ExportSink, ExportSource};
use tokio::task::JoinSet;

use crate::context::{Admissions, Context, Refusals, Writes};
use crate::error::{ErrorBackoff, ReconcileError};
use crate::event::{self, Notice};
use crate::job::pod::WorkerImage;
use crate::metrics::Metrics;
use crate::progress::Poller;
use crate::watch::{Filled, Queues, Stores, follow};
use crate::{export_job, export_schedule, export_sink, export_source};

/// Reconciliations of one kind at a time.
const CONCURRENCY: u16 = 16;
/// Changes that come together are reconciled together.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Ends when the controller is to stop.
pub type Stop = Shared<BoxFuture<'static, ()>>;

/// The reconciliation of one object of a kind.
type Reconcile<K> = fn(Arc<Context>, Arc<K>) -> BoxFuture<'static, Result<Action, ReconcileError>>;

/// What all scopes share.
pub struct Shares {
    /// The API server.
    pub client: Client,
    /// What pods run.
    pub image: WorkerImage,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What admissions need.
    pub admission: Admissions,
    /// Counts reconciliations.
    pub metrics: Metrics,
    /// When to stop.
    pub stop: Stop,
}

/// Starts the tasks of one scope: one namespace, or all of them.
pub fn start(shares: &Shares, namespace: Option<&str>, tasks: &mut JoinSet<()>) -> Stores {
    let client = &shares.client;
    let (export_jobs, export_jobs_writer) = reflector::store();
    let (schedules, schedules_writer) = reflector::store();
    let (sources, sources_writer) = reflector::store();
    let (sinks, sinks_writer) = reflector::store();
    let (jobs, jobs_writer) = reflector::store();
    let (pods, pods_writer) = reflector::store();
    let (counter, filled) = Filled::new();
    let stores = Stores { export_jobs, schedules, sources, sinks, jobs, pods, filled };
    let (export_job_queue, export_job_requests) = unbounded();
    let (schedule_queue, schedule_requests) = unbounded();
    let (source_queue, source_requests) = unbounded();
    let (sink_queue, sink_requests) = unbounded();
    let queues = Queues {
        export_jobs: export_job_queue,
        schedules: schedule_queue,
        sources: source_queue,
        sinks: sink_queue,
    };
    let context = Arc::new(Context {
        client: client.clone(),
        image: shares.image.clone(),
        recorder: shares.recorder.clone(),
        stores: stores.clone(),
        progress: Poller::default(),
        progress_writes: Writes::default(),
        refusals: Refusals::default(),
        admission: shares.admission.clone(),
        metrics: shares.metrics.clone(),
        backoff: ErrorBackoff::default(),
    });

    let writers = Writers {
        export_jobs: export_jobs_writer,
        schedules: schedules_writer,
        sources: sources_writer,
        sinks: sinks_writer,
        jobs: jobs_writer,
        pods: pods_writer,
    };
    start_watching(namespace, writers, &counter, &queues, &context, &shares.stop, tasks);
    let requests = Requests {
        export_jobs: export_job_requests,
        schedules: schedule_requests,
        sources: source_requests,
        sinks: sink_requests,
    };
    start_reconciling(&context, requests, &shares.stop, tasks);
    stores
}

/// The other ends of [`Stores`].
struct Writers {
    export_jobs: Writer<DeserializeGuard<ExportJob>>,
    schedules: Writer<DeserializeGuard<ExportSchedule>>,
    sources: Writer<DeserializeGuard<ExportSource>>,
    sinks: Writer<DeserializeGuard<ExportSink>>,
    jobs: Writer<Job>,
    pods: Writer<Pod>,
}

fn start_watching(
    namespace: Option<&str>,
    writers: Writers,
    counter: &Filled,
    queues: &Queues,
    context: &Arc<Context>,
    stop: &Stop,
    tasks: &mut JoinSet<()>,
) {
    let all = watcher::Config::default();
    let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let (client, stores) = (&context.client, &context.stores);
    let stop = || stop.clone();
    {
        let (queues, stores) = (queues.clone(), stores.clone());
        tasks.spawn(follow(
            api(client, namespace),
            all.clone(),
            writers.export_jobs,
            counter.clone(),
            forget_managers,
            move |job| queues.export_job(&stores, job),
            stop(),
        ));
    }
    {
        let queues = queues.clone();
        tasks.spawn(follow(
            api(client, namespace),
            all.clone(),
            writers.schedules,
            counter.clone(),
            forget_managers,
            move |schedule| queues.schedule(schedule),
            stop(),
        ));
    }
    {
        let (queues, stores) = (queues.clone(), stores.clone());
        tasks.spawn(follow(
            api(client, namespace),
            all.clone(),
            writers.sources,
            counter.clone(),
            forget_managers,
            move |source| queues.source(&stores, source),
            stop(),
        ));
    }
    {
        let (queues, stores) = (queues.clone(), stores.clone());
        tasks.spawn(follow(
            api(client, namespace),
            all,
            writers.sinks,
            counter.clone(),
            forget_managers,
            move |sink| queues.sink(&stores, sink),
            stop(),
        ));
    }
    tasks.spawn(follow_jobs(
        api(client, namespace),
        ours.clone(),
        writers.jobs,
        counter.clone(),
        queues.clone(),
        Arc::clone(context),
        stop(),
    ));
    {
        let queues = queues.clone();
        let strip = |pod: &mut Pod| {
            forget_managers(pod);
            pod.spec = None;
        };
        tasks.spawn(follow(
            api(client, namespace),
            ours,
            writers.pods,
            counter.clone(),
            strip,
            move |pod| queues.child(pod),
            stop(),
        ));
    }
}

/// The other ends of [`Queues`].
struct Requests {
    export_jobs: UnboundedReceiver<ObjectRef<DeserializeGuard<ExportJob>>>,
    schedules: UnboundedReceiver<ObjectRef<DeserializeGuard<ExportSchedule>>>,
    sources: UnboundedReceiver<ObjectRef<DeserializeGuard<ExportSource>>>,
    sinks: UnboundedReceiver<ObjectRef<DeserializeGuard<ExportSink>>>,
}

fn start_reconciling(context: &Arc<Context>, requests: Requests, stop: &Stop, tasks: &mut JoinSet<()>) {
    let stores = &context.stores;
    tasks.spawn(reconcile_all(
        Arc::clone(context),
        stores.export_jobs.clone(),
        requests.export_jobs,
        stop.clone(),
        |context, job| async move { export_job::reconcile(&context, job).await }.boxed(),
    ));
    tasks.spawn(reconcile_all(
        Arc::clone(context),
        stores.schedules.clone(),
        requests.schedules,
        stop.clone(),
        |context, schedule| async move { export_schedule::reconcile(&context, schedule).await }.boxed(),
    ));
    tasks.spawn(reconcile_all(
        Arc::clone(context),
        stores.sources.clone(),
        requests.sources,
        stop.clone(),
        |context, source| async move { export_source::reconcile(&context, source).await }.boxed(),
    ));
    tasks.spawn(reconcile_all(
        Arc::clone(context),
        stores.sinks.clone(),
        requests.sinks,
        stop.clone(),
        |context, sink| async move { export_sink::reconcile(&context, sink).await }.boxed(),
    ));
}

async fn follow_jobs(
    api: Api<Job>,
    config: watcher::Config,
    writer: Writer<Job>,
    filled: Filled,
    queues: Queues,
    context: Arc<Context>,
    stop: Stop,
) {
    let strip = |job: &mut Job| {
        forget_managers(job);
        job.spec = None;
    };
    let touched = |job: &Job| {
        if job.meta().deletion_timestamp.is_some() {
            let known = context.stores.jobs.state().iter().filter_map(|job| job.uid()).collect();
            context.progress.forget(job.uid().as_deref().unwrap_or_default(), &known);
        }
        queues.child(job);
    };
    follow(api, config, writer, filled, strip, touched, stop).await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// The managed fields are often the bigger half of an object, and nobody here reads them.
fn forget_managers(object: &mut impl ResourceExt) {
    object.managed_fields_mut().clear();
}

/// Reconciles the objects of one kind as they are asked for, until `stop`; what has begun by then is carried through.
async fn reconcile_all<K>(
    context: Arc<Context>,
    store: Store<DeserializeGuard<K>>,
    requests: UnboundedReceiver<ObjectRef<DeserializeGuard<K>>>,
    stop: Stop,
    reconcile: Reconcile<K>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let config = controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    let reconciler = move |guard: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
        async move {
            // What the stores do not hold yet must not be taken for missing.
            if !context.stores.wait_until_ready().await {
                return Ok(Action::await_change());
            }
            match &guard.0 {
                Ok(object) => measured(context, Arc::new(object.clone()), reconcile).await,
                Err(invalid) => {
                    let note = format!("it cannot be read: {}", invalid.error);
                    let notice = Notice::warning("InvalidSpec", note);
                    event::publish(&context.recorder, &guard.object_ref(&()), vec![notice]).await;
                    Ok(Action::await_change())
                }
            }
        }
        .boxed()
    };
    let error_policy = |guard: Arc<DeserializeGuard<K>>, error: &ReconcileError, context: Arc<Context>| {
        let wait = context.backoff.failed(&key::<K>(&*guard));
        tracing::warn!(object = key::<K>(&*guard), %error, ?wait, "a reconciliation failed and is tried again");
        Action::requeue(wait)
    };
    let queue = requests.map(Ok::<_, std::convert::Infallible>).take_until(stop);
    applier(reconciler, error_policy, context, store, queue, config)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconciliation was not carried out");
            }
            ready(())
        })
        .await;
}

async fn measured<K>(
    context: Arc<Context>,
    object: Arc<K>,
    reconcile: Reconcile<K>,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()>,
{
    let begun = Instant::now();
    let key = key::<K>(&*object);
    let result = reconcile(Arc::clone(&context), object).await;
    let outcome = match &result {
        Ok(_) => {
            context.backoff.succeeded(&key);
            "ok"
        }
        Err(error) => error.category(),
    };
    context.metrics.reconciled(kind::<K>(), outcome, begun.elapsed().as_secs_f64());
    result
}

fn key<K: Resource<DynamicType = ()>>(object: &impl ResourceExt) -> String {
    format!("{}/{}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// The kind, as a label that cannot grow.
fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()).as_ref() {
        "ExportJob" => "ExportJob",
        "ExportSchedule" => "ExportSchedule",
        "ExportSource" => "ExportSource",
        "ExportSink" => "ExportSink",
        _ => "other",
    }
}
