//! What the API server refuses by itself, on create and on update, and how it says so.

use kube::api::{Api, Patch, PatchParams};
use pgexport_api::ExportJob;
use pgexport_e2e::{Lab, Namespace, job};
use serde_json::{Value, json};

fn dataset() -> Value {
    json!([{"name": "findings", "sql": "SELECT 1"}])
}

fn s3() -> Value {
    json!({"bucket": "acme", "region": "eu-west-1"})
}

fn http(url: &str) -> Value {
    json!({"url": url, "signingSecretRef": {"name": "pager", "key": "key"}})
}

fn postgres() -> Value {
    json!({"host": "db", "database": "d", "user": "u", "passwordSecretRef": {"name": "s", "key": "k"}})
}

#[tokio::test]
async fn create_refuses_with_the_field_and_the_fix() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "admission").await;
    let long = "n".repeat(41);
    let with = |fields: Value| job(dataset(), "JSON", fields);
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("ExportJob", &long, with(json!({})), "at most 40 characters"),
        ("ExportJob", "j", with(json!({"path": "/abs/"})), "a relative path that ends with '/'"),
        ("ExportJob", "j", with(json!({"path": "a/../b/"})), "without '//', '.' and '..'"),
        ("ExportJob", "j", with(json!({"path": "no-slash"})), "ends with '/'"),
        (
            "ExportJob",
            "j",
            with(json!({"chunking": {"strategy": "Column"}})),
            "chunking.column goes with strategy Column",
        ),
        (
            "ExportJob",
            "j",
            with(json!({"chunking": {"column": {"name": "c"}}})),
            "chunking.column goes with strategy Column",
        ),
        (
            "ExportJob",
            "j",
            with(json!({"chunking": {"strategy": "Table", "table": {"name": "t"}}})),
            "write :chunk in sql",
        ),
        ("ExportJob", "j", with(json!({"chunking": {"strategy": "Sometimes"}})), "Unsupported value"),
        (
            "ExportJob",
            "j",
            with(
                json!({"chunking": {"strategy": "Values", "values": {"parameter": "v", "items": [1], "itemsFrom": "SELECT 1"}}}),
            ),
            "one and only one schema",
        ),
        (
            "ExportJob",
            "j",
            with(json!({"files": {"name": "v={value}/{dataset}-{part}-{token}"}})),
            "a value of chunking strategy Values",
        ),
        ("ExportJob", "j", with(json!({"workers": 2, "delivery": {"mode": "Direct"}})), "set workers to 1"),
        ("ExportJob", "j", with(json!({"workers": 0})), "greater than or equal to 1"),
        ("ExportJob", "j", with(json!({"datasets": []})), "at least 1 items"),
        (
            "ExportJob",
            "j",
            with(json!({"format": {"type": "JSON", "csv": {}}})),
            "format.csv goes with type CSV",
        ),
        ("ExportJob", "j", with(json!({"files": {"name": "{dataset}-{part}"}})), "name {token}"),
        ("ExportJob", "j", with(json!({"files": {"name": "{dataset}-{part}{token}"}})), "set {token} off"),
        ("ExportJob", "j", with(json!({"files": {"name": "{dataset}-{token}"}})), "name {part}"),
        ("ExportJob", "j", with(json!({"parameters": [{"name": "p", "type": "int"}]})), "spec.parameters[0]"),
        (
            "ExportJob",
            "j",
            with(json!({"parameters": [{"name": "p", "type": "int", "value": 1, "isNull": true}]})),
            "spec.parameters[0]",
        ),
        (
            "ExportJob",
            "j",
            with(json!({"parameters": [{"name": "chunk", "type": "int", "value": 1}]})),
            "built in",
        ),
        ("ExportJob", "j", with(json!({"workers": 5})), "at most chunking.parallelism"),
        ("ExportJob", "j", with(json!({"deadlines": {"run": "soon"}})), "deadlines.run"),
        ("ExportJob", "j", with(json!({"deadlines": {"run": "999999999999999999h"}})), "deadlines.run"),
        ("ExportJob", "j", with(json!({"deadlines": {"start": "0s"}})), "deadlines.start"),
        ("ExportJob", "j", with(json!({"retry": {"backoff": {"max": "9000h"}}})), "backoff.max"),
        ("ExportSink", "s", json!({}), "exactly one of s3, volume and http"),
        (
            "ExportSink",
            "s",
            json!({"s3": s3(), "volume": {"claimName": "c"}}),
            "exactly one of s3, volume and http",
        ),
        (
            "ExportSink",
            "s",
            json!({"s3": {"bucket": "acme", "region": "r", "prefix": "no-slash"}}),
            "end it with '/'",
        ),
        ("ExportSink", "s", json!({"volume": {"claimName": "c", "path": "../etc/"}}), "without '.' and '..'"),
        (
            "ExportSink",
            "s",
            json!({"s3": s3(), "http": http("https://pager")}),
            "exactly one of s3, volume and http",
        ),
        ("ExportSink", "s", json!({"http": http("http://pager/")}), "set http.allowInsecure to true"),
        ("ExportSink", "s", json!({"http": http("https://user:password@pager/")}), "spec.http.url"),
        ("ExportSink", "s", json!({"http": http("ftp://pager/")}), "spec.http.url"),
        ("ExportSink", "s", json!({"http": {"url": "https://pager"}}), "signingSecretRef"),
        (
            "ExportSink",
            "s",
            json!({"http": http("https://pager"), "allow": {"sources": ["db"]}}),
            "allow: it is about deliveries",
        ),
        ("ExportJob", "j", with(json!({"onFailure": {"partialOutput": "Keep"}})), "notifySinkRef"),
        (
            "ExportSource",
            "s",
            json!({"postgres": {"host": "db", "database": "d", "user": "u"}}),
            "passwordSecretRef",
        ),
    ];
    for (kind, name, spec, wanted) in cases {
        match namespace.create_object(kind, name, spec.clone()).await {
            Ok(_) => panic!("{kind} was taken: {spec}"),
            Err(error) => assert!(error.to_string().contains(wanted), "{spec}: {error}"),
        }
    }
    let staging = json!({"sinkRef": {"name": "staging"}, "kmsKeyId": "alias/key"});
    let ledger = |method: &str, ledger: Value| json!({"postgres": postgres(), "method": method, "staging": {"sinkRef": {"name": "staging"}}, "runLedger": ledger});
    let host = postgres()["host"].clone();
    for (spec, wanted) in [
        (ledger("Copy", json!({"hostOfWriter": "writer"})), "runLedger goes with method AuroraS3 only"),
        (ledger("AuroraS3", json!({"hostOfWriter": host})), "name the writer's host"),
        (ledger("AuroraS3", json!({"hostOfWriter": host, "portOfWriter": 5432})), "name the writer's host"),
        (ledger("AuroraS3", json!({"hostOfWriter": "no host"})), "hostOfWriter"),
        (json!({"postgres": postgres(), "method": "AuroraS3"}), "method AuroraS3 needs staging"),
        (json!({"postgres": postgres(), "staging": staging}), "goes with method AuroraS3 only"),
    ] {
        let error = namespace.create_object("ExportSource", "s", spec).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    for (name, there) in [
        ("writer", json!({"hostOfWriter": "writer"})),
        ("port", json!({"hostOfWriter": host, "portOfWriter": 5433})),
    ] {
        namespace.create_object("ExportSource", name, ledger("AuroraS3", there)).await.unwrap();
    }
    let mut unchecked = postgres();
    unchecked["tls"] = json!({"mode": "Require", "caSecretRef": {"name": "s", "key": "k"}});
    let error =
        namespace.create_object("ExportSource", "s", json!({"postgres": unchecked})).await.unwrap_err();
    assert!(error.to_string().contains("used only by tls.mode VerifyFull or VerifyCA"), "{error}");
    namespace.remove().await;
}

#[tokio::test]
async fn an_export_job_is_immutable_and_sources_and_sinks_are_not() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "immutable").await;
    let spec = job(dataset(), "JSON", json!({"parameters": [{"name": "p", "type": "int", "value": 1}]}));
    for name in ["fixed", "ended"] {
        namespace.create_object("ExportJob", name, spec.clone()).await.unwrap();
    }
    namespace.create_object("ExportSink", "open", json!({"s3": s3()})).await.unwrap();
    namespace.create_object("ExportSource", "open", json!({"postgres": postgres()})).await.unwrap();

    let jobs: Api<ExportJob> = namespace.api();
    let changes = [
        json!({"spec": {"path": "elsewhere/"}}),
        json!({"spec": {"parameters": [{"name": "p", "type": "int", "value": 2}]}}),
        json!({"spec": {"parameters": null}}),
        json!({"spec": {"podTemplate": {"priorityClassName": "high"}}}),
        json!({"spec": {"onFailure": {"notifySinkRef": {"name": "pager"}}}}),
        json!({"spec": {"chunking": {"parallelism": 8}}}),
    ];
    for change in changes {
        let error = jobs.patch("fixed", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap_err();
        let field = change["spec"].as_object().unwrap().keys().next().unwrap();
        assert!(error.to_string().contains(&format!("spec.{field} is immutable")), "{change}: {error}");
    }
    for suspend in [true, false] {
        let change = json!({"spec": {"suspend": suspend}});
        jobs.patch("fixed", &PatchParams::default(), &Patch::Merge(&change))
            .await
            .expect("it may pause and go on");
    }
    let cancel = |cancel: bool| Patch::Merge(json!({"spec": {"cancel": cancel}}));
    jobs.patch("fixed", &PatchParams::default(), &cancel(true)).await.expect("it may be cancelled");
    for taken_back in [cancel(false), Patch::Merge(json!({"spec": {"cancel": null}}))] {
        let error = jobs.patch("fixed", &PatchParams::default(), &taken_back).await.unwrap_err();
        assert!(error.to_string().contains("spec.cancel cannot be taken back"), "{error}");
    }
    let end = |phase: &str| Patch::Merge(json!({"status": {"phase": phase}}));
    jobs.patch_status("ended", &PatchParams::default(), &end("Failed")).await.expect("it may end");
    let error = jobs.patch_status("ended", &PatchParams::default(), &end("Pending")).await.unwrap_err();
    assert!(error.to_string().contains("an end is the end"), "{error}");
    let label = json!({"metadata": {"labels": {"team": "blue"}}});
    jobs.patch("fixed", &PatchParams::default(), &Patch::Merge(&label)).await.expect("labels may change");

    let sinks: Api<pgexport_api::ExportSink> = namespace.api();
    let change = json!({"spec": {"s3": {"prefix": "deeper/"}}});
    sinks.patch("open", &PatchParams::default(), &Patch::Merge(&change)).await.expect("a sink may change");
    let change = json!({"spec": {"volume": {"claimName": "c"}}});
    let error = sinks.patch("open", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap_err();
    assert!(error.to_string().contains("exactly one of s3, volume and http"), "{error}");
    let sources: Api<pgexport_api::ExportSource> = namespace.api();
    let change = json!({"spec": {"postgres": {"settings": {"work_mem": "64MB"}}}});
    sources
        .patch("open", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .expect("a source may change");
    namespace.remove().await;
}

/// An ExportSchedule whose spec and jobTemplate.spec have other fields too.
fn schedule(with: Value, template: Value) -> Value {
    let template = json!({"spec": job(dataset(), "JSON", template)});
    let mut spec = json!({"schedule": "0 2 * * *", "jobTemplate": template});
    spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn a_schedule_is_refused_with_the_field_and_the_fix_and_may_be_changed() {
    let lab = Lab::find().await;
    let namespace = Namespace::create(&lab, "admission-schedule").await;
    let long = "n".repeat(32);
    let window = json!({"initialStart": "2026-11-01T00:00:00Z"});
    let from_window =
        json!({"parameters": [{"name": "p", "type": "timestamptz", "valueFrom": {"window": "End"}}]});
    let none = json!({});
    let cases: Vec<(&str, Value, Value, &str)> = vec![
        (&long, none.clone(), none.clone(), "at most 31 characters"),
        ("s", json!({"schedule": "0 0 2 * * *"}), none.clone(), "five fields"),
        ("s", json!({"schedule": "CRON_TZ=UTC 0 2 * * *"}), none.clone(), "goes into timeZone"),
        ("s", json!({"schedule": "@sometimes"}), none.clone(), "five fields"),
        ("s", json!({"timeZone": "Europe Berlin"}), none.clone(), "IANA name"),
        ("s", json!({"concurrencyPolicy": "Sometimes"}), none.clone(), "Unsupported value"),
        ("s", json!({"startingDeadline": "0s"}), none.clone(), "startingDeadline"),
        ("s", json!({"historyLimits": {"succeeded": 101}}), none.clone(), "less than or equal to 100"),
        ("s", json!({"runNow": {"token": ""}}), none.clone(), "runNow.token"),
        (
            "s",
            json!({"window": window, "concurrencyPolicy": "Allow"}),
            none.clone(),
            "needs concurrencyPolicy Forbid",
        ),
        ("s", json!({"window": {"settleDelay": "5m"}}), none.clone(), "initialStart"),
        ("s", none.clone(), from_window.clone(), "valueFrom needs spec.window"),
        (
            "s",
            json!({"window": window}),
            json!({"parameters": [{"name": "p", "type": "int", "value": 1, "valueFrom": {"window": "End"}}]}),
            "parameters[0]",
        ),
        // The rules of ExportJobs hold in the template too.
        ("s", none.clone(), json!({"workers": 2, "delivery": {"mode": "Direct"}}), "set workers to 1"),
        ("s", none.clone(), json!({"path": "/abs/"}), "a relative path that ends with '/'"),
    ];
    for (name, with, template, wanted) in cases {
        let spec = schedule(with, template);
        match namespace.create_object("ExportSchedule", name, spec.clone()).await {
            Ok(_) => panic!("it was taken: {spec}"),
            Err(error) => assert!(error.to_string().contains(wanted), "{spec}: {error}"),
        }
    }
    // What a schedule resolves, an ExportJob does not know.
    let error = namespace
        .create_object("ExportJob", "j", job(dataset(), "JSON", from_window.clone()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("spec.parameters[0]"), "{error}");

    let whole = json!({
        "schedule": "*/5 8-18 * * MON-FRI", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid", "startingDeadline": "1h",
        "suspend": true, "runNow": {"token": "a", "scheduledTime": "2026-11-01T00:00:00Z"}, "window": window,
        "historyLimits": {"succeeded": 1, "failed": 0},
    });
    namespace
        .create_object("ExportSchedule", &long[1..], schedule(whole, from_window))
        .await
        .expect("it is taken");
    let schedules: Api<pgexport_api::ExportSchedule> = namespace.api();
    let changes = [
        json!({"spec": {"schedule": "@daily", "runNow": {"token": "b"}}}),
        json!({"spec": {"jobTemplate": {"metadata": {"labels": {"team": "blue"}}, "spec": {"path": "{schedule}/{date}/", "workers": 3}}}}),
        json!({"spec": {"window": null, "jobTemplate": {"spec": {"parameters": null}}, "concurrencyPolicy": "Replace"}}),
    ];
    for change in changes {
        let changed = schedules.patch(&long[1..], &PatchParams::default(), &Patch::Merge(&change)).await;
        changed.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    namespace.remove().await;
}
