//! What an entry of the access log service says of the client's TLS.

use super::messages::{CertificateProperties, San, SubjectAltName, TlsProperties};
use crate::format::Inputs;
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::{TlsFacts, TlsVersion};
use crate::untrusted::server_name;

/// None: the connection of the client is plain.
pub(super) fn properties(inputs: &Inputs<'_>) -> Option<TlsProperties> {
    let facts = inputs.stream.downstream_tls()?;
    let sni = inputs.stream.requested_server_name().map(server_name).unwrap_or_default();
    let ja3 = inputs.stream.listener_facts().and_then(|facts| facts.ja3.as_deref());
    Some(TlsProperties {
        tls_version: match facts.version {
            TlsVersion::Tls12 => 3,
            TlsVersion::Tls13 => 4,
        },
        tls_cipher_suite: cipher_suite(facts),
        tls_sni_hostname: sni.into_owned(),
        local_certificate_properties: Some(certificate(facts.local_certificate.as_deref(), false)),
        peer_certificate_properties: Some(certificate(facts.peer_certificate(), true)),
        tls_session_id: facts.session_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        ja3_fingerprint: ja3.unwrap_or_default().to_owned(),
    })
}

/// What is said of a certificate, of a local one without its issuer.
fn certificate(certificate: Option<&Certificate>, with_issuer: bool) -> CertificateProperties {
    let Some(certificate) = certificate else { return CertificateProperties::default() };
    let details = certificate.details();
    let uris = details.uris.iter().map(|uri| San::Uri(uri.clone()));
    let names = details.dns_names.iter().map(|name| San::Dns(name.clone()));
    CertificateProperties {
        subject_alt_name: uris.chain(names).map(|san| SubjectAltName { san: Some(san) }).collect(),
        subject: details.subject.clone(),
        issuer: if with_issuer { details.issuer.clone() } else { String::new() },
    }
}

/// The number of a cipher suite in the registry of IANA.
fn cipher_suite(facts: &TlsFacts) -> Option<u32> {
    Some(match facts.cipher {
        "TLS_AES_128_GCM_SHA256" => 0x1301,
        "TLS_AES_256_GCM_SHA384" => 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256" => 0x1303,
        "ECDHE-ECDSA-AES128-GCM-SHA256" => 0xc02b,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => 0xc02c,
        "ECDHE-RSA-AES128-GCM-SHA256" => 0xc02f,
        "ECDHE-RSA-AES256-GCM-SHA384" => 0xc030,
        "ECDHE-RSA-CHACHA20-POLY1305" => 0xcca8,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => 0xcca9,
        _ => return None,
    })
}
