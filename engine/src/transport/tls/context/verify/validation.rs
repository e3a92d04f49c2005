//! The rules of a `validation_context`, and what becomes of a certificate by them.

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::chain::{ChainError, Purpose, Trust};
use super::names::{self, SanMatcher};
use crate::transport::tls::certificate::Certificate;

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
    pub(super) const UNTRUSTED: Self = Self::Chain { error: ChainError::UnknownIssuer, depth: 0 };
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
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
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

/// The algorithms of signatures, in certificates and in handshakes.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
