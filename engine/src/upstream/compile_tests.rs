//! Clusters as they are compiled, and what is wrong with others.

use serde_json::{Value, json};

use super::*;
use crate::upstream::auto_sni::AutoSni;
use crate::upstream::balance::LbPolicy;
use crate::upstream::circuit_breaker::RoutingPriority;
use crate::upstream::cluster::HttpProtocolOptions;
use crate::upstream::discovery::Discovery;
use crate::upstream::dns_cache::compile::DnsCaches;

/// The compiled clusters, and their problems as `path: message`.
fn compiled(schemas: Value) -> (Vec<Arc<Cluster>>, Vec<String>) {
    let schemas: Vec<config::Cluster> = serde_json::from_value(schemas).unwrap();
    let mut problems = Problems::default();
    let at = Path::root().field("clusters");
    let here = Locality { zone: "here".to_owned(), ..Locality::default() };
    let numbers = Numbers::default();
    let dns_caches = &DnsCaches::default();
    let node = Surroundings { locality: &here, manager: None, numbers: &numbers, dns_caches };
    let tls = tls::compile::Secrets::new(&[], 1, true);
    let registry = Registry::new(1);
    let compile = |(i, schema): (usize, &config::Cluster)| {
        Arc::new(cluster(schema, &at.index(i), &node, &registry, &tls, &mut problems))
    };
    let clusters = schemas.iter().enumerate().map(compile).collect();
    let problem = |it: &config::Problem| format!("{}: {}", it.path, it.message);
    (clusters, problems.iter().map(problem).collect())
}

pub(in crate::upstream) fn good(schema: Value) -> Arc<Cluster> {
    let (mut clusters, problems) = compiled(Value::Array(vec![schema]));
    assert_eq!(problems, [""; 0]);
    clusters.remove(0)
}

pub(in crate::upstream) fn problem(schema: Value) -> String {
    let (_, mut problems) = compiled(Value::Array(vec![schema]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

pub(in crate::upstream) fn assignment(addresses: &[&str]) -> Value {
    let endpoint = |address: &&str| {
        json!({"endpoint": {"address": {"socket_address":
            {"address": address, "port_value": 8000}}}})
    };
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({"cluster_name": "x", "endpoints": [{"lb_endpoints": endpoints}]})
}

fn typed_http(options: &Value) -> Value {
    json!({HTTP_PROTOCOL_OPTIONS: {HTTP_PROTOCOL_OPTIONS: options}})
}

#[test]
fn a_cluster_needs_only_a_name() {
    let cluster = good(json!({"name": "a"}));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.per_connection_buffer_limit_bytes, 1_048_576);
    assert_eq!(cluster.lb_policy, LbPolicy::RoundRobin(None));
    assert_eq!(cluster.http, HttpProtocolOptions::default());
    assert_eq!(cluster.stats.prefix(), "cluster.a.");
    let Discovery::Static(hosts) = &cluster.discovery else { panic!("not static") };
    assert!(hosts.hosts().is_empty());
}

#[test]
fn the_name_in_stats_may_differ_and_has_no_colons() {
    let cluster = good(json!({"name": "a", "alt_stat_name": "b:c"}));
    assert_eq!(cluster.observability_name, "b:c");
    assert_eq!(cluster.stats.prefix(), "cluster.b_c.");
    assert_eq!(good(json!({"name": "a.b."})).stats.prefix(), "cluster.a.b.");
}

#[test]
fn what_is_not_implemented_is_rejected_by_name() {
    let schema = json!({"track_cluster_stats": {"timeout_budgets": true}});
    let expected = "clusters[0].track_cluster_stats.timeout_budgets: timeout_budgets";
    assert_eq!(problem(schema), format!("{expected} is not implemented yet"));
}

#[test]
fn only_the_first_thresholds_of_a_priority_are_used() {
    let thresholds = json!([
        {"priority": "HIGH", "max_requests": 7},
        {"max_requests": 8, "track_remaining": true},
        {"max_requests": 9},
    ]);
    let schema = json!({"name": "a", "circuit_breakers": {"thresholds": thresholds}});
    let (clusters, problems) = compiled(json!([schema]));
    assert_eq!(
        problems,
        ["clusters[0].circuit_breakers.thresholds[2]: \
          no effect: only the first thresholds of a priority are used, as in Envoy"]
    );
    let breakers = &clusters[0].circuit_breakers;
    assert_eq!(breakers.thresholds(RoutingPriority::High).max_requests, 7);
    assert_eq!(breakers.thresholds(RoutingPriority::Default).max_requests, 8);
    assert_eq!(breakers.thresholds(RoutingPriority::Default).max_retries, 3);
}

#[test]
fn http_options_come_from_either_place_and_the_newer_one_wins() {
    let older = json!({"idle_timeout": {"secs": 0, "nanos": 0}, "max_headers_count": 7});
    let http = &good(json!({"name": "a", "common_http_protocol_options": older})).http;
    assert_eq!((http.idle_timeout, http.head_limits.fields_max), (None, 7));

    let newer = typed_http(&json!({
        "common_http_protocol_options": {"max_requests_per_connection": 3},
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
    }));
    let both = json!({"name": "a", "common_http_protocol_options": older,
        "typed_extension_protocol_options": newer});
    let (clusters, problems) = compiled(json!([both]));
    assert_eq!(
        problems,
        ["clusters[0].common_http_protocol_options: \
          common_http_protocol_options has no effect: HttpProtocolOptions overrides it"]
    );
    let http = &clusters[0].http;
    assert_eq!((http.head_limits.fields_max, http.max_requests_per_connection), (100, Some(3)));
    assert!(http.enable_trailers);
}

#[test]
fn server_names_follow_from_requests_in_either_place() {
    let auto = |header: &str| json!({"auto_sni": true, "auto_san_validation": false, "override_auto_sni_header": header});
    let older = good(json!({"name": "a", "upstream_http_protocol_options": auto("X-Sni")}));
    let expected =
        AutoSni { auto_sni: true, auto_san_validation: false, header: Some(b"x-sni"[..].into()) };
    assert_eq!(older.auto_sni, Some(expected.clone()));
    let newer = typed_http(&json!({"upstream_http_protocol_options": auto(":authority")}));
    let newer = good(json!({"name": "a", "typed_extension_protocol_options": newer}));
    assert_eq!(newer.auto_sni, Some(AutoSni { header: None, ..expected }));
    assert_eq!(good(json!({"name": "a", "upstream_http_protocol_options": {}})).auto_sni, None);
}

#[test]
fn a_header_without_a_server_name_has_no_effect() {
    let header = json!({"override_auto_sni_header": "x-sni"});
    assert_eq!(
        problem(json!({"name": "a", "upstream_http_protocol_options": header})),
        "clusters[0].upstream_http_protocol_options.override_auto_sni_header: \
         no effect without auto_sni or auto_san_validation"
    );
    let pseudo = json!({"auto_sni": true, "override_auto_sni_header": ":path"});
    assert_eq!(
        problem(json!({"name": "a", "upstream_http_protocol_options": pseudo})),
        "clusters[0].upstream_http_protocol_options.override_auto_sni_header: \
         the pseudo-header :path as a server name is not implemented yet"
    );
}

#[test]
fn metadata_selects_the_transport_socket_of_an_endpoint() {
    let proxy =
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    let raw = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let socket = |kind: &str| json!({"name": "x", "typed_config": {kind: {}}});
    let metadata =
        |value: &str| json!({"filter_metadata": {"envoy.transport_socket_match": {"use": value}}});
    let endpoint = |metadata: Value| {
        json!({"metadata": metadata, "endpoint": {"address": {"socket_address":
            {"address": "127.0.0.1", "port_value": 8000}}}})
    };
    let cluster = good(json!({
        "name": "a",
        "transport_socket": socket(raw),
        "transport_socket_matches": [
            {"name": "proxied", "match": {"use": "proxy"}, "transport_socket": socket(proxy)},
        ],
        "load_assignment": {"cluster_name": "a", "endpoints": [
            {"lb_endpoints": [endpoint(metadata("proxy")), endpoint(metadata("other"))]},
            {"metadata": metadata("proxy"), "lb_endpoints": [endpoint(json!({}))]},
        ]},
    }));
    let Discovery::Static(hosts) = &cluster.discovery else { panic!("not static") };
    let sockets = hosts.hosts().iter().map(|host| &host.endpoint.transport_socket);
    let proxied: Vec<bool> = sockets.map(|socket| socket.proxy_header.is_some()).collect();
    assert_eq!(proxied, [true, false, true]);
}

#[test]
fn a_match_needs_a_transport_socket() {
    assert_eq!(
        problem(json!({"name": "a", "transport_socket_matches": [{"name": "m"}]})),
        "clusters[0].transport_socket_matches[0].transport_socket: a match needs a transport_socket"
    );
}

#[test]
fn the_panic_threshold_is_a_whole_percentage() {
    let common = json!({"healthy_panic_threshold": {"value": 33.4}});
    let cluster = good(json!({"name": "a", "common_lb_config": common}));
    assert!((cluster.distribution.healthy_panic_threshold - 33.0).abs() < f64::EPSILON);
}

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
