//! Tests of configurations that are refused.

use super::*;
use crate::runtime_compile::CONNECTIONS_MONITOR;

/// The errors of a configuration, as `path: message`.
fn problems(yaml: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let source = config::Source::new().merge_yaml("test", yaml);
    if let Some(loaded) = config::load(&source, &mut problems) {
        let _compiled = bootstrap(&loaded.bootstrap, &Registry::new(1), &mut problems);
    }
    problems.errors().map(|it| format!("{}: {}", it.path, it.message)).collect()
}

fn listeners(listeners: &[(&str, &str)]) -> String {
    let listeners = listeners.iter().map(|(name, address)| {
        format!(
            r#"
  - name: {name}{address}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/{MANAGER}
          stat_prefix: front
          route_config: {{}}
          http_filters: [{{ name: envoy.filters.http.router }}]"#
        )
    });
    format!("static_resources:\n  listeners:{}", listeners.collect::<String>())
}

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.\
                           HttpConnectionManager";

fn at(ip: &str, port: u16) -> String {
    let address = format!("{{ address: \"{ip}\", port_value: {port} }}");
    format!("\n    address: {{ socket_address: {address} }}")
}

#[test]
fn a_listener_needs_an_address() {
    for address in ["", "\n    address: ~"] {
        assert_eq!(
            problems(&listeners(&[("a", address)])),
            ["static_resources.listeners[0].address: address is necessary"]
        );
    }
}

#[test]
fn two_listeners_may_share_an_address_only_with_port_0() {
    let two = |a: String, b: String| problems(&listeners(&[("a", &a), ("b", &b)]));
    assert_eq!(two(at("127.0.0.1", 0), at("127.0.0.1", 0)), [""; 0]);
    assert_eq!(two(at("127.0.0.1", 80), at("127.0.0.2", 80)), [""; 0]);
    assert_eq!(
        two(at("::1", 80), at("0:0::1", 80)),
        ["static_resources.listeners[1].address: 'b' has duplicate address '[::1]:80'"]
    );
}

#[test]
fn all_filters_of_all_chains_are_checked() {
    let config = listeners(&[("a", &at("127.0.0.1", 80))]);
    let (before, chain) = config.split_once("    - filters:").unwrap();
    let router = "{ name: envoy.filters.http.router }";
    let second =
        chain.replace(router, "{ name: envoy.filters.http.router, disabled: true }, ROUTER");
    let second = second.replace("ROUTER", router);
    let chains = "static_resources.listeners[0].filter_chains";
    let filters = format!("{chains}[1].filters[0].typed_config.http_filters");
    assert_eq!(
        problems(&format!("{before}    - filters:{chain}\n    - filters:{second}")),
        [
            format!("{filters}[0].typed_config: the router must be the last HTTP filter"),
            format!(
                "{chains}[1]: this filter chain matches connections that another one matches \
                     just as specifically"
            ),
        ]
    );
}

#[test]
fn names_of_nodes_and_hosts_must_be_valid_in_a_head() {
    let endpoint = r#"{ endpoint: { hostname: "a b", address: { socket_address:
            { address: 127.0.0.1, port_value: 80 } } } }"#;
    let clusters = format!(
        "[{{ name: a, load_assignment: {{ cluster_name: a, endpoints: [{{ lb_endpoints: \
             [{endpoint}] }}] }} }}]"
    );
    let config = format!(
        r#"{{ node: {{ id: "a\nb", cluster: "c\td" }}, static_resources: {{ clusters: {clusters} }} }}"#
    );
    assert_eq!(
        problems(&config),
        [
            "node.id: `a\\nb` is not a valid header value: it contains a control character",
            "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint\
                 .hostname: `a b` contains white space or a control character",
        ]
    );
}

#[test]
fn a_resource_monitor_is_found_by_its_name_and_must_not_be_repeated() {
    let typed = "typed_config: { \"@type\": type.googleapis.com/envoy.extensions.\
                     resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, \
                     max_active_downstream_connections: 5 }";
    let monitors = |names: &[&str]| {
        let monitors = names.iter().map(|name| format!("{{ name: {name}, {typed} }}"));
        let monitors = monitors.collect::<Vec<_>>().join(", ");
        problems(&format!("overload_manager: {{ resource_monitors: [{monitors}] }}"))
    };
    assert_eq!(monitors(&[CONNECTIONS_MONITOR]), [""; 0]);
    assert_eq!(monitors(&["foo"]).len(), 1);
    assert_eq!(
        monitors(&[CONNECTIONS_MONITOR, CONNECTIONS_MONITOR]),
        [format!(
            "overload_manager.resource_monitors[1]: \
                 Duplicate resource monitor {CONNECTIONS_MONITOR}"
        )]
    );
}

#[test]
fn a_grace_is_a_number_of_milliseconds() {
    let grace = |value: &str| {
        let values = format!("{{ corvoy: {{ http: {{ half_close_grace_ms: {value} }} }} }}");
        problems(&format!("layered_runtime: {{ layers: [{{ name: a, static_layer: {values} }}] }}"))
    };
    assert_eq!(grace("250"), [""; 0]);
    assert_eq!(
        grace("1s"),
        ["layered_runtime.layers[0].static_layer: 'corvoy.http.half_close_grace_ms' must be an \
                 integer number of milliseconds"]
    );
}

#[test]
fn a_list_is_not_a_runtime_value() {
    let layer = "layered_runtime: { layers: [{ name: a, static_layer: { b: { c: [1] } } }] }";
    assert_eq!(
        problems(layer),
        ["layered_runtime.layers[0].static_layer: Invalid runtime entry value for b.c"]
    );
}
