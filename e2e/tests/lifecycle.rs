//! Whenever a run ends, and however, what is delivered is whole or absent, and nothing is left over.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use pgexport_api::condition::{ConditionType, find};
use pgexport_api::{ExportJob, ExportSink, ExportSource, Phase};
use pgexport_e2e::{
    Delivery, Found, Gate, Lab, Namespace, Process, Signal, World, delete_at_once, eventually, expected_rows,
    kill_worker, ndjson_rows, postgres_spec,
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// How far a run is let come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing it refers to is there.
    Pending,
    /// The same, and it was suspended then.
    PendingSuspended,
    /// Its pods read, and one chunk waits.
    Exporting,
    /// The same, and it was suspended then.
    Suspended,
    /// Its worker was killed, and the next attempt has not begun.
    BetweenAttempts,
    /// It has delivered.
    Succeeded,
    /// Its query was refused.
    Failed,
}

/// How it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cancel,
    Delete,
    /// As Argo CD deletes: what it owns goes first.
    DeleteInForeground,
}

const STAGES: [Stage; 7] = [
    Stage::Pending,
    Stage::PendingSuspended,
    Stage::Exporting,
    Stage::Suspended,
    Stage::BetweenAttempts,
    Stage::Succeeded,
    Stage::Failed,
];
const ENDS: [End; 3] = [End::Cancel, End::Delete, End::DeleteInForeground];

/// One run: its name, its stage, its end, and how it is delivered.
struct Run {
    name: String,
    path: String,
    stage: Stage,
    end: End,
}

fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for mode in ["direct", "staged"] {
        for (s, stage) in STAGES.into_iter().enumerate() {
            for (e, end) in ENDS.into_iter().enumerate() {
                let name = format!("{mode}-{s}-{e}");
                runs.push(Run { path: format!("{name}/"), name, stage, end });
            }
        }
    }
    runs
}

fn spec(run: &Run) -> Value {
    let mode = if run.name.starts_with("direct") { "Direct" } else { "Staged" };
    let mut with = json!({"delivery": {"mode": mode}});
    if run.stage == Stage::BetweenAttempts {
        // For longer than this test.
        with["retry"] = json!({"backoff": {"initial": "1h", "max": "1h"}});
    }
    if matches!(run.stage, Stage::Pending | Stage::PendingSuspended) {
        with["sinkRef"] = json!({"name": "nowhere"});
    }
    let condition = match run.stage {
        Stage::Exporting | Stage::Suspended | Stage::BetweenAttempts => {
            Gate::condition("a.hostname = (SELECT max(hostname) FROM assets)")
        }
        Stage::Failed => "no_such_column = 1".to_owned(),
        Stage::Pending | Stage::PendingSuspended | Stage::Succeeded => "true".to_owned(),
    };
    World::export_where(&run.path, &condition, with)
}

async fn suspend(namespace: &Namespace<'_>, name: &str) {
    namespace.change(name, json!({"suspend": true})).await;
    let is_suspended = |job: &ExportJob| phase(job) == Some(Phase::Suspended);
    namespace.job_when(name, "it is Suspended", 4 * MINUTE, is_suspended).await;
}

fn phase(job: &ExportJob) -> Option<Phase> {
    job.status.as_ref().and_then(|status| status.phase)
}

impl Run {
    async fn reach(&self, world: &World<'_>) {
        let namespace = &world.namespace;
        let wanted = match self.stage {
            Stage::Pending | Stage::PendingSuspended => Phase::Pending,
            Stage::Exporting | Stage::Suspended | Stage::BetweenAttempts => Phase::Exporting,
            Stage::Succeeded => Phase::Succeeded,
            Stage::Failed => Phase::Failed,
        };
        let is_there = |job: &ExportJob| {
            let runs = find(&job.status.clone().unwrap_or_default().conditions, ConditionType::Exported)
                .is_some_and(|condition| condition.reason == "Exporting");
            phase(job) == Some(wanted) && (wanted != Phase::Exporting || runs)
        };
        namespace.job_when(&self.name, &format!("it is {wanted:?}"), 5 * MINUTE, is_there).await;
        match self.stage {
            Stage::PendingSuspended | Stage::Suspended => suspend(namespace, &self.name).await,
            Stage::BetweenAttempts => {
                // Until there is a plan, a worker that is killed is replaced inside its attempt.
                let waits = eventually(3 * MINUTE, async || {
                    for pod in namespace.pods_of(&self.name).await {
                        if let Some(worker) = Process::of_worker(&pod) {
                            worker.signal(Signal::SIGKILL);
                        }
                    }
                    let job = namespace.get(&self.name).await;
                    let status = job.status.as_ref()?;
                    (phase(&job) == Some(Phase::Pending) && status.attempts == 1).then_some(())
                });
                if waits.await.is_none() {
                    namespace.describe().await;
                    panic!("{} does not wait for its next attempt", self.name);
                }
            }
            _ => {}
        }
    }

    async fn end(&self, world: &World<'_>) {
        let api: Api<ExportJob> = world.namespace.api();
        match self.end {
            End::Cancel => world.namespace.change(&self.name, json!({"cancel": true})).await,
            End::Delete => drop(api.delete(&self.name, &DeleteParams::background()).await.unwrap()),
            End::DeleteInForeground => {
                drop(api.delete(&self.name, &DeleteParams::foreground()).await.unwrap());
            }
        }
    }

    /// Checks what has become of it. Returns the ExportJob as it was.
    async fn check(&self, world: &World<'_>, before: &ExportJob) {
        let found = world.found(&self.path, before).await;
        let wanted = if self.stage == Stage::Succeeded { Found::Whole } else { Found::Absent };
        assert_eq!(found, wanted, "{}: {:?} {:?}", self.name, self.stage, self.end);
    }
}

#[tokio::test]
async fn whatever_ends_in_whatever_phase_is_whole_or_absent_and_leaves_nothing() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "ends").await;
    let gate = Gate::close(&world.database).await;
    let runs = runs();
    for run in &runs {
        world.namespace.job(&run.name, spec(run)).await;
    }
    futures::future::join_all(runs.iter().map(|run| run.reach(&world))).await;
    let mut before = Vec::new();
    for run in &runs {
        before.push(world.namespace.get(&run.name).await);
    }
    futures::future::join_all(runs.iter().map(|run| run.end(&world))).await;
    // Cancelled ones have ended, and deleted ones are gone, and what they have left with them.
    world.leftovers().none_of_runs(5 * MINUTE).await;
    let api: Api<ExportJob> = world.namespace.api();
    for (run, before) in runs.iter().zip(&before) {
        let now = api.get_opt(&run.name).await.unwrap();
        match (run.end, run.stage, &now) {
            (End::Cancel, Stage::Succeeded | Stage::Failed, Some(now)) => {
                assert_eq!(phase(now), phase(before))
            }
            (End::Cancel, _, Some(now)) => assert_eq!(phase(now), Some(Phase::Cancelled), "{}", run.name),
            (End::Delete | End::DeleteInForeground, _, None) => {}
            _ => panic!("{} is {:?}", run.name, now.map(|job| job.status)),
        }
        run.check(&world, before).await;
    }
    gate.open().await;
    let left: Vec<&str> =
        runs.iter().filter(|run| run.end == End::Cancel).map(|run| run.name.as_str()).collect();
    world.remove(&left).await;
}

/// Runs that pause before their first attempt, and between two.
#[tokio::test]
async fn a_run_that_paused_while_it_waited_goes_on() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "paused").await;
    let namespace = &world.namespace;
    let run = |name: &str, stage| Run {
        name: format!("staged-{name}"),
        path: format!("staged-{name}/"),
        stage,
        end: End::Cancel,
    };
    let first = run("first", Stage::PendingSuspended);
    let second = run("second", Stage::BetweenAttempts);
    let gate = Gate::close(&world.database).await;
    for run in [&first, &second] {
        namespace.job(&run.name, spec(run)).await;
    }
    futures::join!(first.reach(&world), second.reach(&world));
    suspend(namespace, &second.name).await;
    gate.open().await;
    let s3 = &lab.peers.s3;
    let bucket = s3.create_bucket("nowhere").await.unwrap();
    namespace.sink("nowhere", &bucket, "from-us/").await;
    for run in [&first, &second] {
        namespace.change(&run.name, json!({"suspend": false})).await;
        let status = namespace.succeeded(&run.name, 3 * MINUTE).await.status.unwrap();
        let wanted = if run.stage == Stage::BetweenAttempts { 2 } else { 1 };
        assert_eq!(status.attempts, wanted, "{}: {:?}", run.name, status.last_error);
    }
    world.whole(&second.path).await;
    let delivery = Delivery::read(s3, &bucket, &World::location(&first.path)).await;
    assert_eq!(
        ndjson_rows(delivery.files_of("assets")),
        expected_rows(&world.database, "SELECT a.* FROM assets a").await
    );
    world.remove(&[&first.name, &second.name]).await;
}

/// Runs whose workers were killed, so that nobody could give up uploads or remove chunks, and which are then cancelled.
#[tokio::test]
async fn what_killed_workers_leave_is_removed() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "orphans").await;
    let gate = Gate::close(&world.database).await;
    let s3 = &lab.peers.s3;
    let names = ["direct", "staged"];
    for (name, mode) in names.into_iter().zip(["Direct", "Staged"]) {
        // Planning computes nothing of it, and so does not wait at the gate.
        let condition = format!("abs(hashtext(a.hostname)) % 3 = :part AND {}", Gate::condition(":part = 2"));
        let parts = json!({"parameter": "part", "type": "int", "items": [0, 1, 2]});
        let with = json!({
            "delivery": {"mode": mode},
            "retry": {"limit": 0},
            "chunking": {"strategy": "Values", "values": parts, "parallelism": 3},
        });
        world.namespace.job(name, World::export_where(&format!("{name}/"), &condition, with)).await;
    }
    // Both have done chunks, and one of each waits.
    let has_left = eventually(3 * MINUTE, async || {
        let uploads = s3.open_uploads(&world.customer).await.ok()?;
        let chunks = s3.list(&world.staging, "").await.ok()?;
        let sidecars = chunks.iter().filter(|object| object.key.contains("/chunks/")).count();
        (gate.waiting().await == 2 && !uploads.is_empty() && sidecars > 0).then_some(())
    });
    if has_left.await.is_none() {
        world.namespace.describe().await;
        panic!("nothing is there that could be left");
    }
    for name in names {
        for pod in world.namespace.pods_of(name).await {
            kill_worker(&pod);
            delete_at_once(&world.namespace.api(), &pod).await;
        }
        world.namespace.change(name, json!({"cancel": true})).await;
        world.namespace.ended(name, 3 * MINUTE).await;
    }
    gate.open().await;
    world.leftovers().none_of_runs(3 * MINUTE).await;
    for name in names {
        let job = world.namespace.get(name).await;
        assert_eq!(world.found(&format!("{name}/"), &job).await, Found::Absent);
        let cleaned = find(&job.status.unwrap().conditions, ConditionType::CleanedUp).cloned().unwrap();
        assert_eq!((cleaned.status.as_str(), cleaned.reason.as_str()), ("True", "CleanedUp"), "{cleaned:?}");
        assert_ne!(cleaned.message, "nothing was left");
    }
    world.remove(&names).await;
}

/// What lies in the staging of an ExportJob.
async fn staged(world: &World<'_>, name: &str) -> Vec<String> {
    let folder = format!("{}/{name}/", world.namespace.name);
    let objects = world.namespace.lab.peers.s3.list(&world.staging, &folder).await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

/// Creates a source that keeps what failed runs have staged.
async fn keeping(world: &World<'_>, name: &str, retention: &str) -> Result<(), kube::Error> {
    let spec = json!({
        "postgres": postgres_spec(&world.namespace.lab.peers, &world.database.name),
        "staging": {"sinkRef": {"name": "staging"}, "retention": {"onFailure": retention}},
    });
    world.namespace.create_object("ExportSource", name, spec).await.map(drop)
}

#[tokio::test]
async fn what_a_failed_run_has_staged_is_kept_until_its_time_or_its_deletion() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "retention").await;
    let namespace = &world.namespace;
    let error = keeping(&world, "too-long", "9000h").await.unwrap_err().to_string();
    assert!(error.contains("staging.retention.onFailure: at most 8760h (a year)"), "{error}");
    for (name, retention) in [("short", "1m"), ("long", "24h")] {
        keeping(&world, name, retention).await.unwrap();
        let with = json!({
            "sourceRef": {"name": name}, "delivery": {"mode": "Staged"}, "expect": {"minRows": 1_000_000_000},
        });
        namespace.job(name, World::export("x/", with)).await;
        let is_kept = |job: &ExportJob| {
            let conditions = job.status.clone().unwrap_or_default().conditions;
            find(&conditions, ConditionType::CleanedUp).is_some_and(|cleaned| cleaned.reason == "StagingKept")
        };
        // The next one delivers to the same location: this one keeps nobody from it.
        let status =
            namespace.job_when(name, "its staging is kept", 3 * MINUTE, is_kept).await.status.unwrap();
        assert_eq!(status.phase, Some(Phase::Failed));
        let keys = staged(&world, name).await;
        assert_eq!(keys.iter().filter(|key| key.contains("/chunks/")).count(), 3, "{keys:?}");
        let kept = status.cleanup.unwrap().staging_kept.unwrap();
        let message = find(&status.conditions, ConditionType::CleanedUp).unwrap().message.clone();
        let folder = format!("s3://{}/{}/{name}/", world.staging, namespace.name);
        for part in [folder, format!("{} objects", keys.len()), kept.until.0.to_string()] {
            assert!(message.contains(&part), "{part:?} is not in: {message}");
        }
    }
    // What is forbidden from now on keeps nothing from being removed.
    let (sinks, sources): (Api<ExportSink>, Api<ExportSource>) = (namespace.api(), namespace.api());
    let nobody =
        Patch::Merge(json!({"spec": {"allow": {"sources": ["nobody"]}, "s3": {"prefix": "elsewhere/"}}}));
    sinks.patch("customer", &PatchParams::default(), &nobody).await.unwrap();
    for name in ["short", "long"] {
        let forbid = Patch::Merge(json!({"spec": {"inlineSQL": "Forbid"}}));
        sources.patch(name, &PatchParams::default(), &forbid).await.unwrap();
    }
    namespace.delete_job("long", MINUTE).await;
    assert_eq!(staged(&world, "long").await, Vec::<String>::new());

    let until = namespace.get("short").await.status.unwrap().completion_time.unwrap().0 + MINUTE;
    let is_over = |job: &ExportJob| job.finalizers().is_empty();
    let job = namespace.job_when("short", "its staging is removed", 3 * MINUTE, is_over).await;
    let status = job.status.unwrap();
    let cleaned = find(&status.conditions, ConditionType::CleanedUp).unwrap();
    assert_eq!((cleaned.status.as_str(), cleaned.reason.as_str()), ("True", "CleanedUp"), "{cleaned:?}");
    assert!(status.cleanup.unwrap().start_time.0 >= until, "it went before its time");
    assert_eq!(staged(&world, "short").await, Vec::<String>::new());
    world.remove(&["short"]).await;
}

/// Runs whose turn has not come.
#[tokio::test]
async fn queued_runs_end_at_once() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "queued").await;
    let namespace = &world.namespace;
    let gate = Gate::close(&world.database).await;
    // Limits count over all ExportJobs of a login: other tests' have another one.
    let login = lab.peers.postgres.create_login("queued").await.unwrap();
    let secret = [("password", login.password.as_str()), ("ca.crt", &lab.peers.postgres.ca_pem)];
    namespace.secret("limited", &secret).await;
    let mut postgres = postgres_spec(&lab.peers, &world.database.name);
    postgres["user"] = json!(login.user);
    postgres["passwordSecretRef"]["name"] = json!("limited");
    let admin = world.database.admin().await.unwrap();
    admin
        .batch_execute(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", login.user))
        .await
        .unwrap();
    namespace.source("limited", json!({"postgres": postgres, "limits": {"maxRunningJobs": 1}})).await;
    let condition = Gate::condition("a.hostname = (SELECT max(hostname) FROM assets)");
    let limited = json!({"sourceRef": {"name": "limited"}});
    for name in ["first", "cancelled", "deleted"] {
        namespace.job(name, World::export_where(&format!("{name}/"), &condition, limited.clone())).await;
        let wanted = if name == "first" { Phase::Exporting } else { Phase::Queued };
        let is_there = |job: &ExportJob| phase(job) == Some(wanted);
        namespace.job_when(name, &format!("it is {wanted:?}"), 3 * MINUTE, is_there).await;
    }
    namespace.change("cancelled", json!({"cancel": true})).await;
    let job = namespace.ended("cancelled", MINUTE).await;
    assert_eq!(phase(&job), Some(Phase::Cancelled));
    assert_eq!(world.found("cancelled/", &job).await, Found::Absent);
    namespace.delete_job("deleted", MINUTE).await;
    gate.open().await;
    namespace.succeeded("first", 3 * MINUTE).await;
    world.remove(&["first", "cancelled"]).await;
}

/// Begins a staged run `job`, and returns the gate that it waits at.
async fn run_to_the_gate(world: &World<'_>) -> Gate {
    let gate = Gate::close(&world.database).await;
    let condition = Gate::condition("a.hostname = (SELECT max(hostname) FROM assets)");
    world
        .namespace
        .job("job", World::export_where("x/", &condition, json!({"delivery": {"mode": "Staged"}})))
        .await;
    let waits = eventually(3 * MINUTE, async || (gate.waiting().await > 0).then_some(()));
    assert!(waits.await.is_some(), "no chunk came to the gate");
    gate
}

/// All that Helm installed together is deleted together.
#[tokio::test]
async fn a_deletion_of_everything_at_once_does_not_hang() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "uninstall").await;
    let gate = run_to_the_gate(&world).await;
    let parameters = DeleteParams::background();
    world.namespace.api::<ExportSource>().delete("db", &parameters).await.unwrap();
    world.namespace.api::<ExportSink>().delete("customer", &parameters).await.unwrap();
    world.namespace.delete_job("job", 3 * MINUTE).await;
    gate.open().await;
    world.namespace.remove().await;
    world.database.drop_database().await.unwrap();
}

#[tokio::test]
async fn a_namespace_goes_with_a_run_in_it() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "namespace").await;
    let gate = run_to_the_gate(&world).await;
    let api: Api<NamespaceObject> = Api::all(lab.client.clone());
    api.delete(&world.namespace.name, &DeleteParams::background()).await.unwrap();
    let gone = eventually(4 * MINUTE, async || {
        matches!(api.get_opt(&world.namespace.name).await, Ok(None)).then_some(())
    });
    assert!(gone.await.is_some(), "the namespace hangs");
    gate.open().await;
    world.database.drop_database().await.unwrap();
}
