//! Outlier detection: hosts that fail requests are ejected for a while.

use crate::support::{Config, Origin, Proxy, Refusing};

fn detected(config: Config, options: &str) -> Config {
    config
        .cluster(&format!("outlier_detection: {{ max_ejection_percent: 100, {options} }}"))
        .cluster("common_lb_config: { healthy_panic_threshold: { value: 0 } }")
}

#[test]
fn a_host_that_fails_five_times_in_a_row_is_ejected_and_comes_back() {
    let (well, ill) = (Origin::that_answers(), Origin::that_replies(500));
    let config = Config::to_addresses(&[well.address(), ill.address()]);
    let proxy = Proxy::with(detected(config, "base_ejection_time: 0.4s, interval: 0.2s"));
    let mut client = proxy.connect();
    for _ in 0..10 {
        client.get("/");
    }
    let detection = "cluster.service.outlier_detection";
    proxy.stat_becomes(&format!("{detection}.ejections_enforced_consecutive_5xx"), 1);
    proxy.stat_becomes("cluster.service.membership_healthy", 2);
    assert_eq!(proxy.stat(&format!("{detection}.ejections_active")), 0);
    assert_eq!(ill.seen().len(), 5);
}

#[test]
fn an_ejected_host_gets_nothing_and_is_shown() {
    let (well, refusing) = (Origin::that_answers(), Refusing::new());
    let config = Config::to_addresses(&[well.address(), refusing.address()]);
    let proxy = Proxy::with(detected(config, "consecutive_5xx: 2"));
    let mut client = proxy.connect();
    for _ in 0..4 {
        client.get("/");
    }
    proxy.stat_becomes("cluster.service.membership_healthy", 1);
    for _ in 0..4 {
        assert_eq!(client.get("/").status(), 200);
    }
    let clusters = proxy.admin("/clusters").text();
    let line = format!("{}::health_flags::/failed_outlier_check", refusing.address());
    assert!(clusters.contains(&line), "{clusters}");
}

#[test]
fn by_default_one_host_of_two_is_not_ejected() {
    let (well, ill) = (Origin::that_answers(), Origin::that_replies(500));
    let config = Config::to_addresses(&[well.address(), ill.address()]);
    let proxy = Proxy::with(config.cluster("outlier_detection: {}"));
    let mut client = proxy.connect();
    for _ in 0..12 {
        client.get("/");
    }
    proxy.stat_becomes("cluster.service.outlier_detection.ejections_overflow", 1);
    assert_eq!(proxy.stat("cluster.service.membership_healthy"), 2);
}
