//! What `corvoy explain` says about a request.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Config, Origin, Proxy, corvoy, is_oracle};

const CONFIG: &str = r#"static_resources:
  listeners:
  - name: front
    address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: limit
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1024 }
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            ignore_port_in_host_matching: true
            virtual_hosts:
            - name: shop
              domains: ["*.shop.test"]
              routes:
              - match: { path: /cart }
                route: { cluster: app }
              - match: { prefix: /api, headers: [{ name: x-beta, string_match: { exact: "yes" } }] }
                route: { cluster: app }
              - match: { prefix: /api }
                name: api
                request_headers_to_add: [{ header: { key: x-from, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } }]
                response_headers_to_add: [{ header: { key: x-served, value: "by api" } }]
                route:
                  cluster: app
                  prefix_rewrite: /v1
                  timeout: 3s
                  retry_policy: { retry_on: "connect-failure,5xx", num_retries: 2, per_try_timeout: 1s }
              - match: { prefix: /old }
                redirect: { path_redirect: /new, https_redirect: true }
  - name: other
    address: { socket_address: { address: 127.0.0.1, port_value: 9090 } }
    filter_chains:
    - filters:
      - name: tcp
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: app }
  clusters:
  - name: app
    type: STRICT_DNS
    load_assignment:
      cluster_name: app
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: app.test, port_value: 80 } } } }] }]
"#;

fn explained(args: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("proxy.yaml"), CONFIG).unwrap();
    let mut command = corvoy();
    command.current_dir(folder.path()).args(["explain", "-c", "proxy.yaml"]).args(args);
    command.output().unwrap()
}

fn text(args: &[&str]) -> String {
    let output = explained(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_request_is_followed_to_its_cluster_with_the_lines_of_the_file() {
    if is_oracle() {
        return; // It is Corvoy's own.
    }
    let said = text(&["POST http://a.shop.test:8080/api/items?x=1", "-H", "x-beta: no"]);
    assert_eq!(
        said,
        "\
POST http://a.shop.test:8080/api/items?x=1
listener       front  (proxy.yaml:3)
filter chain   proxy.yaml:6
virtual host   shop  (proxy.yaml:19)
  not          the path does not match path `/cart`  (proxy.yaml:22)
  not          the header `x-beta` is absent, or is not `yes`  (proxy.yaml:24)
route          api: prefix `/api`  (proxy.yaml:26)
cluster        app  (proxy.yaml:44)
hosts          app.test:80
timeout        3000 ms, idle 300000 ms, per try 1000 ms
retries        up to 2, on 5xx, connect-failure
filters        limit
request        - :path: /api/items?x=1
               + :path: /v1/items?x=1
               + x-forwarded-proto: http
               + x-request-id: 00000000-0000-4000-8000-000000000000
               + x-envoy-expected-rq-timeout-ms: 1000
               + x-from: 127.0.0.1
               + x-envoy-original-path: /api/items?x=1
response       + x-served: by api
"
    );
}

#[test]
fn what_is_not_forwarded_is_explained_too() {
    if is_oracle() {
        return;
    }
    for (request, expected) in [
        (
            "http://a.shop.test:8080/old",
            json!({ "kind": "reply", "status": 301, "why": "redirect",
            "location": "https://a.shop.test:8080/new" }),
        ),
        (
            "http://a.shop.test:8080/x",
            json!({ "kind": "reply", "status": 404,
            "why": "route_not_found" }),
        ),
        (
            "http://nowhere.test:8080/",
            json!({ "kind": "reply", "status": 404,
            "why": "route_not_found" }),
        ),
        ("http://a.shop.test:9090/", json!({ "kind": "bytes" })),
    ] {
        let said = text(&[request, "--format", "json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["outcome"], expected, "{request}");
    }
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    if is_oracle() {
        return;
    }
    for (args, why) in [
        (
            &["http://a.test:81/"][..],
            "no listener has the port 81; there are: front (127.0.0.1:8080)",
        ),
        (&["GET", "-H", "x: y"], "write a method and a URL"),
        (&["http://a.test:8080/", "-H", "no colon"], "`no colon` is not a header"),
    ] {
        let output = explained(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// A request and headers as parameters of the admin endpoint.
fn asked(request: &str) -> String {
    format!("/explain?request={}", request.replace(' ', "%20"))
}

#[test]
fn a_running_proxy_explains_its_own_configuration() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).route("prefix_rewrite: /new, timeout: 3s"));
    let text = proxy.admin(&asked("GET http://example/old&header=x:%20y"));
    assert_eq!(text.status(), 200);
    for line in [
        "route          prefix `/`  (static_resources.listeners[0].",
        "cluster        service  (static_resources.clusters[0])",
        "timeout        3000 ms",
        "+ :path: /newold",
        "+ x-envoy-original-path: /old",
        "+ x-envoy-expected-rq-timeout-ms: 3000",
    ] {
        assert!(text.text().contains(line), "{line} is not in\n{}", text.text());
    }
    let json = proxy.admin(&asked("GET http://example/old&format=json"));
    let json: Value = serde_json::from_str(&json.text()).unwrap();
    assert_eq!(json["outcome"]["cluster"]["name"], "service");
    // What it forwards is what it has explained.
    assert_eq!(proxy.get("/old").status(), 200);
    assert!(origin.saw().start_line.starts_with("GET /newold "));
}

#[test]
fn what_a_running_proxy_cannot_explain_is_refused() {
    if is_oracle() {
        return;
    }
    let proxy = Proxy::with(Config::to(&Origin::that_answers()));
    for (path, why) in [
        ("/explain".to_owned(), "the parameter `request` is missing"),
        (asked("nonsense"), "write a method and a URL"),
        (asked("GET http://e/&listener=none"), "no listener is named none"),
        (asked("GET http://e/&client=x"), "`x` is no IP address"),
        (asked("GET http://e/&header=x"), "`x` is not a header"),
    ] {
        let refused = proxy.admin(&path);
        assert_eq!(refused.status(), 400, "{path}");
        assert!(refused.text().contains(why), "{}", refused.text());
    }
}

/// Routes of every kind over a small alphabet, so that many match the same requests.
fn random_routes(random: &mut fastrand::Rng) -> String {
    let path = |random: &mut fastrand::Rng| {
        let parts = random.usize(1..=3);
        (0..parts).map(|_| ["/a", "/b", "/ab", "/"][random.usize(..4)]).collect::<String>()
    };
    let mut routes = String::new();
    for number in 0..30 {
        let path = path(random);
        let specifier = match random.usize(..5) {
            0 => format!("path: \"{path}\""),
            1 => format!("prefix: \"{path}\", case_sensitive: false"),
            2 => format!("path_separated_prefix: \"/a{}\"", path.trim_end_matches('/')),
            3 => format!("safe_regex: {{ regex: \"{path}.?\" }}"),
            _ => format!("prefix: \"{path}\""),
        };
        let condition = match random.usize(..4) {
            0 => ", headers: [{ name: x-a, present_match: true }]",
            1 => ", headers: [{ name: x-a, string_match: { prefix: \"1\" }, invert_match: true }]",
            2 => ", query_parameters: [{ name: q, string_match: { exact: \"1\" } }]",
            _ => "",
        };
        routes.push_str(&format!(
            "\n              - {{ match: {{ {specifier}{condition} }}, direct_response: {{ status: 200, body: {{ inline_string: \"{number}\" }} }} }}"
        ));
    }
    routes
}

#[test]
fn the_route_that_is_explained_is_the_one_that_a_request_gets() {
    let mut random = fastrand::Rng::with_seed(13);
    let origin = Origin::that_answers();
    for _ in 0..4 {
        let yaml = Config::to(&origin).yaml();
        let routes = format!(
            "routes:{}\n              - match: {{ prefix: \"/\" }}",
            random_routes(&mut random)
        );
        let proxy = Proxy::with(Config::verbatim(
            yaml.replace("routes:\n              - match: { prefix: \"/\" }", &routes),
        ));
        let mut client = proxy.connect();
        for _ in 0..100 {
            let parts = random.usize(1..=4);
            let path: String =
                (0..parts).map(|_| ["/a", "/b", "/A", "b", "?q=1"][random.usize(..5)]).collect();
            let path = format!("/{}", path.trim_start_matches('/'));
            let header = ["", "x-a: 1\r\n", "x-a: 2\r\n"][random.usize(..3)];
            client.send(format!("GET {path} HTTP/1.1\r\nhost: example\r\n{header}\r\n"));
            let body = client.response().text();
            if is_oracle() {
                continue;
            }
            let url = path.replace('?', "%3F").replace('=', "%3D");
            let headers = if header.is_empty() {
                String::new()
            } else {
                format!("&header={}", header.trim().replace(' ', "%20"))
            };
            let said =
                proxy.admin(&asked(&format!("GET http://example{url}{headers}&format=json")));
            let said: Value = serde_json::from_str(&said.text()).unwrap();
            let at = said["route"]["at"].as_str().unwrap().to_owned();
            // Behind the random routes there is one that forwards.
            let number = if body == "ok" { "30" } else { &body };
            assert!(
                at.ends_with(&format!("routes[{number}]")),
                "{path} {header}: {at}, but got {body}"
            );
        }
    }
}
