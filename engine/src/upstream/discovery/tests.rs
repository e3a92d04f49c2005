use super::*;
use crate::upstream::health_check::EndpointCheck;
use crate::upstream::host::{HealthFlags, Locality};
use crate::upstream::override_host::HealthStatus;
use crate::upstream::transport_socket::TransportSocket;

fn dns(semantics: Semantics, names: &[&str]) -> Dns {
    let endpoint = |name: &str| Endpoint {
        hostname: name.to_owned(),
        weight: 2,
        priority: 0,
        locality: Locality::default(),
        locality_weight: 0,
        check: EndpointCheck::default(),
        health_flags: HealthFlags::EMPTY,
        health_status: HealthStatus::default(),
        transport_socket: TransportSocket::plain(),
        metadata: Arc::default(),
    };
    let target = |name: &&str| Target {
        name: (*name).to_owned(),
        port: 80,
        endpoint: Arc::new(endpoint(name)),
    };
    Dns {
        semantics,
        targets: names.iter().map(target).collect(),
        lookup_family: LookupFamily::V4Only,
        refresh: Refresh::default(),
        resolver: None,
    }
}

/// A cluster and the answers of its lookups.
struct Story {
    dns: Dns,
    hosts: DnsHosts,
    stats: ClusterStats,
}

impl Story {
    fn of(semantics: Semantics, names: &[&str]) -> Self {
        let dns = dns(semantics, names);
        Self { hosts: dns.hosts(1), dns, stats: ClusterStats::default() }
    }

    fn answer(&mut self, target: usize, last_bytes: &[u8]) -> Outcome {
        let address = |n: &u8| IpAddr::from([127, 0, 0, *n]);
        let addresses = last_bytes.iter().map(address).collect();
        let answer = Answer { addresses, ttl: Duration::ZERO };
        self.hosts.update(&self.dns, target, Ok(&answer), &self.stats)
    }

    fn failure(&mut self, target: usize) -> Outcome {
        self.hosts.update(&self.dns, target, Err(LookupFailed), &self.stats)
    }

    fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.all()
    }

    fn addresses(&self) -> Vec<String> {
        self.hosts().iter().map(|host| host.address.to_string()).collect()
    }
}

#[test]
fn strict_every_address_is_a_host_once() {
    let mut story = Story::of(Semantics::Strict, &["a"]);
    assert_eq!(story.answer(0, &[1, 2, 1]), Outcome::Changed);
    assert_eq!(story.addresses(), ["127.0.0.1:80", "127.0.0.2:80"]);
    assert!(story.hosts().iter().all(|host| host.endpoint.hostname == "a"));
    assert_eq!(story.stats.max_host_weight.value(), 2);
}

#[test]
fn strict_an_empty_answer_removes_the_hosts_and_a_failure_does_not() {
    let mut story = Story::of(Semantics::Strict, &["a"]);
    story.answer(0, &[1]);
    assert_eq!(story.failure(0), Outcome::Failed);
    assert_eq!(story.addresses(), ["127.0.0.1:80"]);
    assert_eq!(story.answer(0, &[]), Outcome::Changed);
    assert!(story.hosts().is_empty());
    assert_eq!(story.answer(0, &[]), Outcome::Same);
}

#[test]
fn strict_a_host_that_stays_is_the_same_host() {
    let mut story = Story::of(Semantics::Strict, &["a"]);
    story.answer(0, &[1, 2]);
    let before = story.hosts();
    story.answer(0, &[3, 2]);
    let after = story.hosts();
    assert_eq!(story.addresses(), ["127.0.0.3:80", "127.0.0.2:80"]);
    assert!(Arc::ptr_eq(&before[1], &after[1]));
}

#[test]
fn strict_another_order_is_not_a_change() {
    let mut story = Story::of(Semantics::Strict, &["a"]);
    story.answer(0, &[1, 2, 3]);
    assert_eq!(story.answer(0, &[3, 1, 2]), Outcome::Same);
    assert_eq!(story.stats.update_no_rebuild.value(), 1);
    assert_eq!(story.stats.membership_change.value(), 1);
}

#[test]
fn strict_two_names_with_one_address_are_two_hosts() {
    let mut story = Story::of(Semantics::Strict, &["a", "b"]);
    story.answer(0, &[1]);
    story.answer(1, &[1]);
    assert_eq!(story.addresses(), ["127.0.0.1:80", "127.0.0.1:80"]);
    story.answer(0, &[]);
    assert_eq!(story.hosts()[0].endpoint.hostname, "b");
}

#[test]
fn logical_takes_the_first_address() {
    let mut story = Story::of(Semantics::Logical, &["a"]);
    assert_eq!(story.answer(0, &[1, 2]), Outcome::Changed);
    assert_eq!(story.addresses(), ["127.0.0.1:80"]);
    assert_eq!(story.answer(0, &[1, 3]), Outcome::Same);
    assert_eq!(story.answer(0, &[2, 1]), Outcome::Changed);
    assert_eq!(story.addresses(), ["127.0.0.2:80"]);
    assert_eq!(story.stats.membership_change.value(), 2);
}

#[test]
fn logical_an_empty_answer_is_a_failure() {
    let mut story = Story::of(Semantics::Logical, &["a"]);
    story.answer(0, &[1]);
    assert_eq!(story.answer(0, &[]), Outcome::Failed);
    assert_eq!(story.failure(0), Outcome::Failed);
    assert_eq!(story.addresses(), ["127.0.0.1:80"]);
    assert_eq!(story.stats.update_failure.value(), 2);
    assert_eq!(story.stats.update_success.value(), 1);
}

#[test]
fn a_thousand_addresses_are_a_thousand_hosts() {
    let mut story = Story::of(Semantics::Strict, &["a"]);
    let addresses = (0..1000u16).map(ten);
    let answer = Answer { addresses: addresses.collect(), ttl: Duration::ZERO };
    story.hosts.update(&story.dns, 0, Ok(&answer), &story.stats);
    assert_eq!(story.hosts().len(), 1000);
}

/// One of many addresses.
fn ten(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    [10, 0, high, low].into()
}
