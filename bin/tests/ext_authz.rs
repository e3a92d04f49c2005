//! `ext_authz` with an authorization service over gRPC, which is the real `grpcio` (`ext_authz/service.py`).
//! What a service over HTTP does is in the parity cases `filter_ext_authz`.
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use crate::grpc::{HTTP2, protocols};
use crate::support::{Config, Message, Origin, Proxy, Service, is_oracle};

#[test]
fn a_service_is_told_about_the_request_and_lets_it_pass() {
    let Some(mut service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    assert_eq!(proxy.get("/a?b=c").status(), 200);
    let told = service.told();
    assert_eq!(told["method"], "GET");
    assert_eq!(told["path"], "/a?b=c");
    assert_eq!(told["host"], "example");
    assert_eq!(told["scheme"], "http");
    assert_eq!(told["protocol"], "HTTP/1.1");
    assert_eq!(told["address"], "127.0.0.1");
    assert_eq!(told["extensions"]["a"], "b");
    assert_eq!(told["headers"][":authority"], "example");
    assert_eq!(told["headers"]["x-forwarded-proto"], "http");
    assert_eq!(told["metadata"]["x-envoy-internal"], "true");
    assert_eq!(told["metadata"]["x-envoy-expected-rq-timeout-ms"], "1000");
    assert_eq!(proxy.stat("http.front.ext_authz.ok"), 1);
    assert_eq!(proxy.stat("cluster.service.ext_authz.ok"), 1);
    // One connection carries all calls.
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(proxy.stat("cluster.authz.upstream_cx_total"), 1);
    assert_eq!(proxy.stat("cluster.authz.upstream_rq_total"), 4);
}

#[test]
fn a_service_changes_the_request_and_the_response() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let mut client = proxy.connect();
    client.send(
        "GET /a?r=1&z=2 HTTP/1.1\r\nhost: example\r\nx-do: change\r\nx-set: mine\r\n\
         x-joined: one\r\nx-gone: 1\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("x-answer").as_deref(), Some("1"));
    let seen = origin.saw();
    assert_eq!(seen.header("x-set").as_deref(), Some("by-service"));
    assert_eq!(seen.values("x-joined"), ["one,two"]);
    assert_eq!(seen.header("x-absent").as_deref(), Some("1"));
    assert_eq!(seen.header("x-gone"), None);
    // Envoy writes the value as it is, and so a request line with a space.
    if !is_oracle() {
        assert!(seen.start_line.starts_with("GET /a?q=a%20b&z=2 "), "{}", seen.start_line);
    }
}

#[test]
fn a_denial_is_what_the_service_says() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let response = ask(&proxy, "deny");
    assert_eq!(response.status(), 429);
    assert_eq!(response.header("x-why").as_deref(), Some("you"));
    assert_eq!(response.values("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(response.text(), "not you");
    assert_eq!(ask(&proxy, "deny-plainly").status(), 403);
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(proxy.stat("http.front.ext_authz.denied"), 2);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_429"), 1);
}

#[test]
fn a_shadow_refuses_nothing() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "shadow_mode: true");
    assert_eq!(ask(&proxy, "deny").status(), 200);
    assert_eq!(ask(&proxy, "abort").status(), 200);
    for stat in ["denied", "shadow_denied", "error", "shadow_error"] {
        assert_eq!(proxy.stat(&format!("http.front.ext_authz.{stat}")), 1, "{stat}");
    }
    assert_eq!(proxy.stat("cluster.service.upstream_rq_429"), 1);
}

#[test]
fn a_service_that_fails_lets_nothing_pass() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "status_on_error: { code: BadGateway }");
    assert_eq!(ask(&proxy, "abort").status(), 502);
    assert_eq!(ask(&proxy, "garbage").status(), 502);
    assert_eq!(ask(&proxy, "hang").status(), 502);
    assert_eq!(ask(&proxy, "fail").status(), 503);
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(proxy.stat("http.front.ext_authz.error"), 4);
    proxy.stat_becomes("cluster.authz.upstream_rq_active", 0);
}

#[test]
fn a_service_that_fails_lets_everything_pass_if_it_may() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let allow = "failure_mode_allow: true, failure_mode_allow_header_add: true";
    let proxy = proxy_asking(&service, &origin, allow);
    assert_eq!(ask(&proxy, "abort").status(), 200);
    assert_eq!(origin.saw().header("x-envoy-auth-failure-mode-allowed").as_deref(), Some("true"));
    assert_eq!(proxy.stat("http.front.ext_authz.failure_mode_allowed"), 1);
}

/// What a service says must not become a header of its own.
#[test]
fn a_header_with_a_line_end_reaches_nobody() {
    let Some(service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    // Envoy forwards it, and its codec answers with 503.
    assert_eq!(ask(&proxy, "inject").status(), if is_oracle() { 503 } else { 500 });
    assert_eq!(origin.seen().len(), 0);
    if !is_oracle() {
        assert_eq!(proxy.stat("http.front.ext_authz.invalid"), 1);
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_call() {
    let Some(mut service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\nx-do: hang\r\n\r\n");
    service.told();
    client.reset();
    proxy.stat_becomes("cluster.authz.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    assert_eq!(proxy.stat("http.front.ext_authz.error"), 0);
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn the_first_bytes_of_a_body_are_told_and_all_of_it_is_forwarded() {
    let Some(mut service) = Service::start("ext_authz") else { return };
    let origin = Origin::that_answers();
    let body = "with_request_body: { max_request_bytes: 4, allow_partial_message: true }";
    let proxy = proxy_asking(&service, &origin, body);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 10\r\n\r\n0123456789");
    assert_eq!(client.response().status(), 200);
    let told = service.told();
    assert_eq!(told["body"], "0123");
    assert_eq!(told["headers"]["x-envoy-auth-partial-body"], "true");
    assert_eq!(origin.saw().text(), "0123456789");
}

fn ask(proxy: &Proxy, what: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nhost: example\r\nx-do: {what}\r\n\r\n"));
    client.response()
}

/// A proxy that asks the service about each request to the origin; `options` are further ones of the filter.
fn proxy_asking(service: &Service, origin: &Origin, options: &str) -> Proxy {
    const NAMESPACE: &str = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3";
    let filter = format!(
        r#"
          - name: authz
            typed_config: {{ "@type": {NAMESPACE}.ExtAuthz, transport_api_version: V3, {SERVICE}, {options} }}"#
    );
    let routes = format!(
        r#"
              typed_per_filter_config: {{ authz: {{ "@type": {NAMESPACE}.ExtAuthzPerRoute, check_settings: {{ context_extensions: {{ a: b }} }} }} }}
              routes:"#
    );
    let yaml = Config::to(origin).yaml();
    let yaml = yaml.replace("http_filters:", &format!("http_filters:{filter}"));
    let yaml = yaml.replace("\n              routes:", &routes);
    Proxy::with(Config::verbatim(service.in_cluster(&yaml, "authz", &protocols(HTTP2))))
}

/// A service that hangs does so for longer.
const SERVICE: &str = "grpc_service: { envoy_grpc: { cluster_name: authz }, timeout: 1s }";
