//! From manifests to an order that this process can carry out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as SecretObject;
use pgexport_api::job::ExportJobSpec;
use pgexport_api::order::{Input, RunOrder, resolve};
use pgexport_api::reason::Reason;
use pgexport_api::sink::{ExportSinkSpec, Volume};
use pgexport_api::source::{ExportSourceSpec, ObjectRef, Staging};
use pgexport_engine::Error;
use pgexport_engine::secret::{MemorySecrets, Secret, Secrets};
use pgexport_engine::store::Volumes;
use tempfile::TempDir;

use super::manifest::{Manifests, Named, created};

/// The claim that stands for the local staging.
const LOCAL_STAGING: &str = "pgexport-staging";

/// An order, and what it needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) order: RunOrder,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) volumes: Volumes,
    /// The local staging; removed with this value.
    _staging: Option<TempDir>,
}

/// Resolves an ExportJob against the other manifests, as the controller does against the cluster.
pub(crate) fn prepare(
    manifests: &Manifests,
    job: &Named<ExportJobSpec>,
    folders: &BTreeMap<String, PathBuf>,
    staging_dir: Option<&Path>,
) -> Result<Prepared, Error> {
    let namespace = &job.namespace;
    let source = manifests
        .source(namespace, &job.object.source_ref.name)
        .ok_or_else(|| missing("ExportSource", &job.object.source_ref))?;
    let sink = manifests
        .sink(namespace, &job.object.sink_ref.name)
        .ok_or_else(|| missing("ExportSink", &job.object.sink_ref))?;
    let mut source = source.clone();
    let local = source.staging.is_none();
    let staging = if local {
        source.staging = Some(Staging {
            sink_ref: ObjectRef { name: LOCAL_STAGING.to_owned() },
            retention: None,
            kms_key_id: None,
        });
        Some(local_staging())
    } else {
        source.staging.as_ref().and_then(|staging| manifests.sink(namespace, &staging.sink_ref.name)).cloned()
    };
    let uid = uuid::Uuid::new_v4().to_string();
    let mut order = resolve(
        &Input {
            namespace,
            name: &job.name,
            uid: &uid,
            created: created(),
            job: &job.object,
            source: &source,
            sink,
            staging: staging.as_ref(),
            staging_on_volume: local,
        },
        1,
    )
    .map_err(|refusal| Error::new(refusal.reason, refusal.message))?;
    order.workers = 1;
    let (volumes, staging) = volumes(&source, sink, folders, staging_dir)?;
    Ok(Prepared { order, secrets: Arc::new(secrets(manifests, namespace)), volumes, _staging: staging })
}

fn missing(kind: &str, reference: &ObjectRef) -> Error {
    Error::new(Reason::ReferenceNotFound, format!("{kind} {} is not in the manifests", reference.name))
        .with_hint("add its manifest by another -f, or correct the reference")
}

fn local_staging() -> ExportSinkSpec {
    ExportSinkSpec {
        s3: None,
        volume: Some(Volume { claim_name: LOCAL_STAGING.to_owned(), path: String::new() }),
        http: None,
        service_account_name: None,
        allow: None,
    }
}

/// A claim is the folder that the command line names, else the folder of the claim's name.
fn volumes(
    source: &ExportSourceSpec,
    sink: &ExportSinkSpec,
    folders: &BTreeMap<String, PathBuf>,
    staging_dir: Option<&Path>,
) -> Result<(Volumes, Option<TempDir>), Error> {
    let mut mapped = folders.clone();
    if let Some(volume) = &sink.volume {
        mapped.entry(volume.claim_name.clone()).or_insert_with(|| PathBuf::from(&volume.claim_name));
    }
    let local = source.staging.as_ref().is_some_and(|staging| staging.sink_ref.name == LOCAL_STAGING);
    if !local {
        return Ok((Volumes::folders(mapped), None));
    }
    let builder = |error: std::io::Error| {
        Error::new(Reason::VolumeUnavailable, format!("a folder for staged chunks cannot be made: {error}"))
            .with_hint("name a folder with enough space by --staging-dir")
    };
    let folder = match staging_dir {
        Some(parent) => {
            std::fs::create_dir_all(parent).map_err(builder)?;
            tempfile::Builder::new().prefix("pgexport-").tempdir_in(parent).map_err(builder)?
        }
        None => tempfile::Builder::new().prefix("pgexport-").tempdir().map_err(builder)?,
    };
    mapped.insert(LOCAL_STAGING.to_owned(), folder.path().to_owned());
    Ok((Volumes::folders(mapped), Some(folder)))
}

/// ConfigMaps and Secrets of the manifests first, then Secrets of the environment.
pub(crate) fn secrets(manifests: &Manifests, namespace: &str) -> WithEnvironment {
    let mut memory = MemorySecrets::default();
    for (name, secret) in manifests.secrets(namespace) {
        for (key, value) in values(secret) {
            memory.insert(name, key, Secret::new(value));
        }
    }
    for (name, config_map) in manifests.config_maps(namespace) {
        for (key, value) in config_map.data.iter().flatten() {
            memory.insert_config(name, key, value.clone().into_bytes());
        }
    }
    WithEnvironment(memory)
}

/// `stringData` stands above `data`, as in a cluster.
fn values(secret: &SecretObject) -> BTreeMap<&str, Vec<u8>> {
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.clone()));
    let strings =
        secret.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.clone().into_bytes()));
    data.chain(strings).collect()
}

/// Secrets that also come from the environment.
#[derive(Debug)]
pub(crate) struct WithEnvironment(MemorySecrets);

impl Secrets for WithEnvironment {
    fn find(&self, name: &str, key: &str) -> Result<Option<Secret>, Error> {
        if let Some(secret) = self.0.find(name, key)? {
            return Ok(Some(secret));
        }
        Ok(std::env::var_os(variable(name, key)).map(|value| Secret::new(value.into_encoded_bytes())))
    }

    fn find_in_config_map(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.find_in_config_map(name, key)
    }
}

/// `PGEXPORT_SECRET_<NAME>_<KEY>`, in capitals, with `_` for what is neither a letter nor a digit.
fn variable(name: &str, key: &str) -> String {
    let upper = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("PGEXPORT_SECRET_{}_{}", upper(name), upper(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_by_secret_and_key() {
        assert_eq!(variable("findings-db", "ca.crt"), "PGEXPORT_SECRET_FINDINGS_DB_CA_CRT");
    }
}
