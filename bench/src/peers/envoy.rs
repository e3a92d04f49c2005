//! Envoy, and Corvoy, which uses the same file.
//!
//! Circuit breakers are raised, as Envoy's benchmarking guide recommends; request ids, stats and
//! the default timeouts stay enabled.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{Addresses, Downstream, HttpFilters, Shape, Upstream};
use crate::tls::Files;

pub(super) fn config(shape: Shape, at: Addresses, files: Option<&Files>) -> String {
    let Addresses { origin, proxy, admin } = at;
    let mut text = format!(
        "admin:
  address: {admin}
static_resources:
  listeners:
  - name: bench
    address: {proxy}
    filter_chains:
",
        admin = socket_address(admin),
        proxy = socket_address(proxy),
    );
    if shape.downstream == Downstream::Tcp {
        text.push_str(TCP_FILTERS);
    } else {
        text.push_str(&HTTP_FILTERS.replace("FILTERS", &http_filters(shape.filters)));
        virtual_hosts(&mut text, shape);
    }
    if let Some(files) = files {
        transport_socket(&mut text, files, shape.downstream);
    }
    clusters(&mut text, shape, origin);
    text
}

const TCP_FILTERS: &str = "    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: ingress_tcp
          cluster: c0
";

const HTTP_FILTERS: &str = "    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          http_filters:
FILTERS          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: bench
            virtual_hosts:
";

/// What stands before the router.
fn http_filters(filters: HttpFilters) -> String {
    let typed = |name: &str, kind: &str, options: &str| {
        let kind = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}");
        format!(
            "          - name: {name}\n            typed_config: {{ \"@type\": {kind}, {options} }}\n"
        )
    };
    match filters {
        HttpFilters::None => String::new(),
        HttpFilters::Head(count) => (0..count)
            .map(|i| {
                let header = format!("{{ key: x-filter-{i}, value: a-value }}");
                let options = format!(
                    "mutations: {{ request_mutations: [{{ append: {{ header: {header} }} }}] }}"
                );
                typed(&format!("head-{i}"), "header_mutation.v3.HeaderMutation", &options)
            })
            .collect(),
        HttpFilters::Rbac(count) => {
            let policies = (0..count).map(|i| {
                let agent = if i + 1 == count { "corvoy-bench" } else { "another" };
                let principal = format!(
                    "{{ header: {{ name: user-agent, string_match: {{ exact: {agent} }} }} }}"
                );
                format!("p{i:05}: {{ permissions: [{{ any: true }}], principals: [{principal}] }}")
            });
            let policies = policies.collect::<Vec<_>>().join(", ");
            let rules = format!("rules: {{ action: ALLOW, policies: {{ {policies} }} }}");
            typed("rbac", "rbac.v3.RBAC", &rules)
        }
        HttpFilters::Compressor(library) => {
            let name = match library {
                "gzip" => "Gzip",
                "brotli" => "Brotli",
                _ => "Zstd",
            };
            let kind = format!(
                "type.googleapis.com/envoy.extensions.compression.{library}.compressor.v3.{name}"
            );
            let library = format!(
                "compressor_library: {{ name: {library}, typed_config: {{ \"@type\": {kind} }} }}"
            );
            typed("compressor", "compressor.v3.Compressor", &library)
        }
    }
}

fn transport_socket(text: &mut String, files: &Files, downstream: Downstream) {
    let Files { certificate, key, both: _ } = files;
    let alpn = downstream.alpn();
    write!(
        text,
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [{alpn}]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: \"{}\" }}
              private_key: {{ filename: \"{}\" }}
",
        certificate.display(),
        key.display(),
    )
    .ok();
}

fn clusters(text: &mut String, shape: Shape, origin: SocketAddr) {
    text.push_str("  clusters:\n");
    for cluster in 0..shape.clusters {
        write!(
            text,
            "  - name: c{cluster}
    type: STATIC
    connect_timeout: 5s
    lb_policy: ROUND_ROBIN
    circuit_breakers:
      thresholds:
      - {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}
    load_assignment:
      cluster_name: c{cluster}
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {}
",
            socket_address(origin)
        )
        .ok();
        if shape.upstream == Upstream::H2c {
            text.push_str(HTTP2);
        }
    }
}

const HTTP2: &str = "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
";

fn virtual_hosts(text: &mut String, shape: Shape) {
    for host in shape.hosts() {
        let domain = if shape.hosts == 1 { "*" } else { &host };
        writeln!(
            text,
            "            - name: {host}
              domains: [\"{domain}\"]
              routes:"
        )
        .ok();
        routes(text, shape);
    }
}

fn routes(text: &mut String, shape: Shape) {
    for route in 0..shape.routes {
        let prefix = if shape.routes == 1 { "/".to_owned() } else { format!("/r{route}/") };
        let cluster = route % shape.clusters;
        writeln!(
            text,
            "              - match: {{ prefix: \"{prefix}\" }}
                route:
                  cluster: c{cluster}"
        )
        .ok();
        if shape.retries {
            text.push_str(
                "                  retry_policy: { retry_on: \"5xx\", num_retries: 3 }\n",
            );
        }
    }
}

fn socket_address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}
