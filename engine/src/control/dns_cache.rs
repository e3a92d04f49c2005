//! Follows the DNS caches of `dynamic_forward_proxy`: resolves the hosts that requests name, refreshes them, and
//! gives the clusters their hosts.
//!
//! Invariant: the shards have the hosts of the clusters before they learn that a name is resolved.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::AbortHandle;

use super::dns::Resolver;
use super::membership::Members;
use crate::address::Address;
use crate::shard::clock::{Millis, millis};
use crate::upstream::Host;
use crate::upstream::destination;
use crate::upstream::discovery::{Discovery, LookupFamily, Outcome, Refresh, RefreshDelays};
use crate::upstream::dns_cache::{DnsCache, Resolved, Unresolved};
use crate::upstream::host::Endpoint;

/// All caches that are in use.
pub(super) struct DnsCaches {
    running: RefCell<Vec<Rc<Running>>>,
    surroundings: Rc<Surroundings>,
}

/// What the caches need.
struct Surroundings {
    resolver: Rc<Resolver>,
    shards: usize,
    epoch: Instant,
    tell: Box<Tell>,
}

/// Tells the shards what is known about a host of a cache; none: it is removed.
type Tell = dyn Fn(&Arc<DnsCache>, &str, Option<&Arc<Resolved>>);

/// One cache.
struct Running {
    cache: sync::Weak<DnsCache>,
    surroundings: Rc<Surroundings>,
    resolver: Rc<Resolver>,
    hosts: RefCell<BTreeMap<String, Entry>>,
    clusters: RefCell<Vec<OfCluster>>,
}

/// A host of a cache.
struct Entry {
    /// What was found out last; none: nothing yet.
    resolved: Option<Arc<Resolved>>,
    /// What resolves it.
    task: AbortHandle,
}

/// The hosts of a cluster that uses a cache.
struct OfCluster {
    members: Weak<Members>,
    hosts: BTreeMap<String, Arc<Host>>,
}

impl DnsCaches {
    /// Of no cache yet. Times are counted from `epoch`; `tell` tells all shards.
    pub(super) fn new(
        resolver: Rc<Resolver>,
        shards: usize,
        epoch: Instant,
        tell: impl Fn(&Arc<DnsCache>, &str, Option<&Arc<Resolved>>) + 'static,
    ) -> Self {
        let tell = Box::new(tell);
        let surroundings = Rc::new(Surroundings { resolver, shards, epoch, tell });
        Self { running: RefCell::default(), surroundings }
    }

    /// Gives a cluster the hosts of its cache, and goes on as they change.
    pub(super) fn follow(&self, members: &Rc<Members>, cache: &Arc<DnsCache>) {
        members.cluster.stats.control().warming_state.set(0);
        let running = self.running(cache);
        let mut of_cluster = OfCluster { members: Rc::downgrade(members), hosts: BTreeMap::new() };
        for (name, entry) in &*running.hosts.borrow() {
            if let Some(Ok(address)) = entry.resolved.as_ref().map(|it| &it.address) {
                of_cluster.set(name, Some(*address), running.surroundings.shards);
            }
        }
        of_cluster.publish();
        running.clusters.borrow_mut().push(of_cluster);
    }

    /// Answers what requests ask of these caches, whether or not a cluster has them too.
    pub(super) fn serve(&self, caches: &[Arc<DnsCache>]) {
        for cache in caches {
            drop(self.running(cache));
        }
    }

    fn running(&self, cache: &Arc<DnsCache>) -> Rc<Running> {
        let mut all = self.running.borrow_mut();
        all.retain(|it| it.cache.strong_count() > 0);
        let is_same = |it: &&Rc<Running>| sync::Weak::as_ptr(&it.cache) == Arc::as_ptr(cache);
        if let Some(known) = all.iter().find(is_same) {
            return Rc::clone(known);
        }
        let running = Rc::new(Running {
            cache: Arc::downgrade(cache),
            surroundings: Rc::clone(&self.surroundings),
            resolver: self.surroundings.resolver.for_its(cache.settings.resolver.as_ref()),
            hosts: RefCell::default(),
            clusters: RefCell::default(),
        });
        all.push(Rc::clone(&running));
        for name in &cache.settings.preresolve {
            running.resolve(name);
        }
        if let Some(mut questions) = cache.take_questions() {
            let running = Rc::clone(&running);
            drop(tokio::task::spawn_local(async move {
                while let Some(name) = questions.recv().await {
                    running.resolve(&name);
                }
                // Nothing uses the cache any more.
                running.hosts.take().values().for_each(|entry| entry.task.abort());
            }));
        }
        running
    }
}

impl Running {
    /// Resolves a name, unless that is done already; tells the shards in any case.
    fn resolve(self: &Rc<Self>, name: &str) {
        let known = self.hosts.borrow().get(name).map(|entry| entry.resolved.clone());
        match known {
            Some(Some(resolved)) => return self.tell(name, Some(&resolved)),
            Some(None) => return,
            None => {}
        }
        let Some(cache) = self.cache.upgrade() else { return };
        if self.hosts.borrow().len() >= cache.settings.max_hosts {
            // Many may have asked before they knew that it is full.
            cache.stats.control().host_overflow.inc();
            return self.tell(name, Some(&Resolved::new(Err(Unresolved::NoRoom), 0)));
        }
        let task = tokio::task::spawn_local(Rc::clone(self).keep_resolving(name.to_owned()));
        let entry = Entry { resolved: None, task: task.abort_handle() };
        self.hosts.borrow_mut().insert(name.to_owned(), entry);
        cache.stats.control().host_added.inc();
        cache.set_hosts(self.hosts.borrow().len());
    }

    /// Looks a name up until it is removed.
    async fn keep_resolving(self: Rc<Self>, name: String) {
        let Some(mut delays) = self.cache.upgrade().map(|cache| delays(&cache)) else { return };
        loop {
            let Some(delay) = self.look_up(&name, &mut delays).await else { break };
            tokio::time::sleep(delay).await;
            if !self.is_used(&name) {
                break;
            }
        }
        self.remove(&name);
    }

    /// Looks a name up once, and returns when to do so again; none: it is forgotten.
    async fn look_up(&self, name: &str, delays: &mut RefreshDelays) -> Option<Duration> {
        let cache = self.cache.upgrade()?;
        let stats = cache.stats.control();
        stats.dns_query_attempt.inc();
        let (host, port) = destination::split(name);
        let family = cache.settings.lookup_family;
        let lookup = self.resolver.lookup(host, family);
        let answer = match cache.settings.query_timeout {
            None => lookup.await.map_err(|_| UNREACHABLE),
            Some(limit) => match tokio::time::timeout(limit, lookup).await {
                Ok(answer) => answer.map_err(|_| UNREACHABLE),
                Err(_) => {
                    stats.dns_query_timeout.inc();
                    Err(TIMED_OUT)
                }
            },
        };
        let answer = answer.and_then(|answer| {
            // An address is not looked up: it is of the family, or not.
            if host.parse().is_ok_and(|ip| !family.includes(ip)) {
                Err(MALFORMED)
            } else {
                Ok(answer)
            }
        });
        let (address, ttl) = match &answer {
            Ok(answer) => (answer.addresses.first().copied().ok_or(NOT_FOUND), answer.ttl),
            Err(why) => (Err(*why), Duration::ZERO),
        };
        match &answer {
            Ok(_) => stats.dns_query_success.inc(),
            Err(_) => stats.dns_query_failure.inc(),
        }
        let address = address.map(|ip| Address::from((ip, port.unwrap_or(0))));
        let has_address = self.take_in(&cache, name, address);
        let outcome = if has_address { Outcome::Same } else { Outcome::Failed };
        if outcome == Outcome::Failed && cache.settings.forgets_failures {
            return None;
        }
        Some(delays.after(outcome, ttl))
    }

    /// Takes the result of a lookup; whether the host has an address now. One that it has stays if there is no other.
    fn take_in(&self, cache: &DnsCache, name: &str, found: Result<Address, &'static str>) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        let Some(entry) = hosts.get_mut(name) else { return false };
        let before = entry.resolved.as_ref().and_then(|it| it.address.as_ref().ok().copied());
        let is_first = entry.resolved.is_none();
        let is_new = found.is_ok_and(|address| before != Some(address));
        if !is_first && !is_new {
            return before.is_some();
        }
        // Only requests use a host: a new address does not.
        let last_used = entry.resolved.as_ref().map_or_else(|| self.now(), |it| it.last_used());
        let resolved = Resolved::new(found.map_err(Unresolved::Failed), last_used);
        entry.resolved = Some(Arc::clone(&resolved));
        drop(hosts);
        if is_new {
            cache.stats.control().host_address_changed.inc();
            self.set_host(name, found.ok());
        }
        self.tell(name, Some(&resolved));
        found.is_ok()
    }

    /// Whether a request has named the host lately.
    fn is_used(&self, name: &str) -> bool {
        let Some(cache) = self.cache.upgrade() else { return false };
        let hosts = self.hosts.borrow();
        let resolved = hosts.get(name).and_then(|entry| entry.resolved.as_ref());
        let unused = resolved.map_or(0, |it| self.now().saturating_sub(it.last_used()));
        unused <= millis(cache.settings.host_ttl)
    }

    fn remove(&self, name: &str) {
        let Some(cache) = self.cache.upgrade() else { return };
        self.hosts.borrow_mut().remove(name);
        cache.stats.control().host_removed.inc();
        cache.set_hosts(self.hosts.borrow().len());
        // A request that does not know the name any more asks again; one that does would find no host.
        self.tell(name, None);
        self.set_host(name, None);
    }

    /// Gives the clusters a host, or takes it away.
    fn set_host(&self, name: &str, address: Option<Address>) {
        let shards = self.surroundings.shards;
        let mut clusters = self.clusters.borrow_mut();
        clusters.retain(|it| it.members.strong_count() > 0);
        for cluster in &mut *clusters {
            if cluster.set(name, address, shards) {
                cluster.publish();
            }
        }
    }

    /// Tells the shards what is known about a host; none: it is removed.
    fn tell(&self, name: &str, resolved: Option<&Arc<Resolved>>) {
        if let Some(cache) = self.cache.upgrade() {
            (self.surroundings.tell)(&cache, name, resolved);
        }
    }

    fn now(&self) -> Millis {
        millis(self.surroundings.epoch.elapsed())
    }
}

impl OfCluster {
    /// Sets where a host is, or that there is none; whether anything has changed.
    fn set(&mut self, name: &str, address: Option<Address>, shards: usize) -> bool {
        let Some(members) = self.members.upgrade() else { return false };
        let Discovery::DynamicForwardProxy(proxy) = &members.cluster.discovery else {
            return false;
        };
        let membership_change = &members.cluster.stats.control().membership_change;
        let Some(address) = address else {
            let is_gone = self.hosts.remove(name).is_some();
            if is_gone {
                membership_change.inc();
            }
            return is_gone;
        };
        let endpoint = Endpoint { hostname: name.to_owned(), ..proxy.template.clone() };
        let host = Host::new(address, Arc::new(endpoint), shards);
        if self.hosts.insert(name.to_owned(), host).is_none() {
            membership_change.inc();
        }
        true
    }

    fn publish(&self) {
        if let Some(members) = self.members.upgrade() {
            let hosts: Vec<_> = self.hosts.values().map(Arc::clone).collect();
            members.set_hosts(&hosts, None);
        }
    }
}

//= envoy: DnsCacheConfig.dns_refresh_rate
// A name with an address is looked up again when its TTL ends, any other one after this.
fn delays(cache: &DnsCache) -> RefreshDelays {
    let settings = &cache.settings;
    let refresh = Refresh {
        rate: settings.min_refresh_rate,
        jitter: Duration::ZERO,
        respect_ttl: true,
        ttl_min: settings.min_refresh_rate,
        failure: settings.failure_refresh,
    };
    RefreshDelays::with_failure_rate(refresh, settings.refresh_rate, Rng::new())
}

impl LookupFamily {
    /// Whether addresses like this one are looked up.
    const fn includes(self, ip: std::net::IpAddr) -> bool {
        match self {
            Self::V4Only => ip.is_ipv4(),
            Self::V6Only => ip.is_ipv6(),
            Self::Auto | Self::V4Preferred | Self::All => true,
        }
    }
}

// Envoy's words for what its resolver says.
const NOT_FOUND: &str = "cares_norecords:Domain_name_not_found";
const UNREACHABLE: &str = "cares_failure:Could_not_contact_DNS_servers";
const MALFORMED: &str = "cares_failure:Misformatted_domain_name";
const TIMED_OUT: &str = "resolve_timeout";

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::stats::Registry;
    use crate::upstream::dns_cache::Settings;

    /// What the shards were told: the name, and the address or why there is none.
    type Told = Rc<RefCell<Vec<(String, Option<Result<Address, Unresolved>>)>>>;

    fn with_cache(max_hosts: usize, story: impl FnOnce(&Rc<Running>, &DnsCache, &Told)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = Settings::with_limits(max_hosts, 10);
        let cache = DnsCache::new(settings, Registry::new(1).scope("dns_cache.c."));
        LocalSet::new().block_on(&runtime, async {
            let resolver = Rc::new(Resolver::system().unwrap());
            let told = Told::default();
            let tells = Rc::clone(&told);
            let caches = DnsCaches::new(resolver, 1, Instant::now(), move |_, name, resolved| {
                let address = resolved.map(|it| it.address.clone());
                tells.borrow_mut().push((name.to_owned(), address));
            });
            caches.serve(&[Arc::clone(&cache)]);
            story(&caches.running(&cache), &cache, &told);
        });
    }

    #[test]
    fn only_requests_use_a_host_and_a_new_address_does_not() {
        with_cache(10, |running, cache, _| {
            let task = spawn_local(pending::<()>()).abort_handle();
            running.hosts.borrow_mut().insert("a:80".to_owned(), Entry { resolved: None, task });
            let last_used = || {
                let hosts = running.hosts.borrow();
                hosts["a:80"].resolved.as_ref().map(|it| it.last_used())
            };
            assert!(running.take_in(cache, "a:80", Ok(([127, 0, 0, 1], 80).into())));
            let first = last_used();
            std::thread::sleep(Duration::from_millis(20));
            assert!(running.take_in(cache, "a:80", Ok(([127, 0, 0, 2], 80).into())));
            assert_eq!(last_used(), first);
            assert_eq!(cache.stats.control().host_address_changed.value(), 2);
        });
    }

    #[test]
    fn a_full_cache_answers_too() {
        with_cache(1, |running, cache, told| {
            running.resolve("127.0.0.1:80");
            running.resolve("127.0.0.2:80");
            let refused = ("127.0.0.2:80".to_owned(), Some(Err(Unresolved::NoRoom)));
            assert_eq!(*told.borrow(), [refused]);
            assert_eq!(cache.stats.control().host_overflow.value(), 1);
        });
    }
}
