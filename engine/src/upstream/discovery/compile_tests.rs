//! Tests of how discovery is compiled.

use serde_json::{Value, json};

use super::*;
use crate::upstream::cluster::Cluster;
use crate::upstream::compile::tests::{assignment, good, problem};

fn targets(cluster: &Cluster) -> (Semantics, Vec<(&str, &str)>) {
    let Discovery::Dns(dns) = &cluster.discovery else { panic!("not DNS") };
    assert!(dns.targets.iter().all(|target| target.port == 8000));
    let names = dns.targets.iter().map(|it| (&*it.name, &*it.endpoint.hostname)).collect();
    (dns.semantics, names)
}

#[test]
fn a_dns_cluster_looks_up_its_endpoints_name() {
    let cluster = good(json!({
        "name": "httpbin_service",
        "connect_timeout": {"secs": 5, "nanos": 0},
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "V4_ONLY",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": assignment(&["httpbin"]),
    }));
    assert_eq!(targets(&cluster), (Semantics::Logical, vec![("httpbin", "httpbin")]));
}

#[test]
fn a_static_cluster_needs_addresses() {
    let cluster = good(json!({"name": "a", "load_assignment": assignment(&["::1"])}));
    let Discovery::Static(hosts) = &cluster.discovery else { panic!("not static") };
    assert_eq!(hosts.hosts()[0].address.to_string(), "[::1]:8000");
    assert_eq!(hosts.hosts()[0].endpoint.hostname, "");

    assert_eq!(
        problem(json!({"name": "a", "load_assignment": assignment(&["localhost"])})),
        "clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address\
         .socket_address.address: malformed IP address: localhost. Consider setting \
         resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'"
    );
}

#[test]
fn a_logical_cluster_needs_one_endpoint() {
    let two = assignment(&["a", "b"]);
    assert_eq!(
        problem(json!({"name": "a", "type": "LOGICAL_DNS", "load_assignment": two})),
        "clusters[0].load_assignment: LOGICAL_DNS clusters must have a single \
         locality_lb_endpoint and a single lb_endpoint"
    );
    assert_eq!(
        problem(json!({"name": "a", "type": "LOGICAL_DNS"})),
        "clusters[0].load_assignment: LOGICAL_DNS clusters must have a single host"
    );
}

#[test]
fn the_dns_cluster_extension_means_the_same() {
    let dns = |options: Value| {
        good(json!({
            "name": "a",
            "cluster_type": {
                "name": "envoy.clusters.dns",
                "typed_config": {"envoy.extensions.clusters.dns.v3.DnsCluster": options},
            },
            "load_assignment": assignment(&["b"]),
        }))
    };
    let strict = dns(json!({"dns_refresh_rate": {"secs": 7, "nanos": 0}}));
    assert_eq!(targets(&strict), (Semantics::Strict, vec![("b", "b")]));
    let Discovery::Dns(dns_of_strict) = &strict.discovery else { panic!("not DNS") };
    assert_eq!(dns_of_strict.refresh.rate, Duration::from_secs(7));
    assert_eq!(dns_of_strict.lookup_family, LookupFamily::Auto);
    let logical = dns(json!({"all_addresses_in_single_endpoint": true}));
    assert_eq!(targets(&logical).0, Semantics::Logical);
}

#[test]
fn dns_fields_of_a_cluster_without_dns_are_a_warning() {
    assert_eq!(
        problem(json!({"name": "a", "respect_dns_ttl": true})),
        "clusters[0]: the dns_* fields have no effect: this cluster type does not use them"
    );
}

#[test]
fn the_family_all_needs_strict_dns() {
    let cluster = |kind| {
        json!({"name": "a", "type": kind, "dns_lookup_family": "ALL",
            "load_assignment": assignment(&["b"])})
    };
    good(cluster("STRICT_DNS"));
    assert_eq!(
        problem(cluster("LOGICAL_DNS")),
        "clusters[0].dns_lookup_family: ALL for LOGICAL_DNS is not implemented yet"
    );
}

#[test]
fn a_maximum_interval_below_the_base_is_an_error() {
    let rate = json!({"base_interval": {"secs": 5, "nanos": 0},
        "max_interval": {"secs": 1, "nanos": 0}});
    assert_eq!(
        problem(json!({"name": "a", "type": "STRICT_DNS", "dns_failure_refresh_rate": rate})),
        "clusters[0].dns_failure_refresh_rate: dns_failure_refresh_rate must have max_interval \
         greater than or equal to the base_interval"
    );
}
