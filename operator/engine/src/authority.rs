//! The certificate authorities that a TLS client trusts.

use pgexport_api::reason::Reason;
use pgexport_api::source::SecretKeyRef;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::error::{Error, Result};
use crate::secret::Secrets;

/// The authorities in the Secret, or Mozilla's.
pub(crate) fn roots(reference: Option<&SecretKeyRef>, secrets: &dyn Secrets) -> Result<RootCertStore> {
    let Some(SecretKeyRef { name, key }) = reference else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let invalid = |why: &str| {
        Error::new(Reason::SecretInvalid, format!("key {key} of Secret {name} {why}")).with_hint(
            "put the certificates of the authorities that sign the server's certificate there, as PEM",
        )
    };
    let pem = secrets.read(name, key)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.bytes()) {
        let certificate = certificate.map_err(|_| invalid("is not PEM"))?;
        roots.add(certificate).map_err(|_| invalid("holds a certificate that cannot be read"))?;
    }
    if roots.is_empty() {
        return Err(invalid("holds no PEM certificate"));
    }
    Ok(roots)
}
