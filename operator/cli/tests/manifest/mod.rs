//! The manifests that tests hand to `pgexport run`.

use pgexport_peers::Postgres;
use serde_json::{Value, json};

/// A file of these objects.
pub(crate) fn file(objects: &[Value]) -> String {
    objects.iter().flat_map(|object| ["---\n".to_owned(), object.to_string(), "\n".to_owned()]).collect()
}

/// An object of one of pgexport's kinds.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "pgexport.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A Secret of these texts.
pub(crate) fn secret(name: &str, texts: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts})
}

/// The ExportSource `db`: a database of the peer, as its exporter, whose password is in one Secret and the CA's certificate in
/// another.
pub(crate) fn source(postgres: &Postgres, database: &str, password_secret: &str, ca_secret: &str) -> Value {
    let spec = json!({"postgres": {
        "host": postgres.host.ip().to_string(), "port": postgres.host.port(), "database": database,
        "user": postgres.exporter.user, "passwordSecretRef": {"name": password_secret, "key": "password"},
        "tls": {"caSecretRef": {"name": ca_secret, "key": "ca.crt"}},
    }});
    object("ExportSource", "db", &spec)
}
