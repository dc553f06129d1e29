//! `ExportSink`: where to deliver.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::source::{ProbeStatus, SecretRef};

/// Where to deliver: a customer's bucket, or a volume.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "pgexport.dev",
    version = "v1alpha1",
    kind = "ExportSink",
    namespaced,
    shortname = "esink",
    category = "pgexport",
    status = "ExportSinkStatus",
    printcolumn(json_path = ".status.conditions[?(@.type==\"Ready\")].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.location", name = "Location", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        name = "Message",
        type_ = "string",
        priority = 1
    ),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, so that the names of pods made for it stay valid"),
    validation = Rule::new("has(self.spec.s3) != has(self.spec.volume)").message("spec: name exactly one of s3 and volume")
)]
#[serde(rename_all = "camelCase")]
pub struct ExportSinkSpec {
    /// Amazon S3, or a server that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A folder of a PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The service account of pods that write to this sink, for ambient cloud credentials. Default: the namespace's
    /// `default`. No token of it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Which ExportJobs may deliver here. Default: all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
}

/// Which ExportJobs may deliver to a sink. Each field that is given has to be met.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// Names of the ExportSources that may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub sources: Option<Vec<String>>,
    /// Names of the sources' named queries that may be exported; then none brought by an ExportJob itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub queries: Option<Vec<String>>,
    /// Parameters that an ExportJob has to give these values, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 63 && size(self[k]) <= 1024)").message("allow.parameters: names have at most 63 characters, values at most 1024"))]
    pub parameters: BTreeMap<String, String>,
}

/// A bucket, and a prefix in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Bucket name.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// What all keys begin with. Empty, or ending in `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self == '' || (self.endsWith('/') && !self.startsWith('/'))").message("prefix: end it with '/', and do not begin with '/'"))]
    pub prefix: String,
    /// Region of the bucket, such as `eu-west-1`.
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Address of a server other than Amazon's, such as `https://minio.example.com:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/?#]+$"))]
    pub endpoint: Option<String>,
    /// Address the bucket in the path instead of the host name; most servers other than Amazon's need it.
    #[serde(default)]
    pub force_path_style: bool,
    /// The account that must own the bucket: requests are refused by S3 when another one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{12}$"))]
    pub expected_bucket_owner: Option<String>,
    /// A Secret with the keys `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for temporary credentials,
    /// `AWS_SESSION_TOKEN`. Default: the pod's ambient credentials (IRSA, Pod Identity, instance profile).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// A folder of a PersistentVolumeClaim; under `pgexport run`, a folder of the machine.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name of the PersistentVolumeClaim.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Folder in the volume. Empty (its root), or a relative path that ends in `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self == '' || (self.endsWith('/') && !self.startsWith('/') && !('..' in self.split('/')) && !('.' in self.split('/')))").message("path: a relative path that ends with '/', without '.' and '..'"))]
    pub path: String,
}

/// What was last observed of an `ExportSink`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExportSinkStatus {
    /// The generation that the rest of this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Where it delivers, as a URI, such as `s3://acme-exports/from-us/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What the last successful probe was let do. Without `Read` and `List` an earlier delivery at a location is noticed only when
    /// all files are there; without `ListUploads` (and the right to delete, which is not tried) a failed attempt may leave something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub capabilities: Vec<Capability>,
    /// The last probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeStatus>,
}

/// See [`ExportSinkStatus::capabilities`].
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "described where they are used; doc comments here would turn the schema's enum into oneOf"
)]
pub enum Capability {
    Write,
    List,
    Read,
    ListUploads,
}

impl ExportSinkSpec {
    /// Where the sink delivers, as a URI: `s3://bucket/prefix`, or `volume://claim/path`.
    #[must_use]
    pub fn location(&self) -> String {
        match (&self.s3, &self.volume) {
            (Some(s3), _) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            (None, Some(volume)) => format!("volume://{}/{}", volume.claim_name, volume.path),
            (None, None) => String::new(),
        }
    }
}
