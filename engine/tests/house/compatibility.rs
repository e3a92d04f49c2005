//! `docs/COMPATIBILITY.md` tells the truth: which values the engine refuses of fields that it reads
//! is found out here, value by value, and its tables are written from that and from the schema.
//!
//! Whoever implements one of these values sees this test fail: the page is renewed with `BLESS=1`.

use std::fs;

use corvoy_config::{Problems, RefusedValues, Source};
use corvoy_engine::compile;
use corvoy_engine::stats::Registry;
use serde_json::{Value, json};

const PAGE: &str = "../docs/COMPATIBILITY.md";

/// What follows it in the page is written by this test.
const MARK: &str = "## Field by field\n";

#[test]
fn the_page_says_what_is_refused() {
    let refused: Vec<_> = probes().into_iter().filter_map(|probe| probe.verdict()).collect();
    let page = fs::read_to_string(PAGE).unwrap();
    let (by_hand, written) = page.split_once(MARK).expect("the page has its mark");
    let tables = format!("\n{}{}", HEAD.trim_start(), corvoy_config::compatibility_page(&refused));
    if std::env::var_os("BLESS").is_some() {
        fs::write(PAGE, format!("{by_hand}{MARK}{tables}")).unwrap();
    } else {
        assert!(written == tables, "{PAGE} is old: run this test with BLESS=1");
    }
}

#[test]
fn what_the_probes_are_put_into_is_valid() {
    assert_eq!(errors(&bootstrap()), Vec::<String>::new());
}

const HEAD: &str = "
Written by `cargo test -p corvoy-engine --test house` from the schema in `config/src/schema` and from
what the engine answers to values; `BLESS=1` in the environment renews it.

- **done**: as in Envoy.
- **in part**: done but for the values that are named. They are an error that names the path.
- **harmless**: taken, and without effect, for the reason given.
- **refused**: a configuration that sets it is an error that names the path. So is every message and
  extension that is not here. A message of which all fields are refused may be there empty.
";

/// A value that may be refused, in a place of the bootstrap.
struct Probe {
    /// Where the message stands, as a JSON pointer.
    place: &'static str,
    message: &'static str,
    field: &'static str,
    /// In words; none: it stands for every value that says something.
    values: Option<&'static str>,
    value: Value,
}

impl Probe {
    /// What is to be told if it is refused with the path of its field.
    fn verdict(self) -> Option<RefusedValues> {
        let Self { place, message, field, values, value } = self;
        let mut bootstrap = bootstrap();
        let place = bootstrap.pointer_mut(place).expect("the bootstrap has the place");
        // A oneof takes one member.
        if field == "cluster_header" || field == "connect_matcher" {
            for other in ["cluster", "name", "prefix"] {
                place.as_object_mut().unwrap().remove(other);
            }
        }
        place[field] = value;
        let errors = errors(&bootstrap);
        if errors.is_empty() {
            return None;
        }
        assert!(errors.iter().any(|error| error.contains(field)), "{field}: {errors:?}");
        Some(RefusedValues { message, field, values })
    }
}

fn errors(bootstrap: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    let source = Source::new().merge_yaml("test", bootstrap.to_string());
    if let Some(loaded) = corvoy_config::load(&source, &mut problems) {
        drop(compile::bootstrap(&loaded.bootstrap, &Registry::new(1), &mut problems));
    }
    problems.errors().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

const LISTENER: &str = "/static_resources/listeners/0";
const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const CLUSTER: &str = "/static_resources/clusters/0";

/// A value each: place, message, field, which values it stands for, the value.
#[expect(clippy::too_many_lines, reason = "a table")]
fn probes() -> Vec<Probe> {
    let manager = |rest: &str| &*format!("{MANAGER}/{rest}").leak();
    let cluster = |rest: &str| &*format!("{CLUSTER}/{rest}").leak();
    let listener_address = "/static_resources/listeners/0/address";
    let socket_address = "/static_resources/listeners/0/address/socket_address";
    let router = manager("http_filters/0/typed_config");
    let host = manager("route_config/virtual_hosts/0");
    let route = manager("route_config/virtual_hosts/0/routes/0");
    let action = manager("route_config/virtual_hosts/0/routes/0/route");
    let weighted =
        manager("route_config/virtual_hosts/0/routes/1/route/weighted_clusters/clusters/0");
    let direct = manager("route_config/virtual_hosts/0/routes/2/direct_response");
    let endpoint = cluster("load_assignment/endpoints/0/lb_endpoints/0/endpoint/address");
    let pipe = || json!({ "path": "/run/socket" });
    let default_chain = json!({ "filters": bootstrap().pointer(CHAIN).unwrap()["filters"] });
    let upgrade = || json!([{ "upgrade_type": "websocket" }]);
    let mapper = json!({ "mappers": [{
        "filter": { "status_code_filter": { "comparison": { "value": {
            "default_value": 404, "runtime_key": "k" } } } },
        "status_code": 401,
    }] });
    [
        (listener_address, ADDRESS, "pipe", None, pipe()),
        (socket_address, SOCKET_ADDRESS, "protocol", Some("UDP"), json!("UDP")),
        (socket_address, SOCKET_ADDRESS, "resolver_name", Some("of a listener"), json!("dns")),
        (socket_address, SOCKET_ADDRESS, "ipv4_compat", Some("true, of a listener"), json!(true)),
        (endpoint, ADDRESS, "pipe", None, pipe()),
        (LISTENER, LISTENER_MESSAGE, "drain_type", Some("MODIFY_ONLY"), json!("MODIFY_ONLY")),
        (LISTENER, LISTENER_MESSAGE, "freebind", None, json!(true)),
        (LISTENER, LISTENER_MESSAGE, "transparent", None, json!(true)),
        (LISTENER, LISTENER_MESSAGE, "tcp_fast_open_queue_length", None, json!(8)),
        (LISTENER, LISTENER_MESSAGE, "bind_to_port", Some("false"), json!(false)),
        (
            LISTENER,
            LISTENER_MESSAGE,
            "filter_chains",
            Some("more than one, or one beside a default"),
            json!([
                { "filters": default_chain["filters"] },
                { "name": "b", "filters": default_chain["filters"],
                  "filter_chain_match": { "destination_port": 1 } },
            ]),
        ),
        (CHAIN, FILTER_CHAIN, "filter_chain_match", None, json!({ "destination_port": 1 })),
        (
            CHAIN,
            FILTER_CHAIN,
            "filters",
            Some("all but one HTTP connection manager"),
            json!([default_chain["filters"][0], default_chain["filters"][0]]),
        ),
        (MANAGER, MANAGER_MESSAGE, "codec_type", Some("HTTP2, HTTP3"), json!("HTTP2")),
        (MANAGER, MANAGER_MESSAGE, "stream_flush_timeout", None, json!("1s")),
        (
            MANAGER,
            MANAGER_MESSAGE,
            "represent_ipv4_remote_address_as_ipv4_mapped_ipv6",
            None,
            json!(true),
        ),
        (MANAGER, MANAGER_MESSAGE, "local_reply_config", None, mapper),
        (MANAGER, MANAGER_MESSAGE, "upgrade_configs", Some("those that are enabled"), upgrade()),
        (
            MANAGER,
            MANAGER_MESSAGE,
            "http_filters",
            Some("all but one router"),
            json!([
                bootstrap().pointer(manager("http_filters/0")).unwrap(),
                bootstrap().pointer(manager("http_filters/0")).unwrap()
            ]),
        ),
        (manager("http_filters/0"), HTTP_FILTER, "disabled", None, json!(true)),
        (router, ROUTER, "dynamic_stats", Some("false"), json!(false)),
        (router, ROUTER, "suppress_envoy_headers", None, json!(true)),
        (router, ROUTER, "suppress_grpc_request_failure_code_stats", None, json!(true)),
        (
            manager("http_protocol_options"),
            HTTP1,
            "header_key_format",
            None,
            json!({ "proper_case_words": {} }),
        ),
        (manager("http_protocol_options"), HTTP1, "allow_chunked_length", None, json!(true)),
        (
            cluster("http_protocol_options"),
            HTTP1,
            "allow_custom_methods",
            Some("true, of a cluster"),
            json!(true),
        ),
        (
            cluster("common_http_protocol_options"),
            "envoy.config.core.v3.HttpProtocolOptions",
            "max_stream_duration",
            Some("of a cluster"),
            json!("1s"),
        ),
        (
            manager("route_config"),
            "envoy.config.route.v3.RouteConfiguration",
            "internal_only_headers",
            None,
            json!(["x-a"]),
        ),
        (
            host,
            "envoy.config.route.v3.VirtualHost",
            "virtual_clusters",
            None,
            json!([{ "name": "v", "headers": [{ "name": ":path", "present_match": true }] }]),
        ),
        (route, "envoy.config.route.v3.Route", "stat_prefix", None, json!("p")),
        (action, ACTION, "cluster_header", None, json!("x-cluster")),
        (action, ACTION, "flush_timeout", None, json!("1s")),
        (action, ACTION, "upgrade_configs", None, upgrade()),
        (
            action,
            ACTION,
            "upgrade_configs",
            Some("CONNECT that a POST stands for"),
            json!([{ "upgrade_type": "CONNECT", "connect_config": { "allow_post": true } }]),
        ),
        (action, ACTION, "max_stream_duration", None, json!({ "max_stream_duration": "1s" })),
        (weighted, WEIGHT, "cluster_header", None, json!("x-cluster")),
        (
            direct,
            "envoy.config.route.v3.DirectResponseAction",
            "body_format",
            None,
            json!({ "text_format_source": { "inline_string": "x" } }),
        ),
        (CLUSTER, CLUSTER_MESSAGE, "type", Some("EDS, ORIGINAL_DST"), json!("EDS")),
        (
            CLUSTER,
            CLUSTER_MESSAGE,
            "lb_policy",
            Some("RING_HASH, MAGLEV, CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG"),
            json!("RING_HASH"),
        ),
        (
            cluster("circuit_breakers"),
            "envoy.config.cluster.v3.CircuitBreakers",
            "per_host_thresholds",
            None,
            json!([{ "max_connections": 1 }]),
        ),
        (
            cluster("circuit_breakers/thresholds/0"),
            "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
            "max_connection_pools",
            None,
            json!(3),
        ),
        (cluster("track_cluster_stats"), TRACK, "timeout_budgets", None, json!(true)),
        (cluster("track_cluster_stats"), TRACK, "request_response_sizes", None, json!(true)),
        (cluster("track_cluster_stats"), TRACK, "per_endpoint_stats", None, json!(true)),
    ]
    .map(|(place, message, field, values, value)| Probe { place, message, field, values, value })
    .into()
}

/// With every message that a probe is put into.
fn bootstrap() -> Value {
    json!({ "static_resources": {
        "listeners": [{
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("type.googleapis.com/{MANAGER_MESSAGE}"),
                    "stat_prefix": "front",
                    "http_protocol_options": {},
                    "http_filters": [{
                        "name": "router",
                        "typed_config": { "@type": format!("type.googleapis.com/{ROUTER}") },
                    }],
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [
                            { "match": { "prefix": "/a" }, "route": { "cluster": "origin" } },
                            { "match": { "prefix": "/b" }, "route": { "weighted_clusters": {
                                "clusters": [{ "name": "origin", "weight": 1 }] } } },
                            { "match": { "prefix": "/c" }, "direct_response": { "status": 204 } },
                        ],
                    }] },
                },
            }] }],
        }],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "circuit_breakers": { "thresholds": [{}] },
            "track_cluster_stats": {},
            "http_protocol_options": {},
            "common_http_protocol_options": {},
            "load_assignment": { "cluster_name": "origin", "endpoints": [{ "lb_endpoints": [{
                "endpoint": { "address": { "socket_address": {
                    "address": "127.0.0.1", "port_value": 8000 } } },
            }] }] },
        }],
    } })
}

const ADDRESS: &str = "envoy.config.core.v3.Address";
const SOCKET_ADDRESS: &str = "envoy.config.core.v3.SocketAddress";
const LISTENER_MESSAGE: &str = "envoy.config.listener.v3.Listener";
const FILTER_CHAIN: &str = "envoy.config.listener.v3.FilterChain";
const MANAGER_MESSAGE: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const HTTP_FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const HTTP1: &str = "envoy.config.core.v3.Http1ProtocolOptions";
const ACTION: &str = "envoy.config.route.v3.RouteAction";
const WEIGHT: &str = "envoy.config.route.v3.WeightedCluster.ClusterWeight";
const CLUSTER_MESSAGE: &str = "envoy.config.cluster.v3.Cluster";
const TRACK: &str = "envoy.config.cluster.v3.TrackClusterStats";
