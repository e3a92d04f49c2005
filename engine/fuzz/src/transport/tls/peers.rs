//! A client and a server, and what becomes of the bytes between them.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::client_hello::{ClientHello, FirstBytes, first_message};
use super::context::server::Addresses;
use super::context::{Chosen, Connect};
use super::session::{ENCRYPT_BYTES_MAX, Input, Output, Session};
use crate::shard::buffers::Buffers;

/// What a side gets is what the other has sent, however the bytes between them are split; if bytes are changed
/// on their way, it is the beginning of that. What a session keeps is bounded.
///
/// The first byte chooses the version. Three bytes are an event: what happens, on which side, and a number.
pub fn peers(input: &[u8]) {
    let Some((&version, events)) = input.split_first() else { return };
    let mut peers = Peers::new(version);
    for &[what, high, low] in events.as_chunks::<3>().0 {
        peers.happens(what, u16::from_be_bytes([high, low]).into());
    }
    peers.end();
}

struct Peers {
    /// The client and the server.
    sides: [Side; 2],
    /// Whether a byte was changed on its way.
    changed: bool,
}

struct Side {
    session: Session,
    buffers: &'static Buffers,
    server: Option<Arc<ServerConfig>>,
    /// On its way to the other side.
    wire: Vec<u8>,
    sent: Vec<u8>,
    got: Vec<u8>,
}

impl Peers {
    fn new(version: u8) -> Self {
        let versions: &[_] = match version % 3 {
            0 => &[&rustls::version::TLS12],
            1 => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let buffers: &Buffers = BUFFERS.with(|buffers| *buffers);
        let (client, server) = configs(versions);
        let connect = Connect {
            config: client,
            server_name: ServerName::try_from("a.test").expect("a name"),
            certificate: None,
            resumed: None,
        };
        let client = Session::client(connect, buffers).expect("a client");
        let mut client = Side::new(client, buffers, None);
        client.session.process(&mut Vec::new(), 0);
        client.transmit();
        let server = Side::new(Session::server(Addresses, buffers), buffers, Some(server));
        Self { sides: [client, server], changed: false }
    }

    fn happens(&mut self, what: u8, number: usize) {
        let [client, server] = &mut self.sides;
        let (side, other) = if what & 1 == 0 { (client, server) } else { (server, client) };
        match (what >> 1) % 6 {
            0 | 1 => side.receive(&mut other.wire, number, usize::from(what)),
            2 => side.send(number),
            3 if !other.wire.is_empty() => {
                let at = number % other.wire.len();
                other.wire[at] ^= what | 1;
                self.changed = true;
            }
            4 => {
                side.session.notify_close();
                side.transmit();
            }
            _ => side.session.rest(),
        }
    }

    /// All bytes arrive.
    fn end(mut self) {
        while self.sides.iter().any(|side| !side.wire.is_empty()) {
            self.happens(0, usize::MAX);
            self.happens(1, usize::MAX);
        }
        let [client, server] = &self.sides;
        for (side, other) in [(client, server), (server, client)] {
            if self.changed {
                assert!(other.sent.starts_with(&side.got), "other bytes");
                continue;
            }
            let session = &side.session;
            assert!(!session.is_handshaking(), "{:?}", session.input);
            assert_eq!(other.sent, side.got);
            let ended = if other.session.output == Output::Open { Input::Open } else { Input::Ended };
            assert_eq!(session.input, ended);
        }
    }
}

impl Side {
    fn new(session: Session, buffers: &'static Buffers, server: Option<Arc<ServerConfig>>) -> Self {
        Self { session, buffers, server, wire: Vec::new(), sent: Vec::new(), got: Vec::new() }
    }

    /// Receives so many bytes, and takes so many of plaintext at first.
    fn receive(&mut self, wire: &mut Vec<u8>, number: usize, most: usize) {
        let bytes: Vec<u8> = wire.drain(..number.min(wire.len())).collect();
        let session = &mut self.session;
        if session.input != Input::Open || bytes.is_empty() {
            return;
        }
        session.incoming.extend(&bytes, self.buffers);
        if session.wants_config().is_some() {
            self.configure();
        }
        let session = &mut self.session;
        if session.wants_config().is_none() && session.input == Input::Open {
            if session.is_handshaking() {
                session.process_handshake();
            } else {
                session.process(&mut self.got, most);
            }
        }
        session.plain.read(&mut self.got, usize::MAX, self.buffers);
        assert!(session.incoming.bytes().len() <= KEPT_MAX);
        self.transmit();
    }

    /// As in `handshake.rs`.
    fn configure(&mut self) {
        let session = &mut self.session;
        let message = match first_message(session.incoming.bytes()) {
            FirstBytes::Incomplete => return,
            FirstBytes::NotTls => {
                session.input = Input::Failed(session.refuse_other_protocol());
                return;
            }
            FirstBytes::Malformed(flaw) => {
                session.input = Input::Failed(session.refuse_hello(flaw));
                return;
            }
            FirstBytes::ClientHello(message) => message.into_owned(),
        };
        match (ClientHello::parse(&message), self.server.take()) {
            (Ok(_), Some(config)) => session.configure(Chosen { config }).expect("a server"),
            (Err(flaw), _) => session.input = Input::Failed(session.refuse_hello(flaw)),
            (Ok(_), None) => unreachable!("it is configured once"),
        }
    }

    fn send(&mut self, number: usize) {
        if self.session.is_handshaking() {
            return;
        }
        let from = self.sent.len();
        let bytes: Vec<u8> = (from..from + number).map(|at| (at % 251) as u8).collect();
        for bytes in bytes.chunks(ENCRYPT_BYTES_MAX) {
            if self.session.encrypt(bytes).is_ok() {
                self.sent.extend_from_slice(bytes);
            }
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        let outgoing = &mut self.session.outgoing;
        self.wire.extend_from_slice(outgoing.bytes());
        outgoing.advance(outgoing.bytes().len(), self.buffers);
    }
}

/// The most received bytes that are kept: a handshake message and a record.
const KEPT_MAX: usize = 0xffff + crate::limits::RECORD_BLOCK_BYTES;

thread_local! {
    static BUFFERS: &'static Buffers = Box::leak(Box::default());
}

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

fn configs(versions: &[&'static rustls::SupportedProtocolVersion]) -> Configs {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        Arc::new(provider)
    });
    let client = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptsAny))
        .with_no_client_auth();
    let certificate = CertificateDer::from(include_bytes!("../../../keys/server.der").as_slice());
    let key = PrivatePkcs8KeyDer::from(include_bytes!("../../../keys/server.key.der").as_slice());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("a certificate and its key");
    server.ticketer = aws_lc_rs::Ticketer::new().expect("random numbers");
    (Arc::new(client), Arc::new(server))
}

/// Whom the client trusts does not matter here.
#[derive(Debug)]
struct AcceptsAny;

impl ServerCertVerifier for AcceptsAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
