//! Names and values of headers. Envoy rejects CR, LF and NUL in them and sends everything else
//! unchanged, such as a name that is not a token or a value with a control character. Corvoy rejects
//! them.

use corvoy_config::{Problems, RouteConfiguration, Source, load, load_as, render};

const HEADERS: &str = r#"
static_resources:
  listeners:
  - name: l
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          via: "a\u0001"
          server_name: "a\nb"
          http_protocol_options: { default_host_for_http_10: "a\rb" }
          local_reply_config:
            body_format: { text_format: x, content_type: "text/plain\u007f" }
            mappers:
            - filter: { header_filter: { header: { name: "x client" } } }
              headers_to_add: [{ header: { key: "transfer-encoding ", value: a } }]
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            response_headers_to_remove: ["x client"]
            virtual_hosts:
            - name: v
              domains: ["*"]
              response_headers_to_add: [{ header: { key: "x:y", value: "a\u0000b" } }]
              routes:
              - match: { prefix: /, headers: [{ name: "x client" }] }
                request_headers_to_remove: ["x-ok", "x,y"]
                route:
                  host_rewrite_header: "x client"
                  retry_policy:
                    retriable_headers: [{ name: "x(y)" }]
                    rate_limited_retry_back_off: { reset_headers: [{ name: "retry after" }] }
                  weighted_clusters:
                    header_name: "x random"
                    clusters:
                    - { name: c, weight: 1, request_headers_to_add: [{ header: { key: é, value: a } }] }
"#;

#[test]
fn an_invalid_name_and_a_control_character_in_a_value_are_errors() {
    let source = Source::new().merge_yaml("headers.yaml", HEADERS);
    let mut problems = Problems::default();
    load(&source, &mut problems);
    insta::assert_snapshot!(render(&problems, &source));
}

#[test]
fn pseudo_headers_and_all_tokens_are_valid_names() {
    let source = Source::new().merge_yaml(
        "headers.yaml",
        r#"
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: { prefix: /, headers: [{ name: ":path" }, { name: ":any" }, { name: "X_a.b~!#$%&'*+-^`|" }] }
    request_headers_to_add: [{ header: { key: X-Tab, value: "a\tb é %REQ(:path)%" } }]
    route: { cluster: c, host_rewrite_header: ":authority" }
"#,
    );
    let mut problems = Problems::default();
    assert!(load_as::<RouteConfiguration>(&source, &mut problems).is_some());
    assert!(problems.is_empty(), "{}", render(&problems, &source));
}
