//! How chunks reach the sink: directly, or by way of a staging.

use super::{DatasetOrder, DeliveryPath, Input, NamedSink, Refusal, Target};
use crate::job::{Consistency, DeliveryMode, Layout, Strategy};
use crate::reason::Reason;
use crate::sink::ExportSinkSpec;
use crate::source::Method;

/// Direct where one pod can stream each file from one chunk; otherwise by way of the source's staging.
pub(super) fn delivery(input: &Input<'_>, datasets: &[DatasetOrder]) -> Result<DeliveryPath, Refusal> {
    let job = input.job;
    let joined = job.files.layout == Layout::Single
        && datasets
            .iter()
            .any(|dataset| !matches!(dataset.chunking.strategy, Strategy::Auto | Strategy::None));
    let direct = match job.delivery.mode {
        DeliveryMode::Direct if input.source.method == Method::AuroraS3 => {
            let source = &job.source_ref.name;
            return Err(Refusal::new(
                Reason::InvalidSpec,
                format!(
                    "delivery.mode Direct: ExportSource {source} has method AuroraS3, whose database writes to the staging: choose Staged or Auto"
                ),
            ));
        }
        DeliveryMode::Direct if job.workers > 1 => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "delivery.mode Direct streams from one pod: set workers to 1, or choose Staged",
            ));
        }
        DeliveryMode::Direct if joined => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "files.layout Single with delivery.mode Direct needs chunking strategy Auto or None: choose Staged or Auto to join chunks to one file",
            ));
        }
        DeliveryMode::Direct if job.chunking.consistency == Consistency::PerChunk => {
            return Err(Refusal::new(
                Reason::InvalidSpec,
                "delivery.mode Direct has no resume: with chunking.consistency PerChunk choose Staged or Auto",
            ));
        }
        DeliveryMode::Direct => true,
        DeliveryMode::Staged => false,
        DeliveryMode::Auto => {
            job.workers == 1
                && !joined
                && job.chunking.consistency == Consistency::Snapshot
                && input.source.method == Method::Copy
        }
    };
    if direct {
        return Ok(DeliveryPath::Direct);
    }
    let source = &job.source_ref.name;
    let reference = input.source.staging.as_ref().ok_or_else(|| {
        Refusal::new(
            Reason::StagingRequired,
            format!("this delivery is staged, and ExportSource {source} names no staging: set its spec.staging.sinkRef to an ExportSink of type s3"),
        )
    })?;
    let staging = input.staging.ok_or_else(|| {
        let name = &reference.sink_ref.name;
        Refusal::new(
            Reason::ReferenceNotFound,
            format!("ExportSink {name}, which ExportSource {source} names as staging, does not exist"),
        )
    })?;
    let name = reference.sink_ref.name.clone();
    let field = format!("spec.staging.sinkRef.name of ExportSource {source}");
    match target(&name, staging, Reason::StagingRequired, &field)? {
        Target::Volume(_) if input.source.method == Method::AuroraS3 => Err(Refusal::new(
            Reason::StagingRequired,
            format!(
                "ExportSource {source} has method AuroraS3, whose database writes to a bucket: name an ExportSink of type s3 in its spec.staging.sinkRef"
            ),
        )),
        Target::Volume(_) if !input.staging_on_volume => Err(Refusal::new(
            Reason::StagingRequired,
            format!("ExportSink {name}, which ExportSource {source} names as staging, is not of type s3"),
        )),
        target => Ok(DeliveryPath::Staged { staging: NamedSink { name, target, staging: true } }),
    }
}

/// The target of a sink that this field names.
pub(super) fn target(
    name: &str,
    sink: &ExportSinkSpec,
    refused: Reason,
    field: &str,
) -> Result<Target, Refusal> {
    match (&sink.s3, &sink.volume, &sink.http) {
        (Some(s3), None, None) => Ok(Target::S3(s3.clone())),
        (None, Some(volume), None) => Ok(Target::Volume(volume.clone())),
        (None, None, Some(_)) => Err(Refusal::new(
            refused,
            format!(
                "ExportSink {name} is of type http, which receives notifications only (spec.onFailure.notifySinkRef): name one of type s3 or volume in {field}"
            ),
        )),
        _ => Err(Refusal::new(
            Reason::InvalidSpec,
            format!("ExportSink {name}: name exactly one of s3, volume and http"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{by_column, refuses, resolved, resolved_by, s3};
    use super::*;

    #[test]
    fn a_receiver_of_notifications_is_no_place_to_deliver_or_stage() {
        let http =
            json!({"http": {"url": "https://pager", "signingSecretRef": {"name": "pager", "key": "key"}}});
        let refusal = resolved(json!({"workers": 2}), Some(http.clone())).unwrap_err();
        assert_eq!(refusal.reason, Reason::StagingRequired);
        for part in ["ExportSink staging is of type http", "spec.staging.sinkRef.name of ExportSource db"] {
            assert!(refusal.message.contains(part), "{refusal}");
        }
        let sink: ExportSinkSpec = serde_json::from_value(http).unwrap();
        let refusal =
            target("pager", &sink, Reason::InvalidSpec, "spec.sinkRef.name of a new ExportJob").unwrap_err();
        assert!(refusal.message.contains("s3 or volume in spec.sinkRef.name"), "{refusal}");
    }

    #[test]
    fn auto_is_direct_where_one_pod_can_stream_each_file() {
        let single = json!({"files": {"layout": "Single"}});
        let cases = [
            (json!({}), true),
            (json!({"chunking": by_column()}), true),
            (single.clone(), true),
            (json!({"workers": 2}), false),
            (json!({"files": {"layout": "Single"}, "chunking": by_column()}), false),
            (json!({"delivery": {"mode": "Staged"}}), false),
        ];
        for (with, direct) in cases {
            let order = resolved(with.clone(), Some(s3("staging"))).unwrap();
            assert_eq!(order.delivery == DeliveryPath::Direct, direct, "{with}");
        }
    }

    #[test]
    fn a_database_that_exports_by_itself_needs_a_bucket() {
        let order = resolved_by("AuroraS3", json!({}), Some(s3("staging"))).unwrap();
        assert!(matches!(order.delivery, DeliveryPath::Staged { .. }), "Auto is Staged");
        assert_eq!(order.cleanup().source, Some(order.source));
        assert_eq!(resolved(json!({}), Some(s3("staging"))).unwrap().cleanup().source, None);
        let volume = json!({"volume": {"claimName": "claim"}});
        for (with, staging, reason, word) in [
            (json!({"delivery": {"mode": "Direct"}}), s3("staging"), Reason::InvalidSpec, "Staged or Auto"),
            (json!({}), volume, Reason::StagingRequired, "of type s3"),
        ] {
            let refusal = resolved_by("AuroraS3", with, Some(staging)).unwrap_err();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
        let refusal = resolved_by("AuroraS3", json!({}), None).unwrap_err();
        assert_eq!(refusal.reason, Reason::StagingRequired);
    }

    #[test]
    fn a_delivery_that_cannot_be_is_refused_with_the_fix() {
        let volume = json!({"volume": {"claimName": "c"}});
        refuses([
            (json!({"workers": 2}), None, Reason::StagingRequired, "spec.staging.sinkRef"),
            (json!({"workers": 2}), Some(volume), Reason::StagingRequired, "not of type s3"),
            (
                json!({"workers": 2, "delivery": {"mode": "Direct"}}),
                None,
                Reason::InvalidSpec,
                "set workers to 1",
            ),
            (
                json!({"files": {"layout": "Single"}, "chunking": by_column(), "delivery": {"mode": "Direct"}}),
                None,
                Reason::InvalidSpec,
                "choose Staged or Auto",
            ),
        ]);
    }
}
