//! Files that are being written, and files that wait for their names.

#[cfg(target_os = "linux")]
use std::io::Seek as _;
use std::io::{self, Write as _};

use async_trait::async_trait;
use bytes::Bytes;
use pgexport_api::reason::Reason;
use tempfile::{NamedTempFile, TempPath};
use tokio::task::JoinHandle;

use super::folder::Folder;
use super::{VolumeStore, joined};
use crate::error::{Error, Result};
use crate::store::{Pending, Put, Upload};

/// A hidden file that is being written. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct VolumeUpload {
    store: VolumeStore,
    key: String,
    file: State,
}

#[derive(Debug)]
enum State {
    Idle(NamedTempFile),
    Writing(JoinHandle<Result<NamedTempFile>>),
    Failed,
}

impl VolumeUpload {
    /// Writes `file`, which is to become `key`.
    pub(super) const fn new(store: VolumeStore, key: String, file: NamedTempFile) -> Self {
        Self { store, key, file: State::Idle(file) }
    }

    async fn idle(&mut self) -> Result<NamedTempFile> {
        self.settle().await?;
        match std::mem::replace(&mut self.file, State::Failed) {
            State::Idle(file) => Ok(file),
            State::Writing(_) | State::Failed => {
                Err(Error::new(Reason::InternalError, "a file was written on after an error"))
            }
        }
    }
}

#[async_trait]
impl Upload for VolumeUpload {
    async fn part(&mut self, body: Bytes) -> Result<()> {
        let mut file = self.idle().await?;
        let (folder, key) = (self.store.0.clone(), self.key.clone());
        self.file = State::Writing(tokio::task::spawn_blocking(move || {
            write(&mut file, &body)
                .map_err(|error| folder.failed("writing", &folder.relative(&key), error))?;
            Ok(file)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        // The task stays here until it is done: a caller who stops waiting leaves it to the abort.
        let State::Writing(writing) = &mut self.file else { return Ok(()) };
        match joined(writing).await {
            Ok(file) => {
                self.file = State::Idle(file);
                Ok(())
            }
            Err(error) => {
                self.file = State::Failed;
                Err(error)
            }
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<Box<dyn Pending>> {
        let file = self.idle().await?;
        let Self { store, key, .. } = *self;
        let path = store.0.relative(&key);
        let sync = move |folder: &Folder| {
            file.as_file().sync_all().map_err(|error| folder.failed("syncing", &path, error))?;
            // Thousands of finished files may wait for their commit; none holds a descriptor.
            Ok(file.into_temp_path())
        };
        let file = store.run(sync).await?;
        Ok(Box::new(PendingFile { store, key, file }))
    }

    async fn abort(mut self: Box<Self>) {
        // Dropping removes the file, and after an error it is gone already.
        drop(self.idle().await);
    }
}

/// Writes on, has the system begin to store that, and forget what of the file is stored. Otherwise all of it would wait for the sync
/// at the end, and a long file would push out of the node's memory what is read there.
fn write(file: &mut NamedTempFile, body: &[u8]) -> io::Result<()> {
    file.write_all(body)?;
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        let written = i64::try_from(file.stream_position()?).unwrap_or(i64::MAX);
        // Advice: a file system that takes none stores the file all the same.
        let _ = posix_fadvise(file.as_file(), 0, written, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    Ok(())
}

/// A hidden file that is complete.
#[derive(Debug)]
struct PendingFile {
    store: VolumeStore,
    key: String,
    file: TempPath,
}

#[async_trait]
impl Pending for PendingFile {
    async fn commit(self: Box<Self>) -> Result<Put> {
        let Self { store, key, file } = *self;
        store.run(move |folder| folder.commit(file, &key)).await
    }

    async fn abort(self: Box<Self>) {
        drop(self.file);
    }
}
