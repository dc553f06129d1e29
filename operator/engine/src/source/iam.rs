//! Tokens of IAM database authentication: a URL that is signed in advance, and serves as the password of one login.
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::Region;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pgexport_api::reason::Reason;
use pgexport_api::source::IamAuth;
use tokio::sync::Mutex;

use super::connect::Address;
use crate::aws::{self, Ambient};
use crate::error::{Error, Result};

/// How long a login may use a token, which is as long as the server admits.
const VALID: Duration = Duration::from_mins(15);
/// Credentials that end within so long are asked for anew: a token ends with them.
const MARGIN: Duration = Duration::from_mins(5);
/// How long it may take to find out who the worker is. The login, which comes after it, has its own time: a database that was not
/// asked yet is not what is slow.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(30);
/// What signatures leave as it is (RFC 3986).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Signs tokens as the pod's AWS identity.
#[derive(Debug)]
pub(super) struct Signer {
    region: String,
    identity: SharedCredentialsProvider,
    patience: Duration,
    /// Those that are still good: a worker opens many connections at a time.
    credentials: Mutex<Option<Credentials>>,
}

impl Signer {
    pub(super) fn new(iam: &IamAuth) -> Self {
        let identity = Ambient::new(aws::http_client(), Region::new(iam.region.clone()));
        Self {
            region: iam.region.clone(),
            identity: SharedCredentialsProvider::new(identity),
            patience: IDENTITY_TIMEOUT,
            credentials: Mutex::default(),
        }
    }

    /// A token for a login that begins now.
    pub(super) async fn token(&self, address: &Address) -> Result<String> {
        let now = SystemTime::now();
        // Whoever waits for another login's credentials waits no longer than that one.
        let found = tokio::time::timeout(self.patience, self.credentials(now)).await;
        let credentials = found.unwrap_or_else(|_| Err(self.silent()))?;
        token(&self.region, address, credentials, now).map_err(|error| {
            Error::new(Reason::InternalError, format!("no token can be signed for {address}: {error}"))
        })
    }

    fn silent(&self) -> Error {
        let message = format!(
            "the worker's AWS identity, which signs a token of IAM database authentication, was not found out within {} s; the database was not asked",
            self.patience.as_secs()
        );
        Error::new(Reason::AuthenticationFailed, message).with_hint(
            "check that pods reach what gives them their identity (AWS STS or its VPC endpoint, the EKS Pod Identity Agent, the instance's metadata): NetworkPolicies, firewalls, DNS",
        )
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials> {
        let mut kept = self.credentials.lock().await;
        let is_good = |kept: &&Credentials| kept.expiry().is_some_and(|expiry| expiry > now + MARGIN);
        if let Some(credentials) = kept.as_ref().filter(is_good) {
            return Ok(credentials.clone());
        }
        let found = self.identity.provide_credentials().await.map_err(|error| {
            Error::new(
                Reason::AuthenticationFailed,
                "the worker has no AWS identity to sign a token of IAM database authentication with",
            )
            .with_hint("let spec.serviceAccountName of the ExportSource name a service account that an IAM role is bound to (IRSA or EKS Pod Identity), or log in by spec.postgres.passwordSecretRef")
            .with_source(error)
        })?;
        *kept = Some(found.clone());
        Ok(found)
    }
}

/// What to do where the server refuses a token.
pub(super) fn hint(iam: &IamAuth, address: &Address) -> String {
    let Address { host, user, .. } = address;
    format!(
        "check that IAM database authentication is enabled for the instance; that {user} was granted rds_iam (GRANT rds_iam TO {user}); that the worker's IAM role is allowed rds-db:connect on arn:aws:rds-db:{}:ACCOUNT:dbuser:RESOURCE-ID/{user}; and that {host} is the instance's own endpoint, as an alias is not what is signed",
        iam.region
    )
}

fn token(
    region: &str,
    address: &Address,
    credentials: Credentials,
    now: SystemTime,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let Address { host, port, user, .. } = address;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let user = utf8_percent_encode(user, RESERVED);
    let resource = format!("{host}:{port}/?Action=connect&DBUser={user}");
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(VALID);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()?
        .into();
    let url = format!("https://{resource}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (signed, _) = sign(request, &parameters)?.into_parts();
    let signed = signed
        .params()
        .iter()
        .map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, RESERVED)));
    Ok(std::iter::once(resource).chain(signed).collect())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use aws_credential_types::provider::future;

    use super::*;

    /// An identity service that takes connections and never answers.
    #[derive(Debug)]
    struct Silent;

    impl ProvideCredentials for Silent {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(pending())
        }
    }

    #[tokio::test]
    async fn an_identity_service_that_does_not_answer_is_not_taken_for_the_database() {
        let signer = Signer {
            region: "eu-west-1".to_owned(),
            identity: SharedCredentialsProvider::new(Silent),
            patience: Duration::from_millis(20),
            credentials: Mutex::default(),
        };
        let address = Address {
            host: "findings-1".to_owned(),
            port: 5432,
            database: "findings".to_owned(),
            user: "exporter".to_owned(),
        };
        // Two logins at a time wait for one answer.
        let (one, other) = tokio::join!(signer.token(&address), signer.token(&address));
        for error in [one.unwrap_err(), other.unwrap_err()] {
            let failure = error.to_failure();
            assert_eq!(failure.reason, Reason::AuthenticationFailed);
            assert!(failure.message.contains("AWS identity"), "{}", failure.message);
            assert!(failure.hint.unwrap().contains("AWS STS"));
        }
    }

    /// What botocore 1.43.11 gives by `generate_db_auth_token` for the same login, credentials and time; the order of parameters
    /// does not count.
    #[test]
    fn a_token_is_that_of_amazons_own_sdk() {
        let host = "findings-1.abcdefghijkl.eu-west-1.rds.amazonaws.com";
        let address = Address {
            host: host.to_owned(),
            port: 5432,
            database: "findings".to_owned(),
            user: "exporter+x".to_owned(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(498_730); // 2026-11-23T10:00:00Z
        let session = "IQoJb3JpZ2luX2VjEXAMPLE/token+with=signs";
        for (session, parameter, signature) in [
            (None, "", "5c36f71864b0be8f10e23bb072d280bd928698722062f2492a425fe0c0bf68d3"),
            (
                Some(session.to_owned()),
                "&X-Amz-Security-Token=IQoJb3JpZ2luX2VjEXAMPLE%2Ftoken%2Bwith%3Dsigns",
                "5f29e7be4196da863c0a3f56ee6d20722b2dd2a97cfbcfd5577c3e5d037ab9ac",
            ),
        ] {
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let credentials = Credentials::new("AKIDEXAMPLE", secret, session, None, "test");
            let token = token("eu-west-1", &address, credentials, now).unwrap();
            let wanted = format!(
                "{host}:5432/?Action=connect&DBUser=exporter%2Bx&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=AKIDEXAMPLE%2F20261123%2Feu-west-1%2Frds-db%2Faws4_request\
                 &X-Amz-Date=20261123T100000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host{parameter}\
                 &X-Amz-Signature={signature}"
            );
            let sorted = |token: &str| {
                let mut parts: Vec<String> = token.split('&').map(str::to_owned).collect();
                parts.sort();
                parts
            };
            assert_eq!(sorted(&token), sorted(&wanted));
            assert!(token.starts_with(&format!("{host}:5432/?Action=connect&")), "{token}");
        }
    }
}
