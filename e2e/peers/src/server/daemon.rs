//! A server process that outlives whoever started it.
//!
//! There are no pid files, which crashes and reboots turn into lies: a daemon is found in `/proc` by its program's
//! name and the data folder among its arguments.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ServerError, error::file};
use crate::PeersError;

/// How long a server may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a killed process may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What identifies a server.
#[derive(Debug)]
pub(super) struct Daemon {
    /// The file name of its program.
    pub(super) name: &'static str,
    /// The folder among its arguments that no other process of that name has.
    pub(super) data: PathBuf,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// What asks it to end at once and in order.
    pub(super) stop_signal: Signal,
}

/// How a server is started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// What must not be seen in a list of processes.
    pub(super) environment: Vec<(&'static str, String)>,
    /// The user to run as, if not the caller.
    pub(super) user: Option<&'static str>,
}

/// A command line that runs another one as `user`, without a process of its own in between. Where a folder above `data`
/// is closed to others (a checkout in a folder of root's own, as `mktemp -d` makes it), the user may pass it all the same.
pub(super) fn wrapper(user: &str, data: &Path) -> Vec<String> {
    let mut line = vec![
        "setpriv".to_owned(),
        format!("--reuid={user}"),
        format!("--regid={user}"),
        "--init-groups".to_owned(),
    ];
    if is_closed(data) {
        line.extend(["--inh-caps=+dac_read_search".to_owned(), "--ambient-caps=+dac_read_search".to_owned()]);
    }
    line.push("--".to_owned());
    line
}

/// Whether a folder above `path` cannot be passed by others than its owner and group.
fn is_closed(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter_map(|folder| std::fs::metadata(folder).ok())
        .any(|folder| folder.permissions().mode() & 0o001 == 0)
}

impl Daemon {
    /// The server's process, if it runs.
    pub(super) fn find(&self) -> Option<u32> {
        processes().find(|pid| self.is(&arguments(*pid)))
    }

    fn is(&self, arguments: &[String]) -> bool {
        let program = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str());
        program.is_some_and(|program| program.starts_with(self.name))
            && arguments.iter().any(|argument| Path::new(argument) == self.data)
    }

    /// Whether the server runs with these very arguments, in the network namespace of the calling process.
    pub(super) fn runs_as(&self, launch: &Launch) -> bool {
        self.find().is_some_and(|pid| {
            arguments(pid).get(1..) == Some(&launch.arguments)
                && namespace("self") == namespace(&pid.to_string())
        })
    }

    /// Starts the server in a session of its own, with its output in the log.
    pub(super) fn start(&self, launch: &Launch) -> Result<(), ServerError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(file("writing", &self.log))?;
        let errors = log.try_clone().map_err(file("writing", &self.log))?;
        Command::new("setsid")
            .args(launch.user.into_iter().flat_map(|user| wrapper(user, &self.data)))
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| ServerError::Program {
                program: "setsid".to_owned(),
                hint: "it belongs to util-linux",
                source,
            })?;
        Ok(())
    }

    /// Sends a signal to the server, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.find() {
            send(pid, signal);
        }
    }

    /// Stops the server, by force if need be, and whatever it left behind. Nothing happens if nothing runs.
    pub(super) async fn stop(&self) -> Result<(), ServerError> {
        if let Some(pid) = self.find() {
            send(pid, self.stop_signal);
            if !self.ended(pid, STOP_TIMEOUT).await {
                send(pid, Signal::SIGKILL);
            }
        }
        // Children of a server that was killed may go on for a while, and would spoil the data under its successor.
        let processes: Vec<u32> = processes().filter(|pid| self.works_in_data(*pid)).collect();
        for pid in processes {
            send(pid, Signal::SIGKILL);
            if !self.ended(pid, KILL_TIMEOUT).await {
                return Err(ServerError::NotDown { name: self.name, pid });
            }
        }
        Ok(())
    }

    async fn ended(&self, pid: u32, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.works_in_data(pid) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        true
    }

    /// Whether the process runs the server's program in the data folder, into which both servers change.
    fn works_in_data(&self, pid: u32) -> bool {
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
        link("cwd").is_some_and(|folder| folder == self.data)
            && link("exe").is_some_and(|program| {
                program
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.starts_with(self.name))
            })
    }

    /// Waits until the server, just started, is `ready`, or has ended, or `patience` is over.
    pub(super) async fn wait(
        &self,
        patience: Duration,
        ready: impl AsyncFn() -> Result<(), PeersError>,
    ) -> Result<(), ServerError> {
        let deadline = Instant::now() + patience;
        let mut missing = 0;
        loop {
            let Err(error) = ready().await else { return Ok(()) };
            // For a moment the process is still the wrapper, and not found.
            missing = if self.find().is_some() { 0 } else { missing + 1 };
            if missing > 10 || Instant::now() > deadline {
                let (log, tail) = (self.log.clone(), self.log_tail());
                return Err(ServerError::NotUp { name: self.name, log, tail, source: Box::new(error) });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last part of the log, for an error message.
    fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = std::fs::File::open(&self.log)?;
            let start = log.metadata()?.len().saturating_sub(1500);
            log.seek(SeekFrom::Start(start))?;
            let mut tail = Vec::new();
            log.read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).trim().to_owned())
        };
        read().unwrap_or_else(|error| error.to_string())
    }
}

/// The numbers of all processes.
fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn send(pid: u32, signal: Signal) {
    // It may just have ended by itself, which is as good.
    let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), signal));
}

/// A process's arguments; none if it does not exist, or has ended and was not waited for.
fn arguments(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into())
        .collect()
}

fn namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}
