//! How a run is shown while it goes: bars on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pgexport_api::progress::{WorkerProgress, human_bytes};
use pgexport_engine::progress::Progress;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A view that runs beside the work.
pub(crate) struct View {
    ended: CancellationToken,
    task: JoinHandle<()>,
}

impl View {
    /// Draws the last state, and ends.
    pub(crate) async fn end(self) {
        self.ended.cancel();
        let _ = self.task.await;
    }
}

/// Shows the progress of a job on standard error.
pub(crate) fn show(job: &str, progress: Arc<Progress>) -> View {
    let ended = CancellationToken::new();
    let job = job.to_owned();
    let token = ended.clone();
    let task = if std::io::stderr().is_terminal() {
        tokio::spawn(async move { bar(&job, &progress, &token).await })
    } else {
        tokio::spawn(async move { lines(&job, &progress, &token).await })
    };
    View { ended, task }
}

async fn bar(job: &str, progress: &Progress, ended: &CancellationToken) {
    let bar = ProgressBar::new(0);
    // The template is a constant; should it be wrong, the default style shows the same numbers.
    if let Ok(style) =
        ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} chunks · {msg} · {elapsed}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(job.to_owned());
    let started = Instant::now();
    loop {
        let now = progress.snapshot();
        bar.set_length(u64::from(now.chunks));
        bar.set_position(u64::from(now.chunks_exported));
        bar.set_message(counters(&now, started.elapsed()));
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
    bar.finish();
}

async fn lines(job: &str, progress: &Progress, ended: &CancellationToken) {
    let started = Instant::now();
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(LINE_EVERY) => {}
        }
        let now = progress.snapshot();
        eprintln!(
            "{job}: {}/{} chunks · {}",
            now.chunks_exported,
            now.chunks,
            counters(&now, started.elapsed())
        );
    }
}

fn counters(now: &WorkerProgress, elapsed: Duration) -> String {
    let rate = now.bytes.checked_div(elapsed.as_secs().max(1)).unwrap_or_default();
    let transferred = if now.chunks_transferred > 0 {
        format!(" · {} transferred", now.chunks_transferred)
    } else {
        String::new()
    };
    format!("{} rows · {}B · {}B/s{transferred}", now.rows, human_bytes(now.bytes), human_bytes(rate))
}
