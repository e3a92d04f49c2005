//! A certificate, and a client and an origin that use it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

const NAME: &str = "a.test";

#[derive(Clone)]
pub(crate) struct Tls {
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// A connection of the test.
pub(crate) enum Stream {
    Plain(TcpStream),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Tls {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private);
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            client: Arc::new(client),
            server: Arc::new(server.unwrap()),
        }
    }

    pub(crate) fn client(&self, stream: TcpStream) -> Stream {
        let name = ServerName::try_from(NAME).unwrap();
        let client = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        Stream::Client(Box::new(StreamOwned::new(client, stream)))
    }

    pub(crate) fn server(&self, stream: TcpStream) -> Stream {
        let server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        Stream::Server(Box::new(StreamOwned::new(server, stream)))
    }

    pub(crate) fn downstream(&self) -> String {
        let (certificate, key) = (inline(&self.certificate), inline(&self.key));
        let certificate = format!("{{ certificate_chain: {certificate}, private_key: {key} }}");
        transport_socket("Downstream", &format!("tls_certificates: [{certificate}]"), "")
    }

    pub(crate) fn upstream(&self) -> String {
        let authority = inline(&self.certificate);
        let common = format!("validation_context: {{ trusted_ca: {authority} }}");
        transport_socket("Upstream", &common, &format!(", sni: {NAME}"))
    }
}

fn inline(pem: &str) -> String {
    format!("{{ inline_string: \"{}\" }}", pem.replace('\r', "").replace('\n', "\\n"))
}

fn transport_socket(side: &str, common: &str, more: &str) -> String {
    format!(
        "transport_socket: {{ name: envoy.transport_sockets.tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext, \
         common_tls_context: {{ {common} }}{more} }} }}"
    )
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Client(stream) => stream.read(into),
            Self::Server(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Client(stream) => stream.write(bytes),
            Self::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Client(stream) => stream.flush(),
            Self::Server(stream) => stream.flush(),
        }
    }
}
