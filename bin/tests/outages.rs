//! A host that goes down: what the operator sees without an access log.

use crate::support::{Config, Origin, Proxy, Refusing, is_oracle, wait_until};

#[test]
fn a_host_that_refuses_connections_is_failing_on_the_page_and_in_the_log_until_it_recovers() {
    if is_oracle() {
        return;
    }
    let host = Refusing::new();
    let address = host.address();
    let proxy = Proxy::with(Config::to_addresses(&[address]).shards(2));
    assert!(proxy.admin("/").text().contains(&format!("<td>{address}<td>not checked")));
    assert_eq!(proxy.get("/").status(), 503);
    let logged =
        format!("cluster service: host {address} is failing: connection refused (1 failure)");
    wait_until("the outage in the log", || proxy.log().contains(&logged));
    let red = format!("<tr class=bad><td>service<td>{address}<td>connection refused, for ");
    assert!(proxy.admin("/").text().contains(&red), "{}", proxy.admin("/").text());
    let clusters = proxy.admin("/clusters").text();
    assert!(clusters.contains(&format!("service::{address}::health_flags::healthy\n")));

    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 503);
    }
    let origin = host.comes_up();
    assert_eq!(proxy.get("/").status(), 200);
    let back = format!("cluster service: host {address} is back after ");
    wait_until("the recovery in the log", || proxy.log().contains(&back));
    assert_eq!(proxy.log().matches("is failing").count(), 1, "{}", proxy.log());
    assert!(proxy.admin("/").text().contains(&format!("<td>{address}<td>not checked")));
    drop(origin);
}

#[test]
fn a_host_that_accepts_but_does_not_answer_is_reported_too() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0.05s"));
    let logged = format!("host {} is failing: requests time out", origin.address());
    wait_until("the outage in the log", || {
        assert_eq!(proxy.get("/").status(), 504);
        proxy.log().contains(&logged)
    });
}
