//! TLS with clients and with origins.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Act, Broken, Client, Config, Origin, PATIENCE, Proxy, Tls, is_oracle};

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn raw(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything up to the end of the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn requests_share_connections_in_both_versions() {
    for version in rustls::ALL_VERSIONS {
        let tls = Tls::new().with_version(version);
        let origin = Origin::over_tls(&tls, [Act::Echo]);
        let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
        let mut client = proxy.connect_tls(&tls);
        for path in ["/a", "/b", "/c"] {
            assert!(client.get(path).text().starts_with(&format!("GET {path} ")));
        }
        assert_eq!(origin.connections(), 1);
        assert_eq!(proxy.stat("http.front.downstream_cx_ssl_total"), 1);
        assert_eq!(proxy.stat("http.front.downstream_cx_ssl_active"), 1);
        drop(client);
        proxy.stat_becomes("http.front.downstream_cx_ssl_active", 0);
        assert_eq!(proxy.stat("http.front.downstream_rq_total"), 3);
        assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 1);
    }
}

#[test]
fn pipelined_requests_in_one_record_are_answered_in_order() {
    let (tls, origin) = (Tls::new(), Origin::that_echoes());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let mut client = proxy.connect_tls(&tls);
    let requests = ["/1", "/2", "/3"].map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client.send(requests.concat());
    for path in ["/1", "/2", "/3"] {
        assert!(client.response().text().starts_with(&format!("GET {path} ")));
    }
}

#[test]
fn a_megabyte_passes_both_ways() {
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [Act::Swallow, Act::ReplyWith(1 << 20)]);
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
    let mut client = proxy.connect_tls(&tls);
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 1 << 20));
    client.send(vec![b'x'; 1 << 20]);
    assert_eq!(client.response().text(), "1048576");
    assert_eq!(client.get("/").body, vec![b'x'; 1 << 20]);
    let bytes = proxy.stat("http.front.downstream_cx_tx_bytes_total");
    assert!(((1 << 20)..(1 << 20) + 1000).contains(&bytes), "{bytes}: plaintext is counted");
}

#[test]
fn an_answer_before_a_close_is_whole_whatever_its_length() {
    let tls = Tls::new();
    let lengths: Vec<u64> = (16_384 - 400..=16_384 + 40).step_by(11).collect();
    let origin = Origin::over_tls(&tls, lengths.iter().map(|length| Act::ReplyWith(*length)));
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
    for length in lengths {
        let mut client = proxy.connect_tls(&tls);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert_eq!(client.response().body.len() as u64, length);
        client.is_closed();
    }
}

/// Both of its bodies end with the connection; only the first time with `close_notify`.
fn origin_whose_second_body_is_cut(tls: &Tls) -> Origin {
    let half = b"HTTP/1.1 200 OK\r\n\r\nhalf a body".to_vec();
    Origin::over_tls(tls, [Act::ReplyThenClose(half.clone()), Act::ReplyThenCut(half)])
}

/// Unlike Envoy, which takes any close for the end of such a body: it may have been cut off on its way.
#[test]
fn a_body_until_close_is_whole_only_after_close_notify() {
    if is_oracle() {
        return;
    }
    let tls = Tls::new();
    let origin = origin_whose_second_body_is_cut(&tls);
    let config = Config::to(&origin).tls(&tls).upstream_tls(&tls);
    let proxy = Proxy::with(config);
    let ask = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(proxy.connect_tls(&tls).send(ask).response().text(), "half a body");
    let cut = proxy.connect_tls(&tls).send(ask).try_response("GET");
    let cut = cut.expect_err("a cut body does not look complete");
    assert!(cut.bytes().ends_with(b"half a body"), "{cut:?}");
}

#[test]
fn a_client_of_http_10_can_tell_a_whole_body_from_a_cut_one() {
    if is_oracle() {
        return;
    }
    let tls = Tls::new();
    let origin = origin_whose_second_body_is_cut(&tls);
    let config = Config::to(&origin).tls(&tls).upstream_tls(&tls);
    let http10 = "http_protocol_options: { accept_http_10: true }";
    let proxy = Proxy::with(config.manager(http10));
    let ask = "GET / HTTP/1.0\r\nhost: a\r\n\r\n";
    assert_eq!(proxy.connect_tls(&tls).send(ask).response().text(), "half a body");
    let cut = proxy.connect_tls(&tls).send(ask).try_response("GET");
    assert!(matches!(cut, Err(Broken::Cut(_) | Broken::Reset(_))), "{cut:?}");
}

/// Whatever frames a body, one that is cut is not complete for the other side.
#[test]
fn a_cut_body_is_not_complete_in_any_framing() {
    let tls = Tls::new();
    for framing in ["content-length: 20", "transfer-encoding: chunked"] {
        let begin = if framing.starts_with('c') { "half a body" } else { "b\r\nhalf a body\r\n" };
        let half = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{begin}");
        let origin = Origin::over_tls(&tls, [Act::ReplyThenCut(half.into_bytes())]);
        let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
        let mut client = proxy.connect_tls(&tls);
        let cut = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").try_response("GET");
        assert!(!matches!(cut, Ok(_) | Err(Broken::Silent(_))), "{framing}: {cut:?}");
        // The same from a client: its request never becomes a whole one.
        let origin = Origin::that_echoes();
        let proxy = Proxy::with(Config::to(&origin).tls(&tls));
        let mut client = proxy.connect_tls(&tls);
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{begin}"));
        proxy.stat_becomes("http.front.downstream_rq_active", 1);
        client.cut();
        proxy.stat_becomes("http.front.downstream_rq_active", 0);
        assert!(origin.seen().is_empty(), "{framing}");
    }
}

#[test]
fn sessions_are_resumed_on_both_sides() {
    for version in rustls::ALL_VERSIONS {
        let tls = Tls::new().with_version(version);
        let origin = Origin::over_tls(&tls, [Act::ReplyThenClose(ok("ok"))]);
        let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
        for is_resumed in [false, true] {
            let mut client = proxy.connect_tls(&tls);
            assert_eq!(client.get("/").status(), 200);
            assert_eq!(client.wire().session().is_resumed(), is_resumed);
        }
        assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 2);
        assert_eq!(proxy.stat("cluster.service.ssl.session_reused"), 1);
    }
}

/// Requests of high priority have connections of their own, but no TLS of their own.
#[test]
fn connections_of_another_pool_resume_the_session_with_the_host() {
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [Act::Echo]);
    let default = "- match: { prefix: \"/\" }";
    let high = "- match: { prefix: \"/high\" }\n                route: { cluster: service, priority: HIGH }";
    let yaml = Config::to(&origin).upstream_tls(&tls).yaml();
    let routes = format!("{high}\n              {default}");
    let proxy = Proxy::with(Config::verbatim(yaml.replacen(default, &routes, 1)));
    let mut client = proxy.connect();
    for path in ["/", "/high"] {
        assert_eq!(client.get(path).status(), 200);
    }
    assert_eq!(proxy.stat("cluster.service.upstream_cx_total"), 2);
    assert_eq!(proxy.stat("cluster.service.ssl.session_reused"), 1);
}

#[test]
fn a_websocket_passes_over_tls() {
    let tls = Tls::new();
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::over_tls(&tls, [Act::ReplyThenEcho(switch.into())]);
    let config = Config::to(&origin).manager("upgrade_configs: [{ upgrade_type: websocket }]");
    let proxy = Proxy::with(config.tls(&tls).upstream_tls(&tls));
    let mut client = proxy.connect_tls(&tls);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    for message in ["hello", "again"] {
        client.send(message);
        assert_eq!(client.wire().take(5).unwrap(), message.as_bytes());
    }
    client.half_close();
    client.is_closed();
}

#[test]
fn a_tunnel_ends_after_its_last_byte_was_sent() {
    const COUNT: usize = 16 << 20;
    let tls = Tls::new();
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::over_tls(&tls, [Act::ReplyThenHearSlowly(switch.into())]);
    let config = Config::to(&origin).manager("upgrade_configs: [{ upgrade_type: websocket }]");
    let proxy = Proxy::with(config.tls(&tls).upstream_tls(&tls));
    let mut client = proxy.connect_tls(&tls);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    client.send(vec![b'x'; COUNT]).half_close();
    origin.has_seen(2);
    assert_eq!(origin.seen()[1].start_line, COUNT.to_string());
}

#[test]
fn an_origin_may_close_between_requests() {
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [Act::ReplyThenClose(ok("ok"))]);
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
    let mut client = proxy.connect_tls(&tls);
    for closed in 1..=3 {
        assert_eq!(client.get("/").status(), 200);
        proxy.stat_becomes("cluster.service.upstream_cx_destroy_remote", closed);
    }
}

#[test]
fn an_origin_that_cannot_be_verified_is_a_failed_connect() {
    let origin = Origin::over_tls(&Tls::new(), [Act::Reply(ok("ok"))]);
    let proxy = Proxy::with(Config::to(&origin).upstream_tls(&Tls::new()));
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("reset reason: remote connection failure"), "{answer}");
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_fail"), 1);
    assert_eq!(proxy.stat("cluster.service.ssl.fail_verify_error"), 1);
    assert_eq!(proxy.stat("cluster.service.ssl.connection_error"), 0);
    assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 0);
}

#[test]
fn an_origin_that_never_answers_the_handshake_is_a_timeout() {
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::to_addresses(&[origin.local_addr().unwrap()]);
    let proxy = Proxy::with(config.upstream_tls(&Tls::new()).cluster("connect_timeout: 0.2s"));
    assert!(proxy.get("/").text().ends_with("reset reason: connection timeout"));
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_timeout"), 1);
}

#[test]
fn plaintext_is_closed_without_an_answer() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let mut stream = raw(&proxy);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(rest(stream), b"");
    let mut stream = raw(&proxy);
    stream.write_all(&[0; 40]).unwrap();
    assert_eq!(rest(stream), [0x15, 3, 1, 0, 2, 2, 70]);
    let stats = proxy.stats();
    let of = |name: &str| stats.get(&format!("http.front.{name}")).copied();
    assert_eq!(of("downstream_cx_ssl_total"), Some(2), "failed handshakes count too");
    assert_eq!(of("downstream_cx_http1_total"), Some(0));
    assert_eq!(of("downstream_rq_total"), Some(0));
}

#[test]
fn a_handshake_that_never_ends_is_closed() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let config = Config::to(&origin).tls(&tls).chain("transport_socket_connect_timeout: 0.2s");
    let proxy = Proxy::with(config);
    let mut stream = raw(&proxy);
    stream.write_all(&tls.client_hello()[..50]).unwrap();
    assert_eq!(rest(stream), b"");
    let stats = proxy.stats();
    let timeouts = stats.iter().find(|(name, _)| {
        name.ends_with(".downstream_cx_transport_socket_connect_timeout") && !name.contains("admin")
    });
    assert_eq!(timeouts.map(|(_, count)| *count), Some(1));
}

#[test]
fn a_slow_reader_gets_everything_before_the_close() {
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [Act::ReplyWith(1 << 20)]);
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).upstream_tls(&tls));
    let stream = TcpStream::connect(proxy.address()).unwrap();
    socket2::SockRef::from(&stream).set_recv_buffer_size(16 << 10).unwrap();
    let mut client = Client::over_tls(stream, &tls);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.has_seen(1);
    assert_eq!(client.response().body.len(), 1 << 20);
    client.is_closed();
}

#[test]
fn a_response_that_is_cut_off_is_not_complete_for_the_client() {
    let tls = Tls::new();
    let origin = Origin::that_closes_within_the_body();
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let cut = proxy.connect_tls(&tls).send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").try_response("GET");
    assert!(!matches!(cut, Ok(_) | Err(Broken::Silent(_))), "{cut:?}");
}

#[test]
fn the_hybrid_key_exchange_is_preferred_in_tls_13() {
    let origin = Origin::that_answers();
    for version in rustls::ALL_VERSIONS {
        let tls = Tls::new().with_version(version);
        let proxy = Proxy::with(Config::to(&origin).tls(&tls));
        let mut client = proxy.connect_tls(&tls);
        assert_eq!(client.get("/").status(), 200);
        // The client of the stories has it, too, but offers a share of X25519 first.
        let expected = match version.version {
            rustls::ProtocolVersion::TLSv1_3 => rustls::NamedGroup::X25519MLKEM768,
            _ => rustls::NamedGroup::X25519,
        };
        assert_eq!(client.wire().session().group(), expected);
    }
}
