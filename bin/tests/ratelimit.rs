//! `ratelimit` with a service over gRPC, which is the real `grpcio` (`ratelimit/service.py`), and the rate
//! limits of routes and virtual hosts.
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use serde_json::json;

use crate::grpc::{HTTP2, protocols};
use crate::support::{Config, Message, Origin, Proxy, Service, is_oracle};

#[test]
fn a_service_is_told_what_the_route_counts() {
    let Some(mut service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    assert_eq!(ask(&proxy, "/", "ok").status(), 200);
    let told = service.told();
    assert_eq!(told["domain"], "front");
    assert_eq!(told["hits"], 0);
    assert_eq!(told["descriptors"], json!([{ "entries": [["generic_key", "all"], ["do", "ok"]] }]));
    assert_eq!(told["metadata"]["x-envoy-internal"], "true");
    assert_eq!(proxy.stat("cluster.service.ratelimit.ok"), 1);
    // Without the header there is no descriptor, and nothing to ask.
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.stat("cluster.limits.upstream_rq_total"), 1);
    // As in Envoy, an answer without a code lets the request pass.
    assert_eq!(ask(&proxy, "/", "unknown").status(), 200);
    assert_eq!(proxy.stat("cluster.service.ratelimit.ok"), 2);
}

#[test]
fn a_request_over_a_limit_is_refused() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let refused = ask(&proxy, "/", "limit");
    assert_eq!((refused.status(), refused.text()), (429, String::new()));
    assert_eq!(refused.header("x-envoy-ratelimited").as_deref(), Some("true"));
    assert_eq!(refused.header("x-ratelimit-limit"), None);
    let refused = ask(&proxy, "/", "limit-headers");
    assert_eq!((refused.status(), refused.text()), (429, "<p>slow down</p>".into()));
    assert_eq!(refused.header("x-answer").as_deref(), Some("1"));
    assert_eq!(refused.header("content-type").as_deref(), Some("text/html"));
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(proxy.stat("cluster.service.ratelimit.over_limit"), 2);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_429"), 2);
}

#[test]
fn a_refusal_is_as_configured() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let options = "rate_limited_status: { code: ServiceUnavailable }, \
        rate_limited_as_resource_exhausted: true, disable_x_envoy_ratelimited_header: true, \
        response_headers_to_add: [{ header: { key: x-add, value: \"%PROTOCOL%\" } }], stat_prefix: mine";
    let proxy = proxy_asking(&service, &origin, options);
    let refused = ask(&proxy, "/", "limit");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("x-add").as_deref(), Some("HTTP/1.1"));
    assert_eq!(refused.header("x-envoy-ratelimited"), None);
    assert_eq!(proxy.stat("cluster.service.ratelimit.mine.over_limit"), 1);
    let mut client = proxy.connect();
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nx-do: limit\r\n\r\n");
    assert_eq!(client.response().header("grpc-status").as_deref(), Some("8"));
}

#[test]
fn limits_that_are_not_enforced_let_requests_pass() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy =
        proxy_asking(&service, &origin, "filter_enforced: { default_value: { numerator: 0 } }");
    let passed = ask(&proxy, "/", "limit-headers");
    assert_eq!(passed.status(), 200);
    assert_eq!(passed.header("x-envoy-ratelimited").as_deref(), Some("true"));
    assert_eq!(origin.saw().header("x-asked").as_deref(), Some("1"));
    assert_eq!(proxy.stat("cluster.service.ratelimit.over_limit"), 1);
    let proxy =
        proxy_asking(&service, &origin, "filter_enabled: { default_value: { numerator: 0 } }");
    assert_eq!(ask(&proxy, "/", "limit").status(), 200);
    assert_eq!(proxy.stat("cluster.limits.upstream_rq_total"), 0);
}

#[test]
fn a_service_adds_headers_to_the_request_and_the_response() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let response = ask(&proxy, "/", "headers");
    assert_eq!(response.values("x-answer"), ["1", "2"]);
    let seen = origin.saw();
    assert_eq!(seen.header("x-asked").as_deref(), Some("1"));
    assert_eq!(seen.values("x-mine"), ["me", "theirs"]);
}

#[test]
fn clients_learn_of_their_quota() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let options = "enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true";
    let proxy = proxy_asking(&service, &origin, options);
    let passed = ask(&proxy, "/", "statuses");
    let limit = "100, 10;w=1;name=\"per-ip\", 100;w=60";
    assert_eq!(passed.header("x-ratelimit-limit").as_deref(), Some(limit));
    assert_eq!(passed.header("x-ratelimit-remaining").as_deref(), Some("3"));
    assert_eq!(passed.header("x-ratelimit-reset").as_deref(), Some("42"));
    assert_eq!(passed.header("retry-after"), None);
    let refused = ask(&proxy, "/", "limit-statuses");
    assert_eq!(refused.header("x-ratelimit-remaining").as_deref(), Some("0"));
    assert_eq!(refused.header("retry-after").as_deref(), Some("77"));
    // A descriptor can keep its limit to itself.
    let passed = ask(&proxy, "/quiet", "statuses");
    assert_eq!(passed.header("x-ratelimit-limit").as_deref(), Some("100, 100;w=60"));
}

#[test]
fn a_service_that_fails_lets_everything_pass() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    for what in ["abort", "hang", "garbage"] {
        assert_eq!(ask(&proxy, "/", what).status(), 200, "{what}");
    }
    assert_eq!(proxy.stat("cluster.service.ratelimit.error"), 3);
    assert_eq!(proxy.stat("cluster.service.ratelimit.failure_mode_allowed"), 3);
    proxy.stat_becomes("cluster.limits.upstream_rq_active", 0);
}

#[test]
fn a_service_that_fails_lets_nothing_pass_if_it_may_not() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "failure_mode_deny: true");
    assert_eq!(ask(&proxy, "/", "abort").status(), 500);
    let percent = "failure_mode_deny_percent: { default_value: { numerator: 100 } }, \
        status_on_error: { code: ServiceUnavailable }";
    let proxy = proxy_asking(&service, &origin, percent);
    assert_eq!(ask(&proxy, "/", "garbage").status(), 503);
    assert!(!proxy.stats().contains_key("cluster.service.ratelimit.failure_mode_allowed"));
    assert_eq!(origin.seen().len(), 0);
}

/// What a service says must not become a header of its own.
#[test]
fn a_header_with_a_line_end_reaches_nobody() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "failure_mode_deny: true");
    let response = ask(&proxy, "/", "inject");
    // Envoy sends it to the client.
    if !is_oracle() {
        assert_eq!(response.status(), 500);
        assert_eq!(response.header("x-evil"), None);
    }
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn routes_and_virtual_hosts_say_what_is_counted() {
    let Some(mut service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    for (path, domain, counted) in [
        ("/own", "front", &["own"][..]),
        ("/both", "front", &["own", "host"]),
        ("/host", "front", &["host"]),
        ("/always", "front", &["own", "host"]),
        ("/instead", "other", &["instead"]),
    ] {
        assert_eq!(proxy.get(path).status(), 200);
        let told = service.told();
        assert_eq!(told["domain"], domain, "{path}");
        let descriptors = told["descriptors"].as_array().unwrap().iter();
        let values: Vec<_> = descriptors.map(|it| it["entries"][0][1].as_str().unwrap()).collect();
        assert_eq!(values, counted, "{path}");
    }
    let asked = proxy.stat("cluster.limits.upstream_rq_total");
    for path in ["/never", "/second-stage", "/direct"] {
        proxy.get(path);
    }
    assert_eq!(proxy.stat("cluster.limits.upstream_rq_total"), asked);
    let proxy = proxy_asking(&service, &origin, "stage: 2");
    assert_eq!(proxy.get("/second-stage").status(), 200);
    assert_eq!(service.told()["descriptors"][0]["entries"][0][1], "second");
    // What the filter counts comes before what routes say, but not before what they say to the filter.
    let own = "rate_limits: [{ actions: [{ generic_key: { descriptor_value: filter } }] }]";
    let proxy = proxy_asking(&service, &origin, own);
    proxy.get("/own");
    assert_eq!(service.told()["descriptors"][0]["entries"][0][1], "filter");
    proxy.get("/instead");
    assert_eq!(service.told()["descriptors"][0]["entries"][0][1], "instead");
}

#[test]
fn a_request_can_count_more_or_less_than_one_hit() {
    let Some(mut service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    proxy.get("/hits?n=7");
    let told = service.told();
    let descriptors = told["descriptors"].as_array().unwrap();
    assert_eq!(descriptors[0]["hits"], 5);
    assert_eq!((&descriptors[1]["hits"], &descriptors[1]["negative"]), (&json!(2), &json!(true)));
    assert_eq!(descriptors[2]["hits"], 7);
}

#[test]
fn only_requests_of_some_kind_are_counted() {
    let Some(service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "request_type: internal");
    assert_eq!(ask(&proxy, "/", "limit").status(), 200);
    let proxy = proxy_asking(&service, &origin, "request_type: external");
    assert_eq!(ask(&proxy, "/", "limit").status(), 429);
}

#[test]
fn a_client_that_goes_away_cancels_its_question() {
    let Some(mut service) = Service::start("ratelimit") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&service, &origin, "");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\nx-do: hang\r\n\r\n");
    service.told();
    client.reset();
    proxy.stat_becomes("cluster.limits.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    assert!(!proxy.stats().contains_key("cluster.service.ratelimit.error"));
    assert_eq!(origin.seen().len(), 0);
}

fn ask(proxy: &Proxy, path: &str, what: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nhost: example\r\nx-do: {what}\r\nx-mine: me\r\n\r\n"
    ));
    client.response()
}

/// A proxy that asks the service about requests; `options` are further ones of the filter.
fn proxy_asking(service: &Service, origin: &Origin, options: &str) -> Proxy {
    let options = format!("domain: front, timeout: 1s, {SERVICE}, {options}");
    let yaml = Config::to(origin).filter("limit", "ratelimit.v3.RateLimit", &options).yaml();
    let yaml = yaml.replace("\n              routes:", ROUTES);
    Proxy::with(Config::verbatim(service.in_cluster(&yaml, "limits", &protocols(HTTP2))))
}

const SERVICE: &str = "rate_limit_service: { transport_api_version: V3, \
    grpc_service: { envoy_grpc: { cluster_name: limits } } }";

/// The rate limits of a virtual host, and routes before the one for everything.
const ROUTES: &str = r#"
              rate_limits: [{ actions: [{ generic_key: { descriptor_value: host } }] }]
              routes:
              - match: { path: / }
                route: { cluster: service, rate_limits: [{ actions: [{ generic_key: { descriptor_value: all } }, { request_headers: { header_name: x-do, descriptor_key: do } }] }] }
              - match: { path: /quiet }
                route: { cluster: service, rate_limits: [{ actions: [{ request_headers: { header_name: x-do, descriptor_key: do } }], x_ratelimit_option: "OFF" }] }
              - match: { path: /own }
                route: { cluster: service, rate_limits: [{ actions: [{ generic_key: { descriptor_value: own } }] }] }
              - match: { path: /both }
                route: { cluster: service, include_vh_rate_limits: true, rate_limits: [{ actions: [{ generic_key: { descriptor_value: own } }] }] }
              - match: { path: /always }
                route: { cluster: service, rate_limits: [{ actions: [{ generic_key: { descriptor_value: own } }] }] }
                typed_per_filter_config: { limit: { "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, vh_rate_limits: INCLUDE } }
              - match: { path: /never }
                route: { cluster: service }
                typed_per_filter_config: { limit: { "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, vh_rate_limits: IGNORE } }
              - match: { path: /instead }
                route: { cluster: service, rate_limits: [{ actions: [{ generic_key: { descriptor_value: own } }] }] }
                typed_per_filter_config: { limit: { "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, domain: other, rate_limits: [{ actions: [{ generic_key: { descriptor_value: instead } }] }] } }
              - match: { path: /second-stage }
                route: { cluster: service, rate_limits: [{ stage: 2, actions: [{ generic_key: { descriptor_value: second } }] }] }
              - match: { path: /direct }
                direct_response: { status: 204 }
              - match: { path: /hits }
                route: { cluster: service }
                typed_per_filter_config: { limit: { "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, rate_limits: [{ actions: [{ generic_key: { descriptor_value: a } }], hits_addend: { number: 5 } }, { actions: [{ generic_key: { descriptor_value: b } }], hits_addend: { number: 2, is_negative_hits: true } }, { actions: [{ generic_key: { descriptor_value: c } }], hits_addend: { format: "%QUERY_PARAM(n)%" } }] } }"#;
