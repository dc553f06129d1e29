//! A database is asked for no more than its limits say, and whoever waits gets their turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{Api, ListParams};
use pgexport_api::{ExportJob, Phase};
use pgexport_e2e::{Lab, Namespace, job, postgres_spec};
use serde_json::json;

/// ExportJobs, over all namespaces.
const JOBS: usize = 200;
/// `limits.maxRunningJobs`.
const LIMIT: usize = 4;

/// What one look at all ExportJobs shows.
#[derive(Default)]
struct Seen {
    exporting: usize,
    ended: usize,
    place_told: bool,
}

#[tokio::test]
async fn of_200_export_jobs_in_three_namespaces_never_more_than_4_run_and_none_starves() {
    let lab = Lab::find().await;
    let database = lab.peers.postgres.create_findings_database("limit").await.unwrap();
    let bucket = lab.peers.s3.create_bucket("limit").await.unwrap();
    // Limits count over all ExportJobs of a login: other tests' have another one.
    let login = lab.peers.postgres.create_login("limited").await.unwrap();
    let mut namespaces = Vec::new();
    for hint in ["limit-a", "limit-b", "limit-c"] {
        let namespace = Namespace::create(&lab, hint).await;
        namespace.secrets().await;
        namespace
            .secret("limited", &[("password", &login.password), ("ca.crt", &lab.peers.postgres.ca_pem)])
            .await;
        namespace.sink("customer", &bucket, "").await;
        let mut postgres = postgres_spec(&lab.peers, &database.name);
        postgres["user"] = json!(login.user);
        postgres["passwordSecretRef"]["name"] = json!("limited");
        let spec = json!({"postgres": postgres, "limits": {"maxRunningJobs": LIMIT}});
        namespace.source("db", spec).await;
        namespaces.push(namespace);
    }
    // The first namespace asks for nearly all of it, and before the others do.
    let shares = [JOBS - 40, 20, 20];
    for (namespace, share) in namespaces.iter().zip(shares) {
        for number in 0..share {
            let with = json!({
                "path": format!("{{namespace}}/{number}/"),
                "podTemplate": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
            });
            let spec = job(json!([{"name": "one", "sql": "SELECT 1 AS one"}]), "NDJSON", with);
            namespace.job(&format!("job-{number}"), spec).await;
        }
    }

    let started = Instant::now();
    let (mut most, mut place_told) = (0, false);
    loop {
        let seen = look(&namespaces).await;
        most = most.max(seen.exporting);
        place_told |= seen.place_told;
        assert!(seen.exporting <= LIMIT, "{} ExportJobs export at once", seen.exporting);
        if seen.ended == JOBS {
            break;
        }
        if started.elapsed() > Duration::from_mins(15) {
            for namespace in &namespaces {
                namespace.describe().await;
            }
            panic!("{} of {JOBS} ExportJobs have ended after 15 minutes", seen.ended);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{JOBS} ExportJobs took {:?}", started.elapsed());
    assert_eq!(most, LIMIT, "the limit was never used up");
    assert!(place_told, "no ExportJob told its place in the queue");

    let mut order = Vec::new();
    for (namespace, share) in namespaces.iter().zip(shares) {
        let mut begun = BTreeMap::new();
        for job in jobs(namespace).await {
            let status = job.status.clone().unwrap();
            assert_eq!(status.phase, Some(Phase::Succeeded), "{}", job.name_any());
            begun.insert(job.name_any(), status.start_time.unwrap().0);
        }
        assert_eq!(begun.len(), share);
        order.extend(begun.into_values().map(|time| (time, namespace.name.clone())));
    }
    // Each namespace gets its turn: the 40 of those who came last are not behind the 160 of who came first.
    order.sort();
    let last_of_small =
        order.iter().rposition(|(_, namespace)| *namespace != namespaces[0].name).expect("the small ones");
    assert!(last_of_small < JOBS - 40, "the small namespaces' last one began as number {last_of_small}");

    for namespace in namespaces {
        namespace.remove().await;
    }
    database.drop_database().await.unwrap();
}

async fn jobs(namespace: &Namespace<'_>) -> Vec<ExportJob> {
    let api: Api<ExportJob> = namespace.api();
    api.list(&ListParams::default()).await.expect("ExportJobs").items
}

async fn look(namespaces: &[Namespace<'_>]) -> Seen {
    let mut seen = Seen::default();
    for namespace in namespaces {
        for job in jobs(namespace).await {
            let Some(status) = &job.status else { continue };
            match status.phase {
                Some(Phase::Exporting) => seen.exporting += 1,
                Some(Phase::Queued) => {
                    let message = status.message.as_deref().unwrap_or_default();
                    seen.place_told |=
                        message.contains("place ") && message.contains("limits.maxRunningJobs");
                }
                Some(phase) if phase.is_terminal() => seen.ended += 1,
                _ => {}
            }
        }
    }
    seen
}
