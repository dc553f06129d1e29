//! Objects for tests.

use pgexport_api::ExportSchedule;
use serde_json::{Value, json};

use crate::export_job::fixture::merge;

pub const UID: &str = "5c4ed000-1111-2222-3333-444444444444";

/// A schedule of each minute whose spec is changed by a merge patch.
pub fn schedule(patch: &Value) -> ExportSchedule {
    let mut spec = json!({
        "schedule": "* * * * *",
        "jobTemplate": {
            "metadata": {"labels": {"team": "blue"}},
            "spec": {
                "sourceRef": {"name": "findings-db"}, "sinkRef": {"name": "acme"}, "path": "{schedule}/{date}/{time}/",
                "datasets": [{"name": "findings", "sql": "SELECT * FROM findings"}], "format": {"type": "JSON"}
            }
        }
    });
    merge(&mut spec, patch);
    serde_json::from_value(json!({
        "apiVersion": "pgexport.dev/v1alpha1", "kind": "ExportSchedule",
        "metadata": {"name": "nightly", "namespace": "exports", "uid": UID, "generation": 1,
            "creationTimestamp": "2026-11-25T20:00:00Z"},
        "spec": spec
    }))
    .unwrap()
}
