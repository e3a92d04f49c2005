use proptest::prelude::*;

use super::*;
use crate::upstream::health_check::EndpointCheck;
use crate::upstream::host::{Endpoint, HealthFlags, Locality};
use crate::upstream::override_host::HealthStatus;
use crate::upstream::transport_socket::TransportSocket;

/// A host on 127.0.0.`number` for tests of one shard.
pub(crate) fn host(number: u8, priority: u32, weight: u32, flags: HealthFlags) -> Arc<Host> {
    let endpoint = Endpoint {
        hostname: String::new(),
        weight,
        priority,
        locality: Locality::default(),
        locality_weight: 0,
        check: EndpointCheck::default(),
        health_flags: flags,
        health_status: HealthStatus::default(),
        transport_socket: TransportSocket::plain(),
        metadata: Arc::default(),
    };
    Host::new(([127, 0, 0, number], 80).into(), Arc::new(endpoint), 1)
}

const HEALTHY: HealthFlags = HealthFlags::EMPTY;
const UNHEALTHY: HealthFlags = HealthFlags::FAILED_EDS_HEALTH;
const DEGRADED: HealthFlags = HealthFlags::DEGRADED_EDS_HEALTH;

/// The loads of hosts given as (priority, flags), as (number of hosts, load, in panic).
fn loads(hosts: &[(u32, HealthFlags)], rules: &DistributionRules) -> Vec<(usize, u32, bool)> {
    let hosts = (1..).zip(hosts).map(|(n, &(priority, flags))| host(n, priority, 1, flags));
    let set = HostSet::new(hosts.collect(), rules);
    let line = |it: &Candidates| (it.groups[0].hosts.len(), it.load, it.in_panic);
    set.divisions()[0].candidates.iter().filter(|it| it.load > 0).map(line).collect()
}

fn never_panic() -> DistributionRules {
    DistributionRules { healthy_panic_threshold: 0.0, ..DistributionRules::default() }
}

#[test]
fn a_cluster_without_hosts_is_in_panic() {
    assert_eq!(loads(&[], &DistributionRules::default()), [(0, 100, true)]);
    assert_eq!(loads(&[], &never_panic()), [(0, 100, false)]);
}

#[test]
fn the_first_priority_gets_all_traffic_that_it_can_carry() {
    // Two of three: 140 * 2/3 = 93.
    let hosts = [(0, HEALTHY), (0, HEALTHY), (0, UNHEALTHY), (1, HEALTHY)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(2, 93, false), (1, 7, false)]);
    // Three of four carry everything.
    let hosts = [(0, HEALTHY), (0, HEALTHY), (0, HEALTHY), (0, UNHEALTHY), (1, HEALTHY)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(3, 100, false)]);
}

#[test]
fn degraded_hosts_get_the_traffic_that_healthy_ones_cannot_carry() {
    let hosts = [(0, HEALTHY), (0, DEGRADED), (0, DEGRADED), (0, DEGRADED)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(1, 35, false), (3, 65, false)]);
}

#[test]
fn one_healthy_host_of_three_is_panic() {
    let hosts = [(0, HEALTHY), (0, UNHEALTHY), (0, UNHEALTHY)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(3, 100, true)]);
    assert_eq!(loads(&hosts, &never_panic()), [(1, 100, false)]);
}

#[test]
fn an_unhealthy_cluster_without_panic_has_no_candidates() {
    assert_eq!(loads(&[(0, UNHEALTHY)], &never_panic()), [(0, 100, false)]);
}

#[test]
fn in_total_panic_load_follows_the_number_of_hosts() {
    let hosts = [(0, UNHEALTHY), (1, UNHEALTHY), (1, UNHEALTHY)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(1, 34, true), (2, 66, true)]);
}

#[test]
fn a_priority_without_hosts_is_skipped() {
    assert_eq!(loads(&[(3, HEALTHY)], &DistributionRules::default()), [(1, 100, false)]);
}

/// What Envoy 1.40 did with a thousand requests to clusters like these.
#[test]
fn traffic_is_distributed_as_by_envoy() {
    let draining = HealthFlags::EDS_STATUS_DRAINING;
    let half_healthy = [
        (0, HEALTHY),
        (0, HEALTHY),
        (0, draining),
        (0, UNHEALTHY),
        (0, DEGRADED),
        (0, UNHEALTHY),
        (1, HEALTHY),
    ];
    assert_eq!(
        loads(&half_healthy, &DistributionRules::default()),
        [(2, 56, false), (1, 44, false)]
    );
    let lower_priorities = [(0, UNHEALTHY), (2, HEALTHY), (2, UNHEALTHY), (3, DEGRADED)];
    assert_eq!(
        loads(&lower_priorities, &DistributionRules::default()),
        [(1, 70, false), (1, 30, false)]
    );
    let all_draining = [(0, draining), (0, draining)];
    assert_eq!(loads(&all_draining, &DistributionRules::default()), [(2, 100, true)]);
    let no_panic = [(0, UNHEALTHY), (0, HEALTHY), (1, UNHEALTHY)];
    assert_eq!(loads(&no_panic, &never_panic()), [(1, 100, false)]);
}

#[test]
fn draining_hosts_do_not_count_as_unhealthy() {
    let hosts = [(0, HEALTHY), (0, HealthFlags::EDS_STATUS_DRAINING)];
    assert_eq!(loads(&hosts, &DistributionRules::default()), [(1, 100, false)]);
}

#[test]
fn health_is_by_weight_if_configured() {
    let hosts = vec![host(1, 0, 9, HEALTHY), host(2, 0, 1, UNHEALTHY), host(3, 1, 1, HEALTHY)];
    let by_number = HostSet::new(hosts.clone(), &DistributionRules::default());
    assert_eq!(by_number.divisions()[0].candidates[0].load, 70);
    let rules =
        DistributionRules { weighted_priority_health: true, ..DistributionRules::default() };
    assert_eq!(HostSet::new(hosts, &rules).divisions()[0].candidates[0].load, 100);
}

proptest! {
    #[test]
    fn the_loads_add_up_to_100_percent(
        hosts in prop::collection::vec(
            (
                0..4u32,
                prop::sample::select(vec![
                    HEALTHY, UNHEALTHY, DEGRADED, HealthFlags::EDS_STATUS_DRAINING,
                ]),
            ),
            1..40,
        ),
        healthy_panic_threshold in prop::sample::select(vec![0.0, 50.0, 100.0]),
    ) {
        let rules = DistributionRules { healthy_panic_threshold, ..DistributionRules::default() };
        let loads = loads(&hosts, &rules);
        prop_assert_eq!(loads.iter().map(|load| load.1).sum::<u32>(), 100);
        let available = hosts.iter().any(|host| host.1 == HEALTHY || host.1 == DEGRADED);
        prop_assert!(!available || loads.iter().all(|load| load.0 > 0), "{:?}", loads);
    }
}
