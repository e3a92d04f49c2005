//! HTTP filters, where a parity case cannot show what they do.

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
    assert_eq!(immediate("/health"), None);
    assert_eq!(immediate("/").as_deref(), Some("true"));
    proxy.admin_post("/healthcheck/ok");
    wait_until("health checks to pass", || proxy.get("/health").status() == 200);
    assert_eq!(immediate("/"), None);
}
