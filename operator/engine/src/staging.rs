//! Staging: a run's plan, the bodies of its chunks, and a sidecar for each chunk that is finished. A sidecar is created
//! conditionally, after its body is stored: it says that the chunk is done, who did it, and where the body is. Bodies have
//! random names, so that a pod that was given up for dead cannot replace the one that the sidecar tells of. A body is
//! compressed as its files will be, unless the database wrote it by itself: then it is a line a row, in one object or several.
//!
//! ```text
//! {namespace}/{name}/{uid}/{attempt}/plan.json
//! {namespace}/{name}/{uid}/{attempt}/data/{dataset}/{part}-{writer}.{extension}
//! {namespace}/{name}/{uid}/{attempt}/chunks/{index}.json
//! {namespace}/{name}/{uid}/{attempt}/delivery.json
//! {namespace}/{name}/{uid}/transfers/{attempt}-{random}
//! ```
//!
//! `delivery.json` is the manifest that a transfer was about to write. The last is an empty object for each transfer that was begun and has not ended well: while there is one, the sink may
//! hold something unfinished.
//!
//! Where each chunk sees a moment of its own, chunks are not bound to an attempt: plan and sidecars lie above the attempts'
//! folders, `{namespace}/{name}/{uid}/plan.json` and `{namespace}/{name}/{uid}/chunks/{index}.json`, and each attempt goes on
//! where the one before was.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use pgexport_api::job::{Compression, Consistency, FormatType};
use pgexport_api::order::{RunIdentity, RunOrder};
use pgexport_api::reason::Reason;
use pgexport_failpoint as failpoint;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::output::{FileDigest, FileWriter, FinishedFile, media_type, with_extensions};
use crate::plan::{Chunk, PLAN_VERSION, Plan};
use crate::store::{CopySource, FileSequence, Put, PutMode, ReadAhead, Store};

/// The version of [`Sidecar`] that this code writes and reads.
pub const SIDECAR_VERSION: u32 = 3;

/// How many sidecars are read at the same time.
const READS: usize = 16;

const JSON: &str = "application/json";

/// The folder of a run's marks, below the run's own.
const TRANSFERS: &str = "transfers/";

/// The staging of one attempt.
#[derive(Clone, Debug)]
pub struct Staging {
    store: Arc<dyn Store>,
    /// What the keys of plan and sidecars begin with.
    root: String,
    /// What the keys of this attempt's bodies begin with.
    attempt: String,
    /// What the keys of marks begin with.
    marks: String,
    format: FormatType,
    compression: Compression,
}

/// A transfer that was begun.
#[derive(Debug)]
#[must_use]
pub struct Mark(String);

/// What is known of a chunk that is finished.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// [`SIDECAR_VERSION`].
    pub version: u32,
    /// The chunk's index.
    pub chunk: u32,
    /// The key of its body in the staging.
    pub key: String,
    /// Its rows; those of a body that nobody has counted yet are known modulo 2^32.
    pub rows: u64,
    /// Its body's bytes.
    #[serde(flatten)]
    pub body: Body,
    /// How many of its last bytes are a Parquet footer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<u64>,
    /// When its reading began.
    pub started: Timestamp,
    /// When its body was stored.
    pub finished: Timestamp,
    /// The index of the worker that read it.
    pub worker: u32,
}

/// What is known of a body's bytes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Body {
    /// A worker has written it, as it is to be delivered.
    Written(FileDigest),
    /// The database has written it by itself, a line a row.
    Unseen(Unseen),
}

/// What a database says that it has written.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// Bytes.
    pub bytes: u64,
    /// Objects: the key, the key with `_part2`, with `_part3`, and so on. A row may begin in one and end in the next.
    pub objects: u32,
}

impl Sidecar {
    /// Its body's bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match &self.body {
            Body::Written(digest) => digest.bytes,
            Body::Unseen(unseen) => unseen.bytes,
        }
    }

    /// The most rows that it may have: each is a byte at least.
    #[must_use]
    pub const fn most_rows(&self) -> u64 {
        match &self.body {
            Body::Written(_) => self.rows,
            Body::Unseen(unseen) => self.rows + (unseen.bytes.saturating_sub(self.rows) >> 32 << 32),
        }
    }

    /// The keys of its body's objects, in order.
    pub fn keys(&self) -> impl Iterator<Item = String> + Send + use<> {
        let objects = match &self.body {
            Body::Written(_) => 1,
            Body::Unseen(unseen) => unseen.objects,
        };
        let key = self.key.clone();
        (1..=objects).map(move |number| object_key(&key, number))
    }
}

/// How the extension names the objects of one export, from 1.
fn object_key(key: &str, number: u32) -> String {
    if number == 1 { key.to_owned() } else { format!("{key}_part{number}") }
}

/// What a worker knows of a chunk that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// The chunk's index.
    pub chunk: u32,
    /// Its rows.
    pub rows: u64,
    /// How many of its body's last bytes are a Parquet footer.
    pub footer: Option<u64>,
    /// When its reading began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The index of the worker that read it.
    pub worker: u32,
}

impl Staging {
    /// The staging of an order's attempt.
    #[must_use]
    pub fn open(store: Arc<dyn Store>, order: &RunOrder) -> Self {
        let all = folder_of(&order.run);
        let attempt = format!("{all}{}/", order.run.attempt);
        let marks = format!("{all}{TRANSFERS}{}-", order.run.attempt);
        let root = match order.consistency {
            Consistency::Snapshot => attempt.clone(),
            Consistency::PerChunk => all,
        };
        Self { store, root, attempt, marks, format: order.format.format_type, compression: order.compression }
    }

    /// Writes the plan, unless there is one. [`Put::Exists`]: another worker has planned otherwise.
    pub async fn create_plan(&self, plan: &Plan) -> Result<Put> {
        let key = self.plan_key();
        let body = document(plan)?;
        let put = self.store.put(&key, body.clone(), JSON, PutMode::Create).await?;
        failpoint::hit("staging::plan_stored", &key).await;
        // The answer to an earlier try may have been lost.
        if put == Put::Exists && self.store.get(&key).await? == Some(body) {
            return Ok(Put::Written);
        }
        Ok(put)
    }

    /// The plan, or `None` where there is none yet.
    pub async fn plan(&self) -> Result<Option<Plan>> {
        let plan: Option<Plan> = self.document(&self.plan_key()).await?;
        match plan {
            Some(Plan { version, .. }) if version != PLAN_VERSION => {
                Err(self.foreign(&self.plan_key(), version))
            }
            Some(plan) if !plan.is_sound() => Err(Error::new(
                Reason::InternalError,
                format!("{} contradicts itself: somebody has altered it", self.store.uri(&self.plan_key())),
            )),
            plan => Ok(plan),
        }
    }

    /// Whether there still is a plan. A worker that was given up for lost may come back when everything has been cleaned up: it
    /// would wait for what is gone, or leave something that nobody removes.
    ///
    /// # Errors
    /// [`Reason::Interrupted`]: the plan is gone.
    pub async fn check_planned(&self) -> Result<()> {
        let key = self.plan_key();
        if self.store.list(&key).await?.contains(&key) {
            return Ok(());
        }
        let message =
            "the plan was removed from the staging: this run has ended, or goes on without this worker";
        Err(Error::new(Reason::Interrupted, message))
    }

    /// Begins the body of a chunk. It becomes visible by [`Staging::seal`].
    pub async fn writer(&self, plan: &Plan, chunk: u32) -> Result<FileWriter> {
        let extension = match self.format {
            // The rows of an array, without its brackets.
            FormatType::Json => "jsonrows",
            format => format.extension(),
        };
        let key = with_extensions(&self.body_name(plan, chunk)?, extension, self.compression);
        FileWriter::begin(self.store.as_ref(), &key, media_type(self.format, self.compression)).await
    }

    /// A key for the body of a chunk that the database writes by itself: nobody else has it. It has one for each object, as
    /// it names them.
    pub fn unseen_key(&self, plan: &Plan, chunk: u32) -> Result<String> {
        let extension = match self.format {
            FormatType::Json => FormatType::Ndjson,
            format => format,
        };
        Ok(with_extensions(&self.body_name(plan, chunk)?, extension.extension(), Compression::None))
    }

    /// Whether a key is one that [`Staging::unseen_key`] gives in this attempt.
    #[must_use]
    pub fn is_body(&self, key: &str) -> bool {
        key.strip_prefix(&self.attempt).is_some_and(|rest| rest.starts_with("data/"))
    }

    /// What the name of a chunk's body begins with; another one at each call.
    fn body_name(&self, plan: &Plan, chunk: u32) -> Result<String> {
        let planned = planned(plan, chunk)?;
        let dataset = plan.datasets.get(planned.dataset as usize).ok_or_else(|| unplanned(chunk))?;
        Ok(format!("{}data/{}/{:05}-{:08x}", self.attempt, dataset.name, planned.part, random()))
    }

    /// How many objects of a body that the database is writing are there.
    pub async fn objects(&self, key: &str) -> Result<usize> {
        Ok(self.store.list(key).await?.len())
    }

    /// Finishes a chunk: makes its body visible, then creates its sidecar. [`Put::Exists`]: somebody else has finished it.
    /// Where the plan is gone, nothing stays.
    pub async fn seal(&self, record: ChunkRecord, body: FinishedFile) -> Result<Put> {
        let chunk = record.chunk;
        let FinishedFile { key, digest, pending } = body;
        failpoint::hit("staging::body_uploaded", &key).await;
        if pending.commit().await? == Put::Exists {
            let message = format!("{} is there already, under a name that chance gave", self.store.uri(&key));
            return Err(Error::new(Reason::InternalError, message).with_chunk(chunk));
        }
        failpoint::hit("staging::body_stored", &key).await;
        self.put_sidecar(record, key, Body::Written(digest)).await
    }

    /// Finishes a chunk that the database has written by itself: creates its sidecar. [`Put::Exists`]: somebody else has
    /// finished it.
    pub async fn seal_unseen(&self, record: ChunkRecord, key: String, unseen: Unseen) -> Result<Put> {
        self.put_sidecar(record, key, Body::Unseen(unseen)).await
    }

    async fn put_sidecar(&self, record: ChunkRecord, key: String, body: Body) -> Result<Put> {
        let ChunkRecord { chunk, rows, footer, started, finished, worker } = record;
        let sidecar =
            Sidecar { version: SIDECAR_VERSION, chunk, key, rows, body, footer, started, finished, worker };
        let key = self.sidecar_key(chunk);
        let text = document(&sidecar)?;
        let put = self.store.put(&key, text.clone(), JSON, PutMode::Create).await;
        failpoint::hit("staging::sidecar_stored", &key).await;
        // Looked for afterwards: a request that was on its way when this worker was stopped is made when it goes on.
        if let Err(gone) = self.check_planned().await
            && gone.reason() == Reason::Interrupted
        {
            let mut keys: Vec<String> = sidecar.keys().collect();
            keys.push(key);
            self.store.delete(&keys).await?;
            return Err(gone);
        }
        let put = put?;
        if put == Put::Exists && self.store.get(&key).await? == Some(text) {
            return Ok(Put::Written);
        }
        Ok(put)
    }

    /// A chunk's sidecar, or `None` while it is not finished.
    pub async fn sidecar(&self, chunk: u32) -> Result<Option<Sidecar>> {
        let key = self.sidecar_key(chunk);
        let sidecar: Option<Sidecar> = self.document(&key).await?;
        match sidecar {
            Some(Sidecar { version, .. }) if version != SIDECAR_VERSION => Err(self.foreign(&key, version)),
            Some(Sidecar { chunk: found, .. }) if found != chunk => Err(Error::new(
                Reason::InternalError,
                format!("{} is the sidecar of chunk {found}", self.store.uri(&key)),
            )),
            sidecar => Ok(sidecar),
        }
    }

    /// The indices of all finished chunks, by one listing.
    pub async fn finished(&self) -> Result<BTreeSet<u32>> {
        let folder = format!("{}chunks/", self.root);
        let keys = self.store.list(&folder).await?;
        let index = |key: &String| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse().ok();
        Ok(keys.iter().filter_map(index).collect())
    }

    /// All sidecars, by index.
    pub async fn sidecars(&self) -> Result<Vec<Sidecar>> {
        let reads = self.finished().await?.into_iter().map(|chunk| self.sidecar(chunk));
        let sidecars: Vec<Option<Sidecar>> = stream::iter(reads).buffered(READS).try_collect().await?;
        Ok(sidecars.into_iter().flatten().collect())
    }

    /// Notes that a transfer begins; [`Staging::unmark`] takes it back.
    pub async fn mark(&self) -> Result<Mark> {
        let key = format!("{}{:08x}", self.marks, random());
        self.store.put(&key, Bytes::new(), "application/octet-stream", PutMode::Replace).await?;
        Ok(Mark(key))
    }

    /// Notes that a transfer has ended, and has left nothing unfinished.
    pub async fn unmark(&self, mark: Mark) -> Result<()> {
        self.store.delete(&[mark.0]).await
    }

    /// Notes the manifest that this attempt is about to deliver. The first one stands, and is returned, with whether it is
    /// this one, noted just now.
    pub async fn intend(&self, manifest: Bytes) -> Result<(Bytes, bool)> {
        self.check_planned().await?;
        let key = self.delivery_key();
        if self.store.put(&key, manifest.clone(), JSON, PutMode::Create).await? == Put::Written {
            return Ok((manifest, true));
        }
        let found = self.store.get(&key).await?;
        let gone = || Error::new(Reason::StoreError, format!("{} comes and goes", self.store.uri(&key)));
        Ok((found.ok_or_else(gone)?, false))
    }

    /// Takes back what [`Staging::intend`] has noted.
    pub async fn withdraw(&self) -> Result<()> {
        self.store.delete(&[self.delivery_key()]).await
    }

    /// A chunk's body, of however many objects.
    #[must_use]
    pub fn body(&self, sidecar: &Sidecar) -> BoxStream<'static, Result<Bytes>> {
        let store = Arc::clone(&self.store);
        let objects = stream::iter(sidecar.keys()).then(move |key| {
            let store = Arc::clone(&store);
            async move { store.read(&key).await }
        });
        objects.try_flatten().boxed()
    }

    /// The bodies of those of these chunks that workers have written, one after the other, read ahead.
    #[must_use]
    pub fn bodies(&self, sidecars: &[&Sidecar], ahead: &ReadAhead) -> FileSequence {
        let written = sidecars.iter().filter_map(|sidecar| match &sidecar.body {
            Body::Written(digest) => Some((sidecar.key.clone(), digest.bytes)),
            Body::Unseen(_) => None,
        });
        ahead.read(Arc::clone(&self.store), written.collect())
    }

    /// Where a server may copy a chunk's body from, that a worker has written.
    #[must_use]
    pub fn copy_source(&self, sidecar: &Sidecar) -> Option<CopySource> {
        self.store.copy_source(&sidecar.key)
    }

    /// Where a chunk's body is, for messages.
    #[must_use]
    pub fn uri(&self, sidecar: &Sidecar) -> String {
        self.store.uri(&sidecar.key)
    }

    /// Where the manifest is that [`Staging::intend`] has noted, for messages.
    pub(crate) fn delivery_uri(&self) -> String {
        self.store.uri(&self.delivery_key())
    }

    fn plan_key(&self) -> String {
        format!("{}plan.json", self.root)
    }

    fn delivery_key(&self) -> String {
        format!("{}delivery.json", self.attempt)
    }

    fn sidecar_key(&self, chunk: u32) -> String {
        format!("{}chunks/{chunk:05}.json", self.root)
    }

    async fn document<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.store.get(key).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let message = format!("{} is not as this version writes it: {error}", self.store.uri(key));
            Error::new(Reason::InternalError, message)
        })
    }

    fn foreign(&self, key: &str, version: u32) -> Error {
        let message =
            format!("{} is of version {version}, which this worker does not know", self.store.uri(key));
        Error::new(Reason::InternalError, message).with_hint("run all workers of one attempt from one image")
    }
}

/// What the keys of everything that a run stages begin with.
pub(crate) fn folder_of(run: &RunIdentity) -> String {
    format!("{}/{}/{}/", run.namespace, run.name, run.uid)
}

/// Whether a key is a [`Mark`]'s, in the folder of its run.
pub(crate) fn is_mark(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder).is_some_and(|name| name.starts_with(TRANSFERS))
}

/// Eight hexadecimal digits' worth of chance.
fn random() -> u64 {
    RandomState::new().hash_one(()) >> 32
}

/// The chunk with this index.
fn planned(plan: &Plan, chunk: u32) -> Result<&Chunk> {
    plan.chunks.get(chunk as usize).ok_or_else(|| unplanned(chunk))
}

fn unplanned(chunk: u32) -> Error {
    Error::new(Reason::InternalError, format!("chunk {chunk} is not in the plan")).with_chunk(chunk)
}

fn document(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::new(Reason::InternalError, "a document cannot be written").with_source(error))
}
