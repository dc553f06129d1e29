//! Which files of a location go. No I/O.

use std::collections::BTreeSet;

use super::token::Tokens;
use crate::manifest::{MANIFEST, Manifest, Success};

/// What is at a location. Keys are relative to its path.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) keys: &'a [String],
    /// `_SUCCESS`, where it is one of ours.
    pub(super) success: Option<&'a Success>,
    /// `_manifest.json`, where it is one of ours, and its SHA-256.
    pub(super) manifest: Option<(&'a Manifest, &'a str)>,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// These keys go, in this order.
    Remove(Vec<String>),
    /// The run has delivered, and no manifest tells which files.
    Untold,
}

/// Chooses what goes of a run: its files that no delivery names, and its manifest if it has sealed none. The manifest goes
/// first, so that no moment shows one whose files are missing.
pub(super) fn choose(uid: &str, tokens: &Tokens, found: &Found<'_>) -> Choice {
    let is_ours = |manifest: &Manifest| manifest.job.uid == uid;
    let (delivered, unsealed) = match (found.success, found.manifest) {
        (Some(success), Some((manifest, sha256)))
            if success.uid == uid && success.manifest_sha256 == sha256 =>
        {
            (Some(manifest), None)
        }
        (Some(success), _) if success.uid == uid => return Choice::Untold,
        (_, Some((manifest, _))) if is_ours(manifest) => (None, Some(MANIFEST.to_owned())),
        (_, manifest) => (manifest.map(|(manifest, _)| manifest), None),
    };
    let named: BTreeSet<&str> = delivered.into_iter().flat_map(Manifest::paths).collect();
    let own = found.keys.iter().filter(|key| tokens.name(key) && !named.contains(key.as_str()));
    Choice::Remove(unsealed.into_iter().chain(own.cloned()).collect())
}
