use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::upstream::host::HealthFlags;
use crate::upstream::host_set::HealthRules;
use crate::upstream::host_set::tests::host;

const LEAST_REQUEST: LbPolicy =
    LbPolicy::LeastRequest(LeastRequest { choice_count: 2, active_request_bias: 1.0 });
const EVERY: [LbPolicy; 3] = [LbPolicy::RoundRobin, LbPolicy::Random, LEAST_REQUEST];

fn hosts_of_weights(weights: &[u32]) -> Arc<HostSet> {
    let hosts = (1..).zip(weights).map(|(n, &weight)| host(n, 0, weight, HealthFlags::EMPTY));
    Arc::new(HostSet::new(hosts.collect(), &HealthRules::default()))
}

fn picks(balancer: &mut Balancer, count: usize) -> HashMap<IpAddr, usize> {
    let stats = ClusterStats::default();
    let mut picks = HashMap::new();
    for _ in 0..count {
        let host = balancer.pick(&stats).expect("a host");
        let host = &balancer.hosts().hosts()[host];
        *picks.entry(host.address.ip().unwrap()).or_insert(0) += 1;
    }
    picks
}

fn of(number: u8) -> IpAddr {
    [127, 0, 0, number].into()
}

#[test]
fn without_hosts_none_is_picked() {
    for policy in EVERY {
        let mut balancer = Balancer::new(policy, Arc::default(), 0, 1);
        assert!(balancer.pick(&ClusterStats::default()).is_none());
    }
}

#[test]
fn without_healthy_hosts_and_panic_none_is_picked() {
    let rules = HealthRules { healthy_panic_threshold: 0.0, ..HealthRules::default() };
    let unhealthy = host(1, 0, 1, HealthFlags::FAILED_EDS_HEALTH);
    let hosts = Arc::new(HostSet::new(vec![unhealthy], &rules));
    for policy in EVERY {
        let mut balancer = Balancer::new(policy, hosts.clone(), 0, 1);
        assert!(balancer.pick(&ClusterStats::default()).is_none());
    }
}

#[test]
fn in_panic_unhealthy_hosts_are_picked_and_counted() {
    let unhealthy = host(1, 0, 1, HealthFlags::FAILED_EDS_HEALTH);
    let hosts = Arc::new(HostSet::new(vec![unhealthy], &HealthRules::default()));
    let stats = ClusterStats::default();
    let mut balancer = Balancer::new(LbPolicy::RoundRobin, hosts, 0, 1);
    assert!(balancer.pick(&stats).is_some());
    assert_eq!(stats.lb_healthy_panic.value(), 1);
}

#[test]
fn shards_start_at_different_hosts() {
    let hosts = hosts_of_weights(&[1; 8]);
    let stats = ClusterStats::default();
    let first = |seed| {
        let mut balancer = Balancer::new(LbPolicy::RoundRobin, hosts.clone(), 0, seed);
        balancer.pick(&stats)
    };
    assert!((1..20).any(|seed| first(seed) != first(0)));
}

#[test]
fn a_new_host_set_is_used_immediately() {
    let mut balancer = Balancer::new(LbPolicy::RoundRobin, hosts_of_weights(&[1, 1, 1]), 0, 1);
    picks(&mut balancer, 2);
    balancer.update(hosts_of_weights(&[1]));
    assert_eq!(picks(&mut balancer, 3), HashMap::from([(of(1), 3)]));
}

#[test]
fn the_busier_of_two_hosts_gets_fewer_requests() {
    let hosts = hosts_of_weights(&[1, 1]);
    hosts.hosts()[0].stats.shard(0).rq_active.add(5);
    let picks = picks(&mut Balancer::new(LEAST_REQUEST, hosts, 0, 1), 1000);
    // The busy host is picked only if it is drawn twice: one time in four.
    assert!((180..320).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn a_busy_host_gets_less_than_its_weight() {
    let hosts = hosts_of_weights(&[2, 1]);
    hosts.hosts()[0].stats.shard(0).rq_active.add(9);
    let picks = picks(&mut Balancer::new(LEAST_REQUEST, hosts, 0, 1), 1000);
    // 2/(9+1) against 1.
    assert!((150..180).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn requests_of_other_shards_do_not_count() {
    let endpoint = host(1, 0, 1, HealthFlags::EMPTY).endpoint.clone();
    let two_shards = |n| Host::new(([127, 0, 0, n], 80).into(), endpoint.clone(), 2);
    let hosts = HostSet::new(vec![two_shards(1), two_shards(2)], &HealthRules::default());
    hosts.hosts()[0].stats.shard(1).rq_active.add(5);
    let picks = picks(&mut Balancer::new(LEAST_REQUEST, Arc::new(hosts), 0, 1), 1000);
    assert!(picks[&of(1)] > 400, "{picks:?}");
}

#[test]
fn the_second_priority_gets_its_percentage() {
    let flags =
        |unhealthy| if unhealthy { HealthFlags::FAILED_EDS_HEALTH } else { HealthFlags::EMPTY };
    // One of two: 140 * 1/2 = 70 percent.
    let first = [host(1, 0, 1, flags(false)), host(2, 0, 1, flags(true))];
    let hosts: Vec<_> = first.into_iter().chain([host(3, 1, 1, flags(false))]).collect();
    let hosts = Arc::new(HostSet::new(hosts, &HealthRules::default()));
    let picks = picks(&mut Balancer::new(LbPolicy::RoundRobin, hosts, 0, 1), 10_000);
    assert_eq!(picks.len(), 2);
    assert!((6_800..7_200).contains(&picks[&of(1)]), "{picks:?}");
}

proptest! {
    #[test]
    fn round_robin_visits_every_host_once_a_round(
        count in 1..50usize, rounds in 1..5usize, seed: u64,
    ) {
        let hosts = hosts_of_weights(&vec![1; count]);
        let mut balancer = Balancer::new(LbPolicy::RoundRobin, hosts, 0, seed);
        for _ in 0..rounds {
            let round = picks(&mut balancer, count);
            prop_assert_eq!(round.len(), count);
        }
    }

    #[test]
    fn round_robin_by_weight_is_never_far_from_its_share(
        weights in prop::collection::vec(1..20u32, 2..12), rounds in 1..10u32, seed: u64,
    ) {
        let all: u32 = weights.iter().sum();
        let mut balancer = Balancer::new(LbPolicy::RoundRobin, hosts_of_weights(&weights), 0, seed);
        let picks = picks(&mut balancer, (all * rounds) as usize);
        for (number, weight) in (1..).zip(&weights) {
            let share = f64::from(weight * rounds);
            let picked = picks.get(&of(number)).copied().unwrap_or(0) as f64;
            prop_assert!((picked - share).abs() <= weights.len() as f64, "{picked} of {share}");
        }
    }

    #[test]
    fn idle_hosts_of_equal_weight_are_picked_equally(policy in prop::sample::select(EVERY.to_vec()), seed: u64) {
        let mut balancer = Balancer::new(policy, hosts_of_weights(&[1; 4]), 0, seed);
        let picks = picks(&mut balancer, 4_000);
        for number in 1..=4 {
            prop_assert!((800..1_200).contains(&picks[&of(number)]), "{:?}", picks);
        }
    }
}
