//! Certificates with their keys.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::ocsp::OcspResponse;
use super::select::Curve;

/// A certificate that is presented to peers.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate and its intermediates, in the order in which they are sent.
    pub chain: Vec<CertificateDer<'static>>,
    /// One for each shard: signing counts references to a key.
    pub keys: Box<[Arc<dyn SigningKey>]>,
    /// What kind of key it is.
    pub key: Key,
    /// The server names that it is for: its DNS names, or the common name if there are none.
    pub names: Vec<String>,
    /// Whether clients require a stapled OCSP response with it.
    pub must_staple: bool,
    /// The OCSP response to staple.
    pub ocsp: Option<OcspResponse>,
    /// Where it comes from: the path of a file, or `<inline>`.
    pub path: String,
    /// The name of its secret; empty if it is not a secret.
    pub secret: String,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// RSA, at least 2048 bits.
    Rsa,
    /// ECDSA
    Ecdsa(Curve),
}

/// Why a certificate cannot be presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be parsed.
    #[error("this is not a certificate in PEM")]
    Malformed,
    /// RSA with less than 2048 bits.
    #[error("the key of this RSA certificate has less than 2048 bits")]
    ShortKey,
    /// Neither RSA nor ECDSA over one of the three curves.
    #[error(
        "only certificates with RSA keys, or ECDSA keys on P-256, P-384 or P-521, are supported"
    )]
    KeyKind,
}

/// What a certificate says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The kind of its key.
    pub key: Key,
    /// See [`Certificate::names`].
    pub names: Vec<String>,
    /// See [`Certificate::must_staple`].
    pub must_staple: bool,
    /// What has to be equal for a session to be resumed: subject, names and issuer.
    pub identity: Vec<u8>,
}

/// The TLS feature extension, which lists `status_request` in a must-staple certificate.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
const STATUS_REQUEST: [u8; 5] = [0x30, 3, 2, 1, 5];

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It cannot be presented.
    pub fn of(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let mut names = Vec::new();
        let mut must_staple = false;
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(sans) = extension.parsed_extension() {
                names.extend(sans.general_names.iter().filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                }));
            }
            must_staple |=
                extension.oid.to_id_string() == TLS_FEATURE && extension.value == STATUS_REQUEST;
        }
        if names.is_empty() {
            let mut common = certificate.subject().iter_common_name();
            names.extend(common.next().and_then(|name| name.as_str().ok()).map(str::to_owned));
        }
        let mut identity = certificate.subject().as_raw().to_vec();
        identity.extend_from_slice(names.join(",").as_bytes());
        identity.extend_from_slice(certificate.issuer().as_raw());
        Ok(Self { key: key(&certificate)?, names, must_staple, identity })
    }
}

fn key(certificate: &X509Certificate<'_>) -> Result<Key, CertificateError> {
    let public = certificate.public_key();
    match public.parsed().map_err(|_| CertificateError::KeyKind)? {
        PublicKey::RSA(key) if key.key_size() < 2048 => Err(CertificateError::ShortKey),
        PublicKey::RSA(_) => Ok(Key::Rsa),
        PublicKey::EC(_) => {
            let curve = public.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => Ok(Key::Ecdsa(Curve::P256)),
                Some("1.3.132.0.34") => Ok(Key::Ecdsa(Curve::P384)),
                Some("1.3.132.0.35") => Ok(Key::Ecdsa(Curve::P521)),
                _ => Err(CertificateError::KeyKind),
            }
        }
        _ => Err(CertificateError::KeyKind),
    }
}

impl Certificate {
    /// Its key, on one shard: it signs only in `allowed` algorithms (none: in all).
    #[must_use]
    pub fn signing_key(
        &self,
        shard: usize,
        allowed: Option<&[SignatureScheme]>,
    ) -> Option<Arc<dyn SigningKey>> {
        let key = self.keys.get(shard).or_else(|| self.keys.first())?;
        Some(match allowed {
            None => Arc::clone(key),
            Some(allowed) => Arc::new(Limited { key: Arc::clone(key), allowed: allowed.to_vec() }),
        })
    }

    /// For rustls, with the key of [`Self::signing_key`].
    #[must_use]
    pub fn certified(
        &self,
        shard: usize,
        allowed: Option<&[SignatureScheme]>,
        staple: bool,
    ) -> Option<CertifiedKey> {
        let key = self.signing_key(shard, allowed)?;
        let mut certified = CertifiedKey::new(self.chain.clone(), key);
        let ocsp = self.ocsp.as_ref().filter(|_| staple);
        certified.ocsp = ocsp.map(|response| response.der.clone());
        Some(certified)
    }
}

/// A key that signs only in some algorithms.
#[derive(Debug)]
struct Limited {
    key: Arc<dyn SigningKey>,
    allowed: Vec<SignatureScheme>,
}

impl SigningKey for Limited {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let allowed = offered.iter().copied().filter(|scheme| self.allowed.contains(scheme));
        self.key.choose_scheme(&allowed.collect::<Vec<_>>())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}
