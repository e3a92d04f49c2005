//! Configurations with errors: independent errors are all reported, consequences of an error are not.

use serde_json::{Value, json};

use super::*;

/// A valid configuration with every value that depends on another one.
const VALID: &str = r#"
node: { id: here, cluster: c }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
layered_runtime:
  layers:
  - { name: a, static_layer: { envoy.resource_limits.listener.front.connection_limit: 7 } }
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 5
static_resources:
  listeners:
  - name: front
    address: { socket_address: { address: 127.0.0.1, port_value: 80 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP1
          stat_prefix: front
          scheme_header_transformation: { scheme_to_overwrite: https }
          strip_any_host_port: true
          internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }
          common_http_protocol_options: { idle_timeout: 1s }
          http_protocol_options:
            header_key_format:
              stateful_formatter:
                name: preserve_case
                typed_config: { "@type": type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig }
          local_reply_config:
            mappers:
            - filter:
                and_filter:
                  filters:
                  - status_code_filter: { comparison: { op: GE, value: { default_value: 500, runtime_key: a } } }
                  - response_flag_filter: { flags: [UF] }
              status_code: 503
              body: { inline_string: b }
              headers_to_add: [{ header: { key: x-a, value: b }, append_action: ADD_IF_ABSENT }]
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            name: r
            validate_clusters: false
            max_direct_response_body_size_bytes: 10000
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match:
                  prefix: /
                  headers: [{ name: a, string_match: { exact: b, ignore_case: true } }]
                  query_parameters: [{ name: a, string_match: { prefix: b, ignore_case: true } }]
                request_headers_to_add: [{ header: { key: x-a, value: b } }]
                route:
                  cluster: not-there
                  prefix_rewrite: /b
                  retry_policy:
                    retry_on: 5xx
                    retry_back_off: { base_interval: 0.010s, max_interval: 0.020s }
                    retry_host_predicate:
                    - name: previous
                      typed_config: { "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate }
                  upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }, { upgrade_type: websocket }]
              - match: { safe_regex: { regex: /a } }
                redirect: { regex_rewrite: { pattern: { regex: a }, substitution: b } }
              - match: { prefix: / }
                direct_response: { status: 200, body: { inline_string: LONG } }
  - name: back
    address: { socket_address: { address: 127.0.0.1, port_value: 81 } }
    default_filter_chain:
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: back
          http_filters: [{ name: envoy.filters.http.router }]
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match: { prefix: /a }
                route:
                  weighted_clusters: { clusters: [{ name: strict, weight: 1 }, { name: static, weight: 0 }] }
              - match: { prefix: /b }
                route: { cluster: typed }
              - match: { prefix: / }
                route: { cluster: logical }
  clusters:
  - name: static
    lb_policy: RANDOM
    circuit_breakers: { thresholds: [{ priority: DEFAULT, max_requests: 1 }, { priority: HIGH }] }
    load_assignment:
      cluster_name: a
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } }] }]
  - name: strict
    type: STRICT_DNS
    dns_refresh_rate: 5s
    dns_failure_refresh_rate: { base_interval: 2s, max_interval: 3s }
    load_assignment: &named
      cluster_name: a
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: host.test, port_value: 1 } } } }] }]
  - { name: logical, type: LOGICAL_DNS, dns_lookup_family: V4_ONLY, load_assignment: *named }
  - name: typed
    cluster_type:
      name: envoy.cluster.dns
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
        dns_refresh_rate: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http_protocol_options: {} }
    load_assignment: *named
"#;

fn valid() -> Value {
    let text = VALID.replace("LONG", &"x".repeat(5000));
    let source = config::Source::new().merge_yaml("test", text);
    let mut problems = Problems::default();
    let loaded = config::load(&source, &mut problems).unwrap();
    assert!(!problems.has_errors(), "{}", config::render(&problems, &source));
    loaded.json
}

/// Loads and compiles. Returns the problems of loading, and those that compiling added.
fn errors(config: &Value) -> (Problems, Vec<String>) {
    let mut problems = Problems::default();
    let source = config::Source::new().merge_yaml("test", config.to_string());
    let loaded = config::load(&source, &mut problems);
    let read = problems.clone();
    if let Some(loaded) = loaded {
        bootstrap(&loaded.bootstrap, &Registry::new(1), &mut problems);
    }
    let added = problems.iter().skip(read.iter().count());
    let added = added.map(|it| format!("{}: {}", it.path, it.message)).collect();
    (read, added)
}

/// JSON pointers to every value of every map.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                found.push(at.clone());
                pointers(value, &at, found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn consequences_of_a_value_that_could_not_be_read_are_not_reported() {
    let valid = valid();
    let (read, added) = errors(&valid);
    assert!(!read.has_errors() && added.is_empty(), "{read:?}\n{added:?}");
    let mut all = Vec::new();
    pointers(&valid, "", &mut all);
    assert!(all.len() > 200);
    let (mut broken, mut consequences) = (0, Vec::new());
    for (i, pointer) in all.iter().enumerate() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut config = valid.clone();
        let fields = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let value = fields.remove(key).unwrap();
        // In turn: a typo, an unknown key, a value of a type that is always wrong.
        let (key, value) = match i % 3 {
            0 => (format!("{key}x"), value),
            1 => ("zzzzzz".to_owned(), value),
            _ => (key.to_owned(), json!([{ "no": [1] }])),
        };
        fields.insert(key.clone(), value);
        let (read, added) = errors(&config);
        if read.has_errors() {
            broken += 1;
            consequences.extend(added.iter().map(|added| format!("{key} for {pointer}: {added}")));
        }
    }
    assert!(broken > 180, "{broken}");
    assert!(consequences.is_empty(), "{}", consequences.join("\n"));
}

#[test]
fn a_message_names_the_field_that_it_is_about() {
    let mut config = valid();
    config["static_resources"]["listeners"][0]["drain_type"] = json!("MODIFY_ONLY");
    let (_, added) = errors(&config);
    assert_eq!(
        added,
        ["static_resources.listeners[0].drain_type: MODIFY_ONLY is not implemented yet"]
    );
}

#[test]
fn chains_for_a_matcher_are_not_called_overlapping() {
    let mut config = valid();
    let listener = &mut config["static_resources"]["listeners"][0];
    let chain = listener["filter_chains"][0].clone();
    listener["filter_chains"] = json!([chain, chain]);
    let (_, added) = errors(&config);
    assert!(added[0].contains("another one matches just as specifically"), "{added:?}");
    config["static_resources"]["listeners"][0]["filter_chain_matcher"] = json!({});
    let (_, added) = errors(&config);
    assert!(!added.iter().any(|it| it.contains("another one matches")), "{added:?}");
}
