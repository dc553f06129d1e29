//! Who is told of a run that has failed.

use super::{NamedReceiver, Refusal};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;

/// The receiver of notifications that an ExportJob names.
///
/// # Errors
/// The ExportSink is not of type http.
pub fn receiver(name: &str, sink: &ExportSinkSpec) -> Result<NamedReceiver, Refusal> {
    match &sink.http {
        Some(http) => Ok(NamedReceiver { name: name.to_owned(), http: http.clone() }),
        None => Err(Refusal::new(
            Reason::InvalidSpec,
            format!(
                "ExportSink {name} does not receive notifications: name one of type http in spec.onFailure.notifySinkRef.name of a new ExportJob"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::s3;
    use super::*;

    #[test]
    fn a_bucket_receives_no_notifications() {
        let http =
            json!({"http": {"url": "https://pager", "signingSecretRef": {"name": "pager", "key": "key"}}});
        let sink: ExportSinkSpec = serde_json::from_value(http).unwrap();
        assert_eq!(receiver("pager", &sink).unwrap().http.url, "https://pager");
        let bucket: ExportSinkSpec = serde_json::from_value(s3("acme")).unwrap();
        let refusal = receiver("acme", &bucket).unwrap_err();
        assert!(refusal.message.contains("spec.onFailure.notifySinkRef.name"), "{refusal}");
    }
}
