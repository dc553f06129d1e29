//! Taking the place of an earlier delivery.
//!
//! When all data files are committed: the earlier `_SUCCESS` goes, this manifest takes the place of the earlier one,
//! `_SUCCESS` comes, and the earlier files go. In between there is no `_SUCCESS`, so a reader that waits for it sees the
//! earlier delivery whole, none, or this one whole. The manifest names the files that it replaces, so that whoever comes after a
//! crash, at any point, goes on: another try, or the cleanup.

use std::collections::BTreeSet;

use pgexport_api::reason::Reason;
use pgexport_failpoint as failpoint;
use sha2::{Digest, Sha256};

use super::arrival::{Earlier, changed};
use super::seal::{Created, create_success, document, put_over};
use super::{MANIFEST, Manifest, SUCCESS, Sealed, Success};
use crate::error::{Error, Result};
use crate::store::Store;

/// Ends a delivery whose data files are committed, in the place of what was there when it began.
///
/// # Errors
/// [`Reason::StoreError`]: something newer is there by now.
pub async fn replace(store: &dyn Store, path: &str, manifest: Manifest, earlier: &Earlier) -> Result<Sealed> {
    let manifest = Manifest { replaces: earlier.surplus(&manifest), ..manifest };
    if let Some(success) = &earlier.success
        && !store.delete_version(&format!("{path}{SUCCESS}"), &success.version).await?
    {
        return Err(changed(store, path));
    }
    failpoint::hit("replace::success_removed", &manifest.job.uid).await;
    let key = format!("{path}{MANIFEST}");
    let body = document(&manifest)?;
    let sha256 = hex::encode(Sha256::digest(&body));
    let is_there = earlier.manifest.as_ref().is_some_and(|found| found.body == body);
    if !is_there && !put_over(store, &key, body, earlier.manifest.as_ref()).await? {
        return Err(changed(store, path));
    }
    failpoint::hit("replace::manifest_written", &manifest.job.uid).await;
    match create_success(store, path, &Success::new(&manifest, &sha256)).await? {
        Created::Ours => {}
        Created::Another(_) => return Err(changed(store, path)),
        Created::Refused => {
            let message = format!("{SUCCESS} at {} cannot be read any more", store.uri(path));
            return Err(Error::new(Reason::AccessDenied, message));
        }
    }
    failpoint::hit("replace::success_written", &manifest.job.uid).await;
    remove_surplus(store, path, &manifest).await?;
    Ok(Sealed { manifest: store.uri(&key), sha256 })
}

/// Removes what a delivery that is sealed has replaced, where an earlier try was stopped before it had.
pub(super) async fn finish(store: &dyn Store, path: &str, success: &Success) -> Result<()> {
    let Some(body) = store.get(&format!("{path}{MANIFEST}")).await? else { return Ok(()) };
    if success.manifest_sha256 != hex::encode(Sha256::digest(&body)) {
        return Ok(());
    }
    match Manifest::read(&body) {
        Some(manifest) => remove_surplus(store, path, &manifest).await,
        None => Ok(()),
    }
}

async fn remove_surplus(store: &dyn Store, path: &str, manifest: &Manifest) -> Result<()> {
    let keys: Vec<String> = manifest.surplus().map(|name| format!("{path}{name}")).collect();
    if keys.is_empty() { Ok(()) } else { store.delete(&keys).await }
}

impl Earlier {
    /// The files that a manifest replaces: those that the earlier one names, and where that was never sealed, those that it
    /// was to replace itself. Of something that is not a manifest of ours nothing is known.
    fn surplus(&self, manifest: &Manifest) -> Vec<String> {
        let Some(document) = &self.manifest else { return Vec::new() };
        let Some(earlier) = Manifest::read(&document.body) else { return Vec::new() };
        let sealed = self.success.as_ref().and_then(|success| Success::read(&success.body));
        let is_sealed = sealed
            .is_some_and(|success| success.manifest_sha256 == hex::encode(Sha256::digest(&document.body)));
        let inherited = if is_sealed { &[] } else { earlier.replaces.as_slice() };
        let kept: BTreeSet<&str> = manifest.paths().collect();
        let all: BTreeSet<&str> = earlier.paths().chain(inherited.iter().map(String::as_str)).collect();
        all.difference(&kept).filter(|path| is_below(path)).map(|path| (*path).to_owned()).collect()
    }
}

impl Manifest {
    /// The files that it replaces and does not name itself. A path that leads out of the location is none.
    pub fn surplus(&self) -> impl Iterator<Item = &str> {
        let kept: BTreeSet<&str> = self.paths().collect();
        self.replaces.iter().map(String::as_str).filter(move |path| is_below(path) && !kept.contains(path))
    }
}

/// Whether a path is that of a data file below the location.
fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && path != MANIFEST && path != SUCCESS
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn only_data_files_below_the_location_are_replaced() {
        for inside in ["a.json", "day=1/a.json", "..a", "x/_SUCCESS"] {
            assert!(is_below(inside), "{inside}");
        }
        for outside in ["", "/a", "../a", "a/../../b", "a//b", "./a", "_SUCCESS", "_manifest.json"] {
            assert!(!is_below(outside), "{outside}");
        }
    }
}
