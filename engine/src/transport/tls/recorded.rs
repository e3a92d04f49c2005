//! Certificates, and what Envoy 1.40 has shown of them: `tests/envoy/certificates/`.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::certificate::Certificate;
use super::facts::{TlsFacts, TlsVersion};

/// A certificate in PEM, after the format commands and what Envoy has written for them.
pub(crate) const CLIENT: &str = include_str!("../../../tests/envoy/certificates/client.txt");
pub(crate) const ATTRIBUTE_TYPES: &str =
    include_str!("../../../tests/envoy/certificates/attribute-types.txt");
pub(crate) const VALUES: &str = include_str!("../../../tests/envoy/certificates/values.txt");
pub(crate) const ALTERNATIVE_NAMES: &str =
    include_str!("../../../tests/envoy/certificates/alternative-names.txt");
pub(crate) const NO_SUBJECT: &str =
    include_str!("../../../tests/envoy/certificates/no-subject.txt");
pub(crate) const ISSUER: &str = include_str!("../../../tests/envoy/certificates/issuer.txt");
pub(crate) const SERVER: &str = include_str!("../../../tests/envoy/certificates/server.txt");

/// The certificate in a recording.
pub(crate) fn certificate(recording: &str) -> Certificate {
    Certificate::new(CertificateDer::from_pem_slice(recording.as_bytes()).expect("a certificate"))
}

/// The commands in a recording, with what Envoy has written for them.
pub(crate) fn commands(recording: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = recording.lines().take_while(|line| !line.starts_with("-----BEGIN"));
    lines.filter_map(|line| line.split_once('='))
}

/// A connection of `SERVER` to a client with these certificates.
pub(crate) fn connection(client: &[&str]) -> TlsFacts {
    TlsFacts {
        peer_certificates: client.iter().map(|recording| certificate(recording)).collect(),
        local_certificate: Some(certificate(SERVER).into()),
        ..TlsFacts::new(TlsVersion::Tls13)
    }
}
