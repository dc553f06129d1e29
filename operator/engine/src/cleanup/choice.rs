//! Which files of a location go. No I/O.

use std::collections::BTreeSet;

use super::token::Tokens;
use crate::manifest::{MANIFEST, Manifest, SUCCESS, Success};

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
        /// The ExportJob whose delivery the run was about to replace, and which has lost its `_SUCCESS` to that.
        unsealed: Option<String>,
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
    let theirs = manifest.filter(|manifest| manifest.job.uid != uid);
    let unsealed = theirs
        .filter(|_| !found.keys.iter().any(|key| key == SUCCESS))
        .map(|manifest| format!("{}/{}", manifest.job.namespace, manifest.job.name));
    Choice::Remove { keys, orphans, unsealed }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const UID: &str = "0b0c1d2e-0000-4000-8000-000000000000";
    const THEIR_UID: &str = "ffffffff-0000-4000-8000-000000000000";
    const OURS: [&str; 2] = ["a-0b0c1d2e-1.json", "a-0b0c1d2e-2.json"];
    const THEIRS: &str = "a-ffffffff-1.json";

    fn manifest(uid: &str, files: &[&str], replaces: &[&str]) -> Manifest {
        let file = |path: &&str| json!({"path": path, "rows": 0, "bytes": 0, "crc64nvme": "AAAAAAAAAAA=", "parts": []});
        let files: Vec<Value> = files.iter().map(file).collect();
        serde_json::from_value(json!({
            "version": 1, "pgexport": "", "location": "", "token": "", "format": {"type": "JSON"}, "parameters": [],
            "job": {"namespace": "n", "name": "j", "uid": uid, "attempt": 2, "specSha256": ""},
            "serverVersion": "", "chunks": 1, "started": "2026-11-23T00:00:00Z", "finished": "2026-11-23T00:00:00Z",
            "rows": 0, "bytes": 0, "replaces": replaces,
            "datasets": [{"name": "a", "querySha256": "", "columns": [], "rows": 0, "bytes": 0, "files": files}],
        }))
        .unwrap()
    }

    fn chosen(success: Option<(&str, &str)>, manifest: Option<&Manifest>) -> Choice {
        let keys = ["_SUCCESS", MANIFEST, OURS[0], OURS[1], THEIRS, "customer.json"].map(str::to_owned);
        let success = success.map(|(uid, sha256)| {
            let text = json!({
                "version": 1, "namespace": "n", "name": "j", "uid": uid, "attempt": 1, "manifestSha256": sha256,
                "chunks": 1, "files": 1, "rows": 0, "bytes": 0,
            });
            Success::read(text.to_string().as_bytes()).unwrap()
        });
        let manifest = manifest.map(|manifest| (manifest, "sha"));
        let tokens = Tokens::from(["0b0c1d2e-1", "0b0c1d2e-2"]);
        choose(UID, &tokens, &Found { keys: &keys, success: success.as_ref(), manifest })
    }

    #[test]
    fn what_no_delivery_names_goes_and_what_is_others_stays() {
        let (delivered, unfinished) =
            (manifest(UID, &OURS[1..], &[]), manifest(UID, &OURS, &[THEIRS, "gone"]));
        let replacing = manifest(UID, &OURS[1..], &[THEIRS, "gone", "../customer.json", OURS[1]]);
        let theirs = manifest(THEIR_UID, &[THEIRS, OURS[1]], &["customer.json"]);
        let ours = Some((UID, "sha"));
        let another = Some((THEIR_UID, "sha"));
        let goes = |success, manifest, keys: &[&str], orphans: &[&str]| {
            let [keys, orphans] =
                [keys, orphans].map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(
                chosen(success, manifest),
                Choice::Remove { keys, orphans, unsealed: None },
                "{success:?} {manifest:?}"
            );
        };
        goes(None, None, &OURS, &[]);
        goes(None, Some(&unfinished), &[MANIFEST, OURS[0], OURS[1]], &[THEIRS]);
        goes(None, Some(&theirs), &OURS[..1], &[]);
        goes(another, Some(&theirs), &OURS[..1], &[]);
        goes(another, Some(&delivered), &[MANIFEST, OURS[0], OURS[1]], &[]);
        goes(ours, Some(&delivered), &OURS[..1], &[]);
        goes(ours, Some(&replacing), &[OURS[0], THEIRS], &[]);
    }

    #[test]
    fn a_delivery_without_its_manifest_is_left_as_it_is() {
        for manifest in [None, Some(&manifest(UID, &OURS, &[])), Some(&manifest(THEIR_UID, &[], &[]))] {
            assert_eq!(chosen(Some((UID, "another's")), manifest), Choice::Untold);
        }
    }
}
