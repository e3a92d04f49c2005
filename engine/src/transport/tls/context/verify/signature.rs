//! The signatures of a peer in the handshake.

use std::cell::Cell;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto;
use rustls::pki_types::CertificateDer;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::validation::algorithms;

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

pub(super) fn tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    schemes: &[SignatureScheme],
) -> Result<HandshakeSignatureValid, Error> {
    admit(dss, schemes)?;
    crypto::verify_tls12_signature(message, cert, dss, &algorithms())
}

pub(super) fn tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    schemes: &[SignatureScheme],
) -> Result<HandshakeSignatureValid, Error> {
    admit(dss, schemes)?;
    crypto::verify_tls13_signature(message, cert, dss, &algorithms())
}

/// Notes the scheme. A peer may only use one that was offered to it.
fn admit(dss: &DigitallySignedStruct, schemes: &[SignatureScheme]) -> Result<(), Error> {
    if !schemes.contains(&dss.scheme) {
        return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    SCHEME.set(Some(dss.scheme));
    Ok(())
}
