//! Manifests: the documents of files, folders and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use pgexport_api::job::ExportJobSpec;
use pgexport_api::sink::ExportSinkSpec;
use pgexport_api::source::ExportSourceSpec;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read { file: String, source: std::io::Error },
    /// It is no YAML.
    #[error("{file}: {message}")]
    Syntax { file: String, message: String },
    /// A document is not what its kind wants.
    #[error("{file}: {kind} {name}: {message}")]
    Invalid { file: String, kind: String, name: String, message: String },
    /// A document of another kind.
    #[error(
        "{file}: {kind} is not a kind that `pgexport run` knows; it takes ExportJob, ExportSource, ExportSink, Secret and ConfigMap"
    )]
    UnknownKind { file: String, kind: String },
    /// Two documents of the same kind and name.
    #[error("{file}: {kind} {name} is there twice")]
    Duplicate { file: String, kind: &'static str, name: String },
    /// No ExportJob.
    #[error("the manifests hold no ExportJob{0}")]
    NoJob(String),
}

/// An object of a namespace, in the parts that matter here.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) object: T,
}

/// What all manifests hold.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    jobs: Vec<Named<ExportJobSpec>>,
    sources: Vec<Named<ExportSourceSpec>>,
    sinks: Vec<Named<ExportSinkSpec>>,
    secrets: Vec<Named<Secret>>,
    config_maps: Vec<Named<ConfigMap>>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Body<T> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Value,
    #[serde(rename = "status", default)]
    _status: Option<Value>,
    spec: T,
}

impl Manifests {
    /// Reads files, the manifests in folders, and `-` for standard input.
    pub(crate) fn read(filenames: &[PathBuf]) -> Result<Self, ManifestError> {
        let mut manifests = Self::default();
        for filename in filenames {
            if filename.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|source| ManifestError::Read { file: "standard input".to_owned(), source })?;
                manifests.add("standard input", &text)?;
                continue;
            }
            for file in files(filename)? {
                let name = file.display().to_string();
                let text = std::fs::read_to_string(&file)
                    .map_err(|source| ManifestError::Read { file: name.clone(), source })?;
                manifests.add(&name, &text)?;
            }
        }
        Ok(manifests)
    }

    /// The ExportJobs to carry out: all, or the one of this name.
    pub(crate) fn jobs(&self, name: Option<&str>) -> Result<Vec<&Named<ExportJobSpec>>, ManifestError> {
        let jobs: Vec<_> = self.jobs.iter().filter(|job| name.is_none_or(|name| name == job.name)).collect();
        if jobs.is_empty() {
            return Err(ManifestError::NoJob(name.map(|name| format!(" named {name}")).unwrap_or_default()));
        }
        Ok(jobs)
    }

    /// All ExportSources.
    pub(crate) fn sources(&self) -> &[Named<ExportSourceSpec>] {
        &self.sources
    }

    /// An ExportSource.
    pub(crate) fn source(&self, namespace: &str, name: &str) -> Option<&ExportSourceSpec> {
        find(&self.sources, namespace, name)
    }

    /// An ExportSink.
    pub(crate) fn sink(&self, namespace: &str, name: &str) -> Option<&ExportSinkSpec> {
        find(&self.sinks, namespace, name)
    }

    /// The Secrets of a namespace.
    pub(crate) fn secrets(&self, namespace: &str) -> impl Iterator<Item = (&str, &Secret)> {
        self.secrets
            .iter()
            .filter(move |secret| secret.namespace == namespace)
            .map(|secret| (secret.name.as_str(), &secret.object))
    }

    /// The ConfigMaps of a namespace.
    pub(crate) fn config_maps(&self, namespace: &str) -> impl Iterator<Item = (&str, &ConfigMap)> {
        self.config_maps
            .iter()
            .filter(move |config_map| config_map.namespace == namespace)
            .map(|config_map| (config_map.name.as_str(), &config_map.object))
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), ManifestError> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|error| ManifestError::Syntax { file: file.to_owned(), message: error.to_string() })?;
        documents
            .into_iter()
            .filter(|document| !document.is_null())
            .try_for_each(|document| self.add_document(file, document))
    }

    fn add_document(&mut self, file: &str, document: Value) -> Result<(), ManifestError> {
        let header = Header::deserialize(&document)
            .map_err(|error| ManifestError::Syntax { file: file.to_owned(), message: error.to_string() })?;
        let at = Place { file, kind: &header.kind, name: &header.metadata.name };
        let namespace = header.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        match header.kind.as_str() {
            "ExportJob" => push(&mut self.jobs, &at, "ExportJob", namespace, spec(&at, document)?),
            "ExportSource" => push(&mut self.sources, &at, "ExportSource", namespace, spec(&at, document)?),
            "ExportSink" => push(&mut self.sinks, &at, "ExportSink", namespace, spec(&at, document)?),
            "ConfigMap" => push(&mut self.config_maps, &at, "ConfigMap", namespace, strict(&at, document)?),
            "Secret" => push(&mut self.secrets, &at, "Secret", namespace, strict(&at, document)?),
            // What `kubectl kustomize` brings along.
            "Namespace" | "Kustomization" => Ok(()),
            kind => Err(ManifestError::UnknownKind { file: file.to_owned(), kind: kind.to_owned() }),
        }
    }
}

/// Where a document stands, for messages.
struct Place<'a> {
    file: &'a str,
    kind: &'a str,
    name: &'a str,
}

impl Place<'_> {
    fn invalid(&self, message: impl Into<String>) -> ManifestError {
        ManifestError::Invalid {
            file: self.file.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            message: message.into(),
        }
    }
}

fn push<T>(
    list: &mut Vec<Named<T>>,
    at: &Place<'_>,
    kind: &'static str,
    namespace: String,
    object: T,
) -> Result<(), ManifestError> {
    if at.name.is_empty() {
        return Err(at.invalid("metadata.name: give it a name"));
    }
    if find(list, &namespace, at.name).is_some() {
        return Err(ManifestError::Duplicate { file: at.file.to_owned(), kind, name: at.name.to_owned() });
    }
    list.push(Named { namespace, name: at.name.to_owned(), object });
    Ok(())
}

fn find<'a, T>(list: &'a [Named<T>], namespace: &str, name: &str) -> Option<&'a T> {
    list.iter().find(|named| named.namespace == namespace && named.name == name).map(|named| &named.object)
}

fn spec<T: DeserializeOwned>(at: &Place<'_>, document: Value) -> Result<T, ManifestError> {
    let body: Body<T> = strict(at, document)?;
    let served = format!("{}/{}", pgexport_api::GROUP, pgexport_api::VERSION);
    if body.api_version == served {
        Ok(body.spec)
    } else {
        Err(at.invalid(format!("apiVersion: write {served}")))
    }
}

/// As kubectl's strict validation: a field that does not exist is refused, not ignored.
fn strict<T: DeserializeOwned>(at: &Place<'_>, document: Value) -> Result<T, ManifestError> {
    let mut unknown = Vec::new();
    let object =
        serde_ignored::deserialize(document, |path| unknown.push(path.to_string().replace(".?", "")))
            .map_err(|error: serde_json::Error| at.invalid(error.to_string()))?;
    if unknown.is_empty() {
        Ok(object)
    } else {
        Err(at.invalid(format!("unknown field {}", unknown.join(", "))))
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| ManifestError::Read { file: path.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let manifest = file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
        if manifest {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// When a run that has no ExportJob in a cluster was created: now.
pub(crate) fn created() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINK: &str = "apiVersion: pgexport.dev/v1alpha1\nkind: ExportSink\nmetadata: {name: out}\nspec: {volume: {claimName: out}}\n";

    fn read(text: &str) -> Result<Manifests, ManifestError> {
        let mut manifests = Manifests::default();
        manifests.add("test.yaml", text).map(|()| manifests)
    }

    #[test]
    fn documents_are_found_by_kind_and_name() {
        let manifests = read(&format!(
            "{SINK}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{a: b}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{a: b}}\n"
        ))
        .unwrap();
        assert!(manifests.sink("default", "out").is_some());
        assert!(manifests.sink("other", "out").is_none());
        assert_eq!(manifests.secrets("default").count(), 1);
        assert_eq!(manifests.config_maps("default").count(), 1);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error =
            read(&SINK.replace("claimName: out", "claimName: out, clame: x")).unwrap_err().to_string();
        assert!(error.contains("ExportSink out") && error.contains("spec.volume.clame"), "{error}");
    }

    #[test]
    fn another_api_version_is_refused() {
        let error = read(&SINK.replace("v1alpha1", "v9")).unwrap_err().to_string();
        assert!(error.contains("pgexport.dev/v1alpha1"), "{error}");
    }

    #[test]
    fn the_same_name_twice_is_refused() {
        let error = read(&format!("{SINK}---\n{SINK}")).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }

    #[test]
    fn another_kind_is_refused() {
        let error = read("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n").unwrap_err().to_string();
        assert!(error.contains("Pod is not a kind"), "{error}");
    }
}
