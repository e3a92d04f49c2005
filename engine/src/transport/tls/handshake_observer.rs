//! What rustls does not report about a handshake. It is collected during the handshake and added to its facts
//! at the end.

use std::sync::Arc;

use super::certificate::Certificate;
use super::context::verify;
use super::facts::{TlsFacts, TlsVersion, signature_name};

/// What was collected so far.
#[derive(Debug, Default)]
pub(super) struct HandshakeObserver {
    /// The server name that a client sends.
    server_name: Option<Box<str>>,
    /// The certificate that a client has for servers that ask for one.
    local_certificate: Option<Arc<Certificate>>,
    session_id: Option<Box<[u8]>>,
    signature: Option<&'static str>,
}

impl HandshakeObserver {
    /// For a client that sends this server name and has this certificate.
    pub(super) fn of_client(
        server_name: Option<Box<str>>,
        local_certificate: Option<Arc<Certificate>>,
    ) -> Self {
        Self { server_name, local_certificate, ..Self::default() }
    }

    /// Takes the session id from what the server sends, which begins with the ServerHello.
    pub(super) fn observe(&mut self, records: &[u8]) {
        if self.session_id.is_none() {
            self.session_id = session_id(records).map(Into::into);
        }
    }

    /// Stores the signature algorithm that the peer used in the last step.
    pub(super) fn after_step(&mut self) {
        if let Some(scheme) = verify::take_scheme() {
            self.signature = signature_name(scheme);
        }
    }

    /// Adds everything to the facts.
    pub(super) fn complete(self, facts: &mut TlsFacts) {
        let Self { server_name, local_certificate, session_id, signature } = self;
        facts.server_name = server_name.or_else(|| facts.server_name.take());
        facts.local_certificate = local_certificate.or_else(|| facts.local_certificate.take());
        facts.signature = signature;
        // In TLS 1.3 it has no meaning.
        if facts.version == TlsVersion::Tls12 {
            facts.session_id = session_id.unwrap_or_default();
        }
    }
}

/// The session id of a ServerHello that is the first of these records.
//= rfc5246#section-7.4.1.3
fn session_id(records: &[u8]) -> Option<&[u8]> {
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    // Type, version and length of the record; then type and length of the message, version and random.
    let (record, message) = records.split_at_checked(5)?;
    let (head, rest) = message.split_at_checked(4 + 2 + 32)?;
    if record.first() != Some(&HANDSHAKE) || head.first() != Some(&SERVER_HELLO) {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    rest.get(..usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_hello(session_id: &[u8]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3];
        bytes.extend([7; 32]);
        bytes.push(u8::try_from(session_id.len()).unwrap());
        bytes.extend(session_id);
        bytes.extend([0xc0, 0x2b, 0]);
        bytes
    }

    #[test]
    fn the_session_id_is_that_of_the_server_hello() {
        let hello = server_hello(&[1, 2, 3]);
        assert_eq!(session_id(&hello), Some(&[1, 2, 3][..]));
        assert_eq!(session_id(&server_hello(&[])), Some(&[][..]));
        for cut in 0..hello.len() - 3 {
            assert_eq!(session_id(&hello[..cut]), None, "{cut} bytes");
        }
        let mut other = hello;
        other[5] = 1;
        assert_eq!(session_id(&other), None, "a ClientHello");
    }

    #[test]
    fn a_session_has_an_id_in_tls_1_2_only() {
        let id_in = |version| {
            let mut observer = HandshakeObserver::default();
            observer.observe(b"");
            observer.observe(&server_hello(&[9]));
            observer.observe(&server_hello(&[8]));
            let mut facts = TlsFacts::new(version);
            observer.complete(&mut facts);
            facts.session_id
        };
        assert_eq!(&*id_in(TlsVersion::Tls12), b"\x09");
        assert!(id_in(TlsVersion::Tls13).is_empty());
    }
}
