//! Where files go: one trait over object stores and folders.
//!
//! The contract that delivery rests on: **what [`Upload`] writes is invisible to readers until [`Pending::commit`]**, and
//! an upload that is aborted, or whose process dies, never becomes visible.

mod open;
mod read_ahead;
mod s3;
mod volume;

pub use open::{Volumes, open};
pub use read_ahead::{FileSequence, RANGE, RANGES_IN_FLIGHT, ReadAhead};

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use pgexport_api::reason::Reason;

use crate::error::{Error, Result};
use crate::output::FileDigest;

/// How many parts of one upload are on their way at the same time.
pub const PARTS_IN_FLIGHT: usize = 2;

/// The longest document that [`Store::get`] reads, in bytes: a plan of a hundred thousand chunks is shorter.
pub const MAX_DOCUMENT: usize = 64 << 20;

/// A bucket with a prefix, or a folder. Keys are relative to it, with `/` between their parts.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The key as a URI, for messages and manifests.
    fn uri(&self, key: &str) -> String;

    /// A document of at most [`MAX_DOCUMENT`] bytes, or `None` where there is none.
    async fn document(&self, key: &str) -> Result<Option<Document>>;

    /// The bytes of [`Store::document`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.document(key).await?.map(|document| document.body))
    }

    /// Writes a small document. Readers see it whole or not at all.
    async fn put(&self, key: &str, body: Bytes, media_type: &str, mode: PutMode) -> Result<Put>;

    /// All keys that begin with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// A file's bytes, in pieces of at most a few hundred KiB.
    async fn read(&self, key: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        Ok(self.read_range(key, ByteRange::ALL).await?.pieces)
    }

    /// Some of a file's bytes, in pieces of at most a few hundred KiB: as many of the range as the file has.
    async fn read_range(&self, key: &str, range: ByteRange) -> Result<Reading>;

    /// Begins a file.
    async fn upload(&self, key: &str, media_type: &str) -> Result<Box<dyn Upload>>;

    /// Where another store's server may copy a file from; `None` where there is no server that copies.
    fn copy_source(&self, _key: &str) -> Option<CopySource> {
        None
    }

    /// Has the server make a file of another one's bytes, without their travelling. They are what `digest` says, by what the server
    /// tells of them, and stay invisible. When it is refused or cancelled, nothing is left.
    /// The only error is [`Reason::Interrupted`].
    async fn copy(
        &self,
        _source: &CopySource,
        _key: &str,
        _media_type: &str,
        _digest: &FileDigest,
        _cancel: &CancellationToken,
    ) -> Result<Copied> {
        Ok(Copied::Refused("no server copies to it".to_owned()))
    }

    /// Removes a document if it is still this version; `false` where another one is there. One that is gone is no error.
    async fn delete_version(&self, key: &str, version: &Version) -> Result<bool>;

    /// Removes files; those that are not there are no error. On a volume the folders that they leave empty go too, up to the
    /// store's own.
    async fn delete(&self, keys: &[String]) -> Result<()>;

    /// The uploads to keys that begin with `prefix`, in order, that were begun and neither finished nor given up.
    async fn uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>>;

    /// Gives up an upload, whoever began it. One that is gone is no error.
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()>;

    /// Tries what a delivery needs, and leaves nothing behind: an upload that is aborted. With `reading`, also what a
    /// staging needs: listing and reading.
    async fn probe(&self, reading: bool) -> Result<()>;
}

/// A range of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The offset of the first one.
    pub from: u64,
    /// How many there are; `None`: all that follow.
    pub length: Option<u64>,
}

impl ByteRange {
    /// The whole file.
    pub const ALL: Self = Self { from: 0, length: None };
}

/// Bytes of a file that come piece by piece.
pub struct Reading {
    /// Which file they are of, where the store tells: other ranges of it may be of one that has taken its place.
    pub version: Option<Version>,
    /// The bytes.
    pub pieces: BoxStream<'static, Result<Bytes>>,
}

/// Where a server may copy a file from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The server's address, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The key in it.
    pub key: String,
    /// The account that the bucket has to belong to.
    pub owner: Option<String>,
}

/// What became of a [`Store::copy`].
#[derive(Debug)]
pub enum Copied {
    /// All is stored, and left to be committed.
    Done(Box<dyn Pending>),
    /// It is not copied, and why: rights, another server, bytes that are not those of the digest. It may still be read.
    Refused(String),
}

/// A small document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub body: Bytes,
    /// Which one it is.
    pub version: Version,
}

/// What tells a document from what was under its key before or comes after: S3's `ETag`, and on a volume the SHA-256. Conditions on
/// it are kept by S3; on a volume, and by a server that does not know them, the look and the deed are two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// Whether a document may be there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// It is written only where none is (`If-None-Match: *`).
    Create,
    /// It is replaced.
    Replace,
    /// It takes the place of this version, and of nothing else (`If-Match`).
    Over(Version),
}

/// What became of a [`Store::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written.
    Written,
    /// The condition does not hold: another one is there, and is left as it is.
    Exists,
}

/// An upload that somebody has begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenUpload {
    /// The key of the file that it is to become.
    pub key: String,
    /// The store's name for it.
    pub id: String,
}

/// A file that is being written. Giving up takes requests, which a destructor cannot send: whoever holds an upload either
/// finishes it or calls [`Upload::abort`], also after an error of [`Upload::part`].
#[async_trait]
pub trait Upload: fmt::Debug + Send {
    /// Takes the next part. Returns as soon as the store's queue of at most [`PARTS_IN_FLIGHT`] parts has room, so that the
    /// caller goes on while parts travel; an error may be that of an earlier part.
    /// Parts but the last have at least 5 MiB, and none is empty.
    async fn part(&mut self, body: Bytes) -> Result<()>;

    /// Waits until every part that was taken is stored. Whoever stops waiting can still abort, which [`Upload::finish`] does
    /// not leave room for.
    async fn settle(&mut self) -> Result<()>;

    /// Waits until every part is stored. The file stays invisible. On an error the upload has given up by itself.
    async fn finish(self: Box<Self>) -> Result<Box<dyn Pending>>;

    /// Gives up, and removes what was stored.
    async fn abort(self: Box<Self>);
}

/// A file whose every part is stored, and which readers do not see yet.
#[async_trait]
pub trait Pending: fmt::Debug + Send {
    /// Makes it visible, and never takes the place of another file. Where one of the same bytes is there, that is as good
    /// ([`Put::Written`]). [`Put::Exists`]: one is there, and the store does not let it be compared; this one has given up.
    /// On an error it has given up too.
    async fn commit(self: Box<Self>) -> Result<Put>;

    /// Gives up, and removes what was stored.
    async fn abort(self: Box<Self>);
}

/// A file of the same key is there, with other bytes.
fn other_bytes(uri: &str) -> Error {
    Error::new(Reason::StoreError, format!("{uri} is there already, with other bytes"))
        .with_hint("the next attempt writes under names of its own; look for whoever else writes there if it comes again")
}

fn missing(uri: &str) -> Error {
    Error::new(Reason::StoreError, format!("{uri} does not exist"))
        .with_hint("look for whoever removed it, such as a lifecycle rule")
}

fn replaced(uri: &str) -> Error {
    Error::new(Reason::StoreError, format!("{uri} was replaced while it was read"))
}

fn too_long(uri: &str) -> Error {
    Error::new(
        Reason::StoreError,
        format!("{uri} is longer than {MAX_DOCUMENT} bytes, and none of pgexport's documents"),
    )
}
