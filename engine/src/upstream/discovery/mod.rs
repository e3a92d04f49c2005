//! Discovery: which hosts a cluster has.
//!
//! Pure: from the addresses of a name to a [`HostSet`]. `control/dns` does the lookups.
//!
//! Invariant: a host whose address stays keeps its `Arc`, and with it its stats and connections.

pub mod compile;
pub mod eds_compile;
mod logical_dns;
mod provided_compile;
mod refresh;
pub(in crate::upstream) mod resolver_compile;
mod strict_dns;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::config_source::ConfigSource;
use crate::stats::ClusterStats;
use crate::upstream::aggregate::Aggregate;
use crate::upstream::dns_cache::DnsCache;
use crate::upstream::host::{Endpoint, Host};
use crate::upstream::host_set::{DistributionRules, HostSet};
use crate::upstream::original_dst::OriginalDst;

pub use refresh::RefreshDelays;

/// Where a cluster's hosts come from.
#[derive(Debug)]
pub enum Discovery {
    /// From the configuration.
    Static(Arc<HostSet>),
    /// From DNS, refreshed periodically.
    Dns(Dns),
    /// From a source of their own.
    Eds(Eds),
    /// From the requests, which name addresses.
    OriginalDst(OriginalDst),
    /// From a DNS cache, whose hosts requests name.
    DynamicForwardProxy(DynamicForwardProxy),
    /// It has none: other clusters have.
    Aggregate(Aggregate),
}

/// A cluster of type `EDS`.
#[derive(Debug)]
pub struct Eds {
    /// Where its hosts come from.
    pub source: ConfigSource,
    /// The name that they have there: `service_name`, or that of the cluster.
    pub name: String,
    /// `transport_socket_match_criteria` of its health check.
    check_criteria: Option<serde_json::Value>,
}

/// A cluster of type `envoy.clusters.dynamic_forward_proxy`.
#[derive(Debug)]
pub struct DynamicForwardProxy {
    /// Resolves the hosts.
    pub cache: Arc<DnsCache>,
    /// What all its hosts have in common.
    pub template: Endpoint,
    /// The port of hosts that name none: 80, or 443 with TLS.
    pub default_port: u16,
}

/// What a source says of a cluster of type `EDS`.
#[derive(Debug)]
pub struct Assignment {
    /// Those that are the same as before are the same.
    pub hosts: Vec<Arc<Host>>,
    /// The rules of the cluster, with the policy of the assignment.
    pub distribution: DistributionRules,
}

impl Discovery {
    /// Whether there are hosts, or names that hosts may be found by.
    pub fn has_any(&self) -> bool {
        match self {
            Self::Static(hosts) => !hosts.hosts().is_empty(),
            Self::Dns(dns) => !dns.targets.is_empty(),
            Self::Eds(_) | Self::OriginalDst(_) | Self::DynamicForwardProxy(_) => true,
            Self::Aggregate(aggregate) => !aggregate.clusters.is_empty(),
        }
    }

    /// Whether a request names the host that it goes to.
    pub const fn goes_by_destination(&self) -> bool {
        matches!(self, Self::OriginalDst(_) | Self::DynamicForwardProxy(_))
    }

    /// Its hosts as configured: addresses, or names with the port to connect to.
    pub fn described(&self) -> Vec<String> {
        match self {
            Self::Static(hosts) => hosts.hosts().iter().map(|it| it.address.to_string()).collect(),
            Self::Dns(dns) => {
                dns.targets.iter().map(|it| format!("{}:{}", it.name, it.port)).collect()
            }
            Self::Eds(eds) => {
                vec![format!("those of {} in {}", eds.name, eds.source)]
            }
            Self::OriginalDst(_) | Self::DynamicForwardProxy(_) => {
                vec!["those that requests name".to_owned()]
            }
            Self::Aggregate(_) => vec!["those of other clusters".to_owned()],
        }
    }

    /// The zones of its hosts.
    pub fn zones(&self) -> HashSet<&str> {
        match self {
            Self::Static(hosts) => hosts.hosts().iter().map(|it| it.endpoint.zone()).collect(),
            Self::Dns(dns) => dns.targets.iter().map(|it| it.endpoint.zone()).collect(),
            Self::Eds(_)
            | Self::OriginalDst(_)
            | Self::DynamicForwardProxy(_)
            | Self::Aggregate(_) => HashSet::new(),
        }
    }
}

/// A cluster of type `STRICT_DNS`, `LOGICAL_DNS` or `envoy.clusters.dns`.
#[derive(Debug)]
pub struct Dns {
    /// How the addresses of a name become hosts.
    pub semantics: Semantics,
    /// The names to look up.
    pub targets: Vec<Target>,
    /// Which addresses to look up.
    pub lookup_family: LookupFamily,
    /// When to look up again.
    pub refresh: Refresh,
    /// What resolves the names, if it is not the resolver of the process.
    pub resolver: Option<OwnResolver>,
}

/// `typed_dns_resolver_config`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnResolver {
    /// The name servers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Whether all queries go over TCP.
    pub only_tcp: bool,
    /// Whether a name is also looked up in the search domains of the system. Default yes.
    pub searches_domains: bool,
    /// How long one query may take. Default 5 s.
    pub timeout: Duration,
    /// How often a query is sent. Default 4.
    pub tries: usize,
    /// Whether the servers are asked in turn.
    pub rotates: bool,
}

/// Those of Envoy and c-ares.
impl Default for OwnResolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            only_tcp: false,
            searches_domains: true,
            timeout: Duration::from_secs(5),
            tries: 4,
            rotates: false,
        }
    }
}

/// How the addresses of a name become hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Semantics {
    /// Each address is a host.
    Strict,
    /// There is one host, at the first address.
    Logical,
}

/// One name to look up, and what its hosts have in common.
#[derive(Debug)]
pub struct Target {
    /// A DNS name or an IP address.
    pub name: String,
    /// The port of its hosts.
    pub port: u16,
    /// The endpoint of its hosts.
    pub endpoint: Arc<Endpoint>,
}

/// `dns_lookup_family`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LookupFamily {
    /// IPv6; IPv4 if there is none.
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4; IPv6 if there is none.
    V4Preferred,
    /// IPv4 and IPv6.
    All,
}

/// When a name is looked up again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refresh {
    /// Delay after an answer. Default 5 s.
    pub rate: Duration,
    /// Upper bound of a random delay that is added after an answer. Default 0.
    pub jitter: Duration,
    /// Whether the TTL of an answer, unless 0, replaces the rate. Default no.
    pub respect_ttl: bool,
    /// Lower bound of the TTL. Default 0.
    pub ttl_min: Duration,
    /// Delay after failures; none: the rate.
    pub failure: Option<FailureRefresh>,
}

/// `dns_failure_refresh_rate`: a random delay, up to a bound that doubles with each consecutive
/// failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureRefresh {
    /// The bound after the first failure, above 1 ms.
    pub base_interval: Duration,
    /// The largest bound, not below the first. Default ten times the first.
    pub max_interval: Duration,
}

/// The answer to a lookup: addresses, possibly none. That the name does not exist is an answer, too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// In the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// Its TTL; 0 if unknown.
    pub ttl: Duration,
}

/// The lookup failed: there was no answer from the server, or an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LookupFailed;

/// The current hosts of a DNS cluster.
#[derive(Debug)]
pub struct DnsHosts {
    /// By target.
    hosts: Vec<Vec<Arc<Host>>>,
    shards: usize,
}

/// The effect of an answer on the hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// There is no usable answer; the hosts stay.
    Failed,
    /// The hosts are the same.
    Same,
    /// The hosts have changed.
    Changed,
}

/// Envoy's defaults.
impl Default for Refresh {
    fn default() -> Self {
        Self {
            rate: Duration::from_secs(5),
            jitter: Duration::ZERO,
            respect_ttl: false,
            ttl_min: Duration::ZERO,
            failure: None,
        }
    }
}

impl Dns {
    /// The hosts before the first lookup: none.
    pub fn hosts(&self, shards: usize) -> DnsHosts {
        DnsHosts { hosts: self.targets.iter().map(|_| Vec::new()).collect(), shards }
    }
}

impl DnsHosts {
    /// Applies and counts an answer for the target with this index.
    pub fn update(
        &mut self,
        dns: &Dns,
        target: usize,
        answer: Result<&Answer, LookupFailed>,
        stats: &ClusterStats,
    ) -> Outcome {
        let (Some(hosts), Some(target)) = (self.hosts.get_mut(target), dns.targets.get(target))
        else {
            return Outcome::Failed;
        };
        let addresses = answer.map_or(Err(LookupFailed), |answer| match dns.semantics {
            Semantics::Strict => Ok(strict_dns::hosts(&answer.addresses)),
            Semantics::Logical => logical_dns::host(&answer.addresses),
        });
        let Ok(addresses) = addresses else {
            stats.update_failure.inc();
            return Outcome::Failed;
        };
        stats.update_success.inc();
        // Envoy creates new hosts for each answer, and matches each to a transport socket.
        target.endpoint.transport_socket.count_hosts(addresses.len());
        if dns.semantics == Semantics::Strict {
            stats.max_host_weight.set(target.endpoint.weight.into());
        }
        let Some(changed) = target.replace(hosts, &addresses, self.shards) else {
            stats.update_no_rebuild.inc();
            return Outcome::Same;
        };
        stats.membership_change.inc();
        *hosts = changed;
        Outcome::Changed
    }

    /// The current hosts.
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.hosts.concat()
    }
}

impl Target {
    /// The hosts at these addresses, existing ones reused. None: no change.
    fn replace(
        &self,
        hosts: &[Arc<Host>],
        addresses: &[IpAddr],
        shards: usize,
    ) -> Option<Vec<Arc<Host>>> {
        let addresses: Vec<Address> =
            addresses.iter().map(|&ip| SocketAddr::new(ip, self.port).into()).collect();
        // Servers rotate the order with each answer; that alone is not a change.
        let mut old: Vec<Address> = hosts.iter().map(|host| host.address).collect();
        let mut new = addresses.clone();
        old.sort_unstable();
        new.sort_unstable();
        if old == new {
            return None;
        }
        let mut known: Vec<(Address, &Arc<Host>)> =
            hosts.iter().map(|host| (host.address, host)).collect();
        known.sort_unstable_by_key(|(address, _)| *address);
        let host = |address| match known.binary_search_by_key(&address, |(address, _)| *address) {
            Ok(at) => known.get(at).map(|(_, host)| (*host).clone()),
            Err(_) => None,
        };
        let create = |address| Host::new(address, self.endpoint.clone(), shards);
        let hosts = addresses.into_iter().map(|it| host(it).unwrap_or_else(|| create(it)));
        Some(hosts.collect())
    }
}

#[cfg(test)]
mod tests;
