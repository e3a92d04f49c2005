//! Versions, cipher suites, groups and signature algorithms, by the names that BoringSSL gives them.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion};

/// What is offered and accepted in a handshake.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The oldest version and the newest one.
    pub versions: Versions,
    /// The cipher suites of TLS 1.2 in order of preference; those of one group are equal.
    pub cipher_suites: Vec<Vec<SupportedCipherSuite>>,
    /// Those of TLS 1.3. Only a compliance policy changes them.
    pub tls13_cipher_suites: &'static [SupportedCipherSuite],
    /// The groups for the key exchange, in order of preference.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// The signature algorithms that may be used; none: all.
    pub signature_algorithms: Option<Vec<SignatureScheme>>,
}

/// The versions that may be negotiated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versions {
    /// TLS 1.2 only.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
    /// Either.
    Both,
}

impl Versions {
    /// Whether TLS 1.2 may be negotiated.
    #[must_use]
    pub const fn has_tls12(self) -> bool {
        !matches!(self, Self::Tls13)
    }

    /// Whether TLS 1.3 may be negotiated.
    #[must_use]
    pub const fn has_tls13(self) -> bool {
        !matches!(self, Self::Tls12)
    }

    /// For rustls.
    #[must_use]
    pub fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&TLS12],
            Self::Tls13 => vec![&TLS13],
            Self::Both => vec![&TLS13, &TLS12],
        }
    }
}

impl Parameters {
    /// Envoy's defaults for a listener.
    #[must_use]
    pub fn server() -> Self {
        Self {
            versions: Versions::Both,
            cipher_suites: default_cipher_suites(),
            tls13_cipher_suites: TLS13_CIPHER_SUITES,
            groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            signature_algorithms: None,
        }
    }

    /// Envoy's defaults for a cluster.
    #[must_use]
    pub fn client() -> Self {
        let groups = vec![kx_group::X25519, kx_group::SECP256R1];
        Self { versions: Versions::Tls12, groups, ..Self::server() }
    }

    /// What is left of the parameters under `FIPS_202205`, on both sides: versions, AES-GCM, the curves of
    /// NIST, and signatures with at least SHA-256.
    #[must_use]
    pub fn fips_202205() -> Self {
        Self {
            versions: Versions::Both,
            cipher_suites: vec![
                vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
                vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384],
                vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
                vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
            ],
            tls13_cipher_suites: FIPS_TLS13_CIPHER_SUITES,
            groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
            signature_algorithms: Some(vec![
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
                SignatureScheme::ECDSA_NISTP256_SHA256,
                SignatureScheme::ECDSA_NISTP384_SHA384,
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
            ]),
        }
    }

    /// The cryptography for rustls, with these cipher suites of TLS 1.2 and these groups.
    #[must_use]
    pub fn provider(
        &self,
        tls12: &[SupportedCipherSuite],
        groups: &[&'static dyn SupportedKxGroup],
    ) -> Arc<CryptoProvider> {
        let tls13 = self.tls13_cipher_suites.iter().filter(|_| self.versions.has_tls13());
        let tls12 = tls12.iter().filter(|_| self.versions.has_tls12());
        Arc::new(CryptoProvider {
            cipher_suites: tls13.chain(tls12).copied().collect(),
            kx_groups: groups.to_vec(),
            ..aws_lc_rs::default_provider()
        })
    }

    /// All cipher suites of TLS 1.2, in order.
    #[must_use]
    pub fn tls12(&self) -> Vec<SupportedCipherSuite> {
        self.cipher_suites.iter().flatten().copied().collect()
    }

    /// The signature algorithms that a peer may use.
    #[must_use]
    pub fn verify_schemes(&self) -> Vec<SignatureScheme> {
        let all = aws_lc_rs::default_provider().signature_verification_algorithms;
        let mut schemes = all.supported_schemes();
        if let Some(allowed) = &self.signature_algorithms {
            schemes.retain(|scheme| allowed.contains(scheme));
        }
        schemes
    }
}

/// In the order in which Envoy offers them.
const TLS13_CIPHER_SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

const FIPS_TLS13_CIPHER_SUITES: &[SupportedCipherSuite] =
    &[cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];

fn default_cipher_suites() -> Vec<Vec<SupportedCipherSuite>> {
    vec![
        vec![
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        vec![
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
        vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384],
    ]
}

/// Why a name cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameError {
    /// BoringSSL has it, Corvoy has not.
    Lacking,
    /// Nothing has that name.
    Unknown,
}

/// A cipher suite of TLS 1.2 by its name in OpenSSL.
///
/// # Errors
/// Another name.
pub fn cipher_suite(name: &str) -> Result<SupportedCipherSuite, NameError> {
    Ok(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" | "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-ECDSA-AES256-GCM-SHA384" | "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-ECDSA-CHACHA20-POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-RSA-AES128-GCM-SHA256" | "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-RSA-AES256-GCM-SHA384" | "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-RSA-CHACHA20-POLY1305" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-ECDSA-AES128-SHA"
        | "ECDHE-ECDSA-AES256-SHA"
        | "ECDHE-RSA-AES128-SHA"
        | "ECDHE-RSA-AES128-SHA256"
        | "ECDHE-RSA-AES256-SHA"
        | "ECDHE-PSK-AES128-CBC-SHA"
        | "ECDHE-PSK-AES256-CBC-SHA"
        | "ECDHE-PSK-CHACHA20-POLY1305"
        | "AES128-GCM-SHA256"
        | "AES256-GCM-SHA384"
        | "AES128-SHA"
        | "AES256-SHA"
        | "PSK-AES128-CBC-SHA"
        | "PSK-AES256-CBC-SHA"
        | "DES-CBC3-SHA" => return Err(NameError::Lacking),
        _ => return Err(NameError::Unknown),
    })
}

/// A group by the name that BoringSSL gives it.
///
/// # Errors
/// Another name.
pub fn group(name: &str) -> Result<&'static dyn SupportedKxGroup, NameError> {
    Ok(match name {
        "X25519" => kx_group::X25519,
        "P-256" | "prime256v1" => kx_group::SECP256R1,
        "P-384" | "secp384r1" => kx_group::SECP384R1,
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        "P-224" | "secp224r1" | "P-521" | "secp521r1" | "X25519Kyber768Draft00" | "MLKEM1024" => {
            return Err(NameError::Lacking);
        }
        _ => return Err(NameError::Unknown),
    })
}

/// A signature algorithm by its name in TLS 1.3.
///
/// # Errors
/// Another name.
pub fn signature_algorithm(name: &str) -> Result<SignatureScheme, NameError> {
    Ok(match name {
        "rsa_pkcs1_sha256" => SignatureScheme::RSA_PKCS1_SHA256,
        "rsa_pkcs1_sha384" => SignatureScheme::RSA_PKCS1_SHA384,
        "rsa_pkcs1_sha512" => SignatureScheme::RSA_PKCS1_SHA512,
        "ecdsa_secp256r1_sha256" => SignatureScheme::ECDSA_NISTP256_SHA256,
        "ecdsa_secp384r1_sha384" => SignatureScheme::ECDSA_NISTP384_SHA384,
        "ecdsa_secp521r1_sha512" => SignatureScheme::ECDSA_NISTP521_SHA512,
        "rsa_pss_rsae_sha256" => SignatureScheme::RSA_PSS_SHA256,
        "rsa_pss_rsae_sha384" => SignatureScheme::RSA_PSS_SHA384,
        "rsa_pss_rsae_sha512" => SignatureScheme::RSA_PSS_SHA512,
        "ed25519" => SignatureScheme::ED25519,
        "rsa_pkcs1_md5_sha1" | "rsa_pkcs1_sha1" | "rsa_pkcs1_sha256_legacy" | "ecdsa_sha1" => {
            return Err(NameError::Lacking);
        }
        _ => return Err(NameError::Unknown),
    })
}
