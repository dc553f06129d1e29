//! Orders for tests.

use serde_json::{Value, json};

use super::{Input, Refusal, RunOrder, resolve};
use crate::job::ExportJobSpec;
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;

/// The ExportJob's name and uid.
pub(super) const NAMES: (&str, &str) = ("job", "0b0c6f0e-5b0e-4d61-9d8a-6f1f1c3a2b10");
pub(super) const CREATED: &str = "2026-11-23T13:45:01Z";

pub(super) fn merge(base: &mut Value, with: Value) {
    match (base, with) {
        (Value::Object(base), Value::Object(with)) => {
            for (key, value) in with {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, with) => *base = with,
    }
}

/// The ExportJob that differs from a plain one by `with`.
pub(super) fn job(with: Value) -> ExportJobSpec {
    let mut job = json!({
        "sourceRef": {"name": "db"}, "sinkRef": {"name": "acme"}, "path": "{job}/{date}/",
        "datasets": [{"name": "findings", "sql": "SELECT 1 WHERE :chunk"}], "format": {"type": "JSON"},
    });
    merge(&mut job, with);
    serde_json::from_value(job).unwrap()
}

pub(super) fn source(method: &str, has_staging: bool) -> Value {
    let mut source = json!({
        "postgres": {"host": "h", "database": "d", "user": "u", "passwordSecretRef": {"name": "s", "key": "k"}},
        "method": method,
    });
    if has_staging {
        source["staging"] = json!({"sinkRef": {"name": "staging"}});
    }
    source
}

/// Resolves it; the source has a staging, where one is given.
pub(super) fn resolved(with: Value, staging: Option<Value>) -> Result<RunOrder, Refusal> {
    resolved_by("Copy", with, staging)
}

pub(super) fn resolved_by(method: &str, with: Value, staging: Option<Value>) -> Result<RunOrder, Refusal> {
    let source = source(method, staging.is_some());
    let staging: Option<ExportSinkSpec> = staging.map(|staging| serde_json::from_value(staging).unwrap());
    let (name, uid) = NAMES;
    resolve(
        &Input {
            namespace: "team",
            name,
            uid,
            created: CREATED.parse().unwrap(),
            job: &job(with),
            source: &serde_json::from_value(source).unwrap(),
            sink: &serde_json::from_value(s3("acme-exports")).unwrap(),
            staging: staging.as_ref(),
            staging_on_volume: false,
        },
        2,
    )
}

/// Checks that each is refused as it is said.
pub(super) fn refuses(cases: impl IntoIterator<Item = (Value, Option<Value>, Reason, &'static str)>) {
    for (with, staging, reason, wanted) in cases {
        let refusal = resolved(with.clone(), staging).unwrap_err();
        assert_eq!(refusal.reason, reason, "{with}");
        assert!(refusal.message.contains(wanted), "{with}: {refusal}");
    }
}

pub(super) fn s3(bucket: &str) -> Value {
    json!({"s3": {"bucket": bucket, "region": "eu-west-1", "prefix": "from-us/"}})
}

pub(super) fn by_column() -> Value {
    json!({"strategy": "Column", "column": {"name": "id"}})
}
