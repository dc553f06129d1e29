//! `ExportSink`: where to deliver.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::duration::{duration, read_duration, up_to_a_minute};
use crate::source::{ProbeStatus, SecretKeyRef, SecretRef};

/// Where to deliver: a customer's bucket, or a volume. Or whom to tell of runs that fail, by HTTP.
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
    validation = Rule::new("[has(self.spec.s3), has(self.spec.volume), has(self.spec.http)].exists_one(given, given)").message("spec: name exactly one of s3, volume and http"),
    validation = Rule::new("!has(self.spec.http) || !has(self.spec.allow)").message("allow: it is about deliveries, which an ExportSink of type http does not take: leave it out")
)]
#[serde(rename_all = "camelCase")]
pub struct ExportSinkSpec {
    /// Amazon S3, or a server that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A folder of a PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// A receiver of notifications, as ExportJobs name it in `onFailure.notifySinkRef`. Nothing is delivered there: an ExportJob
    /// that names such a sink in `sinkRef` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
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

/// A receiver of notifications: a JSON document is sent to it by POST, signed in the manner of Standard Webhooks
/// (<https://www.standardwebhooks.com>).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.url.startsWith('https://') || (has(self.allowInsecure) && self.allowInsecure)")
    .message("http.url: begin it with https://, or set http.allowInsecure to true: the token and the message are sent in the clear then"))]
pub struct Http {
    /// Its URL, such as `https://hooks.example.com/pgexport`. Redirects are not followed.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-\x22$-~]*)?$")
    )]
    pub url: String,
    /// The key that messages are signed with: `whsec_` and the base64 of 24 to 64 bytes. While it is changed, the old and the
    /// new one, with a space between: then each message has both signatures.
    pub signing_secret_ref: SecretKeyRef,
    /// A token that is sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The certificate authorities to trust, as PEM. Default: those of the operator's image (Mozilla's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// How long one try may take, up to the answer.
    #[serde(default = "default_timeout", deserialize_with = "read_duration")]
    #[schemars(schema_with = "duration", extend("x-kubernetes-validations" = [up_to_a_minute("http.timeout")]))]
    pub timeout: Duration,
    /// Whether the URL may begin with `http://`, without TLS.
    #[serde(default)]
    pub allow_insecure: bool,
}

fn default_timeout() -> Duration {
    StdDuration::from_secs(10).into()
}

impl Http {
    /// Scheme, host and port of the URL: what statuses and messages tell of it. Its path may be as good as a password.
    #[must_use]
    pub fn origin(&self) -> &str {
        let host = self.url.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.url[host..].find('/').map_or(self.url.len(), |path| host + path);
        &self.url[..end]
    }
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
    /// Where the sink delivers, as a URI: `s3://bucket/prefix`, or `volume://claim/path`; of a receiver, `https://host:port`.
    #[must_use]
    pub fn location(&self) -> String {
        match (&self.s3, &self.volume, &self.http) {
            (Some(s3), ..) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            (None, Some(volume), _) => format!("volume://{}/{}", volume.claim_name, volume.path),
            (None, None, Some(http)) => http.origin().to_owned(),
            (None, None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_told_of_without_its_path() {
        let origin = |url: &str| {
            let key = serde_json::json!({"name": "pager", "key": "key"});
            let http: Http =
                serde_json::from_value(serde_json::json!({"url": url, "signingSecretRef": key})).unwrap();
            http.origin().to_owned()
        };
        assert_eq!(origin("https://hooks.example.com/T0/secret?x=1"), "https://hooks.example.com");
        assert_eq!(origin("https://[::1]:8443/"), "https://[::1]:8443");
        assert_eq!(origin("http://pager"), "http://pager");
    }
}
