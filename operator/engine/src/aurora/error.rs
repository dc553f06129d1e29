//! What the extension says, as reasons. It has one SQLSTATE for whatever S3 answers; the answer itself stands in the detail,
//! as Amazon's client words it. Details are not passed on, as a function of the query could raise the same error with
//! a value in it: what is known is told in our own words, and the table of runs keeps the rest.

use pgexport_api::reason::Reason;

use super::Target;
use crate::error::Error;
use crate::source::error::{ServerMessage, Stage};

/// How a failing export is named in messages.
pub(super) const DOING: &str = "the export by the database failed";

/// How an export failed, as the server tells.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) sql_state: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

/// A piece of an answer in lower case, what it means, and what to do.
type Answer = (&'static str, Reason, &'static str, &'static str);

/// The first that fits. Texts are S3's own error messages and those of Amazon's client for C++.
const ANSWERS: &[Answer] = &[
    (
        "kms",
        Reason::AccessDenied,
        "S3 may not use the KMS key",
        "let the role that is associated with the database (feature s3Export) do kms:GenerateDataKey and kms:Decrypt with spec.staging.kmsKeyId",
    ),
    (
        "access denied",
        Reason::AccessDenied,
        "S3 denies the access",
        "let the role that is associated with the database (feature s3Export) do s3:PutObject and s3:AbortMultipartUpload below the staging's prefix",
    ),
    (
        "bucket does not exist",
        Reason::BucketNotFound,
        "S3 knows no such bucket",
        "create the staging's bucket in the database's region and account, or correct the ExportSink",
    ),
    (
        "specified endpoint",
        Reason::BucketNotFound,
        "the bucket is in another region than the ExportSink says",
        "stage in a bucket of the database's own region: the extension reaches no other one",
    ),
    (
        "connect to endpoint",
        Reason::StoreUnreachable,
        "the database does not reach S3",
        "let its security group out to TCP 443 of S3, and give isolated subnets an S3 gateway endpoint",
    ),
    (
        "timed out",
        Reason::StoreUnreachable,
        "the database does not reach S3 in time",
        "let its security group out to TCP 443 of S3, and give isolated subnets an S3 gateway endpoint",
    ),
    (
        "access key id",
        Reason::CredentialsRefused,
        "S3 does not know the database's credentials",
        "associate the role with the database anew, with feature name s3Export",
    ),
    (
        "signature",
        Reason::CredentialsRefused,
        "S3 refuses the database's credentials",
        "associate the role with the database anew, with feature name s3Export",
    ),
    (
        "token",
        Reason::CredentialsRefused,
        "S3 refuses the database's credentials",
        "associate the role with the database anew, with feature name s3Export",
    ),
];

/// The role is not associated with the database, or not yet.
const NO_ROLE: &str = "credentials stored with the database cluster";

/// How the extension begins to tell of S3's errors.
const UPLOAD: &str = "could not upload to amazon s3";

/// What it means.
pub(super) fn classify(said: &Said, target: &Target) -> Error {
    let Said { sql_state, message, detail, hint } = said;
    let place = format!("s3://{}/{}", target.bucket, target.prefix);
    let (lower, answer) = (message.to_lowercase(), detail.as_deref().unwrap_or_default().to_lowercase());
    let told = |reason, what: &str, hint: &str| {
        Error::new(reason, format!("{DOING}: {what} ({place})"))
            .with_sql_state(sql_state.as_str())
            .with_hint(hint)
    };
    if lower.contains(NO_ROLE) {
        return told(
            Reason::CredentialsRefused,
            "no IAM role is associated with the database",
            "associate a role with the cluster (on RDS with the instance, on a clone anew), with feature name s3Export, and wait until it is active",
        );
    }
    if lower.starts_with(UPLOAD) {
        return match ANSWERS.iter().find(|(text, ..)| answer.contains(text)) {
            Some((_, reason, what, hint)) => told(*reason, what, hint),
            None => told(
                Reason::StoreError,
                "it could not upload to S3",
                "it is tried again; if it comes again, the detail of what S3 said is in pgexport.run, or in the database's log",
            ),
        };
    }
    let server = ServerMessage { sql_state: sql_state.clone(), message: message.clone(), hint: None };
    let error = server.to_error(Stage::Run, DOING);
    match (error.reason(), hint) {
        // Ours, from the schema pgexport.
        (Reason::ExtensionUnavailable | Reason::WrongInstance, Some(hint)) => error.with_hint(hint.as_str()),
        (Reason::QueryCancelled, Some(hint)) if hint.starts_with("statement_timeout") => {
            error.with_hint(hint.as_str())
        }
        _ => error,
    }
}

impl std::fmt::Debug for Said {
    /// Without the texts, which may hold values.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Said").field("sql_state", &self.sql_state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use pgexport_api::reason::Reason;

    use super::{Said, Target, classify};

    fn classified(sql_state: &str, message: &str, detail: Option<&str>) -> crate::Error {
        let target = Target {
            bucket: "staging".to_owned(),
            prefix: "in/".to_owned(),
            region: "eu-west-1".to_owned(),
            kms_key: None,
        };
        let detail = detail.map(|detail| format!("Amazon S3 client returned '{detail}'."));
        let (sql_state, message) = (sql_state.to_owned(), message.to_owned());
        classify(&Said { sql_state, message, detail, hint: None }, &target)
    }

    #[test]
    fn each_answer_of_s3_has_its_reason() {
        for (answer, wanted) in [
            ("Access Denied", Reason::AccessDenied),
            ("User is not authorized to perform: kms:GenerateDataKey; Access Denied", Reason::AccessDenied),
            ("The specified bucket does not exist", Reason::BucketNotFound),
            (
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
                Reason::BucketNotFound,
            ),
            ("Unable to connect to endpoint", Reason::StoreUnreachable),
            ("timed out", Reason::StoreUnreachable),
            ("The AWS Access Key Id you provided does not exist in our records.", Reason::CredentialsRefused),
            (
                "The request signature we calculated does not match the signature you provided.",
                Reason::CredentialsRefused,
            ),
            ("The provided token has expired.", Reason::CredentialsRefused),
            ("Please reduce your request rate.", Reason::StoreError),
            ("We encountered an internal error. Please try again.", Reason::StoreError),
        ] {
            for sql_state in ["58000", "38000", "XX000"] {
                let error = classified(sql_state, "could not upload to Amazon S3", Some(answer));
                assert_eq!(error.reason(), wanted, "{answer}");
                let failure = error.to_failure();
                assert!(failure.message.contains("s3://staging/in/"), "{}", failure.message);
                assert_eq!(failure.sql_state.as_deref(), Some(sql_state));
            }
        }
        let no_role = "credentials stored with the database cluster can't be accessed";
        assert_eq!(classified("XX000", no_role, None).reason(), Reason::CredentialsRefused);
    }

    #[test]
    fn no_detail_and_no_value_is_passed_on() {
        for (sql_state, message) in
            [("58000", "could not upload to Amazon S3"), ("22P02", "hunter2"), ("P0001", "hunter2")]
        {
            let failure = classified(sql_state, message, Some("hunter2")).to_failure();
            let text = format!("{} {:?}", failure.message, failure.hint);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_the_query_or_a_person_did_is_told_apart() {
        assert_eq!(classified("22012", "division by zero", None).reason(), Reason::DataError);
        assert_eq!(
            classified("57014", "canceling statement due to user request", None).reason(),
            Reason::QueryCancelled
        );
        assert_eq!(
            classified("42501", "permission denied for table t", None).reason(),
            Reason::PermissionDenied
        );
        assert_eq!(classified("PX001", "another snapshot", None).reason(), Reason::WrongInstance);
    }
}
