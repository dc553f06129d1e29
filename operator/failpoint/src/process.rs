//! The side of the process that is held.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Answer, Hit, VARIABLE};

/// What a container's exit code says of SIGKILL.
const KILLED: i32 = 137;

/// A failpoint: asks the coordinator, where there is one, and goes on or dies as it says.
///
/// `about` tells what is worked on, with the ExportJob's uid in it.
pub async fn hit(name: &str, about: &str) {
    let Some(coordinator) = std::env::var(VARIABLE).ok().filter(|address| !address.is_empty()) else {
        return;
    };
    let hit = Hit { name: name.to_owned(), about: about.to_owned(), pid: std::process::id(), host: host() };
    if ask(&coordinator, &hit).await.is_ok_and(|answer| answer.trim() == Answer::Die.as_str()) {
        // Not by a signal: the kernel spares a container's first process a SIGKILL of its own. No destructor runs either way.
        std::process::exit(KILLED);
    }
}

async fn ask(coordinator: &str, hit: &Hit) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(coordinator).await?);
    let mut line = serde_json::to_vec(hit)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    Ok(answer)
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
