//! What the tests of stores and transfers share: a bucket or a folder of one's own, and a run's order and plan.

#![allow(dead_code, reason = "each test binary uses its share")]

pub mod proxy;
pub mod run;
pub mod stopping;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use pgexport_api::job::Compression;
use pgexport_api::order::Target;
use pgexport_api::sink::{S3, Volume};
use pgexport_api::source::SecretRef;
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};
use pgexport_engine::store::{self, Store, Volumes};
use pgexport_peers::{Account, Peers};
use tempfile::TempDir;

/// The claim that volumes have.
pub const CLAIM: &str = "exports";

/// The prefix in buckets and volumes.
pub const PREFIX: &str = "from us/";

/// A store's backend, empty and of one's own.
pub enum Backend {
    S3 { peers: Box<Peers>, bucket: String },
    Volume { folder: TempDir },
}

impl Backend {
    pub async fn s3() -> Self {
        let peers = Peers::load().unwrap();
        let bucket = peers.s3.create_bucket("engine").await.unwrap();
        Self::S3 { peers: Box::new(peers), bucket }
    }

    pub fn volume() -> Self {
        Self::Volume { folder: TempDir::new().unwrap() }
    }

    pub fn target(&self) -> Target {
        match self {
            Self::S3 { peers, bucket } => Target::S3(s3_target(peers, bucket)),
            Self::Volume { .. } => {
                Target::Volume(Volume { claim_name: CLAIM.to_owned(), path: PREFIX.to_owned() })
            }
        }
    }

    pub fn secrets(&self) -> Arc<dyn Secrets> {
        match self {
            Self::S3 { peers, .. } => secrets(&peers.s3.admin),
            Self::Volume { .. } => Arc::new(MemorySecrets::default()),
        }
    }

    pub fn volumes(&self) -> Volumes {
        match self {
            Self::S3 { .. } => Volumes::folders(BTreeMap::new()),
            Self::Volume { folder } => volumes(folder.path()),
        }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        store::open(&self.target(), self.secrets(), &self.volumes()).unwrap()
    }

    /// What readers see, whoever put it there: paths below the bucket or the volume.
    pub async fn visible(&self) -> Vec<String> {
        match self {
            Self::S3 { peers, bucket } => {
                peers.s3.list(bucket, "").await.unwrap().into_iter().map(|object| object.key).collect()
            }
            Self::Volume { folder } => {
                files(folder.path()).into_iter().filter(|path| !is_hidden(path)).collect()
            }
        }
    }

    /// What readers do not see, and what would stay for ever: open uploads, hidden files.
    pub async fn left_behind(&self) -> Vec<String> {
        match self {
            Self::S3 { peers, bucket } => {
                peers.s3.open_uploads(bucket).await.unwrap().into_iter().map(|upload| upload.key).collect()
            }
            Self::Volume { folder } => {
                files(folder.path()).into_iter().filter(|path| is_hidden(path)).collect()
            }
        }
    }

    /// A file's bytes, read without the store.
    pub async fn bytes(&self, key: &str) -> Vec<u8> {
        let key = format!("{PREFIX}{key}");
        match self {
            Self::S3 { peers, bucket } => peers.s3.get(bucket, &key).await.unwrap(),
            Self::Volume { folder } => std::fs::read(folder.path().join(key)).unwrap(),
        }
    }
}

pub fn s3_target(peers: &Peers, bucket: &str) -> S3 {
    S3 {
        bucket: bucket.to_owned(),
        prefix: PREFIX.to_owned(),
        region: peers.s3.region.clone(),
        endpoint: Some(peers.s3.host_endpoint()),
        force_path_style: true,
        expected_bucket_owner: None,
        credentials_secret_ref: Some(SecretRef { name: "acme".to_owned() }),
    }
}

/// A Secret `acme` with the account's keys, ended by a line break as `echo` leaves it.
pub fn secrets(account: &Account) -> Arc<dyn Secrets> {
    let mut secrets = MemorySecrets::default();
    secrets.insert("acme", "AWS_ACCESS_KEY_ID", Secret::new(account.access_key.clone().into_bytes()));
    secrets.insert(
        "acme",
        "AWS_SECRET_ACCESS_KEY",
        Secret::new(format!("{}\n", account.secret_key).into_bytes()),
    );
    Arc::new(secrets)
}

pub fn volumes(folder: &Path) -> Volumes {
    Volumes::folders(BTreeMap::from([(CLAIM.to_owned(), folder.to_owned())]))
}

/// What is in a file of any number of members or frames.
pub fn decompressed(compression: Compression, file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain.extend_from_slice(file),
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut plain).unwrap();
        }
        Compression::Zstd => plain = zstd::stream::decode_all(file).unwrap(),
    }
    plain
}

/// Bytes that no compression and no repetition hides errors in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn is_hidden(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}

fn files(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}
