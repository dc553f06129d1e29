//! How far an attempt is: half of the way is exporting, and half transferring, where there is a transfer. It never goes
//! back within an attempt, although counters of pods that were replaced begin anew, and is 100 only at the end.

use pgexport_api::job::{ChildKind, Progress};
use pgexport_api::progress::human_bytes;
use pgexport_api::report::{Delivered, Exported};

use crate::job::fact::JobFacts;

/// While a Job runs.
pub fn under_way(before: Option<&Progress>, kind: ChildKind, job: &JobFacts) -> Progress {
    let mut progress = before.cloned().unwrap_or_default();
    let Some(counters) = job.progress else {
        return progress;
    };
    progress.chunks = progress.chunks.max(counters.chunks);
    let done = |count: u32| count.min(progress.chunks);
    let percent = match kind {
        ChildKind::Export => {
            progress.chunks_exported = progress.chunks_exported.max(done(counters.chunks_exported));
            progress.rows = progress.rows.max(counters.rows);
            progress.bytes = progress.bytes.max(counters.bytes);
            share(progress.chunks_exported, progress.chunks, if job.direct { 99 } else { 50 })
        }
        ChildKind::Transfer => {
            progress.chunks_transferred = progress.chunks_transferred.max(done(counters.chunks_transferred));
            50 + share(progress.chunks_transferred, progress.chunks, 49)
        }
        ChildKind::Cleanup | ChildKind::Notification => progress.percent,
    };
    progress.percent = progress.percent.max(percent);
    progress.size = human_bytes(progress.bytes);
    progress
}

/// When all is in staging.
pub fn exported(totals: &Exported) -> Progress {
    Progress {
        chunks: totals.chunks,
        chunks_exported: totals.chunks,
        chunks_transferred: 0,
        rows: totals.rows,
        bytes: totals.bytes,
        size: human_bytes(totals.bytes),
        percent: 50,
    }
}

/// When all is delivered.
pub fn delivered(totals: &Delivered) -> Progress {
    Progress {
        chunks: totals.chunks,
        chunks_exported: totals.chunks,
        chunks_transferred: totals.chunks,
        rows: totals.rows,
        bytes: totals.bytes,
        size: human_bytes(totals.bytes),
        percent: 100,
    }
}

/// `done` of `all`, of so many percent.
fn share(done: u32, all: u32, percent: u8) -> u8 {
    let share = u64::from(percent) * u64::from(done.min(all)) / u64::from(all.max(1));
    u8::try_from(share).unwrap_or(percent)
}
