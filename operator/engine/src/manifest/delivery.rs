//! A delivery on its way: files that are stored and not yet visible, and the step that makes them so.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;
use pgexport_failpoint as failpoint;
use tokio_util::sync::CancellationToken;

use super::arrival::delivered_by_another;
use super::{Earlier, Export, File, Manifest, PlacedFile, replace, seal};
use crate::error::{Error, Result};
use crate::output::FinishedFile;
use crate::plan::Plan;
use crate::staging::Staging;
use crate::store::{Pending, Put, Store};

/// How many files are made visible, or given up, at the same time.
const COMMITS: usize = 16;

/// Collects the files of a delivery and commits them together.
///
/// What it promises: no file is visible before [`Delivery::commit`]; `_SUCCESS` is written last, when every file that the
/// manifest names is visible. When a commit fails half-way, the files that are visible already stay, without `_SUCCESS`,
/// under names that carry the attempt's token; the others are given up. Whoever holds a delivery commits it or calls
/// [`Delivery::abort`]: dropping it leaves uploads open in the store.
#[derive(Debug)]
pub struct Delivery {
    store: Arc<dyn Store>,
    path: String,
    earlier: Option<Earlier>,
    /// Where there is one, each try writes the same bytes under the same names.
    staging: Option<Staging>,
    files: Mutex<Vec<DeliveredFile>>,
}

/// A data file that is stored and not yet visible.
#[derive(Debug)]
pub struct DeliveredFile {
    /// The place of its data set in the plan.
    pub dataset: u32,
    /// Its number in its data set.
    pub part: u32,
    /// Its rows.
    pub rows: u64,
    /// The file.
    pub file: FinishedFile,
}

impl Delivery {
    /// A delivery of this order to its sink's store, in the place of what was found there, if anything is to be replaced;
    /// with the staging that it comes from.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        order: &RunOrder,
        earlier: Option<Earlier>,
        staging: Option<Staging>,
    ) -> Self {
        Self { store, path: order.path.clone(), earlier, staging, files: Mutex::default() }
    }

    /// The key of a data file in the sink's store.
    #[must_use]
    pub fn key(&self, file_name: &str) -> String {
        format!("{}{file_name}", self.path)
    }

    /// Adds a file.
    pub fn add(&self, file: DeliveredFile) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }

    /// Makes all files visible, then writes `_manifest.json` and `_SUCCESS`.
    ///
    /// # Errors
    /// What the store says, [`Reason::OutputExists`], or [`Reason::Interrupted`] when it is cancelled before the manifest is
    /// written. All that is not visible by then has been given up.
    pub async fn commit(
        &self,
        order: &RunOrder,
        plan: &Plan,
        export: Export,
        cancel: &CancellationToken,
    ) -> Result<Delivered> {
        failpoint::hit("delivery::uploaded", &order.run.uid).await;
        let (placed, pending): (Vec<_>, Vec<_>) =
            self.take().into_iter().map(|file| self.place(file)).unzip();
        let stop = cancel.child_token();
        let commits: Vec<BoxFuture<'_, Result<()>>> =
            pending.into_iter().map(|(key, file)| self.commit_unless(&stop, key, file).boxed()).collect();
        let mut commits = stream::iter(commits).buffer_unordered(COMMITS);
        let mut committed = Ok(());
        while let Some(result) = commits.next().await {
            if result.is_err() {
                stop.cancel();
            }
            committed = committed.and(result);
            failpoint::hit("delivery::file_committed", &order.run.uid).await;
        }
        drop(commits);
        if cancel.is_cancelled() {
            return Err(Error::new(Reason::Interrupted, "the delivery was stopped before it was complete"));
        }
        committed?;
        failpoint::hit("delivery::committed", &order.run.uid).await;
        let manifest = Manifest::new(order, plan, export, placed);
        let store = self.store.as_ref();
        let sealed = match &self.earlier {
            Some(earlier) => replace(store, &self.path, manifest.clone(), earlier).await,
            None => seal(store, &self.path, &manifest, self.staging.as_ref()).await,
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            // A former attempt, given up for dead, may have come to its end before this one.
            Err(error) => return delivered_by_another(store, order).await.ok_or(error),
        };
        Ok(Delivered {
            chunks: export.chunks,
            manifest: sealed.manifest,
            manifest_sha256: sealed.sha256,
            files: manifest.files(),
            rows: manifest.rows,
            bytes: manifest.bytes,
            snapshot_time: manifest.snapshot.as_ref().map(|snapshot| snapshot.time),
            chunking: Vec::new(),
            already: false,
        })
    }

    /// Gives up all files.
    pub async fn abort(&self) {
        let files = self.take();
        let aborts: Vec<BoxFuture<'_, ()>> =
            files.into_iter().map(|file| file.file.pending.abort().boxed()).collect();
        stream::iter(aborts).buffer_unordered(COMMITS).collect::<Vec<()>>().await;
    }

    fn take(&self) -> Vec<DeliveredFile> {
        std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn place(&self, delivered: DeliveredFile) -> (PlacedFile, (String, Box<dyn Pending>)) {
        let DeliveredFile { dataset, part, rows, file: FinishedFile { key, digest, pending } } = delivered;
        let path = key.strip_prefix(&self.path).unwrap_or(&key).to_owned();
        (PlacedFile { dataset, part, file: File { path, rows, digest } }, (key, pending))
    }

    /// Commits a file, or gives it up once another one has failed.
    async fn commit_unless(
        &self,
        stop: &CancellationToken,
        key: String,
        file: Box<dyn Pending>,
    ) -> Result<()> {
        if stop.is_cancelled() {
            file.abort().await;
            return Ok(());
        }
        match file.commit().await? {
            Put::Written => Ok(()),
            // An earlier try of this attempt has written it: the name is the attempt's alone.
            Put::Exists if self.staging.is_some() => Ok(()),
            Put::Exists => Err(self.not_told(&key)),
        }
    }

    fn not_told(&self, key: &str) -> Error {
        let message = format!(
            "{} is there already, of another pod of this attempt, and cannot be read to be compared",
            self.store.uri(key)
        );
        Error::new(Reason::StoreError, message).with_hint("the next attempt writes under names of its own")
    }
}
