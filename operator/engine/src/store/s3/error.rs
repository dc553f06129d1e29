//! What a store's answer means: one table from S3's error codes to reasons.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use pgexport_api::reason::Reason;
use pgexport_api::report::truncate;

use crate::error::Error;

/// The longest piece of somebody else's text that goes into a message, in bytes.
const MAX_FOREIGN: usize = 300;

/// Where only the code is known.
const STATUS_OF_NONE: u16 = 0;

/// The right that a request needs, by its name in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Put,
    Abort,
    Get,
    List,
    ListUploads,
    Delete,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "s3:PutObject",
            Self::Abort => "s3:AbortMultipartUpload",
            Self::Get => "s3:GetObject",
            Self::List => "s3:ListBucket",
            Self::ListUploads => "s3:ListBucketMultipartUploads",
            Self::Delete => "s3:DeleteObject",
        }
    }
}

/// What messages name: where requests go, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) owner: Option<String>,
}

/// The table. Codes are those of Amazon's list of S3 error responses; an answer to HEAD has only a status.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn reason(code: Option<&str>, status: u16) -> Reason {
    match (code.unwrap_or_default(), status) {
        (
            "NoSuchBucket"
            | "InvalidBucketName"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "IncorrectEndpoint",
            _,
        )
        | (_, 301) => Reason::BucketNotFound,
        (
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidSecurity"
            | "NotSignedUp"
            | "RequestTimeTooSkewed",
            _,
        )
        | (_, 401) => Reason::CredentialsRefused,
        ("BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch", _) => {
            Reason::ChecksumMismatch
        }
        ("KeyTooLongError", _) => Reason::InvalidSpec,
        ("NotImplemented", _) | (_, 501) => Reason::AccessDenied,
        ("SlowDown" | "RequestTimeout" | "ServiceUnavailable" | "InternalError", _) | (_, 500..) => {
            Reason::StoreError
        }
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "MethodNotAllowed", _) | (_, 403) => {
            Reason::AccessDenied
        }
        _ => Reason::StoreError,
    }
}

impl Place {
    /// What a failed request means. The SDK's error is not kept as source: answers to a wrong signature quote the
    /// request's headers, and so a session token.
    pub(super) fn classify<E>(&self, action: Action, key: &str, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        if let Some(own) = find::<Error>(error) {
            // A Secret that cannot be read, seen by the credentials' provider.
            let copy = Error::new(own.reason(), own.to_string());
            return match own.to_failure().hint {
                Some(hint) => copy.with_hint(hint),
                None => copy,
            };
        }
        match error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                let region = answer.raw().headers().get("x-amz-bucket-region");
                self.refused(action, key, answer.err(), status, region, error.request_id())
            }
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                let message = format!(
                    "{} answers in a way that is not S3's (HTTP status {status}): {}",
                    self.name(),
                    chain(error)
                );
                Error::new(Reason::StoreError, message)
            }
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => self.unreachable(error),
            _ => Error::new(
                Reason::InternalError,
                format!("a request to {} cannot be made: {}", self.name(), chain(error)),
            ),
        }
    }

    /// What it means that one key of a request for many was refused.
    pub(super) fn refused_key(&self, action: Action, key: &str, error: &ErrorMetadata) -> Error {
        self.refused(action, key, error, STATUS_OF_NONE, None, None)
    }

    fn refused<E: ProvideErrorMetadata>(
        &self,
        action: Action,
        key: &str,
        error: &E,
        status: u16,
        region: Option<&str>,
        request_id: Option<&str>,
    ) -> Error {
        let reason = reason(error.code(), status);
        let mut answer = error.code().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
        if let Some(text) = error.message() {
            answer = format!("{answer}: {}", truncate(text, MAX_FOREIGN));
        }
        // The id changes with each request: in a message it would make each failure look like a new one.
        if let Some(id) = request_id {
            tracing::warn!(
                request_id = id,
                action = action.as_str(),
                answer,
                "the object store refused a request"
            );
        }
        let Self { bucket, region: ours, .. } = self;
        let message = match reason {
            Reason::BucketNotFound => {
                format!("{} has no bucket {bucket} for region {ours}: {answer}", self.name())
            }
            Reason::CredentialsRefused => format!("{} refuses {}: {answer}", self.name(), self.identity()),
            Reason::AccessDenied => {
                format!(
                    "{} refuses {} on {bucket}/{key} to {}: {answer}",
                    self.name(),
                    action.as_str(),
                    self.identity()
                )
            }
            _ => format!("{} on {bucket}/{key} at {} failed: {answer}", action.as_str(), self.name()),
        };
        let failure = Error::new(reason, message);
        match self.hint(reason, action, error.code(), region) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    fn hint(
        &self,
        reason: Reason,
        action: Action,
        code: Option<&str>,
        region: Option<&str>,
    ) -> Option<String> {
        let Self { bucket, owner, .. } = self;
        match (reason, code, region) {
            (Reason::BucketNotFound, _, Some(region)) if region != self.region => {
                Some(format!("set region of the ExportSink to {region}"))
            }
            (
                Reason::BucketNotFound,
                Some("AuthorizationHeaderMalformed" | "IncorrectEndpoint" | "PermanentRedirect"),
                _,
            ) => Some(format!(
                "correct region and endpoint of the ExportSink: bucket {bucket} is in another region than {}",
                self.region
            )),
            (Reason::BucketNotFound, ..) => {
                Some(format!("create the bucket {bucket}, or correct bucket and region of the ExportSink"))
            }
            (Reason::CredentialsRefused, Some("RequestTimeTooSkewed"), _) => {
                Some("set the clock of the pod's node".to_owned())
            }
            (Reason::CredentialsRefused, ..) => Some(match &self.secret {
                Some(secret) => format!("correct the keys in Secret {secret}"),
                None => "check the role of the ExportSink's service account".to_owned(),
            }),
            (Reason::AccessDenied, Some("NotImplemented"), _) => {
                Some(format!("use a server that knows what {} allows", action.as_str()))
            }
            (Reason::AccessDenied, ..) => Some(match owner {
                Some(owner) => format!(
                    "grant {} on the bucket's prefix, and check that account {owner}, the expectedBucketOwner, owns bucket {bucket}",
                    action.as_str()
                ),
                None => format!("grant {} on the bucket's prefix", action.as_str()),
            }),
            _ => None,
        }
    }

    fn unreachable(&self, error: &(dyn StdError + 'static)) -> Error {
        if find::<CredentialsError>(error).is_some() {
            let message = format!("there are no credentials for {}: {}", self.name(), chain(error));
            return Error::new(Reason::CredentialsRefused, message).with_hint(match &self.secret {
                Some(secret) => format!("correct the keys in Secret {secret}"),
                None => {
                    "set credentialsSecretRef of the ExportSink, or serviceAccountName to one that has a role"
                        .to_owned()
                }
            });
        }
        let text = chain(error);
        let failure =
            Error::new(Reason::StoreUnreachable, format!("{} cannot be reached: {text}", self.name()));
        if text.contains("certificate") {
            return failure
                .with_hint("check the endpoint's certificate, or add its authority to the image's");
        }
        failure
    }

    /// The store's name in messages.
    fn name(&self) -> String {
        self.endpoint.as_ref().map_or_else(
            || format!("S3 in {}", self.region),
            |endpoint| format!("the S3 server at {endpoint}"),
        )
    }

    fn identity(&self) -> String {
        self.secret.as_ref().map_or_else(
            || "the pod's ambient credentials".to_owned(),
            |secret| format!("the credentials in Secret {secret}"),
        )
    }
}

/// The first error of a type in a chain.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The chain's messages, those that repeat left out.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = error.source();
    }
    truncate(&text, MAX_FOREIGN).to_owned()
}

#[cfg(test)]
mod tests {
    use pgexport_api::reason::Reason;

    use super::reason;

    #[test]
    fn codes_and_bare_statuses_have_their_reasons() {
        let table = [
            (Some("NoSuchBucket"), 404, Reason::BucketNotFound),
            (Some("PermanentRedirect"), 301, Reason::BucketNotFound),
            (Some("AuthorizationHeaderMalformed"), 400, Reason::BucketNotFound),
            (None, 301, Reason::BucketNotFound),
            (Some("InvalidAccessKeyId"), 403, Reason::CredentialsRefused),
            (Some("SignatureDoesNotMatch"), 403, Reason::CredentialsRefused),
            (Some("ExpiredToken"), 400, Reason::CredentialsRefused),
            (Some("InvalidToken"), 400, Reason::CredentialsRefused),
            (Some("RequestTimeTooSkewed"), 403, Reason::CredentialsRefused),
            (Some("AccessDenied"), 403, Reason::AccessDenied),
            (None, 403, Reason::AccessDenied),
            (Some("BadDigest"), 400, Reason::ChecksumMismatch),
            (Some("NotImplemented"), 501, Reason::AccessDenied),
            (Some("SlowDown"), 503, Reason::StoreError),
            (Some("InternalError"), 500, Reason::StoreError),
            (Some("RequestTimeout"), 400, Reason::StoreError),
            (Some("NoSuchUpload"), 404, Reason::StoreError),
            (Some("KeyTooLongError"), 400, Reason::InvalidSpec),
            (None, 502, Reason::StoreError),
        ];
        for (code, status, expected) in table {
            assert_eq!(reason(code, status), expected, "{code:?} {status}");
        }
    }
}
