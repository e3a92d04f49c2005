//! Verifies the certificates of peers, by the rules of `validation_context`.
//!
//! The rules are BoringSSL's, which Envoy uses: an intermediate or the certificate itself may be the
//! trusted one, all certificates of a chain must be valid now, and a CA that restricts the purpose
//! restricts what is below it. webpki has other rules, so chains are built here (`chain.rs`); rustls'
//! algorithms verify the signatures.
//!
//! Invariant: without an explicit `Ok` a certificate is refused; whatever cannot be understood is an
//! error.

use std::cell::Cell;
use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::transport::tls::certificate::Certificate;

mod chain;
pub(crate) mod compile;
mod constraints;
mod crl;
mod names;

#[cfg(test)]
mod tests;

pub use chain::{ChainError, Purpose, Trust};
pub use crl::Crls;
pub use names::{SanMatcher, SanType};

/// `validation_context`
#[derive(Debug, Default)]
pub struct Validation {
    /// The CAs and the rules for chains; none: a chain is not verified.
    pub trust: Option<Trust>,
    /// One of them must match, if there are any.
    pub sans: Vec<SanMatcher>,
    /// One of these or of `spkis` must match, if there are any: SHA-256 of the certificate.
    pub hashes: Vec<[u8; 32]>,
    /// SHA-256 of the public key.
    pub spkis: Vec<[u8; 32]>,
    /// Whether certificates that are refused are accepted nevertheless.
    pub accept_untrusted: bool,
    /// Whether clients are not told which CAs are trusted.
    pub suppress_client_ca_list: bool,
    /// The name of the secret that it comes from; empty if there is none.
    pub secret: String,
}

/// Why a certificate is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The certificate chain does not verify.
    #[error("{error}, at depth {depth}")]
    Chain {
        /// The error.
        error: ChainError,
        /// The distance from the peer's own certificate (the leaf), which has depth 0.
        depth: usize,
    },
    /// No name matches.
    #[error("none of the certificate's names matches: {}", .names.join(", "))]
    Names {
        /// The names that it has.
        names: Vec<String>,
    },
    /// No hash matches.
    #[error("neither the hash of the certificate nor that of its key matches")]
    Hash,
    /// The key usage extension of an RSA certificate does not permit signatures.
    #[error("the key usage of the certificate does not allow signatures")]
    KeyUsage,
}

impl Refusal {
    /// Envoy: a name that the request sets is worth nothing if anybody may have issued the certificate.
    const UNTRUSTED: Self = Self::Chain { error: ChainError::UnknownIssuer, depth: 0 };
}

/// Whether the peer's certificate has been verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing had to be verified, or verification failed and `ACCEPT_UNTRUSTED` is set.
    Unverified,
    /// Verification succeeded.
    Verified,
}

/// Names that the certificate of a peer must have besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpectedNames<'a> {
    /// This one.
    pub server_name: Option<&'a ServerName<'a>>,
    /// One of these, whatever their types; empty: they do not matter.
    pub any_of: &'a [Box<str>],
}

impl ExpectedNames<'_> {
    const fn is_empty(&self) -> bool {
        self.server_name.is_none() && self.any_of.is_empty()
    }
}

impl Validation {
    /// Whether a peer without a certificate fails: there are names or hashes to match.
    #[must_use]
    pub fn requires_certificate(&self) -> bool {
        let has_list = !(self.sans.is_empty() && self.hashes.is_empty() && self.spkis.is_empty());
        has_list && !self.accept_untrusted
    }

    /// Whether there is anything to verify.
    #[must_use]
    pub fn verifies(&self) -> bool {
        let has_hash = !(self.hashes.is_empty() && self.spkis.is_empty());
        self.trust.is_some() || !self.sans.is_empty() || has_hash
    }

    /// Verifies the certificates of a peer, its own first.
    ///
    /// # Errors
    /// The certificate is rejected.
    pub fn verify(
        &self,
        certificates: &[CertificateDer<'_>],
        purpose: Purpose,
        expected: ExpectedNames<'_>,
        now: UnixTime,
    ) -> Result<Verdict, Refusal> {
        match self.check(certificates, purpose, expected, now) {
            Ok(()) if self.verifies() || !expected.is_empty() => Ok(Verdict::Verified),
            Ok(()) => Ok(Verdict::Unverified),
            Err(_) if self.accept_untrusted => Ok(Verdict::Unverified),
            Err(refusal) => Err(refusal),
        }
    }

    /// Verifies the certificates of a resumed session again: they may have expired since the full
    /// handshake.
    ///
    /// # Errors
    /// The certificate is rejected.
    pub fn verify_again(
        &self,
        peer: &[Certificate],
        purpose: Purpose,
        expected: ExpectedNames<'_>,
    ) -> Result<Verdict, Refusal> {
        let certificates: Vec<_> = peer.iter().map(|each| each.der().clone()).collect();
        self.verify(&certificates, purpose, expected, UnixTime::now())
    }

    fn check(
        &self,
        certificates: &[CertificateDer<'_>],
        purpose: Purpose,
        expected: ExpectedNames<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let malformed = |depth| Refusal::Chain { error: ChainError::Malformed, depth };
        let parsed: Option<Vec<_>> = certificates.iter().map(|der| parse(der)).collect();
        let Some((leaf, intermediates)) = parsed.as_deref().and_then(<[_]>::split_first) else {
            return Err(malformed(0));
        };
        if let Some(trust) = &self.trust {
            trust.verify(leaf, intermediates, purpose, now)?;
        }
        if !expected.any_of.is_empty() && !self.verifies() {
            return Err(Refusal::UNTRUSTED);
        }
        let sans = names::Sans::of(leaf).ok_or_else(|| malformed(0))?;
        let passes = expected.server_name.is_none_or(|name| sans.has(name))
            && (expected.any_of.is_empty()
                || expected.any_of.iter().any(|name| sans.has_text(name)))
            && (self.sans.is_empty() || self.sans.iter().any(|matcher| sans.matches(matcher)));
        if !passes {
            return Err(Refusal::Names { names: sans.texts() });
        }
        if self.hashes.is_empty() && self.spkis.is_empty() {
            return Ok(());
        }
        let is_listed = self.hashes.contains(&sha256(leaf.as_raw()))
            || self.spkis.contains(&sha256(leaf.public_key().raw));
        if is_listed { Ok(()) } else { Err(Refusal::Hash) }
    }
}

/// Parses a certificate; none if it is malformed or has trailing bytes.
fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

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

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
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

thread_local! {
    /// rustls does not report the signature scheme of the peer. One step of a handshake runs on one thread,
    /// and its caller reads the value right afterwards.
    static SCHEME: Cell<Option<SignatureScheme>> = const { Cell::new(None) };
}

/// The scheme of the peer's handshake signature, if the last step verified one.
#[must_use]
pub fn take_scheme() -> Option<SignatureScheme> {
    SCHEME.take()
}

/// The signatures of a peer in the handshake.
mod signature {
    use super::*;

    pub(super) fn tls12(
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
        schemes: &[SignatureScheme],
    ) -> Result<HandshakeSignatureValid, Error> {
        check(dss, schemes)?;
        SCHEME.set(Some(dss.scheme));
        crypto::verify_tls12_signature(message, cert, dss, &algorithms())
    }

    pub(super) fn tls13(
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
        schemes: &[SignatureScheme],
    ) -> Result<HandshakeSignatureValid, Error> {
        check(dss, schemes)?;
        SCHEME.set(Some(dss.scheme));
        crypto::verify_tls13_signature(message, cert, dss, &algorithms())
    }

    /// A peer may only use schemes that were offered to it.
    fn check(dss: &DigitallySignedStruct, schemes: &[SignatureScheme]) -> Result<(), Error> {
        let misbehaved = rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
        if schemes.contains(&dss.scheme) { Ok(()) } else { Err(misbehaved.into()) }
    }
}
