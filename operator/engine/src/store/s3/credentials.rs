//! Who the store believes us to be, where a Secret says it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};

use crate::error::Result;
use crate::secret::Secrets;

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// How long a Secret's keys are used before it is read again.
const REREAD: Duration = Duration::from_mins(5);

/// Keys from a Secret, which is read again from time to time, so that a rotated one needs no restart.
#[derive(Debug)]
pub(super) struct FromSecret {
    secrets: Arc<dyn Secrets>,
    name: String,
}

impl FromSecret {
    /// Reads the Secret once, so that a missing one is noticed before the first request.
    pub(super) fn new(secrets: Arc<dyn Secrets>, name: String) -> Result<Self> {
        let provider = Self { secrets, name };
        provider.load()?;
        Ok(provider)
    }

    fn load(&self) -> Result<Credentials> {
        let key_id = self.secrets.read_text(&self.name, ACCESS_KEY_ID)?;
        let key = self.secrets.read_text(&self.name, SECRET_ACCESS_KEY)?;
        let token = match self.secrets.find(&self.name, SESSION_TOKEN)? {
            Some(_) => {
                Some(self.secrets.read_text(&self.name, SESSION_TOKEN)?).filter(|token| !token.is_empty())
            }
            None => None,
        };
        Ok(Credentials::new(key_id, key, token, SystemTime::now().checked_add(REREAD), "Secret"))
    }
}

impl ProvideCredentials for FromSecret {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.load().map_err(CredentialsError::provider_error))
    }
}
