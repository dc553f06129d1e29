//! ExportSchedules, and what they make.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use pgexport_api::{ConditionType, ExportJob, ExportSchedule, ExportScheduleStatus, naming};
use serde_json::{Value, json};

use crate::manifest::job;
use crate::namespace::Namespace;
use crate::wait::{condition, eventually};

/// A schedule that makes no runs by itself while a test lasts, nor soon after.
pub const NEVER: &str = "0 0 29 2 *";

const PATIENCE: Duration = Duration::from_mins(3);

/// The ExportSchedules of a namespace.
pub struct Schedules<'a>(pub &'a Namespace<'a>);

impl Schedules<'_> {
    /// Creates one whose ExportJobs have this spec, and that makes none by itself; `with` replaces or adds fields.
    pub async fn create(&self, name: &str, template: Value, with: Value) {
        let mut spec = json!({"schedule": NEVER, "jobTemplate": {"spec": template}});
        spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        self.0.create_object("ExportSchedule", name, spec).await.expect("an ExportSchedule");
    }

    /// Changes its spec.
    pub async fn change(&self, name: &str, spec: Value) {
        let api: Api<ExportSchedule> = self.0.api();
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch(name, &PatchParams::default(), &patch).await.expect("the change is taken");
    }

    /// Asks for a run, and returns the name of its ExportJob once it is there.
    pub async fn run_now(&self, name: &str, token: &str) -> String {
        self.change(name, json!({"runNow": {"token": token}})).await;
        self.when(name, "its token is obeyed", |status| {
            let obeyed = status.run_now.as_ref().filter(|obeyed| obeyed.token == token)?;
            status.starting.is_none().then(|| obeyed.job.clone().expect("a run"))
        })
        .await
    }

    /// Waits until a status has an answer.
    pub async fn when<T>(
        &self,
        name: &str,
        what: &str,
        ask: impl Fn(&ExportScheduleStatus) -> Option<T>,
    ) -> T {
        let api: Api<ExportSchedule> = self.0.api();
        let answer = eventually(PATIENCE, async || ask(&api.get(name).await.ok()?.status?)).await;
        match answer {
            Some(answer) => answer,
            None => {
                self.0.describe().await;
                panic!(
                    "waited for ExportSchedule {name} until {what}: {:#?}",
                    api.get(name).await.map(|it| it.status)
                );
            }
        }
    }

    /// Waits until its Ready condition has this reason.
    pub async fn stands(&self, name: &str, reason: &str) {
        self.when(name, reason, |status| {
            let ready = condition(&status.conditions, ConditionType::Ready)?;
            (ready.1 == reason).then_some(())
        })
        .await;
    }

    /// Its ExportJobs, by the time that they are for.
    pub async fn runs(&self, name: &str) -> Vec<ExportJob> {
        let params = ListParams::default().labels(&format!("{}={name}", naming::SCHEDULE_LABEL));
        let mut runs = self.0.api::<ExportJob>().list(&params).await.expect("ExportJobs").items;
        runs.sort_by_key(|run| run.spec.scheduled.as_ref().expect("a scheduled time").time.0);
        runs
    }

    /// Checks by the Events that no name was given to two ExportJobs.
    pub async fn created_once(&self, prefix: &str) {
        let events = self.0.api::<Event>().list(&ListParams::default()).await.expect("Events");
        let mut uids: BTreeMap<String, String> = BTreeMap::new();
        for about in events.items.into_iter().filter_map(|event| event.regarding) {
            if let (Some("ExportJob"), Some(name), Some(uid)) = (about.kind.as_deref(), about.name, about.uid)
                && name.starts_with(prefix)
            {
                let former = uids.insert(name.clone(), uid.clone());
                assert!(former.is_none_or(|former| former == uid), "{name} was made twice");
            }
        }
        assert!(!uids.is_empty(), "no ExportJob has told anything");
    }
}

/// A small export that is all but free for the cluster.
#[must_use]
pub fn scheduled_rows(sql: &str) -> Value {
    let with = json!({
        "path": "{schedule}/{date}T{time}/",
        "podTemplate": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
    });
    job(json!([{"name": "rows", "sql": sql}]), "NDJSON", with)
}
