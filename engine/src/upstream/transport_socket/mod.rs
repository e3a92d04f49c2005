//! What carries the connections to a host: `transport_socket`, or the first of `transport_socket_matches`
//! that matches the metadata of the endpoint.
//!
//! It says what is configured; connections are opened elsewhere (`connect.rs`).

pub(in crate::upstream) mod compile;
mod matches;

use std::rc::Rc;
use std::sync::Arc;

pub use self::matches::{Criteria, TransportSockets};
use crate::address::{Address, Ends};
use crate::proxy_protocol::{self, Addresses, Tlv, TlvTypes, Version};
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
    pub proxy_header: Option<Arc<ProxyHeader>>,
    /// Its TLS; none: the connections are plain.
    pub tls: Option<UpstreamTls>,
    /// Counts the hosts that get it.
    pub stats: Arc<Scope<TransportSocketMatchStats>>,
}

/// The TLS of a transport socket.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// What the configuration and its secrets say.
    pub context: Arc<Latest<ClientContext>>,
    /// `cluster.<observability_name>.ssl.`
    pub stats: Arc<Scope<SslStats>>,
    /// `cluster.<observability_name>.client_ssl_socket_factory.`
    pub factory: Arc<Scope<SslSocketFactoryStats>>,
}

/// `upstream_proxy_protocol`: the header that a connection begins with.
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    /// `config.version`
    pub version: Version,
    /// `config.pass_through_tlvs`: the values of the client's header that are passed on; none: no value.
    pub passes: Option<TlvTypes>,
    /// The `added_tlvs` of the host, then those of the transport socket. They replace values of the client.
    pub added: Box<[Tlv]>,
    /// Counts headers that are not complete.
    pub stats: Arc<Scope<ProxyHeaderStats>>,
}

stats! {
    /// `cluster.<observability_name>.`
    pub struct ProxyHeaderStats {
        counter v2_tlvs_exceed_max_length = "upstream.proxyprotocol.v2_tlvs_exceed_max_length";
    }
}

/// The client that a PROXY header announces.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// The two ends of its connection.
    pub ends: Ends,
    /// The values of its own PROXY header that may be passed on.
    pub tlvs: &'a [Tlv],
}

/// An encoded PROXY header. A connection serves only requests for which its header would be the same.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EncodedHeader {
    /// Its bytes.
    pub bytes: Rc<[u8]>,
    /// Whether it has all its values.
    pub is_complete: bool,
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
    /// The same with the values that a host adds.
    #[must_use]
    pub fn with_host(&self, added: &[Tlv]) -> Self {
        let own = self.added.iter().filter(|tlv| !added.iter().any(|it| it.kind == tlv.kind));
        Self { added: added.iter().chain(own).cloned().collect(), ..self.clone() }
    }

    /// The header of a connection of the proxy itself, between these ends: a check.
    #[must_use]
    pub fn of_check(&self, local: Option<Address>, host: Address) -> Vec<u8> {
        match (self.version, local, host) {
            (Version::V1, Some(Address::Ip(source)), Address::Ip(destination)) => {
                proxy_protocol::write(Version::V1, Some(Addresses { source, destination }))
            }
            // `UNKNOWN`, or LOCAL.
            (version, ..) => proxy_protocol::write(version, None),
        }
    }

    /// The header for this client. A unix socket cannot be announced.
    #[must_use]
    pub fn encode(&self, client: Announced<'_>) -> EncodedHeader {
        let Announced { ends, tlvs } = client;
        let addresses = match (ends.remote, ends.local) {
            (Address::Ip(source), Address::Ip(destination))
                if source.is_ipv4() == destination.is_ipv4() =>
            {
                Some(Addresses { source, destination })
            }
            _ => None,
        };
        let mut bytes = proxy_protocol::write(self.version, addresses);
        let is_complete = self.version == Version::V1 || addresses.is_none() || {
            let passed = tlvs.iter().filter(|tlv| {
                self.passes.as_ref().is_some_and(|types| types.include(tlv.kind))
                    && !self.added.iter().any(|added| added.kind == tlv.kind)
            });
            proxy_protocol::append(&mut bytes, self.added.iter().chain(passed))
        };
        EncodedHeader { bytes: bytes.into(), is_complete }
    }
}

#[cfg(test)]
impl TransportSocket {
    /// A plain one of no cluster.
    pub(crate) fn plain() -> Arc<Self> {
        Arc::new(Self { proxy_header: None, tls: None, stats: Arc::new(Scope::unlisted(1)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u8, value: &str) -> Tlv {
        Tlv { kind, value: value.as_bytes().to_vec() }
    }

    /// As recorded with Envoy 1.40: the host's values, the socket's, then the client's; a type that one of
    /// them has is not taken from the next.
    #[test]
    fn values_of_the_host_go_before_those_of_the_socket_and_the_client() {
        let stats = Arc::new(Scope::unlisted(1));
        let added = [tlv(2, "socket"), tlv(0xd0, "socket"), tlv(0xd2, "socket")].into();
        let socket =
            ProxyHeader { version: Version::V2, passes: Some(TlvTypes::All), added, stats };
        let host = socket.with_host(&[tlv(0xd0, "a"), tlv(0xe1, "b"), tlv(0xd0, "c")]);
        let tlvs = [tlv(2, "client"), tlv(0xe1, "client"), tlv(3, "client"), tlv(3, "twice")];
        let ends = Ends {
            remote: Address::Ip("1.2.3.4:1111".parse().unwrap()),
            local: Address::Ip("5.6.7.8:2222".parse().unwrap()),
        };
        let sent = |header: &ProxyHeader| {
            let encoded = header.encode(Announced { ends, tlvs: &tlvs });
            assert!(encoded.is_complete);
            let header = proxy_protocol::parse(&encoded.bytes, header.version).unwrap().unwrap();
            let text = |tlv: &Tlv| (tlv.kind, String::from_utf8(tlv.value.clone()).unwrap());
            header.tlvs.iter().map(text).collect::<Vec<_>>()
        };
        let expected = |values: &[(u8, &str)]| -> Vec<_> {
            values.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect()
        };
        let with_host = [
            (0xd0, "a"),
            (0xe1, "b"),
            (0xd0, "c"),
            (2, "socket"),
            (0xd2, "socket"),
            (3, "client"),
            (3, "twice"),
        ];
        assert_eq!(sent(&host), expected(&with_host));
        let only = ProxyHeader {
            passes: Some(TlvTypes::Only([0xe1].into())),
            added: Box::default(),
            ..socket.clone()
        };
        assert_eq!(sent(&only), expected(&[(0xe1, "client")]));
        let none = ProxyHeader { passes: None, ..only.clone() };
        assert_eq!(sent(&none), expected(&[]));
        let line = ProxyHeader { version: Version::V1, ..socket };
        assert_eq!(sent(&line), expected(&[]), "a line has no values");
    }
}
