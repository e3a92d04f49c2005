//! RING_HASH and MAGLEV: the same key goes to the same host.

use std::collections::BTreeMap;

use crate::support::{Config, Origin, Proxy};

const BY_HEADER: &str = "hash_policy: [{ header: { header_name: x-key } }]";

/// How many of 60 keys each origin got, each key twice.
fn keys_of(policy: &str) -> Vec<BTreeMap<String, usize>> {
    let origins = [Origin::that_answers(), Origin::that_answers(), Origin::that_answers()];
    let addresses = origins.each_ref().map(Origin::address);
    let config = Config::to_addresses(&addresses).cluster(policy).route(BY_HEADER).shards(2);
    let proxy = Proxy::with(config);
    for _ in 0..2 {
        for key in 0..60 {
            let mut client = proxy.connect();
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-key: {key}\r\n\r\n"));
            assert_eq!(client.response().status(), 200);
        }
    }
    let keys = |origin: &Origin| {
        let mut keys = BTreeMap::new();
        for request in origin.seen() {
            *keys.entry(request.header("x-key").unwrap()).or_insert(0) += 1;
        }
        keys
    };
    origins.iter().map(keys).collect()
}

#[test]
fn a_key_keeps_its_host_on_all_shards() {
    for policy in ["lb_policy: RING_HASH", "lb_policy: MAGLEV"] {
        let keys = keys_of(policy);
        assert!(keys.iter().all(|keys| keys.len() >= 5), "{policy}: {keys:?}");
        assert!(
            keys.iter().flat_map(BTreeMap::values).all(|times| *times == 2),
            "{policy}: {keys:?}"
        );
    }
}
