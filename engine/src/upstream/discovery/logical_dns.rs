//! `LOGICAL_DNS`: one host, at the first address of the last answer with addresses.

use std::net::IpAddr;

use crate::upstream::discovery::LookupFailed;

//= envoy: arch_overview/upstream/service_discovery, logical DNS
// An answer without addresses counts as a failure: the host stays.
pub(super) fn host(addresses: &[IpAddr]) -> Result<Vec<IpAddr>, LookupFailed> {
    addresses.first().map(|&address| vec![address]).ok_or(LookupFailed)
}
