//! A folder of a claimed volume, or of a laptop. Files are written beside their place under a hidden name, and
//! renamed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use pgexport_api::reason::Reason;
use pgexport_api::sink::Volume;
use tempfile::{NamedTempFile, TempPath};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::io::ReaderStream;

use super::{MAX_DOCUMENT, Pending, Put, PutMode, Store, Upload};
use crate::error::{Error, Result};

/// What the names of unfinished files begin with. The dot hides them from `ls`, Spark and Athena.
const UNFINISHED: &str = ".pgexport-";

/// Finished files may be read by all, as far as the umask allows.
const MODE: u32 = 0o664;

/// The size of the pieces that files are read in.
const PIECE: usize = 256 << 10;

/// A folder.
#[derive(Clone, Debug)]
pub(super) struct VolumeStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    claim: String,
    /// The claim's own folder.
    base: PathBuf,
    /// The store's folder in it: empty, or ending in `/`.
    path: String,
}

impl VolumeStore {
    /// A folder in the claim whose own folder is `base`.
    pub(super) fn new(volume: &Volume, base: PathBuf) -> Result<Self> {
        let folder = Folder { claim: volume.claim_name.clone(), base, path: volume.path.clone() };
        if !folder.path.is_empty() {
            folder.place(folder.path.trim_end_matches('/'))?;
        }
        Ok(Self(Arc::new(folder)))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.0.clone();
        joined(tokio::task::spawn_blocking(move || work(&folder))).await
    }
}

/// The result of work on a thread where waiting is allowed.
async fn joined<T>(work: impl Future<Output = Result<Result<T>, JoinError>>) -> Result<T> {
    work.await
        .map_err(|error| Error::new(Reason::InternalError, "work on a volume broke off").with_source(error))?
}

impl Folder {
    fn name(&self, path: &str) -> String {
        format!("PersistentVolumeClaim {}, {}", self.claim, if path.is_empty() { "its root" } else { path })
    }

    fn failed(&self, doing: &str, path: &str, error: io::Error) -> Error {
        let failure =
            Error::new(Reason::VolumeUnavailable, format!("{doing} {} failed: {error}", self.name(path)));
        let failure = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure.with_hint(format!("free space on the volume of claim {}, or enlarge it", self.claim))
            }
            io::ErrorKind::ReadOnlyFilesystem => failure
                .with_hint(format!("choose an access mode of claim {} that allows writing", self.claim)),
            _ => failure,
        };
        failure.with_source(error)
    }

    /// The path in the claim of a key.
    fn relative(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Where a path in the claim is. It stays in the claim: a key that leads out is refused, and so is a symbolic link,
    /// which somebody else who writes to the volume may have put there.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let mut place = self.base.clone();
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") || part.contains('\0') {
                let message =
                    format!("{path:?} is not a path inside of PersistentVolumeClaim {}", self.claim);
                return Err(Error::new(Reason::InvalidSpec, message));
            }
            place.push(part);
            if place.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
                let message = format!("{} leads through a symbolic link", self.name(path));
                return Err(Error::new(Reason::VolumeUnavailable, message)
                    .with_hint("replace the symbolic link by a folder, or choose another path"));
            }
        }
        Ok(place)
    }

    /// A hidden file beside the place of a key; the folders are made.
    fn begin(&self, key: &str) -> Result<NamedTempFile> {
        let path = self.relative(key);
        let place = self.place(&path)?;
        let parent = place.parent().unwrap_or(&self.base);
        fs::create_dir_all(parent).map_err(|error| self.failed("making the folder of", &path, error))?;
        unfinished(parent).map_err(|error| self.failed("writing", &path, error))
    }

    /// Gives a file its name.
    fn commit(&self, file: TempPath, key: &str, mode: PutMode) -> Result<Put> {
        let path = self.relative(key);
        let place = self.place(&path)?;
        let named = match mode {
            PutMode::Replace => file.persist(&place),
            PutMode::Create => file.persist_noclobber(&place),
        };
        match named {
            Ok(()) => {}
            Err(error) if mode == PutMode::Create && error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Put::Exists);
            }
            Err(error) => return Err(self.failed("naming", &path, error.error)),
        }
        // The name is as durable as the bytes only when its folder is.
        let folder = place.parent().unwrap_or(&self.base);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.failed("syncing the folder of", &path, error))?;
        Ok(Put::Written)
    }

    fn put(&self, key: &str, body: &[u8], mode: PutMode) -> Result<Put> {
        let mut file = self.begin(key)?;
        file.write_all(body)
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| self.failed("writing", &self.relative(key), error))?;
        self.commit(file.into_temp_path(), key, mode)
    }

    fn open(&self, key: &str) -> Result<Option<File>> {
        let path = self.relative(key);
        match File::open(self.place(&path)?) {
            Ok(file) => Ok(Some(file)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(self.failed("opening", &path, error)),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let Some(mut file) = self.open(key)? else { return Ok(None) };
        let failed = |error| self.failed("reading", &self.relative(key), error);
        if file.metadata().map_err(failed)?.len() > MAX_DOCUMENT as u64 {
            return Err(super::too_long(&self.name(&self.relative(key))));
        }
        let mut document = Vec::new();
        io::Read::read_to_end(&mut file, &mut document).map_err(failed)?;
        Ok(Some(document.into()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut keys = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.relative(&folder);
            let place =
                if path.is_empty() { self.base.clone() } else { self.place(path.trim_end_matches('/'))? };
            let failed = |error| self.failed("listing", &path, error);
            let entries = match fs::read_dir(place) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                // A name that is not UTF-8 is nobody's key.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let key = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if kind.is_dir() {
                    folders.push(key);
                } else if kind.is_file() && !name.starts_with(UNFINISHED) && key.starts_with(prefix) {
                    keys.push(key);
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Writes a hidden file in the folder, or where it would be made, and removes it.
    fn probe(&self, reading: bool) -> Result<()> {
        let place = self.base.join(&self.path);
        let nearest = place.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(&self.base);
        unfinished(nearest)
            .and_then(|mut file| {
                file.write_all(b"pgexport")?;
                file.as_file().sync_all()?;
                file.close()
            })
            .map_err(|error| self.failed("writing to", &self.path, error))?;
        if reading {
            fs::read_dir(nearest).map_err(|error| self.failed("listing", &self.path, error))?;
        }
        Ok(())
    }
}

fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .suffix(".tmp")
        .rand_bytes(12)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
}

#[async_trait]
impl Store for VolumeStore {
    fn uri(&self, key: &str) -> String {
        format!("volume://{}/{}", self.0.claim, self.0.relative(key))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = key.to_owned();
        self.run(move |folder| folder.get(&key)).await
    }

    async fn put(&self, key: &str, body: Bytes, _media_type: &str, mode: PutMode) -> Result<Put> {
        let key = key.to_owned();
        self.run(move |folder| folder.put(&key, &body, mode)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.list(&prefix)).await
    }

    async fn read(&self, key: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = key.to_owned();
        let file = self
            .run(move |folder| folder.open(&path))
            .await?
            .ok_or_else(|| super::missing(&self.uri(key)))?;
        let (folder, path) = (self.0.clone(), self.0.relative(key));
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE);
        Ok(pieces.map(move |piece| piece.map_err(|error| folder.failed("reading", &path, error))).boxed())
    }

    async fn upload(&self, key: &str, _media_type: &str) -> Result<Box<dyn Upload>> {
        let path = key.to_owned();
        let file = self.run(move |folder| folder.begin(&path)).await?;
        Ok(Box::new(VolumeUpload { store: self.clone(), key: key.to_owned(), file: State::Idle(file) }))
    }

    async fn probe(&self, reading: bool) -> Result<()> {
        self.run(move |folder| folder.probe(reading)).await
    }
}

/// A hidden file that is being written. It is removed when it is dropped.
#[derive(Debug)]
struct VolumeUpload {
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
            file.write_all(&body).map_err(|error| folder.failed("writing", &folder.relative(&key), error))?;
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

/// A hidden file that is complete.
#[derive(Debug)]
struct PendingFile {
    store: VolumeStore,
    key: String,
    file: TempPath,
}

#[async_trait]
impl Pending for PendingFile {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { store, key, file } = *self;
        store.run(move |folder| folder.commit(file, &key, PutMode::Replace)).await.map(drop)
    }

    async fn abort(self: Box<Self>) {
        drop(self.file);
    }
}
