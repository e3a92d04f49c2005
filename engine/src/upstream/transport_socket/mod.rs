//! What carries the connections to a host: `transport_socket`, or the first of `transport_socket_matches`
//! that matches the metadata of the endpoint.
//!
//! It says what is configured; connections are opened elsewhere (`connect.rs`).

pub(in crate::upstream) mod compile;
mod matches;

use std::sync::Arc;

pub use self::matches::{Criteria, TransportSockets};
use crate::address::{Address, Ends};
use crate::proxy_protocol::{self, Addresses, Version};
use crate::stats::{Registry, Scope, SslSocketFactoryStats, SslStats, stats};
use crate::transport::tls::context::{ClientContext, Latest, Listed as _, Owner};

stats! {
    /// `cluster.<observability_name>.<match>.`
    pub struct TransportSocketMatchStats {
        counter total_match_count;
    }
}

/// A transport socket of a cluster.
#[derive(Debug)]
pub struct TransportSocket {
    /// The PROXY header that its connections begin with.
    pub proxy_header: Option<ProxyHeader>,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<UpstreamTls>,
    /// Counts the hosts that get it.
    pub stats: Arc<Scope<TransportSocketMatchStats>>,
}

/// The TLS of a transport socket.
#[derive(Debug)]
pub struct UpstreamTls {
    /// What the configuration and its secrets say.
    pub context: Arc<Latest<ClientContext>>,
    /// `cluster.<observability_name>.ssl.`
    pub stats: Arc<Scope<SslStats>>,
    /// `cluster.<observability_name>.client_ssl_socket_factory.`
    pub factory: Arc<Scope<SslSocketFactoryStats>>,
}

/// `upstream_proxy_protocol`: the header that a connection begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyHeader {
    /// `config.version`
    pub version: Version,
}

impl TransportSocket {
    /// Counts hosts that get it.
    pub fn count_hosts(&self, hosts: usize) {
        self.stats.control().total_match_count.add(hosts as u64);
    }
}

impl UpstreamTls {
    /// The TLS of the cluster `name`, whose stats are under `stat_name`.
    pub fn new(
        context: Arc<Latest<ClientContext>>,
        name: &str,
        stat_name: &str,
        registry: &Registry,
    ) -> Self {
        let prefix = format!("cluster.{stat_name}.");
        let stats = registry.scope(&format!("{prefix}ssl."));
        let factory = registry.scope(&format!("{prefix}{}", ClientContext::FACTORY));
        context.list(Owner { name: format!("cluster {name}"), prefix }, registry);
        Self { context, stats, factory }
    }
}

impl ProxyHeader {
    /// The header for a client with these addresses. A unix socket cannot be announced.
    #[must_use]
    pub fn encode(self, ends: Ends) -> Vec<u8> {
        let addresses = match (ends.remote, ends.local) {
            (Address::Ip(source), Address::Ip(destination))
                if source.is_ipv4() == destination.is_ipv4() =>
            {
                Some(Addresses { source, destination })
            }
            _ => None,
        };
        proxy_protocol::write(self.version, addresses)
    }
}

#[cfg(test)]
impl TransportSocket {
    /// A plain one of no cluster.
    pub(crate) fn plain() -> Arc<Self> {
        Arc::new(Self { proxy_header: None, tls: None, stats: Arc::new(Scope::unlisted(1)) })
    }
}
