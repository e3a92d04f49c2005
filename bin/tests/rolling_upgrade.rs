//! A rolling upgrade needs `--disable-hot-restart`. The upgrade itself is a story of `draining`.

use crate::support::{Config, Origin, Proxy, corvoy, is_oracle};

const SHARE: [&str; 1] = ["--disable-hot-restart"];

/// A configuration with the listener of `before` and its own admin endpoint.
fn next(origin: &Origin, before: &Proxy) -> Config {
    let yaml = Config::to(origin).yaml();
    let (admin, listener) = yaml.rsplit_once("port_value: 0").unwrap();
    let port = before.address().port();
    Config::verbatim(format!("{admin}port_value: {port}{listener}"))
}

#[test]
fn without_the_flag_a_second_process_does_not_share_the_port() {
    if is_oracle() {
        return; // The oracle always gets the flag.
    }
    let origin = Origin::that_answers();
    let old = Proxy::with(Config::to(&origin).flags(&SHARE));
    let output = corvoy().args(["--config-yaml", &next(&origin, &old).yaml()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&old.address().to_string()), "{error}");
}
