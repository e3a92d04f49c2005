//! Filter chains: what a connection is served with.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::access_log::LocalLogs;
use crate::fingerprint::Fingerprint;
use crate::metadata::ListenerInfo;
use crate::request::service::{LocalService, Service};
use crate::shard::Shard;
use crate::shard::drain::Phase;
use crate::stats::{Registry, Scope, SslSocketFactoryStats, SslStats};
use crate::tcp::Terminal;
use crate::tcp::filters::Filters;
use crate::transport::tls::ServerTls;
use crate::transport::tls::context::{Latest, Listed as _, Owner, ServerContext};
use crate::upstream::numbers::Uses;

/// One filter chain of a listener.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// The network filters in front of the last one.
    pub filters: Arc<Filters>,
    /// What its connections speak.
    pub speaks: Speaks,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<ChainTls>,
    /// Its name and metadata, and those of the listener.
    pub info: Arc<ListenerInfo>,
    /// What it was compiled from.
    pub(crate) fingerprint: Fingerprint,
    /// The same without its routes; none: they are not in it.
    pub(crate) frame: Option<Fingerprint>,
    /// The clusters that it names, its routes apart.
    pub(crate) uses: Arc<Uses>,
}

/// The TLS of a filter chain.
#[derive(Clone, Debug)]
pub struct ChainTls {
    /// What the configuration and its secrets say.
    pub context: Arc<Latest<ServerContext>>,
    /// `listener.<address>.ssl.`
    pub stats: Arc<Scope<SslStats>>,
    /// `listener.<address>.server_ssl_socket_factory.`
    pub factory: Arc<Scope<SslSocketFactoryStats>>,
    /// `transport_socket_connect_timeout`; none: no limit.
    pub connect_timeout: Option<Duration>,
}

impl ChainTls {
    /// The TLS of a chain of the listener `name`, whose stats begin with `prefix`.
    pub fn new(
        context: Arc<Latest<ServerContext>>,
        name: &str,
        prefix: &str,
        connect_timeout: Option<Duration>,
        registry: &Registry,
    ) -> Self {
        let owner = Owner { name: format!("listener {name}"), prefix: prefix.to_owned() };
        context.list(owner, registry);
        Self {
            context,
            stats: registry.scope(&format!("{prefix}ssl.")),
            factory: registry.scope(&format!("{prefix}{}", ServerContext::FACTORY)),
            connect_timeout,
        }
    }
}

impl FilterChain {
    /// As [`LocalChain::key`].
    pub(super) fn key(&self) -> usize {
        match &self.speaks {
            Speaks::Http(service) => Arc::as_ptr(service).addr(),
            Speaks::Tcp(terminal) => Arc::as_ptr(terminal).addr(),
        }
    }
}

/// What the connections of a filter chain speak.
#[derive(Clone, Debug)]
pub enum Speaks {
    /// HTTP: the chain ends in a connection manager.
    Http(Arc<Service>),
    /// Bytes: the chain ends in `tcp_proxy` or the like.
    Tcp(Arc<Terminal>),
}

/// A filter chain on one shard.
#[derive(Debug)]
pub struct LocalChain {
    /// The network filters in front of the last one.
    pub filters: Rc<LocalFilters>,
    /// What its connections speak.
    pub speaks: LocalSpeaks,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<Rc<ServerTls>>,
}

impl LocalChain {
    /// What tells it from the others: the connection manager, or the last filter.
    pub(super) fn key(&self) -> usize {
        match &self.speaks {
            LocalSpeaks::Http(service) => Arc::as_ptr(service.service()).addr(),
            LocalSpeaks::Tcp(terminal) => Arc::as_ptr(&terminal.terminal).addr(),
        }
    }

    /// What becomes of its connections.
    pub(super) fn phase(&self) -> &Cell<Phase> {
        match &self.speaks {
            LocalSpeaks::Http(service) => &service.phase,
            LocalSpeaks::Tcp(terminal) => &terminal.phase,
        }
    }
}

/// What the connections of a filter chain speak, on one shard.
#[derive(Clone, Debug)]
pub enum LocalSpeaks {
    /// HTTP
    Http(Rc<LocalService>),
    /// Bytes
    Tcp(Rc<LocalTerminal>),
}

impl LocalChain {
    /// `chain` for the connections of `shard`.
    #[must_use]
    pub fn new(chain: &FilterChain, shard: &'static Shard) -> Self {
        let speaks = match &chain.speaks {
            Speaks::Http(service) => {
                LocalSpeaks::Http(LocalService::new(Arc::clone(service), shard))
            }
            Speaks::Tcp(terminal) => LocalSpeaks::Tcp(Rc::new(LocalTerminal::new(
                Arc::clone(terminal),
                Arc::clone(&chain.info),
                shard,
            ))),
        };
        let tls = chain.tls.clone().map(|ChainTls { context, stats, factory, connect_timeout }| {
            let context = context.for_shard(shard.id);
            Rc::new(ServerTls { context, stats, factory, timeout: connect_timeout })
        });
        let filters = Rc::new(LocalFilters(Arc::clone(&chain.filters)));
        Self { filters, speaks, tls }
    }
}

/// The network filters of a chain on one shard. Connections count references to this: the reference
/// count of the filters themselves is shared with other shards.
#[derive(Debug)]
pub struct LocalFilters(Arc<Filters>);

impl Deref for LocalFilters {
    type Target = Filters;

    fn deref(&self) -> &Filters {
        &self.0
    }
}

/// The last filter of a chain on one shard, if it does not serve HTTP.
#[derive(Debug)]
pub struct LocalTerminal {
    terminal: Arc<Terminal>,
    /// The access logs of its connections.
    pub logs: LocalLogs,
    /// The listener and the filter chain.
    pub info: Arc<ListenerInfo>,
    /// Whether its connections are to end.
    pub phase: Cell<Phase>,
}

impl LocalTerminal {
    fn new(terminal: Arc<Terminal>, info: Arc<ListenerInfo>, shard: &'static Shard) -> Self {
        let logs = match &*terminal {
            Terminal::Proxy(proxy) => LocalLogs::new(&proxy.access_logs, shard),
            Terminal::Echo | Terminal::DirectResponse(_) => LocalLogs::default(),
        };
        Self { terminal, logs, info, phase: Cell::default() }
    }
}

impl Deref for LocalTerminal {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        &self.terminal
    }
}
