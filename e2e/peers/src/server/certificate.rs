//! The test CA and the certificate that PostgreSQL shows.

use std::{collections::BTreeSet, net::IpAddr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::{ServerError, error::file, settings::write_private_text};
use crate::state::StateFolder;

/// The address of the cluster's bridge, by which pods reach the servers.
const BRIDGE: &str = "10.88.0.1";

/// A server certificate and its key, both as PEM.
pub(super) struct ServerCertificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now, and for long.
    Now,
    /// It has expired.
    Expired,
}

/// Makes the CA if it does not exist, and returns its certificate as PEM.
pub(super) fn ensure_authority(folder: &StateFolder) -> Result<String, ServerError> {
    let path = folder.ca_certificate();
    if !path.exists() {
        let key = KeyPair::generate()?;
        let certificate = authority().self_signed(&key)?;
        write_private_text(&folder.ca_key(), &key.serialize_pem())?;
        write_private_text(&path, &certificate.pem())?;
    }
    std::fs::read_to_string(&path).map_err(file("reading", &path))
}

/// Makes a certificate for a server that listens on `address`, and is perhaps forwarded from the loopback address.
pub(super) fn issue(
    folder: &StateFolder,
    address: IpAddr,
    validity: Validity,
) -> Result<ServerCertificate, ServerError> {
    let path = folder.ca_key();
    let ca_key = std::fs::read_to_string(&path).map_err(file("reading", &path))?;
    let issuer = Issuer::new(authority(), KeyPair::from_pem(&ca_key)?);
    let names = BTreeSet::from(["127.0.0.1", "localhost", BRIDGE, &address.to_string()].map(str::to_owned));
    let mut params = CertificateParams::new(Vec::from_iter(names))?;
    params.distinguished_name = name("pgexport test PostgreSQL");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    if validity == Validity::Expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    Ok(ServerCertificate { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("pgexport test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
