//! Network filters: which connections they admit, in front of `tcp_proxy` and of HTTP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use rcgen::SanType;

use crate::support::tcp::{
    NETWORK, client, connected, network_config, relaying, take, tcp_config, until_end,
};
use crate::support::{Config, Proxy, Tls};

#[test]
fn an_echo_returns_everything() {
    let proxy =
        Proxy::with(Config::verbatim(network_config(nowhere(), &filter("echo", "Echo", ""))));
    let mut client = client(&proxy);
    client.write_all(b"hello").unwrap();
    assert_eq!(take(&mut client, 5), b"hello");
    client.write_all(b"again").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(until_end(&mut client), b"again");
}

#[test]
fn a_direct_response_reaches_a_client_that_goes_on_sending() {
    let response = filter("direct_response", "Config", "response: { inline_string: closed }");
    let proxy = Proxy::with(Config::verbatim(network_config(nowhere(), &response)));
    let mut client = client(&proxy);
    client.write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(until_end(&mut client), b"closed");
}

#[test]
fn a_direct_response_waits_for_a_client_that_reads_late() {
    const MUCH: usize = 8 << 20;
    let text = "x".repeat(MUCH);
    let response = format!("response: {{ inline_string: {text} }}");
    let response = filter("direct_response", "Config", &response);
    let proxy = Proxy::with(Config::verbatim(network_config(nowhere(), &response)));
    let mut client = client(&proxy);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(until_end(&mut client).len(), MUCH);
}

#[test]
fn connections_beyond_a_connection_limit_are_closed_until_one_ends() {
    let (proxy, origin) = relaying("", &connection_limit());
    let first = connected(&proxy, &origin);
    assert_eq!(until_end(&mut client(&proxy)), b"");
    assert_eq!(proxy.stat("connection_limit.limit.limited_connections"), 1);
    drop(first);
    proxy.stat_becomes("connection_limit.limit.active_connections", 0);
    connected(&proxy, &origin);
}

#[test]
fn connections_take_tokens_from_a_bucket() {
    let bucket = "stat_prefix: limit\n\
                  token_bucket: { max_tokens: 2, tokens_per_fill: 1, fill_interval: 3600s }";
    let (proxy, origin) = relaying("", &filter("local_ratelimit", "LocalRateLimit", bucket));
    let _held = [connected(&proxy, &origin), connected(&proxy, &origin)];
    assert_eq!(until_end(&mut client(&proxy)), b"");
    assert_eq!(proxy.stat("local_rate_limit.limit.rate_limited"), 1);
}

#[test]
fn rbac_decides_when_the_client_has_sent_something() {
    let (proxy, origin) = relaying("", &rbac("DENY", "127.0.0.1"));
    let (mut client, mut host) = connected(&proxy, &origin);
    host.write_all(b"banner").unwrap();
    assert_eq!(take(&mut client, 6), b"banner");
    client.write_all(b"secret").unwrap();
    assert_eq!(until_end(&mut client), b"");
    assert_eq!(until_end(&mut host), b"", "the origin gets nothing of a refused client");
    assert_eq!(proxy.stat("access.rbac.denied"), 1);

    let (proxy, origin) = relaying("", &rbac("ALLOW", "127.0.0.1"));
    let (mut client, mut host) = connected(&proxy, &origin);
    client.write_all(b"question").unwrap();
    assert_eq!(take(&mut host, 8), b"question");
    assert_eq!(proxy.stat("access.rbac.allowed"), 1);
}

#[test]
fn rbac_in_front_of_http_refuses_a_connection_before_its_request() {
    for (action, answers) in [("ALLOW", true), ("DENY", false)] {
        let proxy = Proxy::with(Config::verbatim(http_behind(&rbac(action, "127.0.0.0"))));
        let mut client = client(&proxy);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let answer = String::from_utf8(until_end(&mut client)).unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 204 "), answers, "{action}: {answer}");
        let requests = proxy.stat("http.front.downstream_rq_total");
        assert_eq!(requests, u64::from(answers), "{action}");
    }
}

#[test]
fn rbac_in_front_of_http_knows_the_certificate_of_the_client() {
    let name = SanType::URI("spiffe://test/client".try_into().unwrap());
    let tls = Tls::new().with_client_certificate(vec![name]);
    for (action, answers) in [("ALLOW", true), ("DENY", false)] {
        let config = http_behind(&rbac_by(
            action,
            "authenticated: { principal_name: { exact: \"spiffe://test/client\" } }",
        ));
        let chain = format!("    - {}\n      filters:\n", tls.downstream());
        let config = config.replacen("    - filters:\n", &chain, 1);
        let proxy = Proxy::with(Config::verbatim(config));
        let mut client = proxy.connect_tls(&tls);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = client.wire().response("GET");
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 204), answers, "{action}");
    }
}

#[test]
fn rbac_decides_about_a_client_that_only_closes_too() {
    let (proxy, origin) = relaying("", &rbac("DENY", "127.0.0.1"));
    let (mut client, mut host) = connected(&proxy, &origin);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(until_end(&mut client), b"");
    assert_eq!(until_end(&mut host), b"");
    assert_eq!(proxy.stat("access.rbac.denied"), 1);
}

#[test]
fn a_connection_limit_in_front_of_http_counts_connections() {
    let proxy = Proxy::with(Config::verbatim(http_behind(&connection_limit())));
    let mut first = client(&proxy);
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(first.read(&mut [0; 1024]).unwrap() > 0);
    assert_eq!(until_end(&mut client(&proxy)), b"");
    drop(first);
    proxy.stat_becomes("connection_limit.limit.active_connections", 0);
    assert_eq!(proxy.stat("http.front.downstream_cx_total"), 2, "refused ones are counted too");
}

#[test]
fn filter_state_names_the_cluster_and_the_idle_timeout() {
    let state = "on_new_connection:\n\
                 - object_key: envoy.tcp_proxy.cluster\n\
                 \x20 format_string: { text_format_source: { inline_string: service } }\n\
                 - object_key: envoy.tcp_proxy.per_connection_idle_timeout_ms\n\
                 \x20 format_string: { text_format_source: { inline_string: '300' } }";
    let state = filter("set_filter_state", "Config", state);
    let origin = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = tcp_config(origin.local_addr().unwrap(), "", &state);
    let config = config.replace("cluster: service\n", "cluster: elsewhere\n");
    let proxy = Proxy::with(Config::verbatim(config));
    let (mut client, _host) = connected(&proxy, &origin);
    assert_eq!(until_end(&mut client), b"");
    proxy.stat_becomes("tcp.front.idle_timeout", 1);
}

#[test]
fn a_cluster_that_does_not_exist_closes_its_connections() {
    let config =
        tcp_config(nowhere(), "", "").replace("cluster: service\n", "cluster: elsewhere\n");
    let proxy = Proxy::with(Config::verbatim(config));
    assert_eq!(until_end(&mut client(&proxy)), b"");
    assert_eq!(proxy.stat("tcp.front.downstream_cx_no_route"), 1);
}

fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

/// A network filter with these fields.
fn filter(name: &str, message: &str, fields: &str) -> String {
    let fields: String = fields.lines().map(|field| format!("    {field}\n")).collect();
    format!(
        "- name: {name}\n  typed_config:\n    \"@type\": {NETWORK}.{name}.v3.{message}\n{fields}"
    )
}

/// Allows or denies the clients whose address begins like this one, up to 24 bits.
fn rbac(action: &str, address: &str) -> String {
    let range = format!("{{ address_prefix: {address}, prefix_len: 24 }}");
    rbac_by(action, &format!("direct_remote_ip: {range}"))
}

/// Allows or denies these clients.
fn rbac_by(action: &str, principal: &str) -> String {
    let rules = format!(
        "stat_prefix: access\n\
         rules: {{ action: {action}, policies: {{ local: {{ permissions: [ {{ any: true }} ], \
         principals: [ {{ {principal} }} ] }} }} }}"
    );
    filter("rbac", "RBAC", &rules)
}

/// At most one connection.
fn connection_limit() -> String {
    filter("connection_limit", "ConnectionLimit", "stat_prefix: limit\nmax_connections: 1")
}

/// These filters in front of a connection manager that answers 204.
fn http_behind(filters: &str) -> String {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = format!(
        "stat_prefix: front\n\
         http_filters: [ {{ name: router, typed_config: {{ \"@type\": {router} }} }} ]\n\
         route_config: {{ virtual_hosts: [ {{ name: all, domains: [\"*\"], routes: [ \
         {{ match: {{ prefix: \"/\" }}, direct_response: {{ status: 204 }} }} ] }} ] }}"
    );
    let manager = filter("http_connection_manager", "HttpConnectionManager", &manager);
    network_config(nowhere(), &[filters, &manager].concat())
}
