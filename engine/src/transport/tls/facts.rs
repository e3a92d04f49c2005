//! What is known about a connection after its handshake.

use rustls::pki_types::CertificateDer;

/// What a handshake has settled.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`
    pub version: &'static str,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
    /// The protocol that ALPN has selected.
    pub alpn: Option<Vec<u8>>,
    /// The peer's certificates, its own first.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}
