//! Verifies the certificates of peers, by the rules of `validation_context`.
//!
//! The rules are BoringSSL's, which Envoy uses: an intermediate or the certificate itself may be the
//! trusted one, all certificates of a chain must be valid now, and a CA that restricts the purpose
//! restricts what is below it. webpki has other rules, so chains are built here (`chain.rs`); rustls'
//! algorithms verify the signatures.
//!
//! Invariant: without an explicit `Ok` a certificate is refused; whatever cannot be understood is an
//! error.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use self::validation::parse;

mod chain;
pub(crate) mod compile;
mod constraints;
mod crl;
mod names;
mod signature;
mod validation;

#[cfg(test)]
mod tests;

pub use chain::{ChainError, Purpose, Trust};
pub use crl::Crls;
pub use names::{SanMatcher, SanType};
pub use signature::take_scheme;
pub use validation::{ExpectedNames, Refusal, Validation, Verdict, sha256};

/// The error for rustls, which determines the alert.
fn refused(refusal: Refusal) -> Error {
    let other = |refusal| CertificateError::Other(OtherError(Arc::new(refusal)));
    let error = match refusal {
        Refusal::Chain { error, .. } => match error {
            ChainError::Expired => CertificateError::Expired,
            ChainError::NotYetValid => CertificateError::NotValidYet,
            ChainError::UnknownIssuer
            | ChainError::SelfSigned
            | ChainError::TooLong
            | ChainError::NotACa
            | ChainError::NoCrl
            | ChainError::BadCrl => CertificateError::UnknownIssuer,
            ChainError::Revoked => CertificateError::Revoked,
            ChainError::Signature => CertificateError::BadSignature,
            ChainError::Purpose => CertificateError::InvalidPurpose,
            ChainError::Malformed => CertificateError::BadEncoding,
            ChainError::CriticalExtension
            | ChainError::NameConstraints
            | ChainError::TooManyCandidates => other(refusal),
        },
        Refusal::Names { .. } | Refusal::Hash | Refusal::KeyUsage => other(refusal),
    };
    Error::InvalidCertificate(error)
}

fn all<'a>(
    leaf: &'a CertificateDer<'a>,
    rest: &'a [CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    let rest = rest.iter().map(|der| CertificateDer::from(der.as_ref()));
    std::iter::once(CertificateDer::from(leaf.as_ref())).chain(rest).collect()
}

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    validation: Arc<Validation>,
    required: bool,
    hints: Vec<DistinguishedName>,
    schemes: Vec<SignatureScheme>,
}

impl ClientVerifier {
    /// Verifies by `validation`; clients sign in one of `schemes`.
    #[must_use]
    pub fn new(
        validation: &Arc<Validation>,
        required: bool,
        schemes: Vec<SignatureScheme>,
    ) -> Self {
        let trust = validation.trust.as_ref().filter(|_| !validation.suppress_client_ca_list);
        let hints = trust.map(Trust::subjects).unwrap_or_default();
        Self { validation: Arc::clone(validation), required, hints, schemes }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificates = all(end_entity, intermediates);
        match self.validation.verify(&certificates, Purpose::Client, ExpectedNames::default(), now)
        {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::tls12(message, cert, dss, &self.schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::tls13(message, cert, dss, &self.schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    /// None: anything is accepted, as in Envoy.
    pub validation: Option<Arc<Validation>>,
    /// Whether the certificate must have the server name of the connection.
    pub expects_name: bool,
    /// The certificate must have one of these names, if there are any.
    pub subject_alt_names: Arc<[Box<str>]>,
    /// The signature algorithms of servers.
    pub schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !may_sign(end_entity) {
            return Err(refused(Refusal::KeyUsage));
        }
        let Some(validation) = &self.validation else {
            return if self.subject_alt_names.is_empty() {
                Ok(ServerCertVerified::assertion())
            } else {
                Err(refused(Refusal::UNTRUSTED))
            };
        };
        let certificates = all(end_entity, intermediates);
        let expected = ExpectedNames {
            server_name: super::client::expected(server_name, self.expects_name),
            any_of: &self.subject_alt_names,
        };
        match validation.verify(&certificates, Purpose::Server, expected, now) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::tls12(message, cert, dss, &self.schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::tls13(message, cert, dss, &self.schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Whether the key usage of a server's certificate, if it has one, allows it to sign: in the
/// handshakes here it always does.
fn may_sign(der: &CertificateDer<'_>) -> bool {
    let Some(certificate) = parse(der) else { return false };
    match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.digital_signature(),
        Err(_) => false,
    }
}
