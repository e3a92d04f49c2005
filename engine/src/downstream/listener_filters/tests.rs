use super::inspect::{Found, Step, http};
use super::*;
use crate::address::Address;
use crate::downstream::filter_chain_match::{Detected, TransportProtocol};
use crate::listener_facts::ListenerFacts;
use crate::stats::Registry;

fn found() -> Found {
    Found {
        local: Address::Ip("10.0.0.1:443".parse().expect("an address")),
        remote: Address::Ip("192.0.2.7:5000".parse().expect("an address")),
        detected: Detected::default(),
        facts: ListenerFacts::default(),
    }
}

fn proxy_protocol(registry: &Registry, versions: Versions, optional: bool) -> ProxyProtocol {
    ProxyProtocol {
        versions,
        optional,
        rules: tlv_rules::Rules::default(),
        passes: None,
        stats: registry.scope("proxy_proto."),
        errors: registry.scope(""),
    }
}

const V1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nGET /";

#[test]
fn a_proxy_header_is_consumed_and_its_addresses_are_taken() {
    let registry = Registry::new(1);
    let filter = proxy_protocol(&registry, Versions::BOTH, false);
    let mut found = found();
    assert_eq!(filter.inspect(0, V1, &mut found), Step::Continue { consumed: V1.len() - 5 });
    assert_eq!(found.remote.to_string(), "1.2.3.4:1111");
    assert_eq!(found.local.to_string(), "5.6.7.8:2222");
    assert_eq!(filter.stats.shard(0).v1_found.value(), 1);
}

#[test]
fn unknown_addresses_are_those_of_the_connection() {
    let registry = Registry::new(1);
    let filter = proxy_protocol(&registry, Versions::BOTH, false);
    let mut after = found();
    let header = b"PROXY UNKNOWN\r\n";
    assert_eq!(filter.inspect(0, header, &mut after), Step::Continue { consumed: header.len() });
    assert_eq!(after, found());
}

#[test]
fn a_connection_without_a_header_is_refused_unless_that_is_allowed() {
    let registry = Registry::new(1);
    let counting = proxy_protocol(&registry, Versions::BOTH, false);
    for (optional, step) in [(false, Step::Close), (true, Step::Continue { consumed: 0 })] {
        let filter = proxy_protocol(&registry, Versions::BOTH, optional);
        assert_eq!(filter.inspect(0, b"GET /", &mut found()), step);
        assert_eq!(filter.inspect(0, b"PRO", &mut found()), Step::Wait);
        let malformed = b"PROXY FOO\r\n";
        assert_eq!(filter.inspect(0, malformed, &mut found()), Step::Close, "in any case");
    }
    let stats = counting.stats.shard(0);
    assert_eq!((stats.not_found_allowed.value(), stats.not_found_disallowed.value()), (1, 1));
    assert_eq!(stats.v1_error.value(), 2);
    assert_eq!(counting.errors.shard(0).downstream_cx_proxy_proto_error.value(), 3);
}

/// As recorded with Envoy 1.40.
#[test]
fn a_disallowed_version_is_refused_or_without_a_requirement_ordinary_content() {
    let registry = Registry::new(1);
    let only_v2 = Versions { v1: false, v2: true };
    let strict = proxy_protocol(&registry, only_v2, false);
    assert_eq!(strict.inspect(0, V1, &mut found()), Step::Close);
    let stats = strict.stats.shard(0);
    assert_eq!((stats.v1_found.value(), stats.v1_disallowed.value()), (1, 1));
    assert_eq!(strict.errors.shard(0).downstream_cx_proxy_proto_error.value(), 0);
    let optional = proxy_protocol(&registry, only_v2, true);
    assert_eq!(optional.inspect(0, V1, &mut found()), Step::Continue { consumed: 0 });
    assert_eq!(stats.not_found_allowed.value(), 1);
}

fn tls_inspector(registry: &Registry, hello_max: usize, only_tls: bool) -> TlsInspector {
    TlsInspector {
        hello_max,
        only_tls,
        ja3: false,
        ja4: false,
        stats: registry.scope("tls_inspector."),
    }
}

#[test]
fn a_hello_that_is_too_long_is_refused_and_other_protocols_pass() {
    let registry = Registry::new(1);
    let filter = tls_inspector(&registry, 300, false);
    let hello = [&[22, 3, 1, 0x10, 0, 1, 0, 0x0f, 0xfc][..], &[0; 400]].concat();
    assert_eq!(filter.inspect(0, &hello[..299], &mut found()), Step::Wait);
    assert_eq!(filter.inspect(0, &hello, &mut found()), Step::Close);
    assert_eq!(filter.stats.shard(0).client_hello_too_large.value(), 1);
    let mut after = found();
    assert_eq!(filter.inspect(0, b"GET /", &mut after), Step::Continue { consumed: 0 });
    assert_eq!(after, found());
    let only_tls = tls_inspector(&registry, 300, true);
    assert_eq!(only_tls.inspect(0, b"GET /", &mut found()), Step::Close);
    assert_eq!(filter.stats.shard(0).tls_not_found.value(), 2);
}

#[test]
fn plaintext_http_is_an_application_protocol() {
    let registry = Registry::new(1);
    let stats = registry.scope::<HttpInspectorStats>("http_inspector.");
    let done = Step::Continue { consumed: 0 };
    let mut after = found();
    assert_eq!(http(stats.shard(0), b"GET / HT", &mut after), Step::Wait);
    assert_eq!(http(stats.shard(0), b"GET / HTTP/1.1\r\n", &mut after), done);
    assert_eq!(after.detected.application_protocols, [b"http/1.1"]);
    // What TLS has negotiated is not looked at.
    let mut tls = found();
    tls.detected.transport = TransportProtocol::Tls;
    assert_eq!(http(stats.shard(0), b"", &mut tls), done);
    assert!(tls.detected.application_protocols.is_empty());
}
