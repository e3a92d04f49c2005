//! What an operator sees when validating a configuration.

use std::fs;

use tempfile::TempDir;

use crate::support::{corvoy, is_oracle};

/// The output of `--mode validate` for the text, which is called `proxy.yaml`.
fn verdict(text: &str) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("proxy.yaml"), text).unwrap();
    let mut command = corvoy();
    command.current_dir(folder.path()).args(["--mode", "validate", "-c", "proxy.yaml"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

const CONFIG: &str = r#"static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          stream_idle_timout: 5s
          http_filters: [{ name: router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: /a }
                route: { cluster: elsewhere, prefix_rewrite: /b, regex_rewrite: { pattern: { regex: "(" }, substitution: c } }
                request_headers_to_add: [{ header: { key: "x client", value: "%NOPE%" } }]
              - match: { prefix: / }
                route: { cluster: app }
  clusters:
  - name: app
    type: STRICT_DN
    load_assignment:
      cluster_name: app
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: app.test, port_value: 80 } } } }] }]
"#;

#[test]
fn every_error_is_shown_in_one_run_with_what_could_not_be_checked() {
    if is_oracle() {
        return; // Envoy reports only its first error.
    }
    let said = verdict(CONFIG);
    let (errors, last) = said.trim_end().rsplit_once('\n').unwrap();
    let mut lines = errors.lines();
    for (message, place) in [
        ("HttpConnectionManager has no field `stream_idle_timout`", ":10:11"),
        ("route: unknown cluster 'elsewhere'", ":18:35"),
        ("", ":18:"),
        ("Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy", ":18:"),
        ("`x client` is not a valid header name: use letters", ":19:"),
        ("Not supported field in StreamInfo: NOPE", ":19:"),
        ("`STRICT_DN` is not a value of DiscoveryType", ":24:11"),
    ] {
        let error = lines.find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.starts_with(&format!("error: {message}")), "{message}\n{said}");
        let arrow = lines.next().unwrap_or_default();
        assert!(arrow.contains(&format!("--> proxy.yaml{place}")), "{message}\n{said}");
    }
    assert!(!lines.any(|line| line.starts_with("error: ")), "{said}");
    assert_eq!(
        last,
        "note: not checked because of these errors: the hosts of static_resources.clusters[0], \
         whose type is not known"
    );
}

#[test]
fn a_cluster_that_may_exist_is_not_reported_as_unknown() {
    if is_oracle() {
        return;
    }
    let said = verdict(&CONFIG.replace("- name: app\n    type", "- nam: app\n    type"));
    assert!(!said.contains("unknown cluster"), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("whether the clusters that routes refer to exist"), "{said}");
}

#[test]
fn without_a_listener_no_route_is_said_to_be_unchecked() {
    if is_oracle() {
        return;
    }
    let said = verdict("a: 1\n");
    assert!(said.contains("Bootstrap has no field `a`"), "{said}");
    assert!(!said.contains("routes refer to"), "{said}");
}
