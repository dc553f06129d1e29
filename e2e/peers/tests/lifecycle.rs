//! `peers up` and `peers down` with servers of their own: repeated, after a crash, and moved.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pgexport_peers::Peers;

/// A state folder whose servers end with the test.
struct Own {
    folder: PathBuf,
}

impl Own {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pgexport-peers-{name}-{}", std::process::id()));
        Self { folder }
    }

    fn peers(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
        command.args(arguments).arg("--state").arg(&self.folder).output().unwrap()
    }

    fn up(&self, arguments: &[&str]) -> Peers {
        let output = self.peers(&[&["up"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Peers::read(&self.folder.join("peers.json")).unwrap()
    }

    fn processes(&self) -> Vec<String> {
        let status = String::from_utf8(self.peers(&["status"]).stdout).unwrap();
        status.lines().filter_map(|line| line.split("process ").nth(1)).map(str::to_owned).collect()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.peers(&["down", "--purge"]);
    }
}

fn kill(processes: &[String]) {
    assert!(Command::new("kill").arg("-KILL").args(processes).status().unwrap().success());
    // Their ports are free once they are gone, which takes a busy machine a moment.
    let runs = |process: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    };
    for _ in 0..1000 {
        if !processes.iter().any(runs) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{processes:?} survive SIGKILL");
}

#[tokio::test]
async fn servers_survive_repetition_crashes_and_moves_with_their_data() {
    let own = Own::new("lifecycle");
    let first = own.up(&[]);
    let processes = own.processes();
    assert_eq!(processes.len(), 2);
    let admin = first.postgres.admin("findings").await.unwrap();
    // The peers commit asynchronously for speed: what a crash must not lose says so.
    admin.batch_execute("SET synchronous_commit = on").await.unwrap();
    admin.batch_execute("CREATE TABLE kept AS SELECT 42 AS answer").await.unwrap();
    let bucket = first.s3.create_bucket("kept").await.unwrap();

    let again = own.up(&[]);
    assert_eq!(own.processes(), processes, "nothing was restarted");
    assert_eq!((again.postgres.host, again.s3.host), (first.postgres.host, first.s3.host));

    kill(&processes);
    // A lock file whose process number somebody else has by now, as after a reboot.
    let lock = own.folder.join("postgres").join("postmaster.pid");
    let stale = std::fs::read_to_string(&lock).unwrap();
    let rest: Vec<&str> = stale.lines().skip(1).collect();
    std::fs::write(&lock, format!("{}\n{}\n", std::process::id(), rest.join("\n"))).unwrap();

    let recovered = own.up(&[]);
    assert_eq!((recovered.postgres.host, recovered.s3.host), (first.postgres.host, first.s3.host));
    let answer = recovered
        .postgres
        .exporter("findings")
        .await
        .unwrap()
        .query_one("SELECT answer FROM kept", &[])
        .await;
    assert_eq!(answer.unwrap().get::<_, i32>(0), 42);
    assert_eq!(recovered.s3.list(&bucket, "").await.unwrap(), []);

    let moved = own.up(&["--address", "127.0.0.2"]);
    assert_eq!(moved.postgres.host.ip().to_string(), "127.0.0.2");
    moved.postgres.exporter("findings").await.unwrap();
    assert_eq!(moved.s3.list(&bucket, "").await.unwrap(), []);
}

#[tokio::test]
async fn a_standby_follows_the_primary_over_repetition_a_crash_and_a_move() {
    let own = Own::new("standby");
    let first = own.up(&["--standby"]);
    assert_eq!(own.processes().len(), 3);
    let follows = async |peers: &Peers, number: i32| {
        let (primary, standby) = (&peers.postgres, peers.standby.as_ref().unwrap());
        let admin = primary.admin("findings").await.unwrap();
        admin.batch_execute(&format!("CREATE TABLE followed_{number} ()")).await.unwrap();
        standby.catch_up(primary).await.unwrap();
        let reader = standby.exporter("findings").await.unwrap();
        let asked = format!("SELECT pg_is_in_recovery(), to_regclass('followed_{number}') IS NOT NULL");
        let row = reader.query_one(&asked, &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (true, true));
        let refused = reader.batch_execute("CREATE TEMP TABLE no ()").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "25006");
    };
    follows(&first, 1).await;

    let processes = own.processes();
    let again = own.up(&[]);
    assert_eq!(own.processes(), processes, "one that runs goes on");
    assert_eq!(again.standby.unwrap().host, first.standby.as_ref().unwrap().host);

    kill(&processes);
    let recovered = own.up(&["--standby"]);
    assert_eq!(recovered.standby.as_ref().unwrap().host, first.standby.unwrap().host);
    follows(&recovered, 2).await;

    let moved = own.up(&["--address", "127.0.0.2"]);
    assert_eq!(moved.standby.as_ref().unwrap().host.ip().to_string(), "127.0.0.2");
    follows(&moved, 3).await;

    let processes = own.processes();
    assert!(own.peers(&["down"]).status.success());
    assert!(processes.iter().all(|pid| !runs(pid)));
    assert!(own.up(&[]).standby.is_none(), "it was not asked for");
}

#[test]
fn published_addresses_are_recorded_for_the_host_only() {
    let own = Own::new("published");
    let peers = own.up(&["--published-postgres", "127.0.0.1:1", "--published-s3", "127.0.0.1:2"]);
    assert_eq!((peers.postgres.host.port(), peers.s3.host.port()), (1, 2));
    assert!(peers.postgres.pod.port() > 2 && peers.s3.pod.port() > 2);
}

#[test]
fn down_leaves_the_databases_without_objects_and_purge_nothing() {
    let own = Own::new("down");
    own.up(&[]);
    assert!(own.peers(&["status"]).status.success());
    assert!(own.peers(&["bucket", "left"]).status.success());
    assert!(own.folder.join("s3/left").exists());
    let processes = own.processes();
    assert!(own.peers(&["down"]).status.success());
    assert!(processes.iter().all(|pid| !runs(pid)));
    assert!(!own.peers(&["status"]).status.success());
    assert!(own.folder.join("postgres").exists());
    assert!(!own.folder.join("s3").exists(), "objects would fill the disk");
    assert!(!own.folder.join("peers.json").exists(), "nobody shall find servers that are gone");
    assert!(own.peers(&["down", "--purge"]).status.success());
    assert!(!own.folder.exists());
}

#[test]
fn an_address_from_elsewhere_is_refused_and_stops_nothing() {
    let own = Own::new("elsewhere");
    own.up(&[]);
    let processes = own.processes();
    // TEST-NET-1 of RFC 5737: no machine has it.
    let output = own.peers(&["up", "--address", "192.0.2.1"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing can listen on 192.0.2.1"));
    assert_eq!(own.processes(), processes);
}

#[test]
fn every_interface_is_refused_in_one_line() {
    for address in ["0.0.0.0", "::"] {
        let own = Own::new("everywhere");
        let output = own.peers(&["up", "--address", address]);
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("not listening on") && said.lines().count() == 1, "{said}");
        assert!(!own.folder.exists());
    }
}

/// Whether the process runs; one that has ended and was not waited for has no command line.
fn runs(pid: &str) -> bool {
    std::fs::read(Path::new("/proc").join(pid).join("cmdline")).is_ok_and(|line| !line.is_empty())
}
