//! The server names of TLS connections to origins, and which connections requests may share.

use rcgen::SanType;

use crate::support::tcp::tcp_config;
use crate::support::{Act, Config, Handshake, Message, Origin, Proxy, Tls, is_oracle};

/// A certificate for a.test, b.test and 127.0.0.1.
fn two_hosts() -> Tls {
    let name = SanType::DnsName("b.test".try_into().unwrap());
    Tls::with_names(vec![name, SanType::IpAddress([127, 0, 0, 1].into())])
}

/// A cluster over TLS with these fields of its TLS, and these of `upstream_http_protocol_options`.
fn to(origin: &Origin, tls: &Tls, socket: &str, names: &str) -> Config {
    let config = Config::to(origin).cluster("connect_timeout: 9s");
    let config = config.cluster(&tls.upstream_with(socket));
    config.cluster(&format!("upstream_http_protocol_options: {{ {names} }}"))
}

const SNI: &str = "sni: configured.test";
const AUTO: &str = "auto_sni: true, auto_san_validation: true";

/// Asks for a host, with these further lines.
fn ask(proxy: &Proxy, host: &str, lines: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n"));
    client.response()
}

#[test]
fn the_host_of_a_request_is_the_server_name_and_only_the_same_host_shares_its_connection() {
    for version in rustls::ALL_VERSIONS {
        let tls = two_hosts().with_version(version);
        let origin = Origin::over_tls(&tls, [Act::Echo]);
        let proxy = Proxy::with(to(&origin, &tls, SNI, AUTO));
        let mut client = proxy.connect();
        for host in ["a.test", "b.test:8443", "A.Test", "b.test", "a.test:80"] {
            client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
            let answer = client.response();
            assert!(answer.text().contains(&format!("host: {host}\r\n")), "{answer}");
        }
        assert_eq!(origin.server_names(), ["a.test", "b.test", "a.test", "b.test", "a.test"]);
        assert_eq!(origin.connections(), 2);
        assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 2);
    }
}

#[test]
fn a_certificate_without_the_host_is_refused() {
    let (tls, other) = (two_hosts(), "upstream connect error or disconnect/reset before headers");
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let proxy = Proxy::with(to(&origin, &tls, SNI, AUTO));
    assert_eq!(ask(&proxy, "a.test", "").status(), 200);
    let refused = ask(&proxy, "c.test", "");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.text(), format!("{other}. reset reason: remote connection failure"));
    assert_eq!(proxy.stat("cluster.service.ssl.fail_verify_san"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_fail"), 1);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_host_is_only_sent_or_only_verified() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let sent = Proxy::with(to(&origin, &tls, SNI, "auto_sni: true"));
    assert_eq!(ask(&sent, "c.test", "").status(), 200, "nobody verifies it");
    let verified = Proxy::with(to(&origin, &tls, SNI, "auto_san_validation: true"));
    assert_eq!(ask(&verified, "b.test", "").status(), 200);
    assert_eq!(ask(&verified, "c.test", "").status(), 503);
    assert_eq!(origin.server_names(), ["c.test", "configured.test"]);
}

#[test]
fn an_address_is_verified_but_is_no_server_name() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let proxy = Proxy::with(to(&origin, &tls, SNI, AUTO));
    assert_eq!(ask(&proxy, "127.0.0.1:80", "").status(), 200);
    assert_eq!(ask(&proxy, "127.0.0.2", "").status(), 503);
    assert_eq!(origin.server_names(), ["configured.test"]);
}

#[test]
fn without_a_trusted_ca_no_host_is_verified() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let socket = tls.upstream_with(SNI);
    let (before, after) = socket.split_once("validation_context: {").unwrap();
    let (_, after) = after.split_once("} }").unwrap();
    let config = Config::to(&origin).cluster(&format!("{before}validation_context: {{}}{after}"));
    let proxy =
        Proxy::with(config.cluster(&format!("upstream_http_protocol_options: {{ {AUTO} }}")));
    assert_eq!(ask(&proxy, "a.test", "").status(), 503);
    assert!(origin.seen().is_empty());
}

#[test]
fn the_server_name_is_the_host_that_the_origin_gets() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let config = to(&origin, &tls, SNI, AUTO).route("host_rewrite_literal: 'b.test:99'");
    assert!(ask(&Proxy::with(config), "c.test", "").text().contains("host: b.test:99\r\n"));
    assert_eq!(origin.server_names(), ["b.test"]);
}

#[test]
fn a_header_names_the_server_in_place_of_the_host() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let names = format!("{AUTO}, override_auto_sni_header: x-sni");
    let proxy = Proxy::with(to(&origin, &tls, SNI, &names));
    for lines in ["x-sni: b.test:7\r\n", "x-sni:\r\n", "x-sni: b.test\r\nx-sni: c.test\r\n", ""] {
        assert_eq!(ask(&proxy, "a.test", lines).status(), 200, "{lines}");
    }
    assert_eq!(ask(&proxy, "a.test", "x-sni: c.test\r\n").status(), 503);
    assert_eq!(origin.server_names(), ["b.test", "a.test", "b.test", "a.test"]);
}

/// Unlike Envoy, which sends whatever the host is.
#[test]
fn a_host_that_is_no_name_is_a_failed_connect() {
    if is_oracle() {
        return;
    }
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let proxy = Proxy::with(to(&origin, &tls, SNI, "auto_sni: true"));
    let answer = ask(&proxy, "a..test", "");
    assert!(answer.text().ends_with("reset reason: remote connection failure"), "{answer}");
    assert!(origin.seen().is_empty(), "no other name is sent");
}

#[test]
fn an_endpoint_has_a_server_name_of_its_own_that_its_certificate_must_have() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let fields = format!("{SNI}, auto_host_sni: true, auto_sni_san_validation: true");
    let config = Config::to(&origin).cluster(&tls.upstream_with(&fields)).yaml();
    for (hostname, status) in [("hostname: b.test,", 200), ("hostname: c.test,", 503), ("", 503)] {
        let yaml = config.replace("endpoint: {", &format!("endpoint: {{ {hostname}"));
        assert_eq!(Proxy::with(Config::verbatim(yaml)).get("/").status(), status, "{hostname}");
    }
    assert_eq!(origin.server_names(), ["b.test"]);
}

/// `set_filter_state` with these objects.
fn filter_state(objects: &[(&str, &str)]) -> String {
    let value = |(key, text): &(&str, &str)| {
        format!(
            "    - object_key: envoy.network.{key}\n      \
             format_string: {{ text_format_source: {{ inline_string: '{text}' }} }}\n"
        )
    };
    let values: String = objects.iter().map(value).collect();
    format!(
        "- name: state\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.\
         filters.network.set_filter_state.v3.Config\n    on_new_connection:\n{values}"
    )
}

/// What the origin saw in the handshake for a client of `tcp_proxy` on whose connection these objects
/// are set; `None`: the client got no answer.
fn relayed(tls: &Tls, objects: &[(&str, &str)]) -> Option<Handshake> {
    let origin = Origin::over_tls(tls, [Act::Echo]);
    let yaml = tcp_config(origin.address(), "", &filter_state(objects));
    let cluster = format!("    type: STATIC\n    {}\n", tls.upstream_with(SNI));
    let yaml = yaml.replace("    type: STATIC\n", &cluster).replace("timeout: 1s", "timeout: 9s");
    let proxy = Proxy::with(Config::verbatim(yaml));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.try_response("GET").ok()?;
    origin.handshakes().pop()
}

#[test]
fn network_filters_set_the_names_of_a_relayed_connection() {
    let tls = two_hosts().with_protocols(&["spdy", "http/1.1"]);
    let named = |name: &str| Some(Some(name.to_owned()));
    for (objects, name) in [
        (&[("upstream_server_name", "b.test")][..], named("b.test")),
        (&[("upstream_server_name", "")], named("configured.test")),
        (&[("upstream_subject_alt_names", "c.test,b.test")], named("configured.test")),
        (&[("upstream_subject_alt_names", "c.test")], None),
        (&[("upstream_subject_alt_names", "")], None),
    ] {
        let seen = relayed(&tls, objects);
        assert_eq!(seen.map(|handshake| handshake.server_name), name, "{objects:?}");
    }
    for (protocols, picked) in [("spdy", Some("spdy")), ("x,http/1.1", Some("http/1.1"))] {
        let seen = relayed(&tls, &[("application_protocols", protocols)]).unwrap();
        assert_eq!(seen.protocol.as_deref(), picked);
    }
}

#[test]
fn names_that_a_network_filter_has_set_precede_those_of_requests() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let state = filter_state(&[("upstream_server_name", "b.test")]);
    let state = state.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let yaml = to(&origin, &tls, SNI, AUTO).yaml();
    let proxy = Proxy::with(Config::verbatim(yaml.replace(
        "filters:\n      - name: envoy",
        &format!("filters:\n{state}      - name: envoy"),
    )));
    assert_eq!(ask(&proxy, "a.test", "").status(), 200);
    assert_eq!(ask(&proxy, "c.test", "").status(), 503, "the host is still verified");
    assert_eq!(origin.server_names(), ["b.test"]);
}

#[test]
fn metadata_selects_the_transport_socket_of_an_endpoint() {
    let tls = two_hosts();
    let (secure, plain) = (Origin::over_tls(&tls, [Act::Echo]), Origin::that_answers());
    let socket = tls.upstream_with("sni: b.test");
    let config = Config::to_addresses(&[secure.address(), plain.address()]).cluster(&format!(
        "transport_socket_matches: [{{ name: secure, match: {{ tls: true }}, {socket} }}]"
    ));
    let metadata = "metadata: { filter_metadata: { envoy.transport_socket_match: { tls: true } } }";
    let yaml = config.yaml().replacen(
        "        - endpoint:",
        &format!("        - {metadata}\n          endpoint:"),
        1,
    );
    let proxy = Proxy::with(Config::verbatim(yaml));
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!((secure.seen().len(), plain.seen().len()), (2, 2));
    assert_eq!(secure.server_names(), ["b.test", "b.test"]);
    assert_eq!(proxy.stat("cluster.service.secure.total_match_count"), 1);
    assert_eq!(proxy.stat("cluster.service.default.total_match_count"), 1);
    assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 1);
}

const TWO_POOLS: &str = "circuit_breakers: { thresholds: \
                         [{ max_connection_pools: 2, track_remaining: true }] }";
const BREAKERS: &str = "cluster.service.circuit_breakers.default";

#[test]
fn more_names_than_pools_have_no_healthy_upstream() {
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::ReplyThenStall(Vec::new())]);
    let proxy = Proxy::with(to(&origin, &tls, SNI, "auto_sni: true").cluster(TWO_POOLS));
    let mut clients = [proxy.connect(), proxy.connect()];
    for (client, host) in clients.iter_mut().zip(["a.test", "b.test"]) {
        client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    }
    origin.has_seen(2);
    assert_eq!(proxy.stat(&format!("{BREAKERS}.cx_pool_open")), 1);
    assert_eq!(proxy.stat(&format!("{BREAKERS}.remaining_cx_pools")), 0);
    let answer = ask(&proxy, "c.test", "");
    assert_eq!((answer.status(), &*answer.text()), (503, "no healthy upstream"));
    assert_eq!(proxy.stat("cluster.service.upstream_cx_pool_overflow"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_none_healthy"), 0);
}

/// Envoy 1.40 crashes here.
#[test]
fn idle_connections_make_room_for_another_name() {
    if is_oracle() {
        return;
    }
    let tls = two_hosts();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let config = to(&origin, &tls, SNI, "auto_sni: true").cluster(TWO_POOLS);
    let idle = "common_http_protocol_options: { idle_timeout: 0.3s }";
    let proxy = Proxy::with(config.cluster(idle));
    for host in ["a.test", "b.test", "c.test", "d.test"] {
        assert_eq!(ask(&proxy, host, "").status(), 200, "{host}");
        assert!(proxy.stat("cluster.service.upstream_cx_active") <= 2);
    }
    assert_eq!(proxy.stat("cluster.service.upstream_cx_pool_overflow"), 0);
    proxy.stat_becomes(&format!("{BREAKERS}.remaining_cx_pools"), 2);
}
