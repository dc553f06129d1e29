//! versitygw: S3 over a folder, with accounts of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aws_sdk_s3::config::retry::RetryConfig;
use nix::sys::signal::Signal;
use tokio::process::Command;

use super::{
    ServerError,
    daemon::{Daemon, Launch},
    error::file,
};
use crate::{
    PeersError, S3,
    state::{self, StateFolder},
};

/// The version that the tests were written against.
const VERSION: &str = "v1.8.0";

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw";

/// The region that requests have to be signed for.
pub(super) const REGION: &str = "us-east-1";

/// The root account's access key.
pub(super) const ROOT: &str = "peersadmin";

/// How long the server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The server's process.
pub(super) fn daemon(folder: &StateFolder) -> Daemon {
    Daemon { name: "versitygw", data: folder.s3_data(), log: folder.s3_log(), stop_signal: Signal::SIGTERM }
}

/// Builds the server unless this version is there already, and returns its path.
pub(super) async fn ensure_installed() -> Result<PathBuf, ServerError> {
    let folder = std::path::absolute(state::root().join("bin")).map_err(file("finding", Path::new(".")))?;
    let program = folder.join(format!("versitygw-{VERSION}"));
    if program.exists() {
        return Ok(program);
    }
    eprintln!("Building versitygw {VERSION} with `go install`, once: about 90 seconds on two cores.");
    let unfinished = folder.join("unfinished");
    std::fs::create_dir_all(&unfinished).map_err(file("making", &unfinished))?;
    let output = Command::new("go")
        .args(["install", "-trimpath", "-ldflags", "-s -w", &format!("{MODULE}@{VERSION}")])
        .env("GOBIN", &unfinished)
        .env("CGO_ENABLED", "0")
        .current_dir("/")
        .output()
        .await
        .map_err(|source| ServerError::Program {
            program: "go".to_owned(),
            hint: "install Go 1.26 or newer, or put versitygw there yourself",
            source,
        })?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ServerError::Failed { program: "go install".to_owned(), output });
    }
    std::fs::rename(unfinished.join("versitygw"), &program).map_err(file("installing", &program))?;
    std::fs::remove_dir(&unfinished).map_err(file("removing", &unfinished))?;
    Ok(program)
}

/// Starts the server if it does not run as wanted, and waits until it answers the root account.
pub(super) async fn start(folder: &StateFolder, s3: &S3) -> Result<(), ServerError> {
    let daemon = daemon(folder);
    for path in [folder.s3_data(), folder.s3_accounts()] {
        std::fs::create_dir_all(&path).map_err(file("making", &path))?;
    }
    let launch = Launch {
        program: s3.program.clone(),
        arguments: vec![
            "--port".to_owned(),
            s3.host.to_string(),
            "--region".to_owned(),
            s3.region.clone(),
            "--iam-dir".to_owned(),
            folder.s3_accounts().display().to_string(),
            // A new account, or a changed one, counts at once.
            "--iam-cache-disable".to_owned(),
            // As Amazon's does; without it each request costs a connection.
            "--keep-alive".to_owned(),
            "--quiet".to_owned(),
            "posix".to_owned(),
            folder.s3_data().display().to_string(),
        ],
        environment: vec![
            ("ROOT_ACCESS_KEY", s3.admin.access_key.clone()),
            ("ROOT_SECRET_KEY", s3.admin.secret_key.clone()),
        ],
        user: None,
    };
    if !daemon.runs_as(&launch) {
        daemon.stop().await?;
        daemon.start(&launch)?;
    }
    let client = s3.client();
    daemon
        .wait(START_TIMEOUT, async || {
            let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
            let listed = client.list_buckets().customize().config_override(once).send().await;
            listed.map(drop).map_err(|error| PeersError::S3 {
                action: "listing the buckets".to_owned(),
                source: Box::new(error.into()),
            })
        })
        .await
}
