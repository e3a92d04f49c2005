//! Schema → DNS caches. Those with the same name and settings are one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::{DnsCache, Settings};
use crate::common_compile::check_word;
use crate::stats::Registry;
use crate::upstream::compile::lookup_family;
use crate::upstream::destination;
use crate::upstream::discovery::LookupFamily;
use crate::upstream::discovery::compile::failure_refresh;
use crate::upstream::discovery::resolver_compile;

/// The caches that are in use.
#[derive(Debug, Default)]
pub struct DnsCaches {
    by_name: RefCell<HashMap<String, InUse>>,
    /// Which configuration is being compiled.
    round: Cell<u64>,
}

#[derive(Debug)]
struct InUse {
    cache: Weak<DnsCache>,
    /// The configuration that has it.
    round: u64,
}

impl DnsCaches {
    /// Another configuration is compiled from here on: its caches may have other settings.
    pub fn begin_round(&self) {
        self.round.set(self.round.get() + 1);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<DnsCache>> {
        self.by_name.borrow().values().filter_map(|in_use| in_use.cache.upgrade()).collect()
    }

    /// The cache that `schema` describes; none if there is an error.
    pub(crate) fn get(
        &self,
        schema: &config::DnsCacheConfig,
        registry: &Registry,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Arc<DnsCache>> {
        let settings = settings(schema, at, problems)?;
        let mut caches = self.by_name.borrow_mut();
        let round = self.round.get();
        if let Some(in_use) = caches.get_mut(&settings.name)
            && let Some(cache) = in_use.cache.upgrade()
        {
            if cache.settings == settings {
                in_use.round = round;
                return Some(cache);
            }
            if in_use.round == round {
                let name = &settings.name;
                let message = format!("DNS cache '{name}' has other settings elsewhere");
                problems.error(&at.field("name"), message);
                return None;
            }
        }
        let stats = registry.scope(&format!("dns_cache.{}.", settings.name));
        let name = settings.name.clone();
        let cache = DnsCache::new(settings, stats);
        caches.insert(name, InUse { cache: Arc::downgrade(&cache), round });
        Some(cache)
    }
}

fn settings(
    schema: &config::DnsCacheConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    let config::DnsCacheConfig {
        name,
        dns_lookup_family,
        dns_refresh_rate,
        dns_min_refresh_rate,
        host_ttl,
        max_hosts,
        disable_dns_refresh_on_failure,
        dns_failure_refresh_rate,
        dns_cache_circuit_breaker,
        preresolve_hostnames,
        dns_query_timeout,
        typed_dns_resolver_config,
    } = schema;
    let max_pending = dns_cache_circuit_breaker.as_ref().and_then(|schema| {
        let config::DnsCacheCircuitBreakers { max_pending_requests } = schema;
        *max_pending_requests
    });
    let min_refresh_rate = dns_min_refresh_rate.unwrap_or(Duration::from_secs(5));
    let refresh_rate = dns_refresh_rate.unwrap_or(Duration::from_secs(60));
    if refresh_rate < min_refresh_rate && dns_refresh_rate.is_some() {
        let message = "dns_refresh_rate must not be below dns_min_refresh_rate";
        problems.error(&at.field("dns_refresh_rate"), message);
    }
    let at_hosts = at.field("preresolve_hostnames");
    let preresolve = preresolve_hostnames
        .iter()
        .enumerate()
        .map(|(i, schema)| host_and_port(schema, &at_hosts.index(i), problems))
        .collect::<Option<_>>()?;
    let query_timeout = dns_query_timeout.unwrap_or(Duration::from_secs(5));
    let failure = dns_failure_refresh_rate.as_ref().map(|rate| {
        let config::RefreshRate { base_interval, max_interval } = rate;
        (*base_interval, *max_interval)
    });
    Some(Settings {
        name: name.clone(),
        lookup_family: lookup_family(*dns_lookup_family).unwrap_or(LookupFamily::Auto),
        refresh_rate,
        min_refresh_rate,
        host_ttl: host_ttl.unwrap_or(Duration::from_secs(300)),
        max_hosts: max_hosts.map_or(1024, |hosts| hosts as usize),
        forgets_failures: *disable_dns_refresh_on_failure,
        failure_refresh: failure_refresh(failure, at, problems),
        max_pending_requests: max_pending.map_or(1024, |requests| requests as usize),
        preresolve,
        query_timeout: Some(query_timeout).filter(|timeout| !timeout.is_zero()),
        resolver: resolver_compile::own(typed_dns_resolver_config.as_ref(), at, problems),
    })
}

/// A host that is looked up before any request names it.
fn host_and_port(
    schema: &config::SocketAddress,
    at: &Path,
    problems: &mut Problems,
) -> Option<String> {
    // It is a name, not a socket.
    let config::SocketAddress {
        protocol: _,
        address,
        port_value,
        resolver_name: _,
        ipv4_compat: _,
    } = schema;
    check_word(address, &at.field("address"), problems);
    let port = port_value.and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else {
        problems.missing(at, "a host to resolve needs a port_value of at most 65535");
        return None;
    };
    Some(destination::name(address, port).into_owned())
}
