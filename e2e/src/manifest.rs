//! Manifests, as a user would write them.

use pgexport_peers::{Account, Peers};
use serde_json::{Value, json};

/// `spec.postgres` for a database of the peers' PostgreSQL, read as the exporter.
#[must_use]
pub fn postgres_spec(peers: &Peers, database: &str) -> Value {
    json!({
        "host": peers.postgres.pod.ip().to_string(),
        "port": peers.postgres.pod.port(),
        "database": database,
        "user": peers.postgres.exporter.user,
        "passwordSecretRef": {"name": "db", "key": "password"},
        "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}},
    })
}

/// `spec.s3` for a bucket of the peers' S3 server.
#[must_use]
pub fn s3_spec(peers: &Peers, bucket: &str, prefix: &str) -> Value {
    json!({
        "bucket": bucket,
        "prefix": prefix,
        "region": peers.s3.region,
        "endpoint": peers.s3.pod_endpoint(),
        "forcePathStyle": true,
        "credentialsSecretRef": {"name": "s3"},
    })
}

/// The keys of a Secret for an S3 account.
#[must_use]
pub fn s3_secret(account: &Account) -> [(&'static str, &str); 2] {
    [("AWS_ACCESS_KEY_ID", &account.access_key), ("AWS_SECRET_ACCESS_KEY", &account.secret_key)]
}

/// An ExportJob's spec with source `db` and sink `customer`; `with` replaces or adds fields.
#[must_use]
pub fn job(datasets: Value, format: &str, with: Value) -> Value {
    let mut spec = json!({
        "sourceRef": {"name": "db"},
        "sinkRef": {"name": "customer"},
        "path": "out/",
        "datasets": datasets,
        "format": {"type": format},
    });
    if let (Some(spec), Value::Object(with)) = (spec.as_object_mut(), with) {
        spec.extend(with);
    }
    spec
}
