//! `STRICT_DNS`: every address is a host.

use std::collections::HashSet;
use std::net::IpAddr;

//= envoy: arch_overview/upstream/service_discovery, strict DNS
// An answer without addresses, also for a name that does not exist, means that there are no hosts.
pub(super) fn hosts(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    addresses.iter().copied().filter(|address| seen.insert(*address)).collect()
}
