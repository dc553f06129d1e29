//! A copy of a running server's data directory, which a standby starts from.
//!
//! `pg_basebackup` makes such copies too, but the archives of other versions than the distribution's hold the server alone. So
//! files are copied between the two calls that PostgreSQL has for it:
//! <https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP>.

use std::{
    io::{Error, ErrorKind},
    path::Path,
};

use super::{
    ServerError,
    error::file,
    postgres::{hand_over, make_empty, owner, write_owned},
};
use crate::{Postgres, error::during};

/// The folder of the write-ahead log.
const LOG: &str = "pg_wal";
/// What belongs to the server that runs.
const LOCKS: [&str; 2] = ["postmaster.pid", "postmaster.opts"];
/// Folders whose files a server that starts makes anew.
const TRANSIENT: [&str; 7] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Copies the data directory of `primary`, which is `from`, to `to`, which is made anew. Of the log it takes what makes the copy
/// consistent; the primary sends the rest.
pub(super) async fn take(primary: &Postgres, from: &Path, to: &Path) -> Result<(), ServerError> {
    let doing = || during("copying the primary's data");
    make_empty(to, owner())?;
    // A backup that is not ended ends with its session.
    let session = primary.admin("postgres").await?;
    let (start, stop) = if primary.version.is_some_and(|version| version < 15) {
        ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)")
    } else {
        ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
    };
    let started = session.query_one(&format!("SELECT pg_walfile_name({start})"), &[]).await;
    let first: String = started.map_err(doing())?.get(0);
    copy(from, to, Path::new(""), &|path| {
        let mut names = path.iter().filter_map(|name| name.to_str());
        match (names.next(), names.next()) {
            (Some(name), None) => !LOCKS.contains(&name),
            (Some(folder), _) => folder != LOG && !TRANSIENT.contains(&folder),
            (None, _) => true,
        }
    })?;
    let stopped =
        session.query_one(&format!("SELECT labelfile, pg_walfile_name(lsn) FROM {stop}"), &[]).await;
    let stopped = stopped.map_err(doing())?;
    let (label, last): (&str, &str) = (stopped.get(0), stopped.get(1));
    copy(from, to, Path::new(LOG), &|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| (first.as_str()..=last).contains(&name))
    })?;
    write_owned(to, owner(), "backup_label", label)
}

/// Copies what is in a folder below `from` to the same one below `to`, as far as it is `wanted`: paths below both.
fn copy(from: &Path, to: &Path, folder: &Path, wanted: &impl Fn(&Path) -> bool) -> Result<(), ServerError> {
    let source = from.join(folder);
    for entry in source.read_dir().map_err(file("reading", &source))? {
        let entry = entry.map_err(file("reading", &source))?;
        let path = folder.join(entry.file_name());
        if !wanted(&path) {
            continue;
        }
        let (source, target) = (from.join(&path), to.join(&path));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_empty(&target, owner())?;
            copy(from, to, &path, wanted)?;
        } else if was_there(std::fs::copy(&source, &target)).map_err(file("copying", &source))? {
            hand_over(&target, owner())?;
        }
    }
    Ok(())
}

/// The server goes on: a file may be removed meanwhile, and the log tells the standby so.
fn was_there(copied: Result<u64, Error>) -> Result<bool, Error> {
    match copied {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
