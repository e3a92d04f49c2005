//! The TLS of a cluster.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore as _, Resumption};
use rustls::pki_types::ServerName;

use super::certificate::Certificate;
use super::key_log::KeyLog;
use super::latest::{Follower, Latest, Listed, Owner};
use super::parameters::Parameters;
use super::verify::{ExpectedNames, Purpose, ServerVerifier, Validation};
use crate::limits;
use crate::stats::Registry;
use crate::transport::tls::Failure;
use crate::transport::tls::certificate::Certificate as Shown;
use crate::transport::tls::inventory::Inventory;
use crate::transport::tls::options::TransportSocketOptions;

/// The TLS of a cluster. It never changes: new certificates are another context.
#[derive(Debug)]
pub struct ClientContext {
    /// What the configuration says.
    pub settings: ClientSettings,
    inventory: OnceLock<Arc<Inventory>>,
}

/// What the configuration says about the TLS of a cluster.
#[derive(Debug)]
pub struct ClientSettings {
    /// The certificate for origins that ask for one.
    pub certificate: Option<Certificate>,
    /// Versions, cipher suites and so on.
    pub parameters: Parameters,
    /// The protocols that are offered by ALPN; none: those of the codec.
    pub alpn: Option<Vec<Vec<u8>>>,
    /// How origins are verified; none: they are not.
    pub validation: Option<Arc<Validation>>,
    /// `sni`
    pub sni: Option<ServerName<'static>>,
    /// Whether the host name of an endpoint is preferred to `sni`.
    pub auto_host_sni: bool,
    /// Whether the certificate must have the server name that was sent.
    pub auto_sni_san_validation: bool,
    /// How many sessions are kept for resumption.
    pub session_keys_max: usize,
    /// Where secrets are logged, if they are.
    pub key_log: Option<Arc<KeyLog>>,
}

impl ClientContext {
    /// A context with these settings.
    #[must_use]
    pub fn new(settings: ClientSettings) -> Arc<Self> {
        Arc::new(Self { settings, inventory: OnceLock::new() })
    }

    /// Its certificates, if they are listed.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        self.inventory.get().map(Arc::clone)
    }
}

impl Listed for ClientContext {
    const FACTORY: &'static str = "client_ssl_socket_factory.";

    fn list(&self, owner: &Owner, registry: &Registry) {
        self.inventory.get_or_init(|| {
            let own = self.settings.certificate.as_slice();
            let validation = self.settings.validation.as_deref();
            Arc::new(Inventory::of_context(owner, validation, own, registry))
        });
    }
}

impl Latest<ClientContext> {
    /// The newest context on one shard.
    #[must_use]
    pub fn for_shard(self: &Arc<Self>, shard: usize) -> ShardClientContext {
        ShardClientContext { shard, current: RefCell::new(Follower::new(Arc::clone(self))) }
    }
}

/// The TLS of a host on one shard. Sessions are resumed within the shard.
#[derive(Debug)]
pub struct ShardClientContext {
    shard: usize,
    current: RefCell<Follower<ClientContext, Current>>,
}

#[derive(Debug)]
struct Current {
    context: Arc<ClientContext>,
    /// The certificate, for logs and headers.
    shown: Option<Arc<Shown>>,
    configs: HashMap<Variant, Prepared>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Variant {
    /// Each name has sessions of its own, so that a few names do not displace those of the others.
    server_name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
    expects_name: bool,
    subject_alt_names: Arc<[Box<str>]>,
    is_logged: bool,
}

/// What is known about a new connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The host name of the endpoint.
    pub hostname: Option<&'a str>,
    /// What the request sets; it replaces what the cluster says.
    pub options: Option<&'a TransportSocketOptions>,
    /// What the codec speaks: offered if the configuration says nothing.
    pub alpn: &'a [&'a [u8]],
    /// The address of this side; none: a unix socket.
    pub local: Option<IpAddr>,
    /// The address of the endpoint.
    pub remote: Option<IpAddr>,
}

/// The configuration for a connection.
#[derive(Clone, Debug)]
pub struct Connect {
    /// For rustls.
    pub config: Arc<ClientConfig>,
    /// For rustls; if it is an IP address, no server name is sent.
    pub server_name: ServerName<'static>,
    /// For origins that ask for one.
    pub certificate: Option<Arc<Shown>>,
    /// What a resumed session must pass; none: nothing is verified, or nothing is resumed.
    pub resumed: Option<ResumedSession>,
}

/// The check of a resumed session. rustls verifies certificates in full handshakes only.
#[derive(Clone, Debug)]
pub struct ResumedSession {
    validation: Arc<Validation>,
    server_name: ServerName<'static>,
    expects_name: bool,
    subject_alt_names: Arc<[Box<str>]>,
    sessions: Arc<ClientSessionMemoryCache>,
}

impl ResumedSession {
    /// Verifies the certificates of a resumed session: since its full handshake they may have expired.
    ///
    /// # Errors
    /// They are refused. The sessions with this server are forgotten.
    pub fn verify(&self, peer: &[Shown]) -> Result<(), Failure> {
        let expected = ExpectedNames {
            server_name: expected(&self.server_name, self.expects_name),
            any_of: &self.subject_alt_names,
        };
        let verdict = self.validation.verify_again(peer, Purpose::Server, expected);
        verdict.map(drop).map_err(|refusal| {
            self.sessions.remove_tls12_session(&self.server_name);
            while self.sessions.take_tls13_ticket(&self.server_name).is_some() {}
            Failure::from(refusal)
        })
    }
}

/// The name that the certificate of a server must have, if it must have that of the connection.
pub(super) fn expected<'a, 'n>(
    server_name: &'a ServerName<'n>,
    expects_name: bool,
) -> Option<&'a ServerName<'n>> {
    Some(server_name).filter(|name| expects_name && **name != no_name())
}

/// Stands for a connection without a server name: rustls wants one, but sends no IP address.
#[must_use]
pub fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

impl ShardClientContext {
    /// The configuration for a new connection.
    ///
    /// # Errors
    /// The server name of the request cannot be sent, secrets are missing, or the system has no random
    /// numbers or memory.
    pub fn connect(&self, wanted: &Wanted<'_>) -> Result<Connect, Failure> {
        let mut current = self.current.borrow_mut();
        let current = current.newest().ok_or(Failure::SecretsNotReady)?;
        let settings = &current.context.settings;
        let server_name = settings.server_name(wanted)?;
        let protocols = wanted.options.map(TransportSocketOptions::application_protocols);
        let alpn = match (protocols.unwrap_or_default(), &settings.alpn) {
            ([], Some(alpn)) => alpn.clone(),
            ([], None) => wanted.alpn.iter().map(|name| name.to_vec()).collect(),
            (protocols, _) => protocols.to_vec(),
        };
        let names = wanted.options.map(|options| Arc::clone(options.subject_alt_names()));
        let subject_alt_names = names.unwrap_or_default();
        let is_logged =
            settings.key_log.as_ref().is_some_and(|log| log.covers(wanted.local, wanted.remote));
        let variant = Variant {
            server_name: server_name.clone(),
            alpn,
            expects_name: settings.auto_sni_san_validation,
            subject_alt_names: Arc::clone(&subject_alt_names),
            is_logged,
        };
        let expects_name = variant.expects_name;
        let validation = settings.validation.clone();
        let prepared = current.config(variant, self.shard).ok_or(Failure::Internal)?;
        let Prepared { config, sessions } = prepared;
        let resumed = validation.zip(sessions).map(|(validation, sessions)| ResumedSession {
            validation,
            server_name: server_name.clone(),
            expects_name,
            subject_alt_names,
            sessions,
        });
        Ok(Connect { config, server_name, certificate: current.shown.clone(), resumed })
    }
}

/// A configuration, and the sessions that it may resume.
#[derive(Clone, Debug)]
struct Prepared {
    config: Arc<ClientConfig>,
    sessions: Option<Arc<ClientSessionMemoryCache>>,
}

impl From<Arc<ClientContext>> for Current {
    fn from(context: Arc<ClientContext>) -> Self {
        let certificate = context.settings.certificate.as_ref();
        let leaf = certificate.and_then(|certificate| certificate.chain.first());
        let shown = leaf.map(|der| Arc::new(Shown::new(der.clone())));
        Self { context, shown, configs: HashMap::new() }
    }
}

impl Current {
    fn config(&mut self, variant: Variant, shard: usize) -> Option<Prepared> {
        if let Some(prepared) = self.configs.get(&variant) {
            return Some(prepared.clone());
        }
        let prepared = self.context.settings.prepare(&variant, shard)?;
        // The names come from requests: any one makes room.
        if self.configs.len() >= limits::CLIENT_CONFIGS_MAX {
            let any = self.configs.keys().next().cloned();
            any.and_then(|variant| self.configs.remove(&variant));
        }
        self.configs.insert(variant, prepared.clone());
        Some(prepared)
    }
}

impl ClientSettings {
    /// The server name. One that cannot be sent is not replaced by another one, for which the
    /// certificate would be verified.
    fn server_name(&self, wanted: &Wanted<'_>) -> Result<ServerName<'static>, Failure> {
        let hostname = || wanted.hostname.filter(|_| self.auto_host_sni);
        let name = wanted.options.and_then(TransportSocketOptions::server_name).or_else(hostname);
        match name {
            Some(name) => {
                ServerName::try_from(name.to_owned()).map_err(|_| Failure::InvalidServerName)
            }
            None => Ok(self.sni.clone().unwrap_or_else(no_name)),
        }
    }

    fn prepare(&self, variant: &Variant, shard: usize) -> Option<Prepared> {
        let Variant { server_name: _, alpn, expects_name, subject_alt_names, is_logged } = variant;
        let verifier = ServerVerifier {
            validation: self.validation.clone(),
            expects_name: *expects_name,
            subject_alt_names: Arc::clone(subject_alt_names),
            schemes: self.parameters.verify_schemes(),
        };
        let provider = self.parameters.provider(&self.parameters.tls12(), &self.parameters.groups);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.parameters.versions.list())
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let allowed = self.parameters.signature_algorithms.as_deref();
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = certificate.certified(shard, allowed, false)?;
                builder
                    .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols.clone_from(alpn);
        let sessions = match self.session_keys_max {
            0 => None,
            most => Some(Arc::new(ClientSessionMemoryCache::new(most))),
        };
        config.resumption = match &sessions {
            None => Resumption::disabled(),
            Some(sessions) => Resumption::store(Arc::<ClientSessionMemoryCache>::clone(sessions)),
        };
        if let Some(log) = self.key_log.as_ref().filter(|_| *is_logged) {
            config.key_log = Arc::<KeyLog>::clone(log);
        }
        Some(Prepared { config: Arc::new(config), sessions })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ca, issue, params};
    use super::super::verify::Trust;
    use super::*;

    #[test]
    fn names_have_sessions_of_their_own_and_no_more_than_so_many_are_kept() {
        let settings = ClientSettings {
            certificate: None,
            parameters: Parameters::client(),
            alpn: None,
            validation: None,
            sni: None,
            auto_host_sni: true,
            auto_sni_san_validation: false,
            session_keys_max: 1,
            key_log: None,
        };
        let shard = Latest::new(Some(ClientContext::new(settings))).for_shard(0);
        let config = |name: &str| {
            let wanted = Wanted { hostname: Some(name), ..Wanted::default() };
            shard.connect(&wanted).unwrap().config
        };
        let first = config("a.test");
        assert!(Arc::ptr_eq(&first, &config("a.test")));
        assert!(!Arc::ptr_eq(&first, &config("b.test")));
        for i in 0..2 * limits::CLIENT_CONFIGS_MAX {
            config(&format!("{i}.test"));
        }
        let current = shard.current.borrow_mut().newest().unwrap().configs.len();
        assert_eq!(current, limits::CLIENT_CONFIGS_MAX);
    }

    /// Meanwhile the certificate may have expired or been revoked: rustls does not look again.
    #[test]
    fn a_resumed_session_is_verified_again() {
        let (trusted, other) = (ca("trusted"), ca("other"));
        let trust = Trust::new(vec![trusted.der().clone()]).unwrap();
        let resumed = ResumedSession {
            validation: Arc::new(Validation { trust: Some(trust), ..Validation::default() }),
            server_name: ServerName::try_from("a.test").unwrap(),
            expects_name: true,
            subject_alt_names: Arc::default(),
            sessions: Arc::new(ClientSessionMemoryCache::new(4)),
        };
        let verify = |name: &str, issuer| {
            resumed.verify(&[Shown::new(issue(&params(&[name]), issuer).der)]).is_ok()
        };
        assert!(verify("a.test", &trusted));
        assert!(!verify("a.test", &other));
        assert!(!verify("b.test", &trusted), "another name");
    }
}
