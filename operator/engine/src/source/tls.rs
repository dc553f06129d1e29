//! TLS towards PostgreSQL, in libpq's modes.

use std::sync::Arc;

use pgexport_api::reason::Reason;
use pgexport_api::source::{Postgres, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::authority::{self, Bundle};
use crate::error::{Error, Result};
use crate::secret::Secrets;

/// The configuration for a mode. It is made anew at each connect, as the authorities' Secret may have changed.
pub(super) fn config(postgres: &Postgres, secrets: &dyn Secrets) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(Reason::InternalError, format!("TLS cannot be set up: {error}")).with_source(error)
        })?;
    let tls = &postgres.tls;
    Ok(match tls.mode {
        TlsMode::VerifyFull => {
            builder.with_root_certificates(authority::roots(Bundle::of(tls), secrets)?).with_no_client_auth()
        }
        TlsMode::VerifyCA => {
            let roots = authority::roots(Bundle::of(tls), secrets)?;
            let verifier = LenientVerifier { provider, roots: Some(roots) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        // With Disable, the configuration is never used.
        TlsMode::Require | TlsMode::Disable => {
            let verifier = LenientVerifier { provider, roots: None };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    })
}

/// Checks less than `VerifyFull`, as the user chose: the chain without the host's name (`VerifyCA`), or nothing (`Require`).
/// That the server holds the key of the certificate it shows is always checked.
#[derive(Debug)]
struct LenientVerifier {
    provider: Arc<CryptoProvider>,
    /// What the chain must lead to; `None`: anything passes.
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
