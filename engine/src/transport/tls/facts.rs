//! What is known about a connection after its handshake.

use std::sync::Arc;

use rustls::{
    CipherSuite, CommonState, HandshakeKind, NamedGroup, ProtocolVersion, SignatureScheme,
};

use super::certificate::Certificate;
use super::context::verify::Validation;

/// What a handshake has settled, and the certificates that were shown in it.
///
/// It is made once per connection. Texts about certificates are made when they are first asked for.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite by the name that OpenSSL has for it: `ECDHE-ECDSA-AES128-GCM-SHA256`.
    pub cipher: &'static str,
    /// The group of the key exchange: `X25519`. Absent if a session was resumed without one.
    pub group: Option<&'static str>,
    /// The peer's signature algorithm: `ecdsa_secp256r1_sha256`. Absent if the peer has no certificate.
    pub signature: Option<&'static str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The session id of TLS 1.2; empty if there is none.
    pub session_id: Box<[u8]>,
    /// The server name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The protocol that ALPN has selected.
    pub alpn: Option<Box<[u8]>>,
    /// The peer's certificates as it sent them, its own first; empty if it has none.
    pub peer_certificates: Box<[Certificate]>,
    /// Whether the peer's certificate was verified and found good.
    pub validated: bool,
    /// The certificate of the peer's issuer, if it is trusted here and the peer has not sent it.
    pub issuer: Option<Arc<Certificate>>,
    /// The certificate that was sent to the peer.
    pub local_certificate: Option<Arc<Certificate>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsFacts {
    /// A connection of this version, of which nothing else is known.
    pub fn new(version: TlsVersion) -> Self {
        Self {
            version,
            cipher: "",
            group: None,
            signature: None,
            resumed: false,
            session_id: Box::default(),
            server_name: None,
            alpn: None,
            peer_certificates: Box::default(),
            validated: false,
            issuer: None,
            local_certificate: None,
        }
    }

    /// What rustls tells about either side after a handshake. It does not tell the session id, the server
    /// name, the peer's signature algorithm, the local certificate and whether the peer's one is valid.
    pub fn of(connection: &CommonState) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        let suite = connection.negotiated_cipher_suite();
        let group = connection.negotiated_key_exchange_group();
        let peer = connection.peer_certificates().unwrap_or_default();
        Self {
            cipher: suite.map_or("", |suite| cipher_name(suite.suite())),
            group: group.and_then(|group| group_name(group.name())),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().map(Into::into),
            peer_certificates: peer.iter().cloned().map(Certificate::new).collect(),
            ..Self::new(version)
        }
    }

    /// Looks for the certificate of the peer's issuer among the trusted ones, unless the peer has sent it.
    pub fn complete_issuer(&mut self, validation: &Validation) {
        if let ([certificate], Some(trust)) = (&*self.peer_certificates, &validation.trust) {
            let issuer = trust.issuer_of(certificate.der());
            self.issuer = issuer.map(|der| Arc::new(Certificate::new(der.clone())));
        }
    }

    /// The peer's own certificate.
    pub fn peer_certificate(&self) -> Option<&Certificate> {
        self.peer_certificates.first()
    }

    /// The certificate of the peer's issuer, if it is known.
    pub fn issuer(&self) -> Option<&Certificate> {
        self.peer_certificates.get(1).or(self.issuer.as_deref())
    }
}

impl TlsVersion {
    /// `TLSv1.2` or `TLSv1.3`
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// OpenSSL's name of a cipher suite; empty for one that rustls does not have.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// BoringSSL's name of a group; none for one that rustls does not have.
fn group_name(group: NamedGroup) -> Option<&'static str> {
    Some(match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::secp521r1 => "P-521",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => return None,
    })
}

/// The name of a signature algorithm in RFC 8446 §4.2.3; none for one that rustls does not verify.
pub fn signature_name(scheme: SignatureScheme) -> Option<&'static str> {
    Some(match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        _ => return None,
    })
}
