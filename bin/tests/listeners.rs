//! Listeners: which filter chain serves a connection, and what listener filters do before.

use crate::support::{Config, Origin, Proxy};

/// Adds fields to the listener.
fn with_listener(origin: &Origin, fields: &str) -> Config {
    let yaml = Config::to(origin).yaml();
    Config::verbatim(yaml.replace(
        "- name: front\n",
        &format!("- name: front\n    stat_prefix: front\n    {fields}\n"),
    ))
}

const PROXY: &str = r#"listener_filters: [{ name: proxy, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol } }]"#;
const TLS_INSPECTOR: &str = r#"listener_filters: [{ name: tls, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } }]"#;

#[test]
fn however_a_proxy_header_arrives_the_request_behind_it_is_served() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(with_listener(&origin, PROXY).shards(2));
    let bytes = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for cut in [1, 5, 20, 42, 43, 44, 50] {
        let mut client = proxy.connect();
        let (first, rest) = bytes.split_at(cut);
        client.send(first);
        std::thread::sleep(std::time::Duration::from_millis(5));
        client.send(rest);
        assert_eq!(client.response().status(), 200, "{cut}");
        assert_eq!(client.get("/b").status(), 200, "the next request has no header");
    }
    assert_eq!(proxy.stat("proxy_proto.versions.v1.found"), 7);
}

#[test]
fn a_silent_client_of_a_listener_with_filters_is_waited_for_and_then_closed() {
    let origin = Origin::that_answers();
    let filters = format!("{TLS_INSPECTOR}\n    listener_filters_timeout: 0.3s");
    let proxy = Proxy::with(with_listener(&origin, &filters));
    let mut client = proxy.connect();
    proxy.stat_becomes("listener.front.downstream_pre_cx_active", 1);
    client.is_closed();
    assert_eq!(proxy.stat("listener.front.downstream_pre_cx_timeout"), 1);
    assert_eq!(proxy.stat("listener.front.downstream_pre_cx_active"), 0);
    assert_eq!(proxy.stat("listener.front.downstream_cx_total"), 0);
}

#[test]
fn a_drain_does_not_wait_for_clients_that_have_sent_nothing_yet() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(with_listener(&origin, TLS_INSPECTOR));
    let mut silent = proxy.connect();
    proxy.stat_becomes("listener.front.downstream_pre_cx_active", 1);
    proxy.signal(crate::support::Signal::Term);
    silent.is_closed();
    assert!(proxy.exit().success());
}

#[test]
fn a_connection_that_matches_no_chain_is_closed() {
    let origin = Origin::that_answers();
    let yaml = with_listener(&origin, "tcp_backlog_size: 100").yaml();
    let chain = "    - filter_chain_match: { source_type: EXTERNAL }\n      filters:\n";
    let yaml = yaml.replace("    - filters:\n", chain);
    let proxy = Proxy::with(Config::verbatim(yaml));
    proxy.connect().is_closed();
    assert_eq!(proxy.stat("listener.front.no_filter_chain_match"), 1);
    assert_eq!(proxy.stat("listener.front.downstream_cx_total"), 0);
}
