//! Removes what a run that has ended has left, in its staging and at its location. What is delivered stays, and so does
//! whatever is not this run's.
//!
//! It may be run at any time after the run's pods have ended, and again: it looks at what is there, and ends the same. What
//! is staged may be left for a later one, which removes nothing else.

mod choice;
mod token;

use std::sync::Arc;

use pgexport_api::naming::short_uid;
use pgexport_api::order::{CleanupOrder, CleanupPart, NamedSource, RunIdentity};
use pgexport_api::reason::Reason;
use pgexport_api::report::{Cleaned, Kept, truncate};
use pgexport_failpoint as failpoint;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use self::choice::{Choice, Found, choose};
use self::token::Tokens;
use crate::aurora::{attempt, end_orphans, ledger};
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST, Manifest, SUCCESS, Success};
use crate::secret::Secrets;
use crate::source::{Connector, application_name};
use crate::staging;
use crate::store::{self, Store, Volumes};

/// How many files a message names.
const NAMED: usize = 3;

/// The longest [`Cleaned::remains`], in bytes.
const MAX_REMAINS: usize = 1024;

/// Cleans up after a run. Where a store refuses to let be seen or removed what may be left, [`Cleaned::remains`] says so.
///
/// # Errors
/// What the stores say, but for a refusal, and [`Reason::Interrupted`] when it is cancelled.
pub async fn run(
    order: &CleanupOrder,
    secrets: Arc<dyn Secrets>,
    volumes: &Volumes,
    cancel: &CancellationToken,
) -> Result<Cleaned> {
    let interrupted = || Err(Error::new(Reason::Interrupted, "the cleanup was stopped before it was done"));
    cancel.run_until_cancelled(clean(order, secrets, volumes)).await.unwrap_or_else(interrupted)
}

async fn clean(order: &CleanupOrder, secrets: Arc<dyn Secrets>, volumes: &Volumes) -> Result<Cleaned> {
    let (folder, uid) = (staging::folder_of(&order.run), order.run.uid.as_str());
    let mut cleaned = Cleaned::default();
    let mut remains = Vec::new();
    if let Some(source) = &order.source {
        // Boxed, as it is a large future, and most databases export nothing by themselves.
        remains.extend(Box::pin(end_exports(&order.run, source, Arc::clone(&secrets))).await);
    }
    let staging = match &order.staging {
        None => None,
        Some(staging) => {
            let store = store::open(&staging.target, Arc::clone(&secrets), volumes)?;
            let mut sweep = Sweep::new(store.as_ref(), &folder, uid);
            let staged = sweep.staging(order.part).await?;
            remains.extend(sweep.end(&mut cleaned));
            cleaned.kept = staged.kept;
            failpoint::hit("cleanup::staging_removed", uid).await;
            Some((store, staged.marks))
        }
    };
    if let Some(sink) = order.sink.as_ref().filter(|_| order.part != CleanupPart::Staged) {
        let may_hold =
            staging.as_ref().is_none_or(|(_, marks)| marks.as_ref().is_none_or(|marks| !marks.is_empty()));
        let sink = store::open(&sink.target, secrets, volumes)?;
        let mut sweep = Sweep::new(sink.as_ref(), &order.path, uid);
        sweep.location(order).await?;
        failpoint::hit("cleanup::location_cleaned", uid).await;
        remains.extend(sweep.end(&mut cleaned).filter(|_| may_hold));
    }
    // The marks of transfers tell whether anything can be left at the location: they go when it has been looked at.
    if let (Some((store, Some(marks))), None) = (staging, &cleaned.kept) {
        let mut sweep = Sweep::new(store.as_ref(), &folder, uid);
        sweep.remove(marks).await?;
        remains.extend(sweep.end(&mut cleaned));
    }
    if !remains.is_empty() {
        cleaned.remains = Some(truncate(&remains.join(". "), MAX_REMAINS).to_owned());
    }
    Ok(cleaned)
}

/// Ends what the database still exports by itself: it would write to the staging after that was cleaned up. Where it cannot be
/// asked, says so.
async fn end_exports(run: &RunIdentity, source: &NamedSource, secrets: Arc<dyn Secrets>) -> Option<String> {
    let ending = async {
        let name = application_name(run, "cleanup");
        let session = Connector::new(&source.postgres, Arc::clone(&secrets)).connect(&name).await?;
        // Whether it takes a key does not matter any more.
        let source = NamedSource { kms_key_id: None, ..source.clone() };
        let found = ledger::find(&session, &source, secrets, &name).await?;
        if let Some(ledger) = &found.ledger {
            end_orphans(&session, ledger, &run.uid, |_, _| true).await?;
        }
        if let Some(ledger) = found.attempts() {
            attempt::close(&session, &ledger, &run.uid).await?;
            ledger.close().await;
        }
        session.close().await;
        Ok::<(), Error>(())
    };
    let error = ending.await.err()?;
    tracing::warn!(%error, "the database cannot be asked whether it still exports by itself");
    Some(format!(
        "ExportSource {} cannot be asked whether its database still writes to the staging: {error}; look with SELECT * FROM pgexport.orphans('{}')",
        source.name, run.uid
    ))
}

/// What is in the staging after a sweep.
#[derive(Debug, Default)]
struct Staged {
    /// The marks of transfers; `None` where they cannot be seen.
    marks: Option<Vec<String>>,
    /// All objects, where they stay.
    kept: Option<Kept>,
}

/// Removing from one store, below one folder.
struct Sweep<'a> {
    store: &'a dyn Store,
    /// Ends in `/`.
    folder: &'a str,
    uid: &'a str,
    objects: u64,
    uploads: u64,
    /// Why something may be left.
    trouble: Option<String>,
}

impl<'a> Sweep<'a> {
    const fn new(store: &'a dyn Store, folder: &'a str, uid: &'a str) -> Self {
        Self { store, folder, uid, objects: 0, uploads: 0, trouble: None }
    }

    /// Adds up, and says what may be left.
    fn end(self, cleaned: &mut Cleaned) -> Option<String> {
        cleaned.objects = cleaned.objects.saturating_add(self.objects);
        cleaned.uploads = cleaned.uploads.saturating_add(self.uploads);
        self.trouble.map(|trouble| format!("{trouble}; {}", Reason::PartialOutputRemains.hint()))
    }

    /// Takes a refusal for an answer.
    fn unless_refused<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.reason() == Reason::AccessDenied => {
                let (folder, uid) = (self.store.uri(self.folder), short_uid(self.uid));
                self.trouble.get_or_insert_with(|| {
                    format!(
                        "{folder} may hold files and unfinished uploads whose names contain {uid}-: {error}"
                    )
                });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes all but the marks of transfers, or only what nobody can look at: unfinished uploads.
    async fn staging(&mut self, part: CleanupPart) -> Result<Staged> {
        self.give_up_uploads(|_| true).await?;
        let listed = self.store.list(self.folder).await;
        let Some(keys) = self.unless_refused(listed)? else { return Ok(Staged::default()) };
        let objects = keys.len() as u64;
        let (marks, keys): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| staging::is_mark(key, self.folder));
        let mut staged = Staged { marks: Some(marks), kept: None };
        if part != CleanupPart::AllButStaged {
            self.remove(keys).await?;
        } else if objects > 0 {
            staged.kept = Some(Kept { objects, location: self.store.uri(self.folder) });
        }
        Ok(staged)
    }

    /// Removes what the run has left where it delivers.
    async fn location(&mut self, order: &CleanupOrder) -> Result<()> {
        let tokens = Tokens::of(order);
        self.give_up_uploads(|name| tokens.name(name) || name == MANIFEST || name == SUCCESS).await?;
        let listed = self.store.list(self.folder).await;
        let Some(keys) = self.unless_refused(listed)? else { return Ok(()) };
        let keys: Vec<String> =
            keys.iter().filter_map(|key| key.strip_prefix(self.folder).map(str::to_owned)).collect();
        let Some(success) = self.document(&keys, SUCCESS).await? else { return Ok(()) };
        let Some(manifest) = self.document(&keys, MANIFEST).await? else { return Ok(()) };
        let success = success.as_deref().and_then(Success::read);
        let sha256 = manifest.as_deref().map(|text| hex::encode(Sha256::digest(text))).unwrap_or_default();
        let manifest = manifest.as_deref().and_then(Manifest::read);
        let found = Found {
            keys: &keys,
            success: success.as_ref(),
            manifest: manifest.as_ref().map(|manifest| (manifest, sha256.as_str())),
        };
        match choose(&order.run.uid, &tokens, &found) {
            Choice::Remove { keys, orphans, unsealed } => {
                if let Some(theirs) = unsealed {
                    self.trouble.get_or_insert(format!(
                        "{} holds the delivery of ExportJob {theirs} without its {SUCCESS}, which went when it was to be replaced: \
                         deliver there again with ifExists: Replace",
                        self.store.uri(self.folder)
                    ));
                }
                if !orphans.is_empty() {
                    self.trouble.get_or_insert(format!(
                        "{} holds what is left of the delivery that was being replaced: {}",
                        self.store.uri(self.folder),
                        first_of(&orphans)
                    ));
                }
                self.remove(keys.iter().map(|key| format!("{}{key}", self.folder)).collect()).await
            }
            Choice::Untold => {
                self.trouble.get_or_insert(format!(
                    "{} may hold files of failed attempts: its {MANIFEST} is not the one that {SUCCESS} tells of",
                    self.store.uri(self.folder)
                ));
                Ok(())
            }
        }
    }

    /// A document of the folder, if it is among `keys`. The outer `None`: it cannot be read.
    async fn document(&mut self, keys: &[String], name: &str) -> Result<Option<Option<bytes::Bytes>>> {
        if !keys.iter().any(|key| key == name) {
            return Ok(Some(None));
        }
        let read = self.store.get(&format!("{}{name}", self.folder)).await;
        self.unless_refused(read)
    }

    /// Gives up the uploads whose names below the folder are wanted.
    async fn give_up_uploads(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let listed = self.store.uploads(self.folder).await;
        for upload in self.unless_refused(listed)?.unwrap_or_default() {
            if !upload.key.strip_prefix(self.folder).is_some_and(&is_wanted) {
                continue;
            }
            let given_up = self.store.abort_upload(&upload).await;
            if self.unless_refused(given_up)?.is_some() {
                self.uploads += 1;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, keys: Vec<String>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let removed = self.store.delete(&keys).await;
        if self.unless_refused(removed)?.is_some() {
            self.objects = self.objects.saturating_add(keys.len() as u64);
        }
        Ok(())
    }
}

/// Some names, and how many there are.
fn first_of(names: &[String]) -> String {
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
