use std::sync::Arc;

use super::*;
use crate::hash::xxh64;
use crate::upstream::host::HealthFlags;
use crate::upstream::host_set::tests::host;

const RING: Ring =
    Ring { size_min: 1024, size_max: 8 * 1024 * 1024, hash_function: HashFunction::XxHash };

fn rule(kind: TableKind) -> TableRule {
    TableRule { kind, uses_hostname: false, balance_factor: None }
}

/// A table of hosts with these weights.
fn table(rule: &TableRule, weights: &[u32]) -> Table {
    let hosts: Vec<Arc<Host>> =
        (1..).zip(weights).map(|(n, &weight)| host(n, 0, weight, HealthFlags::EMPTY)).collect();
    let total = f64::from(weights.iter().sum::<u32>());
    let share = |(index, host): (usize, _)| {
        let weight = f64::from(weights[index]) / total;
        Share { index, host, weight }
    };
    let shares: Vec<_> = hosts.iter().enumerate().map(share).collect();
    Table::new(rule, &shares).unwrap()
}

/// The host of each of 2,000 keys.
fn hosts_of_keys(table: &Table) -> Vec<usize> {
    let hash = |key: u32| xxh64(format!("key-{key}").as_bytes());
    (0..2_000).map(|key| table.host(hash(key), 0).unwrap()).collect()
}

#[test]
fn without_hosts_there_is_no_table() {
    assert!(Table::new(&rule(TableKind::Ring(RING)), &[]).is_none());
}

#[test]
fn the_sizes_of_a_ring_follow_from_weights_and_limits() {
    let sizes = |size_min, size_max, weights: &[u32]| {
        let ring = Ring { size_min, size_max, ..RING };
        let sizes = table(&rule(TableKind::Ring(ring)), weights).sizes;
        (sizes.entries, sizes.min_per_host, sizes.max_per_host)
    };
    assert_eq!(sizes(1024, 8_388_608, &[1, 1]), (1024, 512, 512));
    assert_eq!(sizes(10, 8_388_608, &[1, 1, 1]), (12, 4, 4), "whole numbers for the least");
    assert_eq!(sizes(12, 8_388_608, &[1, 2]), (12, 4, 8));
    assert_eq!(sizes(1024, 10, &[1, 1]), (10, 5, 5), "no more than the maximum");
}

#[test]
fn a_maglev_table_is_shared_by_weight() {
    let maglev = rule(TableKind::Maglev(Maglev { size: 65_537 }));
    let sizes = table(&maglev, &[1, 1, 1]).sizes;
    assert_eq!((sizes.entries, sizes.min_per_host, sizes.max_per_host), (65_537, 21_845, 21_846));
    let sizes = table(&maglev, &[1, 3]).sizes;
    assert!((16_383..=16_385).contains(&sizes.min_per_host), "{sizes:?}");
}

#[test]
fn few_keys_move_when_a_host_goes() {
    for kind in [TableKind::Ring(RING), TableKind::Maglev(Maglev { size: 65_537 })] {
        let all = hosts_of_keys(&table(&rule(kind), &[1; 10]));
        let nine = hosts_of_keys(&table(&rule(kind), &[1; 9]));
        let pairs = || all.iter().zip(&nine);
        assert!(pairs().all(|(_, after)| *after < 9));
        let moved = pairs().filter(|(before, after)| **before < 9 && before != after).count();
        assert!(moved < 400, "{kind:?}: {moved} of 2000");
    }
}

#[test]
fn a_refused_host_is_replaced_by_another_place() {
    for kind in [TableKind::Ring(RING), TableKind::Maglev(Maglev { size: 65_537 })] {
        let table = table(&rule(kind), &[1; 10]);
        let other = (0..200).filter(|&hash: &u64| {
            let hash = xxh64(&hash.to_le_bytes());
            table.host(hash, 0) != table.host(hash, 1)
        });
        assert!(other.count() > 150);
    }
}

#[test]
fn a_host_with_too_many_requests_is_passed_over() {
    let bounded =
        TableRule { balance_factor: Some(150), ..rule(TableKind::Maglev(Maglev { size: 11 })) };
    let table = table(&bounded, &[1; 4]);
    let bound = table.bounded_load.as_ref().unwrap();
    // 4 active requests in all: each host may have ceil(ceil(5 * 1.5) / 4) = 2.
    let settle = |loads: [u64; 4]| bound.settle(1, 7, 4, |host| loads[host]);
    assert_eq!(settle([0, 2, 2, 0]), 1, "not above its share");
    let chosen = settle([3, 3, 3, 1]);
    assert_eq!(chosen, 3, "the only one below its share");
    assert_eq!(settle([9, 5, 9, 4]), 3, "the one that exceeds its share the least");
}

/// What Envoy 1.40 did with 200 keys, for each of several clusters. A line is the options and the weights of
/// hosts on 127.0.0.1 from port 25001 on, then the port of each key from `key-0` on, less 25001.
#[test]
fn keys_go_to_the_hosts_that_envoy_chooses() {
    for line in include_str!("envoy.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let kind = kind(words.next().unwrap());
        let weights: Vec<u32> =
            words.next().unwrap().split(',').map(|it| it.parse().unwrap()).collect();
        let hosts: Vec<Arc<Host>> = (25_001..)
            .zip(&weights)
            .map(|(port, _)| {
                let endpoint = host(1, 0, 1, HealthFlags::EMPTY).endpoint.clone();
                Host::new(([127, 0, 0, 1], port).into(), endpoint, 1)
            })
            .collect();
        let total = f64::from(weights.iter().sum::<u32>());
        let shares: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| Share { index, host, weight: f64::from(weights[index]) / total })
            .collect();
        let table = Table::new(&rule(kind), &shares).unwrap();
        for (key, expected) in words.enumerate() {
            let hash = xxh64(format!("key-{key}").as_bytes());
            assert_eq!(table.host(hash, 0), expected.parse().ok(), "{kind:?} {weights:?} {key}");
        }
    }
}

/// `ring:MIN:MAX`, `murmur:MIN:MAX` or `maglev:SIZE`.
fn kind(word: &str) -> TableKind {
    let parts: Vec<&str> = word.split(':').collect();
    let number = |at: usize| parts[at].parse().unwrap();
    match parts[0] {
        "maglev" => TableKind::Maglev(Maglev { size: number(1) }),
        name => {
            let hash_function =
                if name == "ring" { HashFunction::XxHash } else { HashFunction::MurmurHash2 };
            TableKind::Ring(Ring { size_min: number(1), size_max: number(2), hash_function })
        }
    }
}
