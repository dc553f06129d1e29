//! Objects for tests.

use std::sync::Arc;

use jiff::Timestamp;
use pgexport_api::{ExportJob, ExportSink, ExportSource};
use serde_json::{Value, json};

use super::dereference::{Reference, References};

pub const UID: &str = "0b0c1d2e-1111-2222-3333-444444444444";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the ExportJob of the fixture was created.
pub fn created() -> Timestamp {
    at("2026-11-23T10:00:00Z")
}

/// An ExportJob whose spec is changed by a merge patch.
pub fn job(patch: &Value) -> ExportJob {
    let mut spec = json!({
        "sourceRef": {"name": "findings-db"}, "sinkRef": {"name": "acme"}, "path": "findings/{date}/",
        "parameters": [{"name": "tenant", "type": "uuid", "value": "0b0c0000-0000-0000-0000-000000000000"}],
        "datasets": [{"name": "findings", "sql": "SELECT * FROM findings f WHERE f.tenant = :tenant AND :chunk"}],
        "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f", "chunks": 8}},
        "format": {"type": "JSON"}, "files": {"layout": "Single"}, "workers": 2
    });
    merge(&mut spec, patch);
    serde_json::from_value(json!({
        "apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportJob",
        "metadata": {"name": "acme-findings", "namespace": "exports", "uid": UID, "generation": 1,
            "creationTimestamp": "2026-11-23T10:00:00Z"},
        "spec": spec
    }))
    .unwrap()
}

pub fn direct() -> ExportJob {
    job(&json!({"workers": 1, "files": {"layout": "PerChunk"}}))
}

fn ready() -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Probed", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-11-23T09:00:00Z"}]})
}

pub fn source(patch: &Value) -> ExportSource {
    let mut source = json!({
        "apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportSource",
        "metadata": {"name": "findings-db", "namespace": "exports", "uid": "50c50000-0000", "generation": 1},
        "spec": {
            "postgres": {"host": "db.example.com", "database": "findings", "user": "exporter",
                "passwordSecretRef": {"name": "findings-db", "key": "password"},
                "tls": {"caSecretRef": {"name": "findings-db", "key": "ca.crt"}}},
            "staging": {"sinkRef": {"name": "staging"}}
        },
        "status": ready()
    });
    merge(&mut source, patch);
    serde_json::from_value(source).unwrap()
}

pub fn sink(name: &str, patch: &Value) -> ExportSink {
    let mut sink = json!({
        "apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportSink",
        "metadata": {"name": name, "namespace": "exports", "uid": "51000000-0000", "generation": 1},
        "spec": {"s3": {"bucket": format!("{name}-bucket"), "prefix": "from-us/", "region": "eu-west-1",
            "credentialsSecretRef": {"name": name}}},
        "status": ready()
    });
    merge(&mut sink, patch);
    serde_json::from_value(sink).unwrap()
}

/// A receiver of notifications, which `tell_pager` names.
pub fn pager() -> ExportSink {
    let http = json!({"url": "https://pager.example.com/pgexport", "signingSecretRef": {"name": "pager", "key": "key"},
        "tokenSecretRef": {"name": "pager", "key": "token"}, "caSecretRef": {"name": "pager-ca", "key": "ca.crt"}});
    sink("pager", &json!({"spec": {"s3": null, "http": http}}))
}

/// The patch of an ExportJob whose failure is told.
pub fn tell_pager() -> Value {
    json!({"onFailure": {"notifySinkRef": {"name": "pager"}}})
}

/// What the fixture's ExportJob refers to; all of it is ready.
pub fn references() -> References {
    References {
        source: Reference::Found(Arc::new(source(&json!({})))),
        sink: Reference::Found(Arc::new(sink("acme", &json!({})))),
        staging: Some(Reference::Found(Arc::new(sink("staging", &json!({}))))),
        receiver: Some(Reference::Found(Arc::new(pager()))),
    }
}

/// A merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}
