//! A rolling upgrade: the next process starts beside the one that serves, which then drains.

use crate::support::{Config, Origin, Proxy, Signal, corvoy, is_oracle};

const SHARE: [&str; 1] = ["--disable-hot-restart"];

/// The configuration of the process that follows `before`: it has its listener, and an admin endpoint
/// of its own.
fn next(origin: &Origin, before: &Proxy) -> Config {
    let yaml = Config::to(origin).yaml();
    let (admin, listener) = yaml.rsplit_once("port_value: 0").unwrap();
    let port = before.address().port();
    Config::verbatim(format!("{admin}port_value: {port}{listener}")).shards(2)
}

#[test]
fn the_next_process_serves_when_the_old_one_has_drained() {
    let origin = Origin::that_answers();
    let old = Proxy::with(Config::to(&origin).shards(2).flags(&SHARE));
    let next = Proxy::with(next(&origin, &old).flags(&SHARE));
    assert_eq!(next.address(), old.address());
    if is_oracle() {
        return; // It does not drain.
    }
    let mut client = old.connect();
    assert_eq!(client.get("/").status(), 200);
    old.signal(Signal::Term);
    assert!(old.exit().success());
    assert_eq!(next.get("/").status(), 200);
}

#[test]
fn a_second_process_that_was_not_told_so_does_not_share_the_port() {
    if is_oracle() {
        return; // It is always told so.
    }
    let origin = Origin::that_answers();
    let old = Proxy::with(Config::to(&origin).flags(&SHARE));
    let output = corvoy().args(["--config-yaml", &next(&origin, &old).yaml()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&old.address().to_string()), "{said}");
}
