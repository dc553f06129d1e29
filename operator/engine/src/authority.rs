//! The certificate authorities that a TLS client trusts.

use pgexport_api::reason::Reason;
use pgexport_api::source::{ConfigMapKeyRef, SecretKeyRef, Tls};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::error::{Error, Result};
use crate::secret::Secrets;

/// Where the authorities stand, as PEM.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bundle<'a> {
    Secret(&'a SecretKeyRef),
    ConfigMap(&'a ConfigMapKeyRef),
}

impl<'a> Bundle<'a> {
    /// What a source names.
    pub(crate) fn of(tls: &'a Tls) -> Option<Self> {
        let config_map = || tls.ca_config_map_ref.as_ref().map(Self::ConfigMap);
        tls.ca_secret_ref.as_ref().map(Self::Secret).or_else(config_map)
    }

    fn read(self, secrets: &dyn Secrets) -> Result<Vec<u8>> {
        match self {
            Self::Secret(SecretKeyRef { name, key }) => Ok(secrets.read(name, key)?.bytes().to_vec()),
            Self::ConfigMap(ConfigMapKeyRef { name, key }) => {
                secrets.find_in_config_map(name, key)?.ok_or_else(|| {
                    let message = format!("ConfigMap {name} does not exist, or has no key {key}");
                    Error::new(Reason::ReferenceNotFound, message)
                        .with_hint(format!("create ConfigMap {name} with the key {key}"))
                })
            }
        }
    }

    fn invalid(self, why: &str) -> Error {
        let (key, kind, name) = match self {
            Self::Secret(SecretKeyRef { name, key }) => (key, "Secret", name),
            Self::ConfigMap(ConfigMapKeyRef { name, key }) => (key, "ConfigMap", name),
        };
        Error::new(Reason::SecretInvalid, format!("key {key} of {kind} {name} {why}")).with_hint(
            "put the certificates of the authorities that sign the server's certificate there, as PEM",
        )
    }
}

/// The authorities in the bundle, or Mozilla's.
pub(crate) fn roots(bundle: Option<Bundle<'_>>, secrets: &dyn Secrets) -> Result<RootCertStore> {
    let Some(bundle) = bundle else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let pem = bundle.read(secrets)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| bundle.invalid("is not PEM"))?;
        roots.add(certificate).map_err(|_| bundle.invalid("holds a certificate that cannot be read"))?;
    }
    if roots.is_empty() {
        return Err(bundle.invalid("holds no PEM certificate"));
    }
    Ok(roots)
}
