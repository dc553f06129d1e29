//! Whom a failure is told, by what an ExportJob names. No I/O.

use pgexport_api::order::{NamedReceiver, Refusal, receiver};
use pgexport_api::{ExportJob, Reason};

use super::dereference::References;
use super::validate::found;
use crate::job::mount::Mounts;

/// The field that names it.
const FIELD: &str = "spec.onFailure.notifySinkRef.name";

/// A receiver of notifications that a pod can reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// The ExportSink.
    pub receiver: NamedReceiver,
    /// What the pod sees.
    pub mounts: Mounts,
}

/// The receiver that `job` names, or why nothing can be told to it. Whether its last probe went well does not count: telling
/// it is a better one.
#[must_use]
pub fn validate(
    namespace: &str,
    job: &ExportJob,
    references: &References,
) -> Option<Result<Receiver, Refusal>> {
    let name = &job.spec.on_failure.as_ref()?.notify_sink_ref.name;
    let reference = references.receiver.as_ref()?;
    let found = found(reference, "ExportSink", name, namespace, FIELD, Reason::SinkNotReady);
    Some(found.and_then(|sink| {
        let receiver = receiver(name, &sink.spec)?;
        let mounts =
            Mounts::default().with_receiver(&receiver.http, sink.spec.service_account_name.as_deref());
        Ok(Receiver { receiver, mounts })
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::export_job::dereference::Reference;
    use crate::export_job::fixture::{job, references, sink, tell_pager};

    #[test]
    fn its_pod_sees_its_keys_and_nothing_else() {
        let told = validate("exports", &job(&tell_pager()), &references()).unwrap().unwrap();
        let secrets: Vec<(&str, usize)> =
            told.mounts.secrets.iter().map(|(name, keys)| (name.as_str(), keys.len())).collect();
        assert_eq!(secrets, [("pager", 2), ("pager-ca", 1)]);
        assert_eq!(validate("exports", &job(&json!({})), &references()), None);
    }

    #[test]
    fn what_cannot_be_told_is_named_with_the_fix() {
        let refusal = |reference: Reference<_>| {
            let references = References { receiver: Some(reference), ..references() };
            validate("exports", &job(&tell_pager()), &references).unwrap().unwrap_err()
        };
        let missing = refusal(Reference::Missing);
        assert_eq!(missing.reason, Reason::ReferenceNotFound);
        assert!(missing.message.contains("ExportSink pager") && missing.message.contains(FIELD), "{missing}");
        let bucket = refusal(Reference::Found(Arc::new(sink("pager", &json!({})))));
        assert!(bucket.message.contains("of type http"), "{bucket}");
    }
}
