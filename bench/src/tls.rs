//! TLS of the load generator, and the certificates of the proxies.
//!
//! The clients offer one version, one cipher suite and one group, so every proxy negotiates the
//! same: TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, and `http/1.1` by ALPN. A client verifies the
//! certificate, the ALPN protocol, and whether the handshake was full or resumed.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::client::{Tls13ClientSessionValue, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore};

use crate::load::record::Failure;

/// The key of a proxy's certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    P256,
    Rsa2048,
}

/// A self-signed certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, for HAProxy.
    pub(crate) both: PathBuf,
}

impl Key {
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Rsa2048 => "rsa2048",
        }
    }

    fn generate(self) -> Result<rcgen::KeyPair, rcgen::Error> {
        match self {
            Self::P256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => {
                rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            }
        }
    }
}

impl Files {
    /// The files for this key in `folder`; they are made the first time.
    pub(crate) fn of(key: Key, folder: &Path) -> anyhow::Result<Self> {
        let file = |extension: &str| folder.join(format!("{}.{extension}", key.name()));
        let files = Self { certificate: file("crt"), key: file("key"), both: file("pem") };
        if !files.both.exists() {
            let pair = key.generate()?;
            let certificate =
                rcgen::CertificateParams::new([NAME.to_owned()])?.self_signed(&pair)?;
            let (certificate, key) = (certificate.pem(), pair.serialize_pem());
            std::fs::write(&files.certificate, &certificate)?;
            std::fs::write(&files.key, &key)?;
            std::fs::write(&files.both, certificate + &key)?;
        }
        Ok(files)
    }
}

/// What every connection of a client has in common.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Whether connections resume the sessions of earlier ones.
    pub(crate) resumes: bool,
}

/// The client's side of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    connection: ClientConnection,
}

impl Client {
    /// Trusts the certificate in this file only. If it `resumes`, each connection uses the ticket of
    /// an earlier one as soon as there is one.
    pub(crate) fn new(certificate: &Path, resumes: bool) -> anyhow::Result<Self> {
        let read = CertificateDer::from_pem_file(certificate);
        let mut roots = RootCertStore::empty();
        roots.add(read.with_context(|| certificate.display().to_string())?)?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(verifier.build()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = if resumes {
            Resumption::store(Arc::<Tickets>::default())
        } else {
            Resumption::disabled()
        };
        Ok(Self { config: Arc::new(config), name: ServerName::try_from(NAME)?, resumes })
    }

    /// A connection whose ClientHello is ready to be sent.
    pub(crate) fn connect(&self) -> Result<Session, Failure> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(|_| Failure::Tls)?;
        connection.set_buffer_limit(None); // a request may have a large body
        Ok(Session { connection })
    }

    /// A connection that blocks.
    pub(crate) fn wrap(
        &self,
        stream: TcpStream,
    ) -> Option<rustls::StreamOwned<ClientConnection, TcpStream>> {
        Some(rustls::StreamOwned::new(self.connect().ok()?.connection, stream))
    }
}

impl Session {
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the proxy chose the protocol that was offered.
    pub(crate) fn has_alpn(&self) -> bool {
        self.connection.alpn_protocol() == Some(ALPN)
    }

    /// Encrypts `plain`, after what the handshake left to send.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Failure> {
        self.connection.writer().write_all(plain).map_err(|_| Failure::Tls)?;
        self.outgoing()
    }

    /// What there is to send.
    pub(crate) fn outgoing(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).map_err(|_| Failure::Tls)?;
        }
        Ok(bytes)
    }

    /// Decrypts what was received and passes it to `take`.
    pub(crate) fn open(
        &mut self,
        mut sealed: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !sealed.is_empty() {
            self.connection.read_tls(&mut sealed).map_err(|_| Failure::Tls)?;
            self.connection.process_new_packets().map_err(|_| Failure::Tls)?;
            let mut reader = self.connection.reader();
            loop {
                let taken = match reader.fill_buf() {
                    Ok([]) => break,
                    Ok(plain) => {
                        take(plain)?;
                        plain.len()
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Failure::Broken),
                };
                reader.consume(taken);
            }
        }
        Ok(())
    }
}

/// Tickets that no connection has used yet. rustls' own store has room for eight.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.push_back(ticket);
        if tickets.len() > TICKETS_MAX {
            tickets.pop_front();
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

const NAME: &str = "bench.test";
const ALPN: &[u8] = b"http/1.1";
const TICKETS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener};

    use clap::Parser;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::load::{self, record::Summary};

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: load::Options,
    }

    /// A server that sends this many tickets and one answer on each connection.
    fn server(files: &Files, tickets: usize) -> SocketAddr {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&files.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = tickets;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
                // A client that does not like the certificate is gone.
                if stream.read(&mut [0; 1024]).is_ok() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            }
        });
        address
    }

    fn ask(server: SocketAddr, certificate: &Path, more: &str) -> anyhow::Result<Summary> {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("summary.json");
        let line = format!(
            "load --target {server} --connections 2 --requests 20 --close --trust {} --json {} {more}",
            certificate.display(),
            json.display(),
        );
        load::run(&Line::parse_from(line.split_whitespace()).options)?;
        Ok(serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap())
    }

    #[test]
    fn handshakes_are_full_or_resumed_as_requested() {
        let folder = tempfile::tempdir().unwrap();
        for key in [Key::P256, Key::Rsa2048] {
            let files = Files::of(key, folder.path()).unwrap();
            let (resumable, other) = (server(&files, 2), server(&files, 0));
            let outcome = |server, more| {
                let summary = ask(server, &files.certificate, more).unwrap();
                (summary.requests, summary.failures.tls)
            };
            assert_eq!(outcome(resumable, ""), (20, 0), "{key:?}");
            assert_eq!(outcome(resumable, "--resume"), (20, 0), "{key:?}");
            assert_eq!(outcome(other, ""), (20, 0), "{key:?}");
            assert_eq!(outcome(other, "--resume"), (0, 20), "{key:?}: nothing to resume");
        }
    }

    #[test]
    fn another_certificate_is_not_trusted() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [ours, other] = folders.each_ref().map(|it| Files::of(Key::P256, it.path()).unwrap());
        ask(server(&ours, 2), &other.certificate, "").unwrap_err();
    }
}
