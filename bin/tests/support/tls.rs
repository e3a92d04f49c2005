//! TLS for the stories: certificates of this run, and rustls on the other side of the proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, NamedGroup, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

/// The name that the certificate is for.
const NAME: &str = "a.test";

/// A certificate, and what both sides need to use it.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
    key_pem: String,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Identity>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// The certificate of a client, and that of its CA in PEM.
#[derive(Clone, Debug)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    authority: String,
}

/// What a client offered to a server in its handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Handshake {
    /// The server name.
    pub(crate) server_name: Option<String>,
    /// The protocol that the server has picked by ALPN.
    pub(crate) protocol: Option<String>,
}

/// One TLS connection, without its socket.
#[derive(Debug)]
pub(crate) struct Session(Connection);

impl Tls {
    /// A new certificate.
    pub(crate) fn new() -> Self {
        Self::with_names(Vec::new())
    }

    /// A new certificate that is also for these names.
    pub(crate) fn with_names(names: Vec<SanType>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.subject_alt_names.extend(names);
        params.distinguished_name.push(DnType::CommonName, NAME);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().clone();
        let versions = rustls::ALL_VERSIONS;
        Self {
            versions: versions.to_vec(),
            identity: None,
            client: Arc::new(client_config(&der, None, versions)),
            server: Arc::new(server_config(&der, &key.serialize_der(), versions)),
            key: key.serialize_der(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: der,
        }
    }

    /// The same for one version only, on the side of the story.
    pub(crate) fn with_version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self.client =
            Arc::new(client_config(&self.certificate, self.identity.as_ref(), &[version]));
        self.server = Arc::new(server_config(&self.certificate, &self.key, &[version]));
        self
    }

    /// Clients have a certificate for `client` with these names, from a CA that the proxy trusts.
    pub(crate) fn with_client_certificate(mut self, names: Vec<SanType>) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "client");
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        let identity = Identity {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            authority: authority_pem,
        };
        let client = client_config(&self.certificate, Some(&identity), &self.versions);
        self.client = Arc::new(client);
        self.identity = Some(identity);
        self
    }

    /// Servers pick one of these protocols by ALPN.
    pub(crate) fn with_protocols(mut self, protocols: &[&str]) -> Self {
        let mut server = (*self.server).clone();
        server.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.server = Arc::new(server);
        self
    }

    /// Clients offer these protocols by ALPN.
    pub(crate) fn with_offers(mut self, protocols: &[&str]) -> Self {
        let mut client = (*self.client).clone();
        client.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.client = Arc::new(client);
        self
    }

    /// A client's side, which verifies the certificate.
    pub(crate) fn client(&self) -> Session {
        let name = ServerName::try_from(NAME).unwrap();
        Session(ClientConnection::new(Arc::clone(&self.client), name).unwrap().into())
    }

    /// A server's side.
    pub(crate) fn server(&self) -> Session {
        Session(ServerConnection::new(Arc::clone(&self.server)).unwrap().into())
    }

    /// What a client sends first.
    pub(crate) fn client_hello(&self) -> Vec<u8> {
        self.client().records()
    }

    /// The certificate, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, in PEM.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A `TlsCertificate`.
    pub(crate) fn pair(&self) -> String {
        let (certificate, key) = (inline(&self.pem), inline(&self.key_pem));
        format!("{{ \"certificate_chain\": {certificate}, \"private_key\": {key} }}")
    }

    /// A `CertificateValidationContext` that trusts the CA of the clients' certificate.
    pub(crate) fn trust_in_clients(&self) -> String {
        let identity = self.identity.as_ref().unwrap();
        format!("{{ \"trusted_ca\": {} }}", inline(&identity.authority))
    }

    /// A `CertificateValidationContext` that trusts this certificate.
    pub(crate) fn trust(&self) -> String {
        format!("{{ \"trusted_ca\": {} }}", inline(&self.pem))
    }

    /// The field of a filter chain.
    pub(crate) fn downstream(&self) -> String {
        self.downstream_with_protocols(&[])
    }

    /// The same; the proxy picks one of these protocols by ALPN.
    pub(crate) fn downstream_with_protocols(&self, protocols: &[&str]) -> String {
        let mut common = format!("tls_certificates: [{}]", self.pair());
        if !protocols.is_empty() {
            common += &format!(", alpn_protocols: [{}]", protocols.join(", "));
        }
        if self.identity.is_some() {
            common += &format!(", validation_context: {}", self.trust_in_clients());
        }
        transport_socket("DownstreamTlsContext", &common, "")
    }

    /// The field of a cluster.
    pub(crate) fn upstream(&self) -> String {
        self.upstream_with(&format!("sni: {NAME}"))
    }

    /// The field of a cluster, with these fields.
    pub(crate) fn upstream_with(&self, fields: &str) -> String {
        // As Envoy, Corvoy offers at most TLS 1.2 to origins unless asked.
        let common = format!(
            "validation_context: {}, \
             tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}",
            self.trust()
        );
        transport_socket("UpstreamTlsContext", &common, &format!(", {fields}"))
    }
}

fn client_config(
    authority: &CertificateDer<'static>,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(versions);
    let config = config.with_root_certificates(roots);
    match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key, .. }) => {
            let key = PrivateKeyDer::try_from(key.clone()).unwrap();
            config.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    }
}

fn server_config(
    certificate: &CertificateDer<'static>,
    key: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
    let config = ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth();
    config.with_single_cert(vec![certificate.clone()], key).unwrap()
}

fn inline(pem: &str) -> String {
    format!("{{ \"inline_string\": \"{}\" }}", pem.replace('\r', "").replace('\n', "\\n"))
}

/// The field `transport_socket`.
pub(crate) fn transport_socket(context: &str, common: &str, more: &str) -> String {
    format!(
        "transport_socket: {{ name: envoy.transport_sockets.tls, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}, \
         common_tls_context: {{ {common} }}{more} }} }}"
    )
}

impl Session {
    pub(super) fn handshake(&self) -> Handshake {
        let server_name = match &self.0 {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        let protocol = self.0.alpn_protocol();
        let protocol = protocol.map(|name| String::from_utf8_lossy(name).into_owned());
        Handshake { server_name, protocol }
    }

    /// The group of the key exchange.
    pub(crate) fn group(&self) -> NamedGroup {
        self.0.negotiated_key_exchange_group().unwrap().name()
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(super) fn send(&mut self, mut bytes: &[u8], stream: &mut TcpStream) -> io::Result<()> {
        while self.0.is_handshaking() {
            self.complete_io(stream)?;
        }
        while !bytes.is_empty() {
            let taken = self.0.writer().write(bytes)?;
            bytes = &bytes[taken..];
            stream.write_all(&self.records())?;
        }
        Ok(())
    }

    /// As read(2): 0 is an end with `close_notify`, `UnexpectedEof` one without.
    pub(super) fn receive(&mut self, into: &mut [u8], stream: &mut TcpStream) -> io::Result<usize> {
        loop {
            match self.0.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.complete_io(stream)?,
                read => return read,
            }
        }
    }

    /// Takes bytes from the peer, and returns the plaintext in them.
    pub(crate) fn open(&mut self, mut records: &[u8]) -> io::Result<Vec<u8>> {
        let mut plaintext = Vec::new();
        while !records.is_empty() {
            self.0.read_tls(&mut records)?;
            let state = self.0.process_new_packets();
            let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let start = plaintext.len();
            plaintext.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plaintext[start..])?;
        }
        Ok(plaintext)
    }

    /// What to send for this plaintext, after what the handshake has to send.
    pub(crate) fn seal(&mut self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut records = self.records();
        while !bytes.is_empty() {
            let taken = self.0.writer().write(bytes)?;
            bytes = &bytes[taken..];
            records.extend(self.records());
        }
        Ok(records)
    }

    pub(super) fn notify_close(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.0.send_close_notify();
        stream.write_all(&self.records())
    }

    /// Sends and receives until there is progress.
    fn complete_io(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.records())?;
        loop {
            match self.0.read_tls(stream) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The end of the stream; the reader tells what it means.
                Ok(0) if self.0.is_handshaking() => return Err(ErrorKind::UnexpectedEof.into()),
                read => {
                    read?;
                    break;
                }
            }
        }
        let processed = self.0.process_new_packets();
        // Alerts too.
        stream.write_all(&self.records())?;
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(())
    }

    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut records).unwrap();
        }
        records
    }
}
