//! Whether what a run refers to is still where its status has told: readers know its location, and its chunks wait in its
//! staging. Neither changes with the ExportSinks.

use super::{Refusal, RunOrder, Target};
use crate::job::ExportJobStatus;
use crate::reason::Reason;

/// Why a run that has told its places cannot go on by this order.
#[must_use]
pub fn moved(order: &RunOrder, status: &ExportJobStatus) -> Option<Refusal> {
    let refusal = |message| Some(Refusal::new(Reason::SinkNotReady, message));
    if let Some(told) = Told::location(status)
        && let Some(difference) = told.differs(&order.location(), &order.sink.target)
    {
        let (name, fix) = (&order.sink.name, difference.fix("change the ExportSink back"));
        let Difference { now, told, .. } = difference;
        return refusal(format!(
            "ExportSink {name} now delivers to {now}, and this ExportJob to {told}: {fix}, or create a new ExportJob"
        ));
    }
    let told = Told::staging(status)?;
    let Some(staging) = order.staging() else {
        return refusal(format!(
            "ExportSource {} now stages at no ExportSink, and this ExportJob's chunks are at {}: change its staging back, or create a new ExportJob",
            order.source.name, told.uri
        ));
    };
    let difference = told.differs(&staging.target.location(), &staging.target)?;
    let fix = difference.fix("change its staging back");
    let Difference { now, told, .. } = difference;
    refusal(format!(
        "ExportSource {} now stages at {now} (ExportSink {}), and this ExportJob's chunks are at {told}: {fix}, or create a new ExportJob",
        order.source.name, staging.name
    ))
}

/// A place, as a status tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) uri: &'a str,
    /// See [`Target::server`]. Statuses of former versions do not tell it.
    server: Option<&'a str>,
}

/// What is another place than it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) now: String,
    pub(super) told: String,
    /// Whether only the server is another one.
    pub(super) server: bool,
}

impl Difference {
    /// What to do about it, where it is not the server.
    pub(super) const fn fix(&self, otherwise: &'static str) -> &'static str {
        if self.server { "change endpoint and region of the ExportSink's spec.s3 back" } else { otherwise }
    }
}

impl<'a> Told<'a> {
    /// Where files are delivered.
    pub(super) fn location(status: &'a ExportJobStatus) -> Option<Self> {
        Some(Self { uri: status.location.as_deref()?, server: status.location_server.as_deref() })
    }

    /// Where chunks wait, where the delivery is staged.
    pub(super) fn staging(status: &'a ExportJobStatus) -> Option<Self> {
        Some(Self { uri: status.staging.as_deref()?, server: status.staging_server.as_deref() })
    }

    /// How `now`, a URI below `target`, differs from it.
    pub(super) fn differs(self, now: &str, target: &Target) -> Option<Difference> {
        if now != self.uri {
            let (now, told) = (now.to_owned(), self.uri.to_owned());
            return Some(Difference { now, told, server: false });
        }
        self.other_server(now, target)
    }

    /// How the server of `target` differs from it.
    pub(super) fn other_server(self, now: &str, target: &Target) -> Option<Difference> {
        let server = target.server().unwrap_or_default();
        let told = self.server.filter(|told| *told != server)?;
        Some(Difference {
            now: format!("{now} at {server}"),
            told: format!("{} at {told}", self.uri),
            server: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{resolved, s3};
    use super::*;
    use crate::job::ExportJobStatus;

    const LOCATION: &str = "s3://acme-exports/from-us/job/2026-11-23/";
    const STAGING: &str = "s3://staging/from-us/";
    const AMAZON: &str = "Amazon S3 in eu-west-1";

    fn message(status: Value, staging: &Value) -> Option<String> {
        let order = resolved(json!({"delivery": {"mode": "Staged"}}), Some(staging.clone())).unwrap();
        let status: ExportJobStatus = serde_json::from_value(status).unwrap();
        let refusal = moved(&order, &status)?;
        assert_eq!(refusal.reason, Reason::SinkNotReady);
        Some(refusal.message)
    }

    #[test]
    fn what_is_where_it_was_told_has_not_moved() {
        for status in [
            json!({}),
            json!({"location": LOCATION, "staging": STAGING, "locationServer": AMAZON, "stagingServer": AMAZON}),
            // As a former version has told it.
            json!({"location": LOCATION, "staging": STAGING}),
        ] {
            assert_eq!(message(status.clone(), &s3("staging")), None, "{status}");
        }
    }

    #[test]
    fn another_place_or_server_is_told_with_the_fix() {
        let elsewhere = "https://elsewhere.example.com";
        let mut other_server = s3("staging");
        other_server["s3"]["endpoint"] = json!(elsewhere);
        let mut other_region = s3("staging");
        other_region["s3"]["region"] = json!("us-east-1");
        let told = json!({"location": LOCATION, "staging": STAGING, "locationServer": AMAZON, "stagingServer": AMAZON});
        let with = |key: &str, value: &str| {
            let mut told = told.clone();
            told[key] = json!(value);
            told
        };
        let cases: [(Value, Value, &[&str]); 6] = [
            (with("location", "s3://old/x/"), s3("staging"), &["ExportSink acme", "s3://old/x/", LOCATION]),
            (with("locationServer", elsewhere), s3("staging"), &["acme", elsewhere, AMAZON, "endpoint"]),
            (told.clone(), s3("other"), &["s3://other/from-us/", STAGING, "change its staging back"]),
            (told.clone(), other_server, &[elsewhere, AMAZON, "change endpoint and region"]),
            (told.clone(), other_region, &["us-east-1", AMAZON, "change endpoint and region"]),
            (with("stagingServer", elsewhere), s3("staging"), &["ExportSink staging", elsewhere]),
        ];
        for (status, staging, wanted) in cases {
            let message = message(status.clone(), &staging).unwrap();
            for part in wanted {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
            assert!(message.contains("or create a new ExportJob"), "{message}");
        }
    }

    #[test]
    fn chunks_that_wait_are_not_forgotten_where_the_delivery_would_be_direct_now() {
        let order = resolved(json!({}), None).unwrap();
        let status = serde_json::from_value(json!({"location": LOCATION, "staging": STAGING})).unwrap();
        assert!(moved(&order, &status).unwrap().message.contains("no ExportSink"));
    }
}
