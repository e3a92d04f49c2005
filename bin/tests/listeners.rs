//! Listeners: which filter chain serves a connection, and what listener filters do before.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Client, Config, Origin, Proxy, Signal, is_oracle, wait_until};

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
        thread::sleep(std::time::Duration::from_millis(5));
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
    proxy.signal(Signal::Term);
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

#[test]
fn a_listener_may_have_several_addresses() {
    let origin = Origin::that_answers();
    let more = "additional_addresses: [{ address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }]";
    let proxy = Proxy::with(with_listener(&origin, more).shards(2));
    let addresses = proxy.addresses();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        assert_eq!(Client::connect(address).get("/").status(), 200);
    }
    assert_eq!(proxy.stat("listener.front.downstream_cx_total"), 2);
}

#[test]
fn shards_may_share_one_socket() {
    let origin = Origin::that_answers();
    let fields = "enable_reuse_port: false\n    tcp_backlog_size: 10\n    freebind: true\n    \
                  tcp_fast_open_queue_length: 5\n    \
                  socket_options: [{ level: 1, name: 8, int_value: 65536, state: STATE_PREBIND }]";
    let proxy = Proxy::with(with_listener(&origin, fields).shards(2));
    let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
}

#[test]
fn shards_that_share_a_socket_are_idle_during_a_long_drain() {
    if is_oracle() {
        return; // Envoy does not drain.
    }
    let origin = Origin::that_stalls();
    let config = with_listener(&origin, "enable_reuse_port: false").shards(2);
    let proxy = Proxy::with(config);
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    // The listening sockets are closed a moment later.
    wait_until("the listener to be closed", || TcpStream::connect(proxy.address()).is_err());
    proxy.stays_idle();
    assert!(proxy.is_running());
}

#[test]
fn a_cluster_may_connect_from_an_address_of_its_own() {
    let origin = Origin::that_answers();
    let bind = "upstream_bind_config: { source_address: { address: 127.0.0.9, port_value: 0 } }";
    let local = "response_headers_to_add: [{ header: { key: x-local, value: \
         \"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\" } }]";
    let of_all = format!("cluster_manager: {{ {} }}", bind.replace("127.0.0.9", "127.0.0.8"));
    let with_two = "upstream_bind_config: { source_address: { address: \"::1\", port_value: 0 }, \
                    extra_source_addresses: [{ address: { address: 127.0.0.7, port_value: 0 } }] }";
    let to_origin = || Config::to(&origin);
    for (config, expected) in [
        (to_origin().cluster(bind), "127.0.0.9"),
        (to_origin().bootstrap(&of_all), "127.0.0.8"),
        (to_origin().bootstrap(&of_all).cluster(bind), "127.0.0.9"),
        (to_origin().cluster(with_two), "127.0.0.7"),
    ] {
        let host = "- name: everything\n";
        let yaml = config.yaml().replace(host, &format!("{host}              {local}\n"));
        let proxy = Proxy::with(Config::verbatim(yaml));
        assert_eq!(proxy.get("/").header("x-local").as_deref(), Some(expected));
        assert_eq!(proxy.stat("cluster.service.bind_errors"), 0);
    }
}

#[test]
fn an_address_that_this_machine_does_not_have_is_a_local_failure() {
    let origin = Origin::that_answers();
    let bind = "upstream_bind_config: { source_address: { address: 192.0.2.77, port_value: 0 } }";
    let proxy = Proxy::with(Config::to(&origin).cluster(bind));
    assert_eq!(proxy.get("/").status(), 503);
    assert_eq!(proxy.stat("cluster.service.bind_errors"), 1);
}

/// The second listener has no socket; the first one hands over what is for its address.
#[test]
fn a_connection_is_handed_over_to_the_listener_of_its_original_destination() {
    let origin = Origin::that_answers();
    let yaml = with_listener(&origin, &format!("{PROXY}\n    use_original_dst: true")).yaml();
    let begin = yaml.find("  - name: front\n").unwrap();
    let end = yaml.find("  clusters:\n").unwrap();
    let second = yaml[begin..end]
        .replace("- name: front\n    stat_prefix: front", "- name: back\n    stat_prefix: back")
        .replace("use_original_dst: true", "bind_to_port: false")
        .replace(PROXY, "traffic_direction: OUTBOUND")
        .replace("address: 127.0.0.1, port_value: 0", "address: 198.51.100.1, port_value: 80");
    let proxy = Proxy::with(Config::verbatim(yaml[..end].to_owned() + &second + &yaml[end..]));
    let (_, front) = proxy.named_addresses().into_iter().find(|(name, _)| name == "front").unwrap();
    for (destination, [of_front, of_back]) in
        [("198.51.100.1 4000 80", [0, 1]), ("198.51.100.1 4000 81", [1, 1])]
    {
        let mut client = Client::connect(front);
        client.send(format!("PROXY TCP4 192.0.2.7 {destination}\r\n"));
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(proxy.stat("listener.front.downstream_cx_total"), of_front);
        assert_eq!(proxy.stat("listener.back.downstream_cx_total"), of_back);
    }
}

/// An origin that notes what each connection begins with, up to the request, and answers.
fn origin_behind_a_proxy() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, noted) = (connection.unwrap(), Arc::clone(&noted));
            thread::spawn(move || {
                let mut received = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = connection.read(&mut buffer) {
                    received.extend_from_slice(&buffer[..n]);
                    let request = received.windows(4).position(|bytes| bytes == b"GET ");
                    if let Some(start) = request.filter(|_| received.ends_with(b"\r\n\r\n")) {
                        noted.lock().unwrap().push(received[..start].to_vec());
                        received.clear();
                        connection
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                            .unwrap();
                    }
                }
            });
        }
    });
    (address, seen)
}

#[test]
fn an_origin_is_told_the_clients_address_by_a_proxy_header() {
    for (version, header) in [
        ("V1", &b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n"[..]),
        ("V2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x0f\xa0\0\x50"),
    ] {
        let (address, seen) = origin_behind_a_proxy();
        let socket = format!(
            "transport_socket: {{ name: proxy, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, config: {{ version: {version} }}, transport_socket: {{ name: raw, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }} }} }} }}"
        );
        let yaml = Config::to_addresses(&[address]).cluster(&socket).yaml();
        let yaml = yaml.replace("- name: front\n", &format!("- name: front\n    {PROXY}\n"));
        let proxy = Proxy::with(Config::verbatim(yaml));
        // The second client shares the addresses of the first, and its connection to the origin.
        for client in ["192.0.2.7", "192.0.2.7", "192.0.2.8"] {
            let mut connection = proxy.connect();
            connection.send(format!("PROXY TCP4 {client} 198.51.100.1 4000 80\r\n"));
            assert_eq!(connection.get("/").status(), 200);
            assert_eq!(connection.get("/").status(), 200);
        }
        let seen = seen.lock().unwrap();
        let other = header.to_vec();
        let other = match version {
            "V1" => String::from_utf8(other).unwrap().replace(".2.7", ".2.8").into_bytes(),
            _ => [&other[..19], &[8], &other[20..]].concat(),
        };
        let nothing: &[u8] = b"";
        assert_eq!(*seen, [header, nothing, nothing, nothing, &other, nothing], "{version}");
        assert_eq!(proxy.stat("cluster.service.upstream_cx_total"), 2);
    }
}

/// The bytes of a PROXY header of version 2 with these values, from 192.0.2.7:4000 to 198.51.100.1:80.
fn v2_with(tlvs: &[(u8, &str)]) -> Vec<u8> {
    let mut payload = b"\xc0\0\x02\x07\xc6\x33\x64\x01\x0f\xa0\0\x50".to_vec();
    for (kind, value) in tlvs {
        payload.push(*kind);
        payload.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        payload.extend(value.as_bytes());
    }
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &payload].concat()
}

/// Values of the host go before those of the transport socket, and both before those of the client. Unlike in
/// Envoy, a client with other values does not get the connection of the first one.
#[test]
fn an_origin_gets_the_values_of_the_clients_proxy_header_and_others() {
    let (address, seen) = origin_behind_a_proxy();
    let socket = "transport_socket: { name: proxy, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, config: { version: V2, pass_through_tlvs: { match_type: INCLUDE, tlv_type: [2, 3, 225] }, added_tlvs: [{ type: 3, value: c29ja2V0 }, { type: 208, value: c29ja2V0 }] }, transport_socket: { name: raw, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } } } }";
    let metadata = "metadata: { typed_filter_metadata: { envoy.transport_sockets.proxy_protocol: { \"@type\": type.googleapis.com/envoy.config.core.v3.PerHostConfig, added_tlvs: [{ type: 208, value: aG9zdA== }] } } }";
    let yaml = Config::to_addresses(&[address]).cluster(socket).yaml();
    let filter = PROXY.replace("ProxyProtocol }", "ProxyProtocol, pass_through_tlvs: {} }");
    let yaml = yaml
        .replace("- name: front\n", &format!("- name: front\n    {filter}\n"))
        .replace("        - endpoint:", &format!("        - {metadata}\n          endpoint:"));
    let proxy = Proxy::with(Config::verbatim(yaml));
    for authority in ["a.test", "a.test", "b.test"] {
        let mut client = proxy.connect();
        client.send(v2_with(&[(2, authority), (3, "client"), (5, "client"), (225, "client")]));
        assert_eq!(client.get("/").status(), 200);
    }
    let header =
        |authority| v2_with(&[(208, "host"), (3, "socket"), (2, authority), (225, "client")]);
    let expected = [header("a.test"), Vec::new(), header("b.test")];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(proxy.stat("cluster.service.upstream.proxyprotocol.v2_tlvs_exceed_max_length"), 0);
    // A header longer than the kernel takes at once, with values that leave no room for others.
    let long = "x".repeat(65_000);
    let mut client = proxy.connect();
    client.send(v2_with(&[(2, &long), (225, &"y".repeat(510))]));
    assert_eq!(client.get("/").status(), 200);
    let long = v2_with(&[(208, "host"), (3, "socket"), (2, &long)]);
    assert_eq!(seen.lock().unwrap().last(), Some(&long));
    assert_eq!(proxy.stat("cluster.service.upstream.proxyprotocol.v2_tlvs_exceed_max_length"), 1);
}
