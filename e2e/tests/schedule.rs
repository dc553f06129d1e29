//! Schedules on a cluster: each time once, whatever happens to the controller; runs beside one another only where they may be;
//! windows whose rows are delivered once each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use pgexport_api::job::Window;
use pgexport_api::{ExportJob, ExportSchedule, Phase};
use pgexport_e2e::{
    Delivery, Gate, Lab, NEVER, Namespace, Schedules, World, controller_metrics, controller_ready,
    eventually, kill_controller, ndjson_rows, postgres_spec, ready_message, scheduled_rows,
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn phase(job: &ExportJob) -> Option<Phase> {
    job.status.as_ref().and_then(|status| status.phase)
}

/// Seconds since the minute has begun, by this machine's clock, which is the controller's too.
fn second_of_minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() % 60
}

#[tokio::test]
async fn every_minute_is_exported_once_though_the_controller_is_killed() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "schedule-minutes").await;
    let schedules = Schedules(&world.namespace);
    // A run that lasts longer than a minute is not what this is about: they may be side by side.
    let with = json!({
        "schedule": "* * * * *", "timeZone": "Asia/Tokyo", "concurrencyPolicy": "Allow", "historyLimits": {"succeeded": 10},
    });
    schedules.create("minutes", scheduled_rows("SELECT 1 AS one"), with).await;
    let first =
        schedules.when("minutes", "its first run is due", |status| status.last_schedule_time.clone()).await;
    // Away when the second run falls due.
    while second_of_minute() < 55 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    kill_controller(&lab).await;
    controller_ready(&lab).await;
    schedules
        .when("minutes", "three minutes have passed", |status| {
            let last = status.last_schedule_time.as_ref()?.0;
            (last.duration_since(first.0).as_secs() >= 120).then_some(())
        })
        .await;
    schedules.change("minutes", json!({"suspend": true})).await;
    schedules.stands("minutes", "Suspended").await;
    schedules.when("minutes", "all runs have ended", |status| status.active.is_empty().then_some(())).await;
    let runs = schedules.runs("minutes").await;
    let times: Vec<i64> =
        runs.iter().map(|run| run.spec.scheduled.as_ref().unwrap().time.0.as_second() / 60).collect();
    let start = first.0.as_second() / 60;
    let minutes: Vec<i64> = (start..).take(times.len()).collect();
    assert!(times.len() >= 3, "{times:?}");
    assert_eq!(times, minutes, "a minute is missing, or twice there");
    for run in &runs {
        world.namespace.succeeded(&run.name_any(), MINUTE).await;
        let time = run.spec.scheduled.as_ref().unwrap().time.0;
        // Tokyo is nine hours ahead all year.
        let tokyo = time + Duration::from_secs(9 * 3600);
        let location = format!("from-us/minutes/{}/", tokyo.strftime("%Y-%m-%dT%H%M%S"));
        let delivery = Delivery::read_beside_others(&lab.peers.s3, &world.customer, &location).await;
        assert_eq!(ndjson_rows(delivery.files_of("rows")), [br#"{"one":1}"#]);
    }
    schedules.created_once("minutes-").await;
    let name = world.namespace.name.clone();
    told_by_metrics(&schedules, &name).await;
    removed(world, &["minutes"]).await;
    let forgotten =
        eventually(MINUTE, async || (!controller_metrics(&lab).await.contains(&name)).then_some(()));
    assert!(forgotten.await.is_some(), "a schedule that is gone still has metrics");
}

/// Checks what the controller, which was started anew on the way, tells of the schedule `minutes`, which rests.
async fn told_by_metrics(schedules: &Schedules<'_>, namespace: &str) {
    let lab = schedules.0.lab;
    let status = schedules.when("minutes", "it has a status", |status| Some(status.clone())).await;
    let seconds = |time: Option<Time>| time.map(|time| time.0.as_second());
    let sample = |metrics: &str, name: &str, more: &str| -> Option<i64> {
        let key = format!(
            r#"pgexport_export_schedule_{name}{{namespace="{namespace}",schedule="minutes"{more}}} "#
        );
        metrics.lines().find_map(|line| line.strip_prefix(&key)?.parse().ok())
    };
    let mut metrics = String::new();
    let told = eventually(MINUTE, async || {
        metrics = controller_metrics(lab).await;
        let gauge = |name: &str| sample(&metrics, name, "");
        let states = [gauge("ready"), gauge("suspended"), gauge("active")];
        let times = ["schedule", "success"].map(|what| gauge(&format!("last_{what}_timestamp_seconds")));
        let wanted =
            [seconds(status.last_schedule_time.clone()), seconds(status.last_successful_time.clone())];
        (states == [Some(1), Some(1), Some(0)]
            && times == wanted
            && gauge("next_schedule_timestamp_seconds").is_none())
        .then_some(())
    });
    assert!(told.await.is_some(), "{status:#?}\n{metrics}");
    let runs = |outcome: &str| sample(&metrics, "runs_total", &format!(r#",outcome="{outcome}""#)).unwrap();
    assert!(runs("started") >= 1 && runs("succeeded") >= 1, "{metrics}");
    assert_eq!(runs("failed"), 0, "{metrics}");
}

/// Deletes schedules, and checks that their ExportJobs and all that these have left go with them.
async fn removed(world: World<'_>, schedules: &[&str]) {
    for name in schedules {
        let api: Api<ExportSchedule> = world.namespace.api();
        api.delete(name, &DeleteParams::foreground()).await.expect("it is there");
        let gone = eventually(3 * MINUTE, async || matches!(api.get_opt(name).await, Ok(None)).then_some(()));
        assert!(gone.await.is_some(), "ExportSchedule {name} is not gone");
        assert!(
            Schedules(&world.namespace).runs(name).await.is_empty(),
            "its ExportJobs have not gone before it"
        );
    }
    world.remove(&[]).await;
}

#[tokio::test]
async fn forbid_waits_and_replace_cancels_and_each_token_runs_once() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "schedule-policy").await;
    let schedules = Schedules(&world.namespace);
    let gate = Gate::close(&world.database).await;
    let sql = format!("SELECT a.hostname FROM assets a WHERE {}", Gate::condition("a.hostname IS NOT NULL"));
    let mut template = scheduled_rows(&sql);
    template["path"] = json!("{schedule}/{job}/");
    let limits = json!({"succeeded": 1, "failed": 1});
    for policy in ["Forbid", "Replace"] {
        let with = json!({"concurrencyPolicy": policy, "historyLimits": limits});
        schedules.create(&policy.to_lowercase(), template.clone(), with).await;
    }
    let forbidding = schedules.run_now("forbid", "first").await;
    let replaced = schedules.run_now("replace", "first").await;
    let waits = eventually(2 * MINUTE, async || (gate.waiting().await >= 2).then_some(())).await;
    assert!(waits.is_some(), "the runs do not come to the gate");

    // Forbid: the second one waits for the first one.
    schedules.change("forbid", json!({"runNow": {"token": "second"}})).await;
    schedules.stands("forbid", "Waiting").await;
    assert_eq!(schedules.runs("forbid").await.len(), 1);
    // Replace: the second one takes the place of the first one, once that has ended.
    let successor = schedules.run_now("replace", "second").await;
    let former = world.namespace.get(&replaced).await;
    assert_eq!(phase(&former), Some(Phase::Cancelled));
    let ended = former.status.unwrap().completion_time.unwrap().0;
    let begun = world.namespace.get(&successor).await.creation_timestamp().unwrap().0;
    assert!(begun >= ended, "{successor} began at {begun}, and {replaced} ended at {ended}");

    assert_eq!(schedules.runs("forbid").await.len(), 1, "it did not wait");
    gate.open().await;
    // Soon after, it is beyond historyLimits.
    let first = world.namespace.succeeded(&forbidding, 2 * MINUTE).await;
    let ended = first.status.unwrap().completion_time.unwrap().0;
    let second = schedules.run_now("forbid", "second").await;
    let begun = world.namespace.get(&second).await.creation_timestamp().unwrap().0;
    assert!(begun >= ended, "{second} began at {begun}, and {forbidding} ended at {ended}");
    world.namespace.succeeded(&second, 2 * MINUTE).await;
    world.namespace.succeeded(&successor, 2 * MINUTE).await;
    // Of those that succeeded, one is kept; a token that is there already starts nothing.
    let api: Api<ExportJob> = world.namespace.api();
    let gone =
        eventually(2 * MINUTE, async || matches!(api.get_opt(&forbidding).await, Ok(None)).then_some(()));
    assert!(gone.await.is_some(), "{forbidding} is beyond historyLimits, and still there");
    assert_eq!(schedules.run_now("forbid", "second").await, second);
    let names: Vec<String> = schedules.runs("forbid").await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, [second]);
    removed(world, &["forbid", "replace"]).await;
}

#[tokio::test]
async fn all_rows_of_windows_are_delivered_once_though_some_were_committed_late() {
    let lab = Lab::find().await;
    let world = World::create(&lab, "schedule-window").await;
    let schedules = Schedules(&world.namespace);
    let admin = world.database.admin().await.unwrap();
    let sql = "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, seen_at timestamptz NOT NULL DEFAULT now())";
    admin.batch_execute(sql).await.unwrap();
    let login = lab.peers.postgres.create_login("windows").await.unwrap();
    admin.batch_execute(&format!("GRANT pg_read_all_stats TO {}", login.user)).await.unwrap();
    let secret = [("password", login.password.as_str()), ("ca.crt", &lab.peers.postgres.ca_pem)];
    world.namespace.secret("windows", &secret).await;
    let mut postgres = postgres_spec(&lab.peers, &world.database.name);
    postgres["user"] = json!(login.user);
    postgres["passwordSecretRef"]["name"] = json!("windows");
    world.namespace.source("windows", json!({"postgres": postgres})).await;

    let mut template = scheduled_rows("SELECT id FROM events WHERE seen_at >= :since AND seen_at < :until");
    template["sourceRef"]["name"] = json!("windows");
    template["path"] = json!("{schedule}/{job}/");
    template["parameters"] = json!([
        {"name": "since", "type": "timestamptz", "valueFrom": {"window": "Start"}},
        {"name": "until", "type": "timestamptz", "valueFrom": {"window": "End"}},
    ]);
    let window = json!({"initialStart": "2026-01-01T00:00:00Z", "settleDelay": "1s"});
    schedules
        .create("windows", template, json!({"window": window, "historyLimits": {"succeeded": 10}}))
        .await;

    let insert = "INSERT INTO events SELECT FROM generate_series(1, 10)";
    admin.batch_execute(insert).await.unwrap();
    later().await;
    let first = schedules.run_now("windows", "first").await;
    world.namespace.succeeded(&first, 2 * MINUTE).await;

    // A transaction writes rows that belong to the second window, and commits when its run is under way.
    let late = world.database.admin().await.unwrap();
    late.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    admin.batch_execute(insert).await.unwrap();
    later().await;
    let second = schedules.run_now("windows", "second").await;
    begun(&world, &second).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        phase(&world.namespace.get(&second).await),
        Some(Phase::Exporting),
        "it did not wait for the transaction"
    );
    late.batch_execute("COMMIT").await.unwrap();
    world.namespace.succeeded(&second, 2 * MINUTE).await;

    // One that is cancelled delivers nothing: the next one does.
    late.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    later().await;
    let third = schedules.run_now("windows", "third").await;
    begun(&world, &third).await;
    world.namespace.change(&third, json!({"cancel": true})).await;
    assert_eq!(phase(&world.namespace.ended(&third, 2 * MINUTE).await), Some(Phase::Cancelled));
    late.batch_execute("COMMIT").await.unwrap();
    admin.batch_execute(insert).await.unwrap();
    later().await;
    let fourth = schedules.run_now("windows", "fourth").await;
    world.namespace.succeeded(&fourth, 2 * MINUTE).await;

    let mut delivered = Vec::new();
    let mut last_end: Option<Window> = None;
    for name in [first, second, fourth] {
        let run = world.namespace.get(&name).await;
        let window = run.spec.window.clone().expect("a window");
        assert!(
            last_end.is_none_or(|last| last.end == window.start),
            "{name} does not begin where the last one ended"
        );
        let location = format!("from-us/windows/{name}/");
        let delivery = Delivery::read_beside_others(&lab.peers.s3, &world.customer, &location).await;
        assert_eq!(delivery.manifest["window"], serde_json::to_value(&window).unwrap());
        for row in ndjson_rows(delivery.files_of("rows")) {
            let row: Value = serde_json::from_slice(row).unwrap();
            delivered.push(row["id"].as_i64().unwrap());
        }
        last_end = Some(window);
    }
    delivered.sort_unstable();
    assert_eq!(delivered, (1..=50).collect::<Vec<i64>>(), "each row once");
    removed(world, &["windows"]).await;
    let drop = format!("DROP ROLE {}", login.user);
    lab.peers.postgres.admin("postgres").await.unwrap().batch_execute(&drop).await.unwrap();
}

/// Lets the end of the next window be later than what was written.
async fn later() {
    tokio::time::sleep(Duration::from_millis(2500)).await;
}

/// Waits until the worker of a run has begun.
async fn begun(world: &World<'_>, name: &str) {
    let running = eventually(2 * MINUTE, async || {
        let pods = world.namespace.pods_of(name).await;
        let runs = |pod: &k8s_openapi::api::core::v1::Pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
        };
        pods.iter().any(runs).then_some(())
    });
    if running.await.is_none() {
        world.namespace.describe().await;
        panic!("no worker of {name} has begun");
    }
}

#[tokio::test]
async fn a_schedule_that_cannot_be_kept_says_why_and_goes_on_when_it_is_corrected() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "schedule-invalid").await;
    let schedules = Schedules(&namespace);
    for (name, with, reason, wanted) in [
        ("hour", json!({"schedule": "0 25 * * *"}), "InvalidSchedule", "\"25\" is no hour"),
        ("never", json!({"schedule": "0 0 30 2 *"}), "InvalidSchedule", "never comes"),
        ("zone", json!({"timeZone": "Europe/Bonn"}), "InvalidTimeZone", "timeZone: \"Europe/Bonn\""),
    ] {
        schedules.create(name, scheduled_rows("SELECT 1"), with).await;
        schedules.stands(name, reason).await;
        let message = schedules.when(name, "it is Stalled", |status| ready_message(&status.conditions)).await;
        assert!(message.contains(wanted), "{message}");
        schedules.change(name, json!({"schedule": NEVER, "timeZone": "Europe/Berlin"})).await;
        schedules.stands(name, "Scheduled").await;
    }
    namespace.remove().await;
}
