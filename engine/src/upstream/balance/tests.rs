use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::stats::Registry;
use crate::upstream::host::{Endpoint, HealthFlags, Host, Locality};
use crate::upstream::host_set::DistributionRules;
use crate::upstream::host_set::tests::host;

const ROUND_ROBIN: LbPolicy = LbPolicy::RoundRobin(None);
const LEAST_REQUEST: LbPolicy = LbPolicy::LeastRequest(LeastRequest {
    selection: SelectionMethod::Choices(2),
    active_request_bias: 1.0,
    slow_start: None,
});
const EVERY: [LbPolicy; 3] = [ROUND_ROBIN, LbPolicy::Random, LEAST_REQUEST];

fn balancer(policy: LbPolicy, hosts: Arc<HostSet>, seed: u64) -> Balancer {
    let mut balancer = Balancer::new(policy, Registry::new(1).scope("cluster.c."), 0, seed);
    balancer.update(hosts, 0);
    balancer
}

fn pick(balancer: &mut Balancer) -> Option<usize> {
    balancer.pick(&LbContext::default(), 0)
}

fn hosts_of_weights(weights: &[u32]) -> Arc<HostSet> {
    let hosts = (1..).zip(weights).map(|(n, &weight)| host(n, 0, weight, HealthFlags::EMPTY));
    Arc::new(HostSet::new(hosts.collect(), &DistributionRules::default()))
}

fn picks(balancer: &mut Balancer, count: usize) -> HashMap<IpAddr, usize> {
    let mut picks = HashMap::new();
    for _ in 0..count {
        let host = pick(balancer).expect("a host");
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
        let mut balancer = balancer(policy, Arc::default(), 1);
        assert!(pick(&mut balancer).is_none());
    }
}

#[test]
fn without_healthy_hosts_and_panic_none_is_picked() {
    let rules = DistributionRules { healthy_panic_threshold: 0.0, ..DistributionRules::default() };
    let unhealthy = host(1, 0, 1, HealthFlags::FAILED_EDS_HEALTH);
    let hosts = Arc::new(HostSet::new(vec![unhealthy], &rules));
    for policy in EVERY {
        let mut balancer = balancer(policy, hosts.clone(), 1);
        assert!(pick(&mut balancer).is_none());
    }
}

#[test]
fn in_panic_unhealthy_hosts_are_picked_and_counted() {
    let unhealthy = host(1, 0, 1, HealthFlags::FAILED_EDS_HEALTH);
    let hosts = Arc::new(HostSet::new(vec![unhealthy], &DistributionRules::default()));
    let mut balancer = balancer(ROUND_ROBIN, hosts, 1);
    assert!(pick(&mut balancer).is_some());
    assert_eq!(balancer.stats.shard(0).lb_healthy_panic.value(), 1);
}

#[test]
fn in_panic_requests_fail_if_configured() {
    let rules = DistributionRules { fails_in_panic: true, ..DistributionRules::default() };
    let unhealthy = host(1, 0, 1, HealthFlags::FAILED_EDS_HEALTH);
    let hosts = Arc::new(HostSet::new(vec![unhealthy], &rules));
    for policy in EVERY {
        let mut balancer = balancer(policy, hosts.clone(), 1);
        assert!(pick(&mut balancer).is_none());
        assert_eq!(balancer.stats.shard(0).lb_healthy_panic.value(), 1);
    }
}

#[test]
fn shards_start_at_different_hosts() {
    let hosts = hosts_of_weights(&[1; 8]);
    let first = |seed| {
        let mut balancer = balancer(ROUND_ROBIN, hosts.clone(), seed);
        pick(&mut balancer)
    };
    assert!((1..20).any(|seed| first(seed) != first(0)));
}

#[test]
fn a_new_host_set_is_used_immediately() {
    let mut balancer = balancer(ROUND_ROBIN, hosts_of_weights(&[1, 1, 1]), 1);
    picks(&mut balancer, 2);
    balancer.update(hosts_of_weights(&[1]), 0);
    assert_eq!(picks(&mut balancer, 3), HashMap::from([(of(1), 3)]));
}

#[test]
fn the_busier_of_two_hosts_gets_fewer_requests() {
    let hosts = hosts_of_weights(&[1, 1]);
    hosts.hosts()[0].stats().shard(0).rq_active.add(5);
    let picks = picks(&mut balancer(LEAST_REQUEST, hosts, 1), 1000);
    // The busy host is picked only if it is drawn twice: one time in four.
    assert!((180..320).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn a_busy_host_gets_less_than_its_weight() {
    let hosts = hosts_of_weights(&[2, 1]);
    hosts.hosts()[0].stats().shard(0).rq_active.add(9);
    let picks = picks(&mut balancer(LEAST_REQUEST, hosts, 1), 1000);
    // 2/(9+1) against 1.
    assert!((150..180).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn requests_of_other_shards_count_too() {
    let endpoint = host(1, 0, 1, HealthFlags::EMPTY).endpoint.clone();
    let two_shards = |n| Host::new(([127, 0, 0, n], 80).into(), endpoint.clone(), 2);
    let hosts = HostSet::new(vec![two_shards(1), two_shards(2)], &DistributionRules::default());
    hosts.hosts()[0].stats().shard(1).rq_active.add(5);
    let picks = picks(&mut balancer(LEAST_REQUEST, Arc::new(hosts), 1), 1000);
    assert!((180..320).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn the_second_priority_gets_its_percentage() {
    let flags =
        |unhealthy| if unhealthy { HealthFlags::FAILED_EDS_HEALTH } else { HealthFlags::EMPTY };
    // One of two: 140 * 1/2 = 70 percent.
    let first = [host(1, 0, 1, flags(false)), host(2, 0, 1, flags(true))];
    let hosts: Vec<_> = first.into_iter().chain([host(3, 1, 1, flags(false))]).collect();
    let hosts = Arc::new(HostSet::new(hosts, &DistributionRules::default()));
    let picks = picks(&mut balancer(ROUND_ROBIN, hosts, 1), 10_000);
    assert_eq!(picks.len(), 2);
    assert!((6_800..7_200).contains(&picks[&of(1)]), "{picks:?}");
}

#[test]
fn a_full_scan_finds_the_idle_host_among_many() {
    let hosts = hosts_of_weights(&[1; 20]);
    for (place, host) in hosts.hosts().iter().enumerate() {
        host.stats().shard(0).rq_active.add(if place == 13 { 1 } else { 2 });
    }
    let policy = LeastRequest { selection: SelectionMethod::FullScan, ..LeastRequest::default() };
    let picks = picks(&mut balancer(LbPolicy::LeastRequest(policy), hosts, 1), 100);
    assert_eq!(picks, HashMap::from([(of(14), 100)]));
}

#[test]
fn a_new_host_gets_its_share_step_by_step() {
    let slow_start = SlowStart { window_ms: 10_000, aggression: 1.0, weight_min: 0.1 };
    let hosts = hosts_of_weights(&[1, 1]);
    hosts.hosts()[0].set_serves_since(20_000);
    hosts.hosts()[1].set_serves_since(1);
    let policies = [ROUND_ROBIN, LEAST_REQUEST].map(|policy| with_slow_start(policy, slow_start));
    for policy in policies {
        let mut balancer = balancer(policy, Arc::default(), 1);
        balancer.update(hosts.clone(), 21_000);
        let mut share = |now| {
            let chosen = (0..1_100).filter_map(|_| balancer.pick(&LbContext::default(), now));
            chosen.filter(|host| *host == 0).count()
        };
        assert!((90..=110).contains(&share(21_000)), "a tenth of the weight");
        assert!((340..=390).contains(&share(25_000)), "half of the weight");
        assert!((540..=560).contains(&share(30_000)), "all of it");
    }
}

fn with_slow_start(policy: LbPolicy, slow_start: SlowStart) -> LbPolicy {
    match policy {
        LbPolicy::LeastRequest(policy) => {
            LbPolicy::LeastRequest(LeastRequest { slow_start: Some(slow_start), ..policy })
        }
        _ => LbPolicy::RoundRobin(Some(slow_start)),
    }
}

#[test]
fn localities_get_traffic_by_weight_and_health() {
    // (number, zone, weight of the zone, flags)
    let located = |number, zone: &str, weight, flags| {
        let plain = host(number, 0, 1, flags);
        let locality = Locality { zone: zone.to_owned(), ..Locality::default() };
        let endpoint = Endpoint { locality, locality_weight: weight, ..(*plain.endpoint).clone() };
        Host::new(plain.address, Arc::new(endpoint), 1)
    };
    let (well, ill) = (HealthFlags::EMPTY, HealthFlags::FAILED_EDS_HEALTH);
    let rules = DistributionRules { weighs_localities: true, ..DistributionRules::default() };
    let set = |hosts| Arc::new(HostSet::new(hosts, &rules));

    // One host in a, three in b.
    let mut hosts = vec![located(1, "a", 3, well)];
    hosts.extend((2..=4).map(|number| located(number, "b", 1, well)));
    let all_well = picks(&mut balancer(ROUND_ROBIN, set(hosts.clone()), 1), 4_000);
    assert!((2_995..=3_005).contains(&all_well[&of(1)]), "{all_well:?}");

    // Half of a is ill: it keeps 70 % of its weight, 2.1 against 1.
    hosts.push(located(5, "a", 3, ill));
    let half_ill = picks(&mut balancer(ROUND_ROBIN, set(hosts), 1), 3_100);
    assert!((2_095..=2_105).contains(&half_ill[&of(1)]), "{half_ill:?}");

    // Without weights there is no distribution by locality.
    let unweighted =
        vec![located(1, "a", 0, well), located(2, "b", 0, well), located(3, "b", 0, well)];
    let even = picks(&mut balancer(ROUND_ROBIN, set(unweighted), 1), 300);
    assert_eq!(even[&of(1)], 100);
}

proptest! {
    #[test]
    fn round_robin_visits_every_host_once_a_round(
        count in 1..50usize, rounds in 1..5usize, seed: u64,
    ) {
        let hosts = hosts_of_weights(&vec![1; count]);
        let mut balancer = balancer(ROUND_ROBIN, hosts, seed);
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
        let mut balancer = balancer(ROUND_ROBIN, hosts_of_weights(&weights), seed);
        let picks = picks(&mut balancer, (all * rounds) as usize);
        for (number, weight) in (1..).zip(&weights) {
            let share = f64::from(weight * rounds);
            let picked = picks.get(&of(number)).copied().unwrap_or(0) as f64;
            prop_assert!((picked - share).abs() <= weights.len() as f64, "{picked} of {share}");
        }
    }

    #[test]
    fn idle_hosts_of_equal_weight_are_picked_equally(policy in prop::sample::select(EVERY.to_vec()), seed: u64) {
        let mut balancer = balancer(policy, hosts_of_weights(&[1; 4]), seed);
        let picks = picks(&mut balancer, 4_000);
        for number in 1..=4 {
            prop_assert!((800..1_200).contains(&picks[&of(number)]), "{:?}", picks);
        }
    }
}
