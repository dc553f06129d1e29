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
    /// Some keys go.
    Remove {
        /// In this order.
        keys: Vec<String>,
        /// Files of the delivery that the run was about to replace: they stay, and nothing names them any more.
        orphans: Vec<String>,
    },
    /// The run has delivered, and no manifest tells which files.
    Untold,
}

/// Chooses what goes of a run: its files that no delivery names, what its finished delivery has replaced, and the manifest
/// of one that was never finished. That goes first, so that no moment shows a manifest whose files are missing.
pub(super) fn choose(uid: &str, tokens: &Tokens, found: &Found<'_>) -> Choice {
    let is_sealed = match (found.success, found.manifest) {
        (Some(success), Some((_, sha256))) => success.manifest_sha256 == sha256,
        _ => false,
    };
    let is_delivered = found.success.is_some_and(|success| success.uid == uid);
    if is_delivered && !is_sealed {
        return Choice::Untold;
    }
    let manifest = found.manifest.map(|(manifest, _)| manifest);
    let unfinished = manifest.filter(|manifest| manifest.job.uid == uid && !is_delivered);
    let named: BTreeSet<&str> = match unfinished {
        Some(_) => BTreeSet::new(),
        None => manifest.into_iter().flat_map(Manifest::paths).collect(),
    };
    let replaced: BTreeSet<&str> =
        manifest.filter(|_| is_delivered).into_iter().flat_map(Manifest::surplus).collect();
    let goes = |key: &str| (tokens.name(key) && !named.contains(key)) || replaced.contains(key);
    let files = found.keys.iter().filter(|key| goes(key)).cloned();
    let keys: Vec<String> = unfinished.map(|_| MANIFEST.to_owned()).into_iter().chain(files).collect();
    let stays = |path: &&str| found.keys.iter().any(|key| key == path) && !goes(path);
    let orphans =
        unfinished.into_iter().flat_map(Manifest::surplus).filter(stays).map(str::to_owned).collect();
    Choice::Remove { keys, orphans }
}
