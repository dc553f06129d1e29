//! Who Amazon's services believe us to be, by what the pod's surroundings provide.

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{BehaviorVersion, ProvideCredentials, Region, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::sync::OnceCell;

/// The HTTP client of Amazon's SDK.
pub(crate) fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// What the surroundings provide: environment, IRSA, EKS Pod Identity, instance profile.
#[derive(Debug)]
pub(crate) struct Ambient {
    http: SharedHttpClient,
    region: Region,
    chain: OnceCell<DefaultCredentialsChain>,
}

impl Ambient {
    pub(crate) const fn new(http: SharedHttpClient, region: Region) -> Self {
        Self { http, region, chain: OnceCell::const_new() }
    }

    async fn chain(&self) -> &DefaultCredentialsChain {
        self.chain
            .get_or_init(async || {
                let config = ProviderConfig::without_region()
                    .with_behavior_version(Some(BehaviorVersion::latest()))
                    .with_http_client(self.http.clone());
                DefaultCredentialsChain::builder().configure(config).region(self.region.clone()).build().await
            })
            .await
    }
}

impl ProvideCredentials for Ambient {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.chain().await.provide_credentials().await })
    }
}
