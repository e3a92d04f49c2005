//! Discovery: which hosts a cluster has.
//!
//! Pure: a name's addresses come in, a [`HostSet`] comes out. Asking for the addresses, and when to
//! ask again, is the work of `control/dns.rs`.
//!
//! Invariant: a host whose address stays keeps its `Arc`, and with it its stats and connections.

pub(super) mod compile;
mod logical_dns;
mod refresh;
mod strict_dns;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::stats::ClusterStats;
use crate::upstream::host::{Endpoint, Host};
use crate::upstream::host_set::{HealthRules, HostSet};

pub use refresh::Waits;

/// Where a cluster's hosts come from.
#[derive(Debug)]
pub enum Discovery {
    /// From the configuration, once and for all.
    Static(Arc<HostSet>),
    /// From DNS, again and again.
    Dns(Dns),
}

impl Discovery {
    /// The zones that its hosts may be in.
    pub fn zones(&self) -> HashSet<&str> {
        match self {
            Self::Static(hosts) => hosts.hosts().iter().map(|it| it.endpoint.zone()).collect(),
            Self::Dns(dns) => dns.targets.iter().map(|it| it.endpoint.zone()).collect(),
        }
    }
}

/// A cluster of type `STRICT_DNS`, `LOGICAL_DNS` or `envoy.clusters.dns`.
#[derive(Debug)]
pub struct Dns {
    /// What the addresses of a name are.
    pub semantics: Semantics,
    /// The names.
    pub targets: Vec<Target>,
    /// Which addresses to ask for.
    pub lookup_family: LookupFamily,
    /// When to ask again.
    pub refresh: Refresh,
}

/// What the addresses of a name are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Semantics {
    /// Each one is a host.
    Strict,
    /// Ways to one host; the first is taken.
    Logical,
}

/// One name to look up, and what its hosts have in common.
#[derive(Debug)]
pub struct Target {
    /// A DNS name, or an address that stands for itself.
    pub name: String,
    /// DNS does not know the port.
    pub port: u16,
    /// What each host inherits.
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
    /// After an answer. Default 5 s.
    pub rate: Duration,
    /// A random time up to this is added after an answer. Default 0.
    pub jitter: Duration,
    /// Whether the time to live of an answer, unless 0, is taken instead of the rate. Default no.
    pub respect_ttl: bool,
    /// The least time to live that is respected. Default 0.
    pub ttl_min: Duration,
    /// After failures; none: the rate, whatever happened.
    pub failure: Option<FailureRefresh>,
}

/// `dns_failure_refresh_rate`: a random time, up to a bound that doubles with each failure in a
/// row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureRefresh {
    /// The bound after the first failure, above 1 ms.
    pub base_interval: Duration,
    /// The last bound, not below the first. Default ten times the first.
    pub max_interval: Duration,
}

/// The answer to a lookup: addresses, at times none. That the name does not exist is an answer,
/// too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// In the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long it may be kept; 0 if nobody said.
    pub ttl: Duration,
}

/// The lookup gave no answer: the server is down, out of order, or unwilling.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LookupFailed;

/// The hosts of a DNS cluster, as the answers come in.
#[derive(Debug)]
pub struct DnsHosts {
    /// By target.
    hosts: Vec<Vec<Arc<Host>>>,
    shards: usize,
}

/// What an answer did to the hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is not one that can be used; the hosts stay.
    Failed,
    /// It brought nothing new.
    Same,
    /// There are others now.
    Changed,
}

/// As Envoy without any configuration.
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
    /// The hosts before the first answer: none.
    pub fn hosts(&self, shards: usize) -> DnsHosts {
        DnsHosts { hosts: self.targets.iter().map(|_| Vec::new()).collect(), shards }
    }
}

impl DnsHosts {
    /// Takes in the answer for the target of this index, and counts it.
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
        // Envoy makes its hosts anew with each answer, and each is matched to a transport socket.
        stats.total_match_count.add(addresses.len() as u64);
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

    /// All hosts as they are now.
    pub fn host_set(&self, rules: &HealthRules) -> HostSet {
        HostSet::new(self.hosts.concat(), rules)
    }
}

impl Target {
    /// The hosts at these addresses: those that are there already, and new ones. None: nothing
    /// changes.
    fn replace(
        &self,
        hosts: &[Arc<Host>],
        addresses: &[IpAddr],
        shards: usize,
    ) -> Option<Vec<Arc<Host>>> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|&ip| SocketAddr::new(ip, self.port)).collect();
        // Servers turn the order round with each answer; that alone changes nothing.
        let mut now: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
        let mut then = addresses.clone();
        now.sort_unstable();
        then.sort_unstable();
        if now == then {
            return None;
        }
        let mut known: Vec<(SocketAddr, &Arc<Host>)> =
            hosts.iter().map(|host| (host.address, host)).collect();
        known.sort_unstable_by_key(|(address, _)| *address);
        let host = |address| match known.binary_search_by_key(&address, |(address, _)| *address) {
            Ok(at) => known.get(at).map(|(_, host)| (*host).clone()),
            Err(_) => None,
        };
        let new = |address| Host::new(address, self.endpoint.clone(), shards);
        let hosts = addresses.into_iter().map(|it| host(it).unwrap_or_else(|| new(it)));
        Some(hosts.collect())
    }
}

#[cfg(test)]
mod tests;
