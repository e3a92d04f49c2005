use serde_json::json;

use super::*;
use crate::metadata::Metadata;
use crate::stats::{ClusterStats, Registry, Scope};
use crate::upstream::balance::{Balancer, LbContext, LbPolicy};
use crate::upstream::host::{Endpoint, HealthFlags, Host};
use crate::upstream::host_set::HostSet;
use crate::upstream::host_set::tests::host;

fn criteria(value: &Value) -> Criteria {
    let pairs = value.as_object().unwrap();
    Criteria::new(pairs.iter().map(|(key, value)| (key.clone(), value.clone())))
}

fn selector(keys: &[&str], fallback: Option<SelectorFallback>) -> Selector {
    Selector { keys: keys.iter().map(|&key| key.to_owned()).collect(), fallback }
}

fn rules(selectors: Vec<Selector>) -> SubsetRules {
    SubsetRules {
        fallback: Fallback::None,
        default_subset: Criteria::default(),
        selectors,
        list_as_any: false,
        panic_mode_any: false,
    }
}

/// A set of hosts with this metadata.
fn set(subsets: SubsetRules, hosts: &[Value]) -> HostSet {
    let hosts = (1..).zip(hosts).map(|(number, metadata)| {
        let plain = host(number, 0, 1, HealthFlags::EMPTY);
        let metadata = Arc::new(Metadata::new([("envoy.lb", metadata.clone())]));
        let endpoint = Endpoint { metadata, ..(*plain.endpoint).clone() };
        Host::new(plain.address, Arc::new(endpoint), 1)
    });
    let rules =
        DistributionRules { subsets: Some(Arc::new(subsets)), ..DistributionRules::default() };
    HostSet::new(hosts.collect(), &rules)
}

/// The hosts that a request with these criteria goes to.
fn hosts(set: &HostSet, wanted: &Value) -> Option<Vec<usize>> {
    let wanted = criteria(wanted);
    let division = match set.division(Some(&wanted)) {
        Found::Subset(division) | Found::Fallback(Some(division)) => division,
        Found::Fallback(None) | Found::Nothing => return None,
    };
    let candidates = &set.divisions()[division].candidates;
    Some(candidates.iter().flat_map(|it| &it.groups[0].hosts).map(|index| index + 1).collect())
}

#[test]
fn a_request_goes_to_the_hosts_with_its_values() {
    let set = set(
        rules(vec![selector(&["stage", "version"], None), selector(&["version"], None)]),
        &[
            json!({"version": "1", "stage": "prod"}),
            json!({"version": "2", "stage": "prod"}),
            json!({"version": "2", "stage": "test"}),
            json!({}),
        ],
    );
    assert_eq!(hosts(&set, &json!({"version": "2"})), Some(vec![2, 3]));
    assert_eq!(hosts(&set, &json!({"version": "2", "stage": "test"})), Some(vec![3]));
    assert_eq!(hosts(&set, &json!({"version": "3"})), None);
    assert_eq!(hosts(&set, &json!({"stage": "test"})), None, "no selector has this key alone");
    assert_eq!(hosts(&set, &json!({"version": 2})), None, "a number is no text");
}

#[test]
fn without_a_subset_the_fallback_applies() {
    let two = [json!({"v": "1"}), json!({"v": "2"})];
    let any =
        SubsetRules { fallback: Fallback::AnyEndpoint, ..rules(vec![selector(&["v"], None)]) };
    assert_eq!(hosts(&set(any.clone(), &two), &json!({"v": "3"})), Some(vec![1, 2]));
    assert_eq!(set(any, &two).division(None), Found::Fallback(Some(0)));
    let default = SubsetRules {
        fallback: Fallback::DefaultSubset,
        default_subset: criteria(&json!({"v": "2"})),
        ..rules(vec![selector(&["v"], None)])
    };
    assert_eq!(hosts(&set(default.clone(), &two), &json!({"v": "3"})), Some(vec![2]));
    let nobody = SubsetRules { default_subset: criteria(&json!({"v": "9"})), ..default };
    assert_eq!(hosts(&set(nobody.clone(), &two), &json!({"v": "3"})), None);
}

#[test]
fn where_a_fallback_has_no_host_any_may_be_used() {
    let nobody = SubsetRules {
        fallback: Fallback::DefaultSubset,
        default_subset: criteria(&json!({"v": "9"})),
        ..rules(vec![selector(&["v"], None)])
    };
    let pick = |rules: SubsetRules, stats: &Arc<Scope<ClusterStats>>| {
        let mut balancer = Balancer::new(LbPolicy::Random, Arc::clone(stats), 0, 1);
        balancer.update(Arc::new(set(rules, &[json!({"v": "1"})])), 0);
        let wanted = criteria(&json!({"v": "3"}));
        balancer.pick(&LbContext { subset: Some(&wanted), ..LbContext::default() }, 0)
    };
    let stats = Registry::new(1).scope("cluster.c.");
    assert_eq!(pick(nobody.clone(), &stats), None);
    assert_eq!(pick(SubsetRules { panic_mode_any: true, ..nobody }, &stats), Some(0));
    let stats = stats.shard(0);
    assert_eq!(
        (stats.lb_subsets_fallback.value(), stats.lb_subsets_fallback_panic.value()),
        (0, 1)
    );
}

#[test]
fn a_selector_may_have_a_fallback_of_its_own() {
    let hosts_of = [json!({"v": "1", "s": "a"}), json!({"v": "2", "s": "b"})];
    let none = Some(SelectorFallback::As(Fallback::None));
    let fewer = Some(SelectorFallback::Keys(vec!["v".to_owned()]));
    let rules = SubsetRules {
        fallback: Fallback::AnyEndpoint,
        ..rules(vec![selector(&["v"], none), selector(&["s", "v"], fewer)])
    };
    let set = set(rules, &hosts_of);
    assert_eq!(hosts(&set, &json!({"v": "3"})), None);
    assert_eq!(hosts(&set, &json!({"v": "2", "s": "a"})), Some(vec![2]), "by `v` alone");
    assert_eq!(hosts(&set, &json!({"x": "2"})), Some(vec![1, 2]), "the general one");
}

#[test]
fn a_list_counts_as_one_value_or_as_many() {
    let hosts_of = [json!({"v": ["1", "2"]}), json!({"v": "2"})];
    let as_one = rules(vec![selector(&["v"], None)]);
    let as_any = SubsetRules { list_as_any: true, ..as_one.clone() };
    assert_eq!(hosts(&set(as_one.clone(), &hosts_of), &json!({"v": "2"})), Some(vec![2]));
    assert_eq!(hosts(&set(as_one, &hosts_of), &json!({"v": ["1", "2"]})), Some(vec![1]));
    assert_eq!(hosts(&set(as_any, &hosts_of), &json!({"v": "2"})), Some(vec![1, 2]));
}
