//! What a pod gets to see: the Secrets, claims and the service account that source and sinks name, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use pgexport_api::order::Target;
use pgexport_api::sink::{Http, S3};
use pgexport_api::source::{ConfigMapKeyRef, Postgres};

/// The keys of a Secret with credentials for S3.
const S3_KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What a pod mounts, and as whom it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Keys of Secrets, by the Secret's name.
    pub secrets: BTreeMap<String, BTreeSet<String>>,
    /// Keys of `ConfigMaps`, by the ConfigMap's name.
    pub config_maps: BTreeMap<String, BTreeSet<String>>,
    /// Names of `PersistentVolumeClaims`.
    pub claims: BTreeSet<String>,
    /// The service accounts that are named; a pod has room for one.
    pub service_accounts: BTreeSet<String>,
}

impl Mounts {
    /// Adds what reading this database takes.
    #[must_use]
    pub fn with_source(mut self, postgres: &Postgres, service_account: Option<&str>) -> Self {
        if let Some(password) = &postgres.password_secret_ref {
            self.add_key(&password.name, &password.key);
        }
        if let Some(ConfigMapKeyRef { name, key }) = &postgres.tls.ca_config_map_ref {
            self.config_maps.entry(name.clone()).or_default().insert(key.clone());
        }
        if let Some(authority) = &postgres.tls.ca_secret_ref {
            self.add_key(&authority.name, &authority.key);
        }
        self.service_accounts.extend(service_account.map(str::to_owned));
        self
    }

    /// Adds what writing to this target takes.
    #[must_use]
    pub fn with_target(mut self, target: &Target, service_account: Option<&str>) -> Self {
        match target {
            Target::S3(S3 { credentials_secret_ref: Some(secret), .. }) => {
                for key in S3_KEYS {
                    self.add_key(&secret.name, key);
                }
            }
            Target::S3(_) => {}
            Target::Volume(volume) => {
                self.claims.insert(volume.claim_name.clone());
            }
        }
        self.service_accounts.extend(service_account.map(str::to_owned));
        self
    }

    /// Adds what telling this receiver takes.
    #[must_use]
    pub fn with_receiver(mut self, http: &Http, service_account: Option<&str>) -> Self {
        let keys =
            [Some(&http.signing_secret_ref), http.token_secret_ref.as_ref(), http.ca_secret_ref.as_ref()];
        for key in keys.into_iter().flatten() {
            self.add_key(&key.name, &key.key);
        }
        self.service_accounts.extend(service_account.map(str::to_owned));
        self
    }

    /// The one service account, where one is named.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        self.service_accounts.first().map(String::as_str)
    }

    fn add_key(&mut self, secret: &str, key: &str) {
        self.secrets.entry(secret.to_owned()).or_default().insert(key.to_owned());
    }
}
