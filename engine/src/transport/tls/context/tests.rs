//! Handshakes in memory: rustls' client against the contexts here, without any socket.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SignatureScheme,
};

use super::certificate::{Certificate, Facts};
use super::ocsp::StaplePolicy;
use super::parameters::{Parameters, Versions};
use super::select::{Names, Rules, select};
use super::server::{Addresses, ClientCertificate, Resumption, ServerSettings};
use super::sessions::Sessions;
use super::tickets::TicketKey;
use super::tickets::tests::pass;
use super::verify::{ServerVerifier, Trust, Validation};
use super::{Latest, ServerContext, ShardServerContext};
use crate::stats::Registry;
use crate::transport::tls::client_hello::{ClientHello, FirstBytes, first_message};

/// A certificate with its key, and who may issue others with it.
pub(in crate::transport::tls) struct Issued {
    pub(in crate::transport::tls) der: CertificateDer<'static>,
    pub(in crate::transport::tls) key: Vec<u8>,
}

pub(in crate::transport::tls) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(in crate::transport::tls) fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Parameters of a certificate with these DNS names.
pub(in crate::transport::tls) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(in crate::transport::tls) fn issue(params: &CertificateParams, ca: &Ca) -> Issued {
    issue_with(params, ca, &KeyPair::generate().unwrap())
}

pub(in crate::transport::tls) fn issue_with(
    params: &CertificateParams,
    ca: &Ca,
    key: &KeyPair,
) -> Issued {
    let certificate = params.signed_by(key, ca).unwrap();
    Issued { der: certificate.der().clone(), key: key.serialize_der() }
}

fn rsa_key() -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
}

pub(in crate::transport::tls) fn certificate(issued: &Issued) -> Certificate {
    let der = PrivateKeyDer::try_from(issued.key.clone()).unwrap();
    let Facts { key, names, must_staple, .. } = Facts::of(&issued.der).unwrap();
    Certificate {
        chain: vec![issued.der.clone()],
        keys: [any_supported_type(&der).unwrap()].into(),
        key,
        names,
        must_staple,
        ocsp: None,
        path: "<inline>".to_owned(),
        secret: String::new(),
    }
}

pub(in crate::transport::tls) fn settings(certificates: &[&Issued]) -> ServerSettings {
    ServerSettings {
        certificates: certificates.iter().map(|issued| certificate(issued)).collect(),
        parameters: Parameters::server(),
        alpn: Vec::new(),
        prefer_client_ciphers: false,
        full_scan_on_mismatch: false,
        ocsp: StaplePolicy::Lenient,
        resumption: Resumption {
            tickets: Some(vec![TicketKey::new(&[7; TicketKey::LENGTH])]),
            identity: [0; 32],
            sessions: Some(Arc::new(Sessions::new(7200))),
            timeout: None,
        },
        client_certificate: ClientCertificate::NotAsked,
        key_log: None,
    }
}

/// A client of rustls.
struct Client {
    config: ClientConfig,
}

impl Client {
    fn new() -> Self {
        Self::with(
            aws_lc_rs::default_provider(),
            &[&rustls::version::TLS13, &rustls::version::TLS12],
        )
    }

    fn tls12() -> Self {
        Self::with(aws_lc_rs::default_provider(), &[&rustls::version::TLS12])
    }

    /// A client of TLS 1.2 that can verify RSA signatures only.
    fn rsa_only() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| {
            suite.version().version == rustls::ProtocolVersion::TLSv1_2
                && !suite.usable_for_signature_algorithm(rustls::SignatureAlgorithm::ECDSA)
        });
        let mut schemes = Parameters::server().verify_schemes();
        let is_ecdsa =
            |scheme: &SignatureScheme| scheme.as_str().is_some_and(|it| it.starts_with("ECDSA"));
        schemes.retain(|scheme| !is_ecdsa(scheme));
        Self::with_schemes(provider, &[&rustls::version::TLS12], schemes)
    }

    fn with(
        provider: rustls::crypto::CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        Self::with_schemes(provider, versions, Parameters::server().verify_schemes())
    }

    fn with_schemes(
        provider: rustls::crypto::CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
        schemes: Vec<SignatureScheme>,
    ) -> Self {
        let anything = ServerVerifier {
            validation: None,
            expects_name: false,
            subject_alt_names: Arc::default(),
            schemes,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anything) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        Self { config }
    }

    fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    fn certificate(mut self, issued: &Issued) -> Self {
        let der = PrivateKeyDer::try_from(issued.key.clone()).unwrap();
        let key = any_supported_type(&der).unwrap();
        let key = rustls::sign::CertifiedKey::new(vec![issued.der.clone()], key);
        self.config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
        self
    }

    /// Connects, with an IP address for no server name.
    fn connect(&self, server: &ShardServerContext, name: &str) -> Result<Connected, String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        handshake(client, |hello| server.choose(hello, Addresses::default()).unwrap().config)
    }
}

/// Both ends of a connection.
struct Connected {
    client: ClientConnection,
    server: ServerConnection,
}

impl Connected {
    /// The first DNS name of the certificate that the client has got.
    fn certificate(&self) -> String {
        let leaf = self.client.peer_certificates().unwrap().first().unwrap();
        Facts::of(leaf).unwrap().names.remove(0)
    }

    fn alpn(&self) -> Option<String> {
        self.client.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    fn is_resumed(&self) -> bool {
        self.client.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Exchanges records until both ends are done. An error is that of the server, or of the client.
fn handshake(
    mut client: ClientConnection,
    choose: impl Fn(&ClientHello<'_>) -> Arc<ServerConfig>,
) -> Result<Connected, String> {
    let mut records = Vec::new();
    client.write_tls(&mut records).unwrap();
    let FirstBytes::ClientHello(message) = first_message(&records) else {
        panic!("no ClientHello")
    };
    let config = choose(&ClientHello::parse(&message).unwrap());
    let mut server = ServerConnection::new(config).unwrap();
    loop {
        let mut read = records.as_slice();
        while !read.is_empty() {
            server.read_tls(&mut read).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error:?}"))?;
        }
        records.clear();
        while server.wants_write() {
            server.write_tls(&mut records).unwrap();
        }
        let is_quiet = records.is_empty();
        let mut read = records.as_slice();
        while !read.is_empty() {
            client.read_tls(&mut read).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error:?}"))?;
        }
        records.clear();
        while client.wants_write() {
            client.write_tls(&mut records).unwrap();
        }
        if is_quiet && records.is_empty() {
            return Ok(Connected { client, server });
        }
    }
}

fn shard(settings: ServerSettings) -> ShardServerContext {
    Latest::new(Some(ServerContext::new(settings))).for_shard(0)
}

/// What a client gets that sends this server name; an IP address stands for none.
fn selected(server: &ShardServerContext, client: &Client, name: &str) -> String {
    match client.connect(server, name) {
        Ok(connected) => connected.certificate(),
        Err(error) if error.contains("InCommon") => "handshake_failure".to_owned(),
        Err(error) => error,
    }
}

#[test]
fn the_server_name_and_the_key_select_a_certificate() {
    let ca = ca("ca");
    let plain = |name: &str| issue(&params(&[name]), &ca);
    let (dflt, a, wild, x, b) = (
        plain("dflt.test"),
        plain("a.test"),
        plain("*.wild.test"),
        plain("x.wild.test"),
        plain("b.test"),
    );
    let a_rsa = issue_with(&params(&["rsa.test", "a.test"]), &ca, &rsa_key());
    let mut common = params(&[]);
    common.distinguished_name.push(DnType::CommonName, "c.test");
    let common = issue(&common, &ca);
    let mut hidden = params(&["has-sans.test"]);
    hidden.distinguished_name.push(DnType::CommonName, "hidden.test");
    let hidden = issue(&hidden, &ca);
    let server = shard(settings(&[&dflt, &a_rsa, &a, &wild, &x, &common, &hidden, &b]));
    let (any, rsa) = (Client::new(), Client::rsa_only());
    for (client, name, expected) in [
        (&any, "10.0.0.1", "dflt.test"),
        (&rsa, "10.0.0.1", "rsa.test"),
        (&any, "a.test", "a.test"),
        (&rsa, "a.test", "rsa.test"),
        (&any, "x.wild.test", "x.wild.test"),
        (&any, "q.wild.test", "*.wild.test"),
        (&any, "p.q.wild.test", "dflt.test"),
        (&any, "wild.test", "dflt.test"),
        (&any, "c.test", "c.test"),
        (&any, "hidden.test", "dflt.test"),
        (&rsa, "b.test", "handshake_failure"),
        (&any, "other.test", "dflt.test"),
        (&rsa, "other.test", "handshake_failure"),
    ] {
        assert_eq!(selected(&server, client, name), expected, "{name}");
    }
    let full = ServerSettings { full_scan_on_mismatch: true, ..settings(&[&dflt, &b, &a_rsa]) };
    let full = shard(full);
    assert_eq!(selected(&full, &rsa, "other.test"), "rsa.test");
    assert_eq!(selected(&full, &any, "other.test"), "dflt.test");
}

/// rustls' client sends server names in lower case, so the selection is asked directly.
#[test]
fn the_case_of_the_server_name_counts() {
    let ca = ca("ca");
    let (first, a) = (issue(&params(&["first.test"]), &ca), issue(&params(&["a.test"]), &ca));
    let settings = settings(&[&first, &a]);
    let names = Names::new(&settings.certificates);
    let rules = Rules { full_scan_on_mismatch: false, ocsp: StaplePolicy::Lenient, now: 0 };
    let name = ServerName::try_from("x.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(Client::new().config), name).unwrap();
    let mut records = Vec::new();
    client.write_tls(&mut records).unwrap();
    let FirstBytes::ClientHello(message) = first_message(&records) else {
        panic!("no ClientHello")
    };
    let hello = ClientHello::parse(&message).unwrap();
    for (name, expected) in [("a.test", 1), ("A.TEST", 0)] {
        let hello = ClientHello { server_name: Some(name.into()), ..hello.clone() };
        let ServerSettings { certificates, parameters, .. } = &settings;
        let selected = select(certificates, &names, parameters, &hello, rules);
        assert_eq!(selected.index, expected, "{name}");
    }
}

#[test]
fn the_servers_order_decides_alpn_and_no_overlap_is_no_error() {
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    for (ours, theirs, expected) in [
        (&["h2", "http/1.1"][..], &["http/1.1", "h2"][..], Some("h2")),
        (&["http/1.1", "h2"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &["h2"], None),
        (&["http/1.1"], &["unknown", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &[], None),
        (&[], &["h2", "http/1.1"], None),
    ] {
        let alpn = ours.iter().map(|name| name.as_bytes().to_vec()).collect();
        let server = shard(ServerSettings { alpn, ..settings(&[&issued]) });
        for client in [Client::new(), Client::tls12()] {
            let connected = client.alpn(theirs).connect(&server, "a.test").unwrap();
            assert_eq!(connected.alpn().as_deref(), expected, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn sessions_are_resumed_by_the_same_context_only() {
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    for client in [Client::new(), Client::tls12()] {
        let server = shard(settings(&[&issued]));
        assert!(!client.connect(&server, "a.test").unwrap().is_resumed());
        assert!(client.connect(&server, "a.test").unwrap().is_resumed());
        // Another shard, or the same after a restart with configured keys.
        let same = shard(settings(&[&issued]));
        assert!(client.connect(&same, "a.test").unwrap().is_resumed());
        let mut other = settings(&[&issued]);
        other.resumption.identity = [1; 32];
        assert!(!client.connect(&shard(other), "a.test").unwrap().is_resumed());
    }
}

/// As in BoringSSL, where a resumption in TLS 1.3 renews the ticket, and never the first handshake.
#[test]
fn a_chain_of_resumptions_ends() {
    const DAY: u32 = 24 * 60 * 60;
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    for (client, step) in [(Client::new(), 2 * DAY - 10), (Client::tls12(), 40 * 60 - 10)] {
        let server = shard(settings(&[&issued]));
        let resumed = || client.connect(&server, "a.test").unwrap().is_resumed();
        assert!(!resumed());
        for _ in 0..3 {
            pass(step);
            assert!(resumed());
        }
        // Two hours in TLS 1.2, seven days in TLS 1.3, and the ticket itself is new.
        pass(if step > DAY { DAY + 60 } else { 60 });
        assert!(!resumed());
        assert!(resumed());
    }
}

#[test]
fn each_kind_of_resumption_can_be_switched_off() {
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    for (tickets, sessions, tls13, tls12) in [
        (true, true, true, true),
        (true, false, true, true),
        (false, true, false, true),
        (false, false, false, false),
    ] {
        let mut settings = settings(&[&issued]);
        if !tickets {
            settings.resumption.tickets = None;
        }
        if !sessions {
            settings.resumption.sessions = None;
        }
        let server = shard(settings);
        for (client, expected) in [(Client::new(), tls13), (Client::tls12(), tls12)] {
            client.connect(&server, "a.test").unwrap();
            let resumed = client.connect(&server, "a.test").unwrap().is_resumed();
            assert_eq!(resumed, expected, "tickets {tickets}, sessions {sessions}");
        }
    }
}

#[test]
fn the_cipher_suite_of_tls_1_2_is_the_servers_and_within_a_group_the_clients() {
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    let server = shard(settings(&[&issued]));
    let client_order = ServerSettings { prefer_client_ciphers: true, ..settings(&[&issued]) };
    let client_order = shard(client_order);
    let chosen = |server: &ShardServerContext, order: &[u16]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| order.contains(&u16::from(suite.suite())));
        let position = |suite: &rustls::SupportedCipherSuite| {
            order.iter().position(|it| *it == u16::from(suite.suite()))
        };
        provider.cipher_suites.sort_by_key(position);
        let client = Client::with(provider, &[&rustls::version::TLS12]);
        let connected = client.connect(server, "a.test").unwrap();
        u16::from(connected.server.negotiated_cipher_suite().unwrap().suite())
    };
    let (aes128, aes256, chacha) = (0xc02b, 0xc02c, 0xcca9);
    assert_eq!(chosen(&server, &[chacha, aes128, aes256]), chacha);
    assert_eq!(chosen(&server, &[aes128, chacha, aes256]), aes128);
    assert_eq!(chosen(&server, &[aes256, aes128, chacha]), aes128);
    assert_eq!(chosen(&client_order, &[aes256, aes128, chacha]), aes256);
}

#[test]
fn the_server_prefers_its_group_even_if_the_client_has_to_be_asked_for_its_key_share() {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    let ca = ca("ca");
    let server = shard(settings(&[&issue(&params(&["a.test"]), &ca)]));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
            let mut provider = aws_lc_rs::default_provider();
            provider.kx_groups = groups.to_vec();
            Client::with(provider, &[version])
        };
        for groups in [&[X25519, SECP256R1][..], &[SECP256R1, X25519], &[SECP384R1, X25519]] {
            let connected = client(groups).connect(&server, "a.test").unwrap();
            let group = connected.server.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, rustls::NamedGroup::X25519);
        }
        let error = client(&[SECP384R1]).connect(&server, "a.test").err().unwrap();
        assert!(error.contains("InCommon"), "{error}");
    }
}

#[test]
fn a_server_signs_only_in_its_algorithms_and_speaks_only_its_versions() {
    let ca = ca("ca");
    let issued = issue(&params(&["a.test"]), &ca);
    let mut limited = settings(&[&issued]);
    limited.parameters.signature_algorithms = Some(vec![SignatureScheme::RSA_PSS_SHA512]);
    let error = Client::new().connect(&shard(limited), "a.test").err().unwrap();
    assert!(error.contains("NoSignatureSchemesInCommon"), "{error}");
    for (versions, tls12) in [(Versions::Tls13, false), (Versions::Tls12, true)] {
        let mut settings = settings(&[&issued]);
        settings.parameters.versions = versions;
        let server = shard(settings);
        assert_eq!(Client::tls12().connect(&server, "a.test").is_ok(), tls12);
        assert!(Client::new().connect(&server, "a.test").is_ok());
    }
}

#[test]
fn clients_are_asked_for_a_certificate_as_configured() {
    let (ours, others) = (ca("ca"), ca("other"));
    let server_certificate = issue(&params(&["a.test"]), &ours);
    let good = issue(&params(&["client.test"]), &ours);
    let bad = issue(&params(&["client.test"]), &others);
    let trust = || Trust::new(vec![ours.der().clone()]).unwrap();
    let validation = |accept_untrusted| {
        let trust = Some(trust());
        Arc::new(Validation { trust, accept_untrusted, ..Validation::default() })
    };
    let required = ClientCertificate::Required(validation(false));
    let optional = ClientCertificate::Optional(validation(false));
    let untrusted = ClientCertificate::Optional(validation(true));
    for (wanted, none, trusted, unknown) in [
        (required, false, true, false),
        (optional, true, true, false),
        (untrusted, true, true, true),
    ] {
        let settings = ServerSettings {
            client_certificate: wanted.clone(),
            ..settings(&[&server_certificate])
        };
        let server = shard(settings);
        for new in [Client::new, Client::tls12] {
            let connects = |client: Client| client.connect(&server, "a.test").is_ok();
            assert_eq!(connects(new()), none, "{wanted:?}");
            assert_eq!(connects(new().certificate(&good)), trusted, "{wanted:?}");
            assert_eq!(connects(new().certificate(&bad)), unknown, "{wanted:?}");
        }
    }
}

/// Envoy's answers to the same clients.
#[test]
fn under_fips_202205_only_its_suites_and_groups_are_negotiated() {
    use rustls::NamedGroup;
    use rustls::crypto::SupportedKxGroup;
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    use rustls::version::{TLS12, TLS13};
    let mut fips = settings(&[&issue(&params(&["a.test"]), &ca("ca"))]);
    fips.parameters = Parameters::fips_202205();
    let server = shard(fips);
    let negotiated = |version, has_aes: bool, groups: &[&'static dyn SupportedKxGroup]| {
        let mut provider = aws_lc_rs::default_provider();
        let is_aes = |suite: &rustls::SupportedCipherSuite| {
            suite.suite().as_str().is_some_and(|name| name.contains("AES"))
        };
        provider.cipher_suites.retain(|suite| has_aes || !is_aes(suite));
        provider.kx_groups = groups.to_vec();
        let connected = Client::with(provider, &[version]).connect(&server, "a.test").ok()?;
        let suite = connected.client.negotiated_cipher_suite()?;
        assert!(is_aes(&suite));
        Some(connected.client.negotiated_key_exchange_group()?.name())
    };
    let all: [&dyn SupportedKxGroup; 3] = [X25519, SECP384R1, SECP256R1];
    for version in [&TLS13, &TLS12] {
        assert_eq!(negotiated(version, true, &all), Some(NamedGroup::secp256r1));
        assert_eq!(negotiated(version, true, &[SECP384R1]), Some(NamedGroup::secp384r1));
        assert_eq!(negotiated(version, true, &[X25519]), None);
        assert_eq!(negotiated(version, false, &all), None, "ChaCha20");
    }
}

#[test]
fn new_connections_use_the_newest_context() {
    let ca = ca("ca");
    let context = |name| ServerContext::new(settings(&[&issue(&params(&[name]), &ca)]));
    let registry = Registry::new(1);
    let latest = Latest::<ServerContext>::new(None);
    let shard = latest.for_shard(0);
    assert!(!shard.is_ready(), "its secrets are missing");
    for name in ["first.test", "second.test"] {
        latest.replace(context(name), &registry);
        assert!(shard.is_ready());
        assert_eq!(selected(&shard, &Client::new(), "x.test"), name);
    }
    latest.replace(context("third.test"), &registry);
    latest.replace(context("fourth.test"), &registry);
    assert_eq!(selected(&shard, &Client::new(), "x.test"), "fourth.test");
    assert_eq!(selected(&latest.for_shard(0), &Client::new(), "x.test"), "fourth.test");
}

/// A URI, which rcgen does not take from text.
pub(in crate::transport::tls) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}
