//! `pgexport worker`, as a Job starts it.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::process::Command;

use pgexport_api::exit::ExitCode;
use pgexport_api::reason::Reason;
use pgexport_api::report::{Outcome, Report};

/// Whoever may create `ConfigMaps` could put one of a Job's name there before the controller does.
#[test]
fn an_order_that_is_not_the_jobs_is_refused_where_users_look() {
    let folder = tempfile::tempdir().unwrap();
    let [order, report] = ["order.json", "report"].map(|name| folder.path().join(name));
    std::fs::write(&order, r#"{"version": 1, "task": "ProbeSink"}"#).unwrap();
    std::fs::write(&report, "").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_pgexport"))
        .args(["worker", "probe", "--order-sha256", &"0".repeat(64)])
        .arg("--order")
        .arg(&order)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
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
