//! The TLS of a filter chain.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::UnixTime;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ProtocolVersion, ServerConfig, SignatureScheme, SupportedCipherSuite};

use super::certificate::{Certificate, Key};
use super::key_log::KeyLog;
use super::latest::{Follower, Latest, Listed, Owner};
use super::ocsp::{StaplePolicy, Stapling};
use super::parameters::Parameters;
use super::select::{self, Names, Rules, Selected};
use super::sessions::{Sessions, ShardSessions};
use super::tickets::{ConnectionTicketer, Lifetimes, TicketKey, Ticketer};
use super::verify::{ClientVerifier, ExpectedNames, Purpose, Validation, Verdict};
use crate::stats::{Registry, Scope, SslStats};
use crate::transport::tls::Failure;
use crate::transport::tls::certificate::Certificate as Shown;
use crate::transport::tls::client_hello::{ClientHello, Flaw};
use crate::transport::tls::facts::TlsFacts;
use crate::transport::tls::inventory::Inventory;

/// The TLS of a filter chain. It never changes: new certificates are another context.
#[derive(Debug)]
pub struct ServerContext {
    /// What the configuration says.
    pub settings: ServerSettings,
    names: Names,
    inventory: OnceLock<Arc<Inventory>>,
}

/// What the configuration says about the TLS of a filter chain.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// At least one.
    pub certificates: Vec<Certificate>,
    /// Versions, cipher suites and so on.
    pub parameters: Parameters,
    /// The protocols that may be chosen by ALPN, in order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// `prefer_client_ciphers`
    pub prefer_client_ciphers: bool,
    /// `full_scan_certs_on_sni_mismatch`
    pub full_scan_on_mismatch: bool,
    /// `ocsp_staple_policy`
    pub ocsp: StaplePolicy,
    /// How sessions are resumed.
    pub resumption: Resumption,
    /// Whether clients are asked for a certificate.
    pub client_certificate: ClientCertificate,
    /// Where secrets are logged, if they are.
    pub key_log: Option<Arc<KeyLog>>,
}

/// Whether clients are asked for a certificate, and how it is verified.
#[derive(Clone, Debug)]
pub enum ClientCertificate {
    /// They are not asked.
    NotAsked,
    /// They may have one.
    Optional(Arc<Validation>),
    /// They must have one.
    Required(Arc<Validation>),
}

impl ClientCertificate {
    /// How a certificate is verified, if one is asked for.
    #[must_use]
    pub const fn validation(&self) -> Option<&Arc<Validation>> {
        match self {
            Self::NotAsked => None,
            Self::Optional(validation) | Self::Required(validation) => Some(validation),
        }
    }
}

/// How sessions are resumed.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// The keys of tickets; none: there are no tickets.
    pub tickets: Option<Vec<TicketKey>>,
    /// Only sessions of a context with the same identity are resumed.
    pub identity: [u8; 32],
    /// The sessions that the server keeps; none: it keeps none.
    pub sessions: Option<Arc<Sessions>>,
    /// How long a ticket of TLS 1.2 may be used, in seconds; none: two hours.
    pub timeout: Option<u32>,
}

impl ServerContext {
    /// A context with these settings.
    #[must_use]
    pub fn new(settings: ServerSettings) -> Arc<Self> {
        let names = Names::new(&settings.certificates);
        Arc::new(Self { settings, names, inventory: OnceLock::new() })
    }

    /// Its certificates, if they are listed.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        self.inventory.get().map(Arc::clone)
    }
}

impl Listed for ServerContext {
    const FACTORY: &'static str = "server_ssl_socket_factory.";

    fn list(&self, owner: &Owner, registry: &Registry) {
        self.inventory.get_or_init(|| {
            let settings = &self.settings;
            let validation = settings.client_certificate.validation().map(AsRef::as_ref);
            Arc::new(Inventory::of_context(owner, validation, &settings.certificates, registry))
        });
    }
}

impl Latest<ServerContext> {
    /// The newest context on one shard.
    #[must_use]
    pub fn for_shard(self: &Arc<Self>, shard: usize) -> ShardServerContext {
        ShardServerContext { shard, current: RefCell::new(Follower::new(Arc::clone(self))) }
    }
}

/// The TLS of a filter chain on one shard. Its configurations belong to that shard alone, so that a
/// handshake writes no reference count of another.
#[derive(Debug)]
pub struct ShardServerContext {
    shard: usize,
    current: RefCell<Follower<ServerContext, Current>>,
}

#[derive(Debug)]
struct Current {
    context: Arc<ServerContext>,
    /// The certificates, for logs and headers.
    shown: Vec<Arc<Shown>>,
    configs: HashMap<Variant, Prepared>,
}

/// What all connections of a variant have in common.
#[derive(Debug)]
struct Prepared {
    config: Arc<ServerConfig>,
    /// None: there are no tickets.
    tickets: Option<Arc<Ticketer>>,
}

impl Prepared {
    /// The tickets of a connection depend on the one that its client offers.
    fn for_connection(&self) -> Arc<ServerConfig> {
        let Some(tickets) = &self.tickets else { return Arc::clone(&self.config) };
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = Arc::new(ConnectionTicketer::new(Arc::clone(tickets)));
        Arc::new(config)
    }
}

/// What differs between the connections of a context.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Variant {
    certificate: usize,
    stapling: Stapling,
    /// Whether the client offers a protocol that we have: rustls refuses it otherwise.
    has_alpn: bool,
    version: Version,
    /// The number of the group for the key exchange; none: no group in common. rustls alone would prefer a
    /// group for which the client has sent a key share.
    group: Option<u16>,
    is_logged: bool,
}

impl Variant {
    /// Whether the handshake fails before there is anything to sign.
    fn lacks_parameters(self) -> bool {
        self.group.is_none() || self.version == Version::Tls12(None)
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Version {
    Tls13,
    /// With the number of the cipher suite; none: no suite in common.
    Tls12(Option<u16>),
}

/// The addresses of a connection, as listener filters have found them out; none: a unix socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// Of this side.
    pub local: Option<IpAddr>,
    /// Of the client.
    pub remote: Option<IpAddr>,
}

/// The configuration for a connection.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// What becomes of the OCSP response.
    pub stapling: Stapling,
    /// Why the handshake fails, if BoringSSL says so before its ServerHello and rustls later or never.
    pub flaw: Option<Flaw>,
    server_name: Option<Box<str>>,
    certificate: Option<Arc<Shown>>,
    context: Arc<ServerContext>,
}

impl Chosen {
    /// Adds to the facts of a handshake that is done what rustls does not tell.
    ///
    /// # Errors
    /// As in Envoy, the certificate of a resumed session is verified again, and may have expired.
    pub fn complete(self, facts: &mut TlsFacts) -> Result<(), Failure> {
        facts.server_name = self.server_name;
        facts.local_certificate = self.certificate;
        let validation = self.context.settings.client_certificate.validation();
        let Some(validation) = validation.filter(|_| !facts.peer_certificates.is_empty()) else {
            return Ok(());
        };
        facts.validated = true;
        if facts.resumed || validation.accept_untrusted {
            let expected = ExpectedNames::default();
            let verdict =
                validation.verify_again(&facts.peer_certificates, Purpose::Client, expected);
            facts.validated = verdict.map_err(Failure::from)? == Verdict::Verified;
        }
        if facts.validated {
            facts.complete_issuer(validation);
        }
        Ok(())
    }
}

impl ShardServerContext {
    /// Whether all secrets are there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current.borrow_mut().newest().is_some()
    }

    /// The configuration for a new connection, by what its client offers. None: secrets are missing, or the
    /// system has no random numbers or memory.
    #[must_use]
    pub fn choose(
        &self,
        hello: &ClientHello<'_>,
        Addresses { local, remote }: Addresses,
    ) -> Option<Chosen> {
        let mut current = self.current.borrow_mut();
        let current = current.newest()?;
        let settings = &current.context.settings;
        let rules = Rules {
            full_scan_on_mismatch: settings.full_scan_on_mismatch,
            ocsp: settings.ocsp,
            now: UnixTime::now().as_secs(),
        };
        let names = &current.context.names;
        let Selected { index, stapling } =
            select::select(&settings.certificates, names, &settings.parameters, hello, rules);
        let is_offered = |ours: &Vec<u8>| {
            hello.alpn.as_ref().is_some_and(|theirs| theirs.contains(&ours.as_slice()))
        };
        let version = settings.version(hello, settings.certificates.get(index)?.key);
        let variant = Variant {
            certificate: index,
            stapling,
            has_alpn: settings.alpn.iter().any(is_offered),
            version,
            group: settings.group(hello, version),
            is_logged: settings.key_log.as_ref().is_some_and(|log| log.covers(local, remote)),
        };
        let flaw = settings.flaw(hello, variant, self.shard);
        Some(Chosen {
            config: current.config(variant, self.shard)?,
            stapling,
            flaw,
            server_name: hello.server_name.as_ref().map(|name| name.to_ascii_lowercase().into()),
            certificate: current.shown.get(index).map(Arc::clone),
            context: Arc::clone(&current.context),
        })
    }

    /// Counts what became of an OCSP response.
    pub fn count_stapling(&self, stapling: Stapling, stats: &Scope<SslStats>) {
        let stats = stats.shard(self.shard);
        match stapling {
            Stapling::NotAsked => return,
            Stapling::Stapled => stats.ocsp_staple_responses.inc(),
            Stapling::Omitted => stats.ocsp_staple_omitted.inc(),
            Stapling::Refused => stats.ocsp_staple_failed.inc(),
        }
        stats.ocsp_staple_requests.inc();
    }
}

impl From<Arc<ServerContext>> for Current {
    fn from(context: Arc<ServerContext>) -> Self {
        let leaves = context.settings.certificates.iter().filter_map(|it| it.chain.first());
        let shown = leaves.map(|der| Arc::new(Shown::new(der.clone()))).collect();
        Self { context, shown, configs: HashMap::new() }
    }
}

impl Current {
    fn config(&mut self, variant: Variant, shard: usize) -> Option<Arc<ServerConfig>> {
        if let Some(prepared) = self.configs.get(&variant) {
            return Some(prepared.for_connection());
        }
        let settings = &self.context.settings;
        let config = Arc::new(settings.config(variant, shard)?);
        let tickets = settings.resumption.ticketer(variant.version).map(Arc::new);
        let prepared = Prepared { config, tickets };
        let config = prepared.for_connection();
        self.configs.insert(variant, prepared);
        Some(config)
    }
}

impl ServerSettings {
    /// The version for a client, and in TLS 1.2 the cipher suite.
    fn version(&self, hello: &ClientHello<'_>, key: Key) -> Version {
        if self.parameters.versions.has_tls13() && hello.has_tls13() {
            return Version::Tls13;
        }
        let algorithm = match key {
            Key::Rsa => rustls::SignatureAlgorithm::RSA,
            Key::Ecdsa(_) => rustls::SignatureAlgorithm::ECDSA,
        };
        let number = |suite: &SupportedCipherSuite| u16::from(suite.suite());
        let usable = |suite: &&SupportedCipherSuite| {
            suite.usable_for_signature_algorithm(algorithm)
                && hello.cipher_suites.contains(number(suite))
        };
        let usable = |group: &Vec<_>| group.iter().filter(usable).copied().collect::<Vec<_>>();
        let mut groups = self.parameters.cipher_suites.iter().map(usable);
        // Within a group the client decides; with its preference, among all.
        let group = if self.prefer_client_ciphers {
            groups.flatten().collect()
        } else {
            groups.find(|group| !group.is_empty()).unwrap_or_default()
        };
        let position = |suite: &SupportedCipherSuite| {
            hello.cipher_suites.iter().position(|it| it == number(suite))
        };
        Version::Tls12(group.iter().min_by_key(|suite| position(suite)).map(number))
    }

    /// The group for the key exchange: the first of ours that the client has.
    fn group(&self, hello: &ClientHello<'_>, version: Version) -> Option<u16> {
        let version = match version {
            Version::Tls13 => ProtocolVersion::TLSv1_3,
            Version::Tls12(_) => ProtocolVersion::TLSv1_2,
        };
        let usable = self.parameters.groups.iter().filter(|it| it.usable_for_version(version));
        usable.map(|group| u16::from(group.name())).find(|name| hello.groups.contains(*name))
    }

    /// See [`Chosen::flaw`].
    fn flaw(&self, hello: &ClientHello<'_>, variant: Variant, shard: usize) -> Option<Flaw> {
        let is_tls13 = variant.version == Version::Tls13;
        let may_have_tls13 = self.parameters.versions.has_tls13();
        let is_left_to_rustls = variant.lacks_parameters() || !hello.lists_signature_algorithms();
        if !is_tls13 && may_have_tls13 && hello.falls_back() {
            Some(Flaw::Fallback)
        } else if !is_tls13 && hello.renegotiates() {
            Some(Flaw::Renegotiation)
        } else if !is_left_to_rustls && !self.can_sign(hello, variant, shard) {
            Some(Flaw::NoSignatureAlgorithm)
        } else if is_tls13 && hello.lacks_key_share() {
            Some(Flaw::NoKeyShare)
        } else {
            None
        }
    }

    /// Whether the key of the certificate signs in an algorithm of the client.
    fn can_sign(&self, hello: &ClientHello<'_>, variant: Variant, shard: usize) -> bool {
        let offered = hello.signature_algorithms.iter().map(SignatureScheme::from);
        // PKCS #1 may be offered for certificates, but signs no handshake of TLS 1.3.
        //= rfc8446#section-4.2.3
        let usable =
            |scheme: &SignatureScheme| variant.version != Version::Tls13 || !is_pkcs1(*scheme);
        let offered: Vec<_> = offered.filter(usable).collect();
        let certificate = self.certificates.get(variant.certificate);
        let allowed = self.allowed_schemes(variant.stapling);
        let key = certificate.and_then(|it| it.signing_key(shard, allowed));
        key.is_some_and(|key| key.choose_scheme(&offered).is_some())
    }

    fn config(&self, variant: Variant, shard: usize) -> Option<ServerConfig> {
        let Variant { certificate, stapling, has_alpn, version, group, is_logged } = variant;
        let mut groups = self.parameters.groups.clone();
        if let Some(chosen) = group {
            groups.retain(|group| u16::from(group.name()) == chosen);
        }
        let mut tls12 = self.parameters.tls12();
        if let Version::Tls12(Some(chosen)) = version {
            tls12.retain(|suite| u16::from(suite.suite()) == chosen);
        }
        let builder =
            ServerConfig::builder_with_provider(self.parameters.provider(&tls12, &groups))
                .with_protocol_versions(&self.parameters.versions.list())
                .ok()?;
        let builder = match &self.client_certificate {
            ClientCertificate::NotAsked => {
                builder.with_client_cert_verifier(Arc::new(NoClientAuth))
            }
            ClientCertificate::Optional(validation) => builder.with_client_cert_verifier(Arc::new(
                ClientVerifier::new(validation, false, self.parameters.verify_schemes()),
            )),
            ClientCertificate::Required(validation) => builder.with_client_cert_verifier(Arc::new(
                ClientVerifier::new(validation, true, self.parameters.verify_schemes()),
            )),
        };
        let key = self.certified(certificate, stapling, shard)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        if has_alpn {
            config.alpn_protocols.clone_from(&self.alpn);
        }
        if let Some(log) = self.key_log.as_ref().filter(|_| is_logged) {
            config.key_log = Arc::<KeyLog>::clone(log);
        }
        self.resumption.apply(&mut config);
        Some(config)
    }

    fn certified(&self, index: usize, stapling: Stapling, shard: usize) -> Option<CertifiedKey> {
        let allowed = self.allowed_schemes(stapling);
        self.certificates.get(index)?.certified(shard, allowed, stapling == Stapling::Stapled)
    }

    /// The algorithms in which this side signs; none: all. If stapling fails it signs in no algorithm, which
    /// leads to the alert that Envoy sends.
    fn allowed_schemes(&self, stapling: Stapling) -> Option<&[SignatureScheme]> {
        match stapling {
            Stapling::Refused => Some(&[]),
            _ => self.parameters.signature_algorithms.as_deref(),
        }
    }
}

const fn is_pkcs1(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

impl Resumption {
    fn apply(&self, config: &mut ServerConfig) {
        match &self.sessions {
            Some(sessions) => {
                config.session_storage = Arc::new(ShardSessions(Arc::clone(sessions)));
            }
            None => config.session_storage = Arc::new(NoServerSessionStorage {}),
        }
        if self.tickets.is_none() {
            // In TLS 1.3 there are tickets or nothing.
            config.send_tls13_tickets = 0;
        }
    }

    fn ticketer(&self, version: Version) -> Option<Ticketer> {
        let lifetimes = match version {
            Version::Tls13 => Lifetimes::TLS13,
            Version::Tls12(_) => Lifetimes::tls12(self.timeout),
        };
        let keys = self.tickets.clone()?;
        Some(Ticketer { keys, identity: self.identity, lifetimes })
    }
}
