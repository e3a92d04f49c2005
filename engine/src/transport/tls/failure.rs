//! Why a handshake failed or a connection broke, in plain words.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible};

use super::context::verify::{self, ChainError};

/// What went wrong on a TLS connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// The peer's first bytes are not a TLS record.
    NotTls,
    /// A message that cannot be decoded.
    Malformed,
    /// A message that is not allowed at this point, or against the protocol.
    Misbehaved,
    /// A record that was not encrypted with the keys of the connection, or was changed on its way.
    BadRecord,
    /// Both sides have no version, cipher suite, group or signature algorithm in common.
    Incompatible(Mismatch),
    /// The peer has no certificate, and must have one.
    NoCertificate,
    /// The peer's certificate was refused.
    Certificate(Refusal),
    /// The peer has sent this alert.
    Alert(u8),
    /// The peer has closed the connection during the handshake.
    Closed,
    /// The handshake took too long.
    TimedOut,
    /// The peer has closed the connection without a `close_notify`: what it has sent may be incomplete.
    Truncated,
    /// The socket is broken.
    Broken(io::ErrorKind),
    /// This side waits for a certificate, its validation or its keys.
    SecretsNotReady,
    /// The server name that follows from the request is not a host name, so it cannot be sent.
    InvalidServerName,
    /// This side cannot go on: it has no usable key, randomness, time or more sequence numbers.
    Internal,
}

/// What both sides do not have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mismatch {
    Version,
    CipherSuite,
    Group,
    SignatureAlgorithm,
    Other,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Refusal {
    Expired,
    NotYetValid,
    Revoked,
    UnknownIssuer,
    UnknownRevocationStatus,
    InvalidRevocationList,
    OtherName,
    Purpose,
    BadSignature,
    Malformed,
    /// A critical extension, or a constraint of a CA.
    Extension,
    /// Neither its hash nor that of its key is expected.
    Hash,
    KeyUsage,
    Other,
}

impl Failure {
    /// In words, for logs and `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotTls => "not a TLS handshake",
            Self::Malformed => "malformed TLS message",
            Self::Misbehaved => "unexpected TLS message",
            Self::BadRecord => "TLS record cannot be decrypted",
            Self::Incompatible(mismatch) => mismatch.words(),
            Self::Certificate(refusal) => refusal.words(),
            Self::NoCertificate => "peer did not provide required certificate",
            Self::Alert(alert) => alert_words(alert),
            Self::Closed => "connection closed during TLS handshake",
            Self::TimedOut => "TLS handshake timed out",
            Self::Truncated => "connection closed without close_notify",
            Self::Broken(_) => "connection broken",
            // As in Envoy.
            Self::SecretsNotReady => "Secret is not supplied by SDS",
            Self::InvalidServerName => "server name is not a host name",
            Self::Internal => "internal TLS error",
        }
    }

    /// Whether the peer left before it was served: no fault of either side.
    #[must_use]
    pub const fn is_disconnect(self) -> bool {
        matches!(self, Self::Closed | Self::TimedOut | Self::Truncated | Self::Broken(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(kind) => kind.into(),
            Failure::Truncated | Failure::Closed => {
                Self::new(io::ErrorKind::UnexpectedEof, failure)
            }
            failure => Self::new(io::ErrorKind::InvalidData, failure),
        }
    }
}

impl From<verify::Refusal> for Failure {
    fn from(refusal: verify::Refusal) -> Self {
        Self::Certificate(Refusal::of_verifier(&refusal))
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::NotTls,
            Error::InvalidMessage(_) => Self::Malformed,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::DecryptError | Error::PeerSentOversizedRecord => Self::BadRecord,
            Error::PeerIncompatible(reason) => Self::Incompatible(Mismatch::of(&reason)),
            Error::NoApplicationProtocol => Self::Incompatible(Mismatch::Other),
            Error::AlertReceived(alert) => Self::Alert(alert.into()),
            Error::InvalidCertificate(error) => Self::Certificate(Refusal::of(&error)),
            Error::InvalidCertRevocationList(_) => {
                Self::Certificate(Refusal::InvalidRevocationList)
            }
            Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => Self::Misbehaved,
            _ => Self::Internal,
        }
    }
}

impl Mismatch {
    const fn of(reason: &PeerIncompatible) -> Self {
        match reason {
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NamedGroupsExtensionRequired
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::KeyShareExtensionRequired => Self::Group,
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                Self::SignatureAlgorithm
            }
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::Version,
            _ => Self::Other,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Version => "no common TLS version",
            Self::CipherSuite => "no common cipher suite",
            Self::Group => "no common key exchange group",
            Self::SignatureAlgorithm => "no common signature algorithm",
            Self::Other => "no common TLS parameters",
        }
    }
}

impl Refusal {
    fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Other(OtherError(other)) => {
                other.downcast_ref().map_or(Self::Other, Self::of_verifier)
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => {
                Self::UnknownRevocationStatus
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
                Self::Malformed
            }
            _ => Self::Other,
        }
    }

    /// What our verifier says.
    fn of_verifier(refusal: &verify::Refusal) -> Self {
        match refusal {
            verify::Refusal::Names { .. } => Self::OtherName,
            verify::Refusal::Hash => Self::Hash,
            verify::Refusal::KeyUsage => Self::KeyUsage,
            verify::Refusal::Chain { error, .. } => match error {
                ChainError::Expired => Self::Expired,
                ChainError::NotYetValid => Self::NotYetValid,
                ChainError::Revoked => Self::Revoked,
                ChainError::Purpose => Self::Purpose,
                ChainError::Signature => Self::BadSignature,
                ChainError::Malformed => Self::Malformed,
                ChainError::NoCrl | ChainError::BadCrl => Self::UnknownRevocationStatus,
                ChainError::CriticalExtension | ChainError::NameConstraints => Self::Extension,
                ChainError::UnknownIssuer
                | ChainError::SelfSigned
                | ChainError::NotACa
                | ChainError::TooLong
                | ChainError::TooManyCandidates => Self::UnknownIssuer,
            },
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Expired => "certificate has expired",
            Self::NotYetValid => "certificate is not yet valid",
            Self::Revoked => "certificate revoked",
            Self::UnknownIssuer => "certificate signed by unknown authority",
            Self::UnknownRevocationStatus => "certificate revocation status unknown",
            Self::InvalidRevocationList => "certificate revocation list is invalid",
            Self::OtherName => "certificate is for another name",
            Self::Purpose => "unsupported certificate purpose",
            Self::BadSignature => "certificate has a bad signature",
            Self::Malformed => "malformed certificate",
            Self::Extension => "unhandled extension of the certificate or of a CA",
            Self::Hash => "certificate is not a pinned one",
            Self::KeyUsage => "key usage of the certificate does not allow signatures",
            Self::Other => "certificate verification failed",
        }
    }
}

fn alert_words(alert: u8) -> &'static str {
    match AlertDescription::from(alert) {
        AlertDescription::UnexpectedMessage => "peer sent alert unexpected_message",
        AlertDescription::BadRecordMac => "peer sent alert bad_record_mac",
        AlertDescription::HandshakeFailure => "peer sent alert handshake_failure",
        AlertDescription::NoCertificate => "peer sent alert no_certificate",
        AlertDescription::BadCertificate => "peer sent alert bad_certificate",
        AlertDescription::UnsupportedCertificate => "peer sent alert unsupported_certificate",
        AlertDescription::CertificateRevoked => "peer sent alert certificate_revoked",
        AlertDescription::CertificateExpired => "peer sent alert certificate_expired",
        AlertDescription::CertificateUnknown => "peer sent alert certificate_unknown",
        AlertDescription::IllegalParameter => "peer sent alert illegal_parameter",
        AlertDescription::UnknownCA => "peer sent alert unknown_ca",
        AlertDescription::AccessDenied => "peer sent alert access_denied",
        AlertDescription::DecodeError => "peer sent alert decode_error",
        AlertDescription::DecryptError => "peer sent alert decrypt_error",
        AlertDescription::ProtocolVersion => "peer sent alert protocol_version",
        AlertDescription::InsufficientSecurity => "peer sent alert insufficient_security",
        AlertDescription::InternalError => "peer sent alert internal_error",
        AlertDescription::UserCanceled => "peer sent alert user_canceled",
        AlertDescription::UnrecognisedName => "peer sent alert unrecognized_name",
        AlertDescription::CertificateRequired => "peer sent alert certificate_required",
        AlertDescription::NoApplicationProtocol => "peer sent alert no_application_protocol",
        _ => "peer sent an alert",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_in_plain_words() {
        let words = |error: rustls::Error| Failure::from(error).words();
        assert_eq!(
            words(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            "not a TLS handshake"
        );
        assert_eq!(
            words(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "certificate signed by unknown authority"
        );
        assert_eq!(
            words(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            "peer sent alert unknown_ca"
        );
        assert_eq!(
            words(rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
            "no common cipher suite"
        );
    }

    #[test]
    fn a_peer_that_leaves_is_no_failure_of_the_protocol() {
        assert!(Failure::Closed.is_disconnect());
        assert!(!Failure::Alert(40).is_disconnect());
    }
}
