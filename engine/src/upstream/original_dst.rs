//! `ORIGINAL_DST`: each request goes to the address that it names. There is no other load balancing.
//!
//! A shard that meets a new address makes the host and uses it at once; the control plane
//! (`control/original_dst.rs`) shows it, and removes hosts that nothing uses any more.
//!
//! Invariant: an address has one host, whichever shard meets it first. The lock is taken for a new address
//! only.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::host::{Endpoint, Host};
use crate::address::Address;
use crate::listener_facts::ListenerFacts;
use crate::metadata::Metadata;

/// The hosts of a cluster of type `ORIGINAL_DST`, and where requests name them.
#[derive(Debug)]
pub struct OriginalDst {
    /// Where a request names its host, before the address that its connection was meant for.
    pub naming: Naming,
    /// `cleanup_interval`: a host without connections is removed after this time. Default 5 s.
    pub cleanup_interval: Duration,
    /// What all its hosts have in common.
    template: Endpoint,
    /// Precedes the address in the names of hosts.
    prefix: String,
    hosts: Mutex<HashMap<Address, Known>>,
    /// Notified when there is a new host.
    is_new: Notify,
}

/// `original_dst_lb_config`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Naming {
    /// The header whose first value is the address, in lower case.
    pub header: Option<Box<[u8]>>,
    /// The value of the dynamic metadata that is the address: namespace and path.
    pub metadata: Option<MetadataKey>,
    /// Takes the place of the port, wherever the address comes from.
    pub port: Option<u16>,
}

impl Naming {
    /// The address that a connection was meant for, if a listener filter has found out that it was accepted on
    /// another one.
    #[must_use]
    pub fn of_connection(
        &self,
        local: Address,
        facts: Option<&ListenerFacts>,
    ) -> Option<SocketAddr> {
        match local {
            Address::Ip(local) if facts.is_some_and(|it| it.direct_local.is_some()) => {
                Some(self.with_port(local))
            }
            _ => None,
        }
    }

    /// An address with the port that takes the place of its own.
    #[must_use]
    pub fn with_port(&self, mut address: SocketAddr) -> SocketAddr {
        if let Some(port) = self.port {
            address.set_port(port);
        }
        address
    }

    /// The address in dynamic metadata.
    #[must_use]
    pub fn in_metadata<'a>(&self, metadata: &'a Metadata) -> Option<&'a str> {
        let (namespace, path) = self.metadata.as_ref()?;
        let value = metadata.find(namespace, path)?;
        let value = value.as_array().map_or(Some(value), |all| all.first())?;
        value.as_str()
    }
}

/// A namespace, and the path of a value in it.
pub type MetadataKey = (Box<str>, Box<[Box<str>]>);

#[derive(Debug)]
struct Known {
    host: Arc<Host>,
    /// How many connections it had had by the last cleanup; none: it is new.
    connections: Option<u64>,
}

impl OriginalDst {
    /// Without a host yet. The name of a host begins with `prefix`.
    #[must_use]
    pub fn new(
        naming: Naming,
        cleanup_interval: Duration,
        template: Endpoint,
        prefix: String,
    ) -> Self {
        let (hosts, is_new) = (Mutex::default(), Notify::new());
        Self { naming, cleanup_interval, template, prefix, hosts, is_new }
    }

    /// The host at this address, with stats for `shards` shards.
    #[must_use]
    #[cold]
    pub fn host(&self, address: Address, shards: usize) -> Arc<Host> {
        let mut hosts = self.lock();
        let known = hosts.entry(address).or_insert_with(|| {
            let hostname = format!("{}{address}", self.prefix);
            let endpoint = Endpoint { hostname, ..self.template.clone() };
            endpoint.transport_socket.count_hosts(1);
            self.is_new.notify_one();
            Known { host: Host::new(address, Arc::new(endpoint), shards), connections: None }
        });
        Arc::clone(&known.host)
    }

    /// Whether this host is one of the cluster.
    #[must_use]
    pub fn has(&self, host: &Arc<Host>) -> bool {
        self.lock().get(&host.address).is_some_and(|known| Arc::ptr_eq(&known.host, host))
    }

    /// All hosts, in the order of their addresses.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Host>> {
        let mut hosts: Vec<_> = self.lock().values().map(|it| Arc::clone(&it.host)).collect();
        hosts.sort_unstable_by_key(|host| host.address);
        hosts
    }

    /// Completes when there is a new host.
    pub async fn has_new(&self) {
        self.is_new.notified().await;
    }

    /// Removes the hosts that have no connection, and have had none since the last time. Whether there were any.
    pub fn clean_up(&self) -> bool {
        let mut hosts = self.lock();
        let before = hosts.len();
        hosts.retain(|_, known| {
            let connections = known.host.connections_so_far();
            let was_used = known.connections.replace(connections) != Some(connections);
            was_used || known.host.connections() > 0
        });
        hosts.len() != before
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Known>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::host_set::tests::host;

    fn original_dst() -> OriginalDst {
        let template = Endpoint::clone(&host(1, 0, 1, Default::default()).endpoint);
        let interval = Duration::from_secs(5);
        OriginalDst::new(Naming::default(), interval, template, "dst".into())
    }

    fn address(port: u16) -> Address {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn an_address_has_one_host() {
        let cluster = original_dst();
        let one = cluster.host(address(1), 1);
        assert!(Arc::ptr_eq(&one, &cluster.host(address(1), 1)));
        assert_eq!(one.endpoint.hostname, "dst127.0.0.1:1");
        assert!(!Arc::ptr_eq(&one, &cluster.host(address(2), 1)));
        assert_eq!(cluster.all().len(), 2);
    }

    #[test]
    fn a_host_stays_while_it_is_used_and_one_interval_longer() {
        let cluster = original_dst();
        let host = cluster.host(address(1), 1);
        host.stats().shard(0).cx_total.inc();
        host.stats().shard(0).cx_active.inc();
        assert!(!cluster.clean_up());
        assert!(!cluster.clean_up());
        host.stats().shard(0).cx_active.dec();
        assert!(cluster.has(&host));
        assert!(cluster.clean_up());
        assert!(!cluster.has(&host));
        assert!(!Arc::ptr_eq(&host, &cluster.host(address(1), 1)));
    }

    #[test]
    fn a_new_host_is_not_removed_before_its_first_connection() {
        let cluster = original_dst();
        let _host = cluster.host(address(1), 1);
        assert!(!cluster.clean_up());
        assert!(cluster.clean_up());
    }
}
