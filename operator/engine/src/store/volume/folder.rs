//! Work on a folder, on a thread where waiting is allowed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pgexport_api::reason::Reason;
use pgexport_api::sink::Volume;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::{PIECE, unfinished};
use crate::error::{Error, Result};
use crate::store::{Document, MAX_DOCUMENT, OpenUpload, Put, PutMode, Version, other_bytes, too_long};

/// A folder in a claim.
#[derive(Debug)]
pub(super) struct Folder {
    claim: String,
    /// The claim's own folder.
    base: PathBuf,
    /// The store's folder in it: empty, or ending in `/`.
    path: String,
}

impl Folder {
    /// A folder in the claim whose own folder is `base`.
    pub(super) fn new(volume: &Volume, base: PathBuf) -> Result<Self> {
        let folder = Self { claim: volume.claim_name.clone(), base, path: volume.path.clone() };
        if !folder.path.is_empty() {
            folder.place(folder.path.trim_end_matches('/'))?;
        }
        Ok(folder)
    }

    /// A key as a URI.
    pub(super) fn uri(&self, key: &str) -> String {
        format!("volume://{}/{}", self.claim, self.relative(key))
    }

    fn name(&self, path: &str) -> String {
        format!("PersistentVolumeClaim {}, {}", self.claim, if path.is_empty() { "its root" } else { path })
    }

    pub(super) fn failed(&self, doing: &str, path: &str, error: io::Error) -> Error {
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
    pub(super) fn relative(&self, key: &str) -> String {
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
    pub(super) fn begin(&self, key: &str) -> Result<NamedTempFile> {
        let path = self.relative(key);
        let place = self.place(&path)?;
        let parent = place.parent().unwrap_or(&self.base);
        fs::create_dir_all(parent).map_err(|error| self.failed("making the folder of", &path, error))?;
        unfinished::create(parent, last(key)).map_err(|error| self.failed("writing", &path, error))
    }

    /// Gives a file its name. One that is there already stays with [`PutMode::Create`], and the file is handed back.
    fn give_name(&self, file: TempPath, key: &str, mode: &PutMode) -> Result<Option<TempPath>> {
        let path = self.relative(key);
        let place = self.place(&path)?;
        let named = match mode {
            PutMode::Replace | PutMode::Over(_) => file.persist(&place),
            PutMode::Create => file.persist_noclobber(&place),
        };
        match named {
            Ok(()) => {}
            Err(error) if *mode == PutMode::Create && error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Some(error.path));
            }
            Err(error) => return Err(self.failed("naming", &path, error.error)),
        }
        // The name is as durable as the bytes only when its folder is.
        let folder = place.parent().unwrap_or(&self.base);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.failed("syncing the folder of", &path, error))?;
        Ok(None)
    }

    /// Gives a finished file its name, unless one is there: of the same bytes, or it is an error.
    pub(super) fn commit(&self, file: TempPath, key: &str) -> Result<Put> {
        let Some(file) = self.give_name(file, key, &PutMode::Create)? else { return Ok(Put::Written) };
        let path = self.relative(key);
        let place = self.place(&path)?;
        match is_same(&file, &place) {
            Ok(true) => Ok(Put::Written),
            Ok(false) => Err(other_bytes(&self.uri(key))),
            Err(error) => Err(self.failed("comparing", &path, error)),
        }
    }

    pub(super) fn put(&self, key: &str, body: &[u8], mode: &PutMode) -> Result<Put> {
        if let PutMode::Over(version) = mode
            && self.document(key)?.is_none_or(|found| found.version != *version)
        {
            return Ok(Put::Exists);
        }
        let mut file = self.begin(key)?;
        file.write_all(body)
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| self.failed("writing", &self.relative(key), error))?;
        let named = self.give_name(file.into_temp_path(), key, mode)?;
        Ok(named.map_or(Put::Written, |_| Put::Exists))
    }

    fn open(&self, key: &str) -> Result<Option<File>> {
        let path = self.relative(key);
        match File::open(self.place(&path)?) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("opening", &path, error)),
        }
    }

    /// Opens a file, to be read from an offset on.
    pub(super) fn open_at(&self, key: &str, offset: u64) -> Result<Option<File>> {
        let Some(mut file) = self.open(key)? else { return Ok(None) };
        match file.seek(SeekFrom::Start(offset)) {
            Ok(_) => Ok(Some(file)),
            Err(error) => Err(self.failed("reading", &self.relative(key), error)),
        }
    }

    pub(super) fn document(&self, key: &str) -> Result<Option<Document>> {
        let Some(mut file) = self.open(key)? else { return Ok(None) };
        let failed = |error| self.failed("reading", &self.relative(key), error);
        if file.metadata().map_err(failed)?.len() > MAX_DOCUMENT as u64 {
            return Err(too_long(&self.name(&self.relative(key))));
        }
        let mut body = Vec::new();
        io::Read::read_to_end(&mut file, &mut body).map_err(failed)?;
        let version = Version(hex::encode(Sha256::digest(&body)));
        Ok(Some(Document { body: body.into(), version }))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = self.walk(prefix)?;
        keys.retain(|key| key.starts_with(prefix) && !unfinished::is_hidden(last(key)));
        keys.sort_unstable();
        Ok(keys)
    }

    /// Hidden files, with the keys that they were to have.
    pub(super) fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let told = |hidden: String| {
            let name = unfinished::name_of(last(&hidden))?;
            let folder = hidden.rsplit_once('/').map_or("", |(folder, _)| folder);
            let key = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            key.starts_with(prefix).then_some(OpenUpload { key, id: hidden })
        };
        let mut uploads: Vec<_> = self.walk(prefix)?.into_iter().filter_map(told).collect();
        uploads.sort_unstable();
        Ok(uploads)
    }

    /// The keys of all files, hidden ones too, of the folder that `prefix` begins with.
    fn walk(&self, prefix: &str) -> Result<Vec<String>> {
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
                let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if kind.is_dir() {
                    folders.push(key);
                } else if kind.is_file() {
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    pub(super) fn remove_version(&self, key: &str, version: &Version) -> Result<bool> {
        match self.document(key)? {
            Some(found) if found.version != *version => Ok(false),
            Some(_) => self.remove(key).map(|()| true),
            None => Ok(true),
        }
    }

    /// Removes a file if it is there, and the folders that it leaves empty, up to the store's own.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        let path = self.relative(key);
        let place = self.place(&path)?;
        match fs::remove_file(&place) {
            Err(error) if !is_missing(&error) => return Err(self.failed("removing", &path, error)),
            _ => {}
        }
        let root = self.base.join(&self.path);
        for folder in
            place.ancestors().skip(1).take_while(|folder| folder.starts_with(&root) && *folder != root)
        {
            match fs::remove_dir(folder) {
                Err(error) if !is_missing(&error) => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a hidden file in the folder, or where it would be made, and removes it.
    pub(super) fn probe(&self, reading: bool) -> Result<()> {
        let place = self.base.join(&self.path);
        let nearest = place.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(&self.base);
        unfinished::create(nearest, "probe")
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

/// Whether two files hold the same bytes.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::with_capacity(PIECE, one), BufReader::with_capacity(PIECE, other));
    loop {
        let (piece, wanted) = (one.fill_buf()?, other.fill_buf()?);
        let length = piece.len().min(wanted.len());
        if piece[..length] != wanted[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(piece.is_empty() && wanted.is_empty());
        }
        one.consume(length);
        other.consume(length);
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The last part of a key.
fn last(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
