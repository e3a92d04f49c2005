//! HTTP filters, where a parity case cannot show what they do.

use std::time::{Duration, Instant};

use crate::support::{Config, Origin, Proxy, wait_until};

#[test]
fn an_operator_fails_the_health_checks_of_the_process() {
    let origin = Origin::that_answers();
    let health =
        "pass_through_mode: true, headers: [{ name: ':path', string_match: { exact: /health } }]";
    let proxy =
        Proxy::with(Config::to(&origin).filter("health", "health_check.v3.HealthCheck", health));
    let immediate = |path: &str| proxy.get(path).header("x-envoy-immediate-health-check-fail");
    assert_eq!(proxy.get("/health").status(), 200);
    assert_eq!(immediate("/"), None);
    proxy.admin_post("/healthcheck/fail");
    wait_until("health checks to fail", || proxy.get("/health").status() == 503);
    let seen = origin.seen().len();
    assert_eq!(proxy.get("/health").status(), 503);
    assert_eq!(origin.seen().len(), seen, "the proxy answers");
    assert_eq!(immediate("/health").as_deref(), Some("true"));
    assert_eq!(immediate("/").as_deref(), Some("true"));
    proxy.admin_post("/healthcheck/ok");
    wait_until("health checks to pass", || proxy.get("/health").status() == 200);
    assert_eq!(immediate("/"), None);
}

/// The timeouts of a route are about the origin, not about a filter that slows its response down.
#[test]
fn a_response_that_is_slowed_down_is_not_cut_by_the_timeout_of_its_route() {
    let body = "a".repeat(600);
    let origin = Origin::that_says(format!("HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n{body}"));
    let slow =
        "response_rate_limit: { fixed_limit: { limit_kbps: 1 }, percentage: { numerator: 100 } }";
    let config = Config::to(&origin)
        .filter("fault", "fault.v3.HTTPFault", slow)
        .route("timeout: 0.2s, retry_policy: { per_try_idle_timeout: 0.1s }");
    let proxy = Proxy::with(config);
    let began = Instant::now();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.body.len()), (200, 600));
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(proxy.stat("cluster.service.upstream_rq_timeout"), 0);
}
