//! `pgexport worker`, as a Job starts it.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::path::Path;
use std::process::{Command, Output};

use pgexport_api::exit::ExitCode;
use pgexport_api::reason::Reason;
use pgexport_api::report::{Cleaned, Outcome, Report};

/// Runs a task whose order and report are in the folder, beside the volumes.
fn worker(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgexport"));
    command.arg("worker").args(arguments);
    for (option, name) in [("--order", "order.json"), ("--report", "report"), ("--volumes", "volumes")] {
        command.arg(option).arg(folder.join(name));
    }
    command.output().unwrap()
}

#[test]
fn a_cleanup_removes_what_the_run_has_left_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("volumes/exports/out");
    std::fs::create_dir_all(&out).unwrap();
    for name in [
        "a-0b0c1d2e-1.json",
        "b-0b0c1d2e-1.json",
        "another.json",
        ".pgexport-c-0b0c1d2e-2.json-abcdefghijkl.tmp",
    ] {
        std::fs::write(out.join(name), "x").unwrap();
    }
    let order = serde_json::json!({
        "version": 1, "task": "Cleanup", "path": "out/",
        "run": {
            "namespace": "shop", "name": "nightly", "uid": "0b0c1d2e-0000-4000-8000-000000000000", "attempt": 2,
            "specSha256": "", "created": "2026-11-23T00:00:00Z",
        },
        "sink": {"name": "acme", "target": {"volume": {"claimName": "exports"}}},
    });
    std::fs::write(folder.path().join("order.json"), order.to_string()).unwrap();
    let ended = worker(folder.path(), &["cleanup", "--port", "0"]);
    assert!(ended.status.success(), "{ended:?}");
    let text = std::fs::read_to_string(folder.path().join("report")).unwrap();
    let cleaned = Cleaned { objects: 2, uploads: 1, ..Cleaned::default() };
    assert_eq!(Report::from_termination_message(&text), Some(Report::new(Outcome::Cleaned(cleaned))));
    let left: Vec<_> = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["another.json"]);
}

/// Whoever may create `ConfigMaps` could put one of a Job's name there before the controller does.
#[test]
fn an_order_that_is_not_the_jobs_is_refused_where_users_look() {
    let folder = tempfile::tempdir().unwrap();
    let [order, report] = ["order.json", "report"].map(|name| folder.path().join(name));
    std::fs::write(&order, r#"{"version": 1, "task": "ProbeSink"}"#).unwrap();
    std::fs::write(&report, "").unwrap();
    let ended = worker(folder.path(), &["probe", "--order-sha256", &"0".repeat(64)]);
    assert_eq!(ended.status.code(), Some(i32::from(ExitCode::Usage.code())));
    let text = std::fs::read_to_string(&report).unwrap();
    let Some(Report { outcome: Outcome::Failed(failure), .. }) = Report::from_termination_message(&text)
    else {
        panic!("no failure is reported: {text}")
    };
    assert_eq!(failure.reason, Reason::InternalError);
    assert!(
        failure.message.contains("not the order that this worker was started for"),
        "{}",
        failure.message
    );
}

/// Nobody shall run a build for tests without knowing.
#[test]
fn a_build_says_whether_it_has_failpoints() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgexport")).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert_eq!(version.contains("failpoints: for tests only"), cfg!(feature = "failpoints"), "{version}");
}
