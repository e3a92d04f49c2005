//! TCP connections: what `tcp_proxy` relays, and how connections end. The network filters are in
//! `network_filters.rs`; stats and the order of events are compared with Envoy's in `parity/tcp`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::handshakes::descriptors_max;
use crate::support::tcp::{
    client, connected, is_reset, relaying, reset, take, tcp_config, until_end,
};
use crate::support::{Act, Config, Origin, Proxy, Refusing, Signal, Tls, is_oracle};

#[test]
fn bytes_go_both_ways_and_are_counted() {
    let (proxy, origin) = relaying("", "");
    let (mut client, mut host) = connected(&proxy, &origin);
    client.write_all(b"\0from the client\r\n").unwrap();
    assert_eq!(take(&mut host, 18), b"\0from the client\r\n");
    host.write_all(b"from the origin").unwrap();
    assert_eq!(take(&mut client, 15), b"from the origin");
    proxy.stat_becomes("tcp.front.downstream_cx_rx_bytes_total", 18);
    proxy.stat_becomes("tcp.front.downstream_cx_tx_bytes_total", 15);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_active"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http1_total"), 0);
}

#[test]
fn the_end_of_either_side_leaves_the_other_direction_open() {
    let (proxy, origin) = relaying("", "");
    let (mut client, mut host) = connected(&proxy, &origin);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(until_end(&mut host), b"question");
    thread::sleep(Duration::from_millis(100));
    host.write_all(b"answer").unwrap();
    drop(host);
    assert_eq!(until_end(&mut client), b"answer");

    let (mut client, mut host) = connected(&proxy, &origin);
    host.write_all(b"banner").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(until_end(&mut client), b"banner");
    client.write_all(b"late").unwrap();
    drop(client);
    assert_eq!(until_end(&mut host), b"late");
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_destroy_remote"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_destroy_local"), 1);
}

#[test]
fn a_reset_is_passed_on() {
    let (proxy, origin) = relaying("", "");
    // A byte first: a host that resets before the proxy has seen its connection has refused it.
    let mut byte = [0];
    let (mut client, mut host) = connected(&proxy, &origin);
    client.write_all(b"?").unwrap();
    host.read_exact(&mut byte).unwrap();
    reset(client);
    is_reset(&mut host);
    let (mut client, mut host) = connected(&proxy, &origin);
    host.write_all(b"!").unwrap();
    client.read_exact(&mut byte).unwrap();
    reset(host);
    is_reset(&mut client);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
}

#[test]
fn an_origin_that_sends_much_waits_for_a_client_that_does_not_read() {
    const MUCH: usize = 64 << 20;
    let (proxy, origin) = relaying("", "");
    let (mut client, mut host) = connected(&proxy, &origin);
    let pipes = proxy.pipes();
    let sending = thread::spawn(move || {
        let block = [7; 64 << 10];
        for _ in 0..MUCH / block.len() {
            host.write_all(&block).unwrap();
        }
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!sending.is_finished(), "someone holds {MUCH} bytes");
    let relayed = proxy.stat("tcp.front.downstream_cx_tx_bytes_total");
    assert!(relayed < MUCH as u64, "{relayed} bytes were relayed");
    assert!(proxy.memory_kib() < 200 << 10, "{} KiB", proxy.memory_kib());
    let may_splice = !is_oracle() && descriptors_max() >= 10_000;
    assert!(!may_splice || proxy.pipes() > pipes, "bulk bytes are copied");
    let mut neighbour = connected(&proxy, &origin);
    neighbour.0.write_all(b"hello").unwrap();
    assert_eq!(take(&mut neighbour.1, 5), b"hello");
    let received = until_end(&mut client);
    assert!(received.len() == MUCH && received.iter().all(|byte| *byte == 7));
    sending.join().unwrap();
}

/// An urgent byte is not passed on, as in Envoy; what precedes and what follows it is.
#[test]
fn bulk_bytes_arrive_around_urgent_data() {
    const MUCH: usize = 1 << 20;
    let (proxy, origin) = relaying("", "");
    for ends_at_once in [true, false] {
        let (mut client, mut host) = connected(&proxy, &origin);
        let sending = thread::spawn(move || {
            client.write_all(&vec![7; MUCH]).unwrap();
            socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(b"tail").unwrap();
            if !ends_at_once {
                thread::sleep(Duration::from_millis(300));
                client.write_all(b", and more").unwrap();
            }
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        let received = until_end(&mut host);
        let (bulk, tail) = received.split_at(MUCH);
        assert!(bulk.iter().all(|byte| *byte == 7));
        assert_eq!(tail, if ends_at_once { &b"tail"[..] } else { b"tail, and more" });
        drop(sending.join().unwrap());
    }
}

#[test]
fn much_goes_both_ways_at_once() {
    const MUCH: usize = 8 << 20;
    let (proxy, origin) = relaying("", "");
    let (client, mut host) = connected(&proxy, &origin);
    let mut echo = host.try_clone().unwrap();
    let echoing = thread::spawn(move || {
        std::io::copy(&mut host, &mut echo).unwrap();
        echo.shutdown(Shutdown::Write).unwrap();
    });
    let sent: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
    let (mut reading, mut writing) = (client.try_clone().unwrap(), client);
    let block = sent.clone();
    let sender = thread::spawn(move || {
        writing.write_all(&block).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    assert!(until_end(&mut reading) == sent, "bytes were lost or changed");
    sender.join().unwrap();
    echoing.join().unwrap();
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn an_origin_that_refuses_is_tried_as_often_as_configured() {
    let refusing = Refusing::new();
    let config = tcp_config(refusing.address(), "max_connect_attempts: 3", "");
    let proxy = Proxy::with(Config::verbatim(config));
    let mut client = client(&proxy);
    assert_eq!(until_end(&mut client), b"");
    proxy.stat_becomes("cluster.service.upstream_cx_connect_fail", 3);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_attempts_exceeded"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_active"), 0);
}

#[test]
fn a_client_that_leaves_while_its_origin_is_connected_to_cancels_the_attempts() {
    let refusing = Refusing::new();
    let backoff = "max_connect_attempts: 1000\nbackoff_options: { base_interval: 3600s }";
    let proxy = Proxy::with(Config::verbatim(tcp_config(refusing.address(), backoff, "")));
    let client = client(&proxy);
    proxy.stat_becomes("cluster.service.upstream_cx_connect_fail", 1);
    reset(client);
    if !is_oracle() {
        // Envoy does not look at the client until it has an upstream connection.
        proxy.stat_becomes("listener.front.downstream_cx_active", 0);
    }
}

#[test]
fn connections_beyond_the_limit_of_the_cluster_are_closed() {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = tcp_config(origin.local_addr().unwrap(), "", "");
    let config = config.replace(
        "connect_timeout: 1s",
        "connect_timeout: 1s\n    circuit_breakers: { thresholds: [ { max_connections: 1 } ] }",
    );
    let proxy = Proxy::with(Config::verbatim(config));
    let first = connected(&proxy, &origin);
    let mut second = client(&proxy);
    assert_eq!(until_end(&mut second), b"");
    assert_eq!(proxy.stat("cluster.service.upstream_cx_overflow"), 1);
    drop(first);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    connected(&proxy, &origin);
}

#[test]
fn a_silent_connection_ends_with_its_idle_timeout_and_a_busy_one_with_its_age() {
    let (proxy, origin) = relaying("idle_timeout: 0.3s", "");
    let (mut client, mut host) = connected(&proxy, &origin);
    client.write_all(b"x").unwrap();
    assert_eq!(take(&mut host, 1), b"x");
    assert_eq!(until_end(&mut client), b"");
    assert_eq!(until_end(&mut host), b"");
    proxy.stat_becomes("tcp.front.idle_timeout", 1);

    let limits = "idle_timeout: 0.3s\nmax_downstream_connection_duration: 0.8s";
    let (proxy, origin) = relaying(limits, "");
    let (mut client, mut host) = connected(&proxy, &origin);
    while client.write_all(b"x").is_ok() && host.read(&mut [0; 16]).is_ok_and(|n| n > 0) {
        thread::sleep(Duration::from_millis(20));
    }
    proxy.stat_becomes("tcp.front.max_downstream_connection_duration", 1);
    assert_eq!(proxy.stat("tcp.front.idle_timeout"), 0);
}

#[test]
fn a_thousand_connections_come_and_go() {
    let (proxy, origin) = relaying("", "");
    let echoing = thread::spawn(move || {
        for _ in 0..1000 {
            let (mut host, _) = origin.accept().unwrap();
            thread::spawn(move || {
                let mut echo = host.try_clone().unwrap();
                // A client that is gone may have reset the connection.
                drop(std::io::copy(&mut host, &mut echo));
            });
        }
    });
    for batch in 0..20_u8 {
        let mut clients: Vec<_> = (0..50).map(|_| client(&proxy)).collect();
        for client in &mut clients {
            client.write_all(&[batch]).unwrap();
            assert_eq!(take(client, 1), [batch]);
        }
    }
    echoing.join().unwrap();
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    assert_eq!(proxy.stat("tcp.front.downstream_cx_total"), 1000);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_total"), 1000);
}

#[test]
fn a_drain_lets_connections_go_on_for_its_time() {
    if is_oracle() {
        return; // Envoy exits at once
    }
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = tcp_config(origin.local_addr().unwrap(), "", "");
    let proxy = Proxy::with(Config::verbatim(config).flags(&["--drain-time-s", "60"]));
    let (mut client, mut host) = connected(&proxy, &origin);
    proxy.signal(Signal::Term);
    thread::sleep(Duration::from_millis(500));
    client.write_all(b"still here").unwrap();
    assert_eq!(take(&mut host, 10), b"still here");
    drop((client, host));
    assert!(proxy.exit().success(), "the drain ends with the last connection");
}

/// Fields of `tcp_proxy` that open a tunnel.
const TUNNEL: &str = "tunneling_config: { hostname: 'db.example:5432' }";

/// The request of a tunnel, up to the end of its head.
fn head(host: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(take(host, 1));
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_tunnel_carries_much_in_both_directions_and_ends_each_on_its_own() {
    const MUCH: usize = 4 << 20;
    for fields in [TUNNEL, "tunneling_config: { hostname: 'db.example:5432', use_post: true }"] {
        let (proxy, origin) = relaying(fields, "");
        let (mut client, mut host) = connected(&proxy, &origin);
        assert!(head(&mut host).contains("host: db.example:5432\r\n"));
        host.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let sent: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
        let (mut writing, block) = (client.try_clone().unwrap(), sent.clone());
        let sender = thread::spawn(move || {
            writing.write_all(&block).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let received = if fields == TUNNEL { until_end(&mut host) } else { chunks(&mut host) };
        assert!(received == sent, "bytes were lost or changed");
        sender.join().unwrap();
        host.write_all(&sent).unwrap();
        drop(host);
        assert!(until_end(&mut client) == sent, "bytes were lost or changed");
        proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
        assert_eq!(proxy.stat("cluster.service.upstream_rq_active"), 0);
    }
}

/// A body in chunks, up to its end.
fn chunks(host: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(take(host, 1));
        }
        let size = String::from_utf8(line).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        body.extend(take(host, size));
        assert_eq!(take(host, 2), b"\r\n");
        if size == 0 {
            return body;
        }
    }
}

#[test]
fn a_tunnel_that_is_refused_is_asked_for_again_on_a_new_connection() {
    let fields = [TUNNEL, "max_connect_attempts: 2"].join("\n");
    let (proxy, origin) = relaying(&fields, "");
    let (mut client, mut host) = connected(&proxy, &origin);
    head(&mut host);
    host.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy").unwrap();
    assert_eq!(until_end(&mut host), b"");
    let (mut host, _) = origin.accept().unwrap();
    assert!(head(&mut host).starts_with("CONNECT db.example:5432 HTTP/1.1\r\n"));
    host.write_all(b"HTTP/1.1 200 OK\r\n\r\nready").unwrap();
    assert_eq!(take(&mut client, 5), b"ready");
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_attempts_exceeded"), 0);
}

#[test]
fn a_client_that_leaves_before_its_tunnel_is_open_takes_the_request_back() {
    if is_oracle() {
        return; // Envoy looks at the client when the tunnel is open
    }
    let (proxy, origin) = relaying(TUNNEL, "");
    let (client, mut host) = connected(&proxy, &origin);
    head(&mut host);
    reset(client);
    assert_eq!(until_end(&mut host), b"");
    proxy.stat_becomes("cluster.service.upstream_cx_destroy_local_with_active_rq", 1);
}

#[test]
fn a_tunnel_whose_body_is_cut_off_ends_with_a_reset() {
    if is_oracle() {
        return; // Envoy closes it
    }
    let (proxy, origin) =
        relaying("tunneling_config: { hostname: 'db.example:5432', use_post: true }", "");
    for answer in ["transfer-encoding: chunked\r\n\r\n5\r\nhel", "content-length: 9\r\n\r\nhel"] {
        let (mut client, mut host) = connected(&proxy, &origin);
        head(&mut host);
        host.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).unwrap();
        assert_eq!(take(&mut client, 3), b"hel");
        drop(host);
        is_reset(&mut client);
    }
}

#[test]
fn a_tunnel_ends_with_a_response_of_known_length() {
    if is_oracle() {
        return; // Envoy crashes
    }
    let (proxy, origin) =
        relaying("tunneling_config: { hostname: 'db.example:5432', use_post: true }", "");
    let (mut client, mut host) = connected(&proxy, &origin);
    head(&mut host);
    host.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and more").unwrap();
    assert_eq!(until_end(&mut client), b"hello");
    client.write_all(b"late").unwrap();
    drop(client);
    assert_eq!(chunks(&mut host), b"late");
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn a_handshake_that_never_ends_is_limited_by_the_limits_of_its_connection() {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let chain = format!("    - {}\n      filters:\n", Tls::new().downstream());
    for (fields, stat) in [
        ("idle_timeout: 0.3s", "idle_timeout"),
        ("max_downstream_connection_duration: 0.3s", "max_downstream_connection_duration"),
    ] {
        let config = tcp_config(origin.local_addr().unwrap(), fields, "");
        let config = config.replace("    - filters:\n", &chain);
        let proxy = Proxy::with(Config::verbatim(config));
        let mut silent = client(&proxy);
        assert_eq!(until_end(&mut silent), b"");
        proxy.stat_becomes(&format!("tcp.front.{stat}"), 1);
        let mut slow = client(&proxy);
        slow.write_all(b"\x16\x03\x01\x02").unwrap();
        assert_eq!(until_end(&mut slow), b"");
        proxy.stat_becomes(&format!("tcp.front.{stat}"), 2);
        assert_eq!(proxy.stat("listener.front.downstream_cx_active"), 0);
    }
}

/// Nobody knows what the bytes are, so no protocol is offered unless the cluster says so.
#[test]
fn bytes_are_not_offered_as_http_to_an_origin_that_speaks_tls() {
    let tls = Tls::new().with_protocols(&["http/1.1", "postgresql"]);
    let origin = Origin::over_tls(&tls, [Act::ReplyWith(5)]);
    let config = tcp_config(origin.address(), "", "")
        .replace("    type: STATIC\n", &format!("    type: STATIC\n    {}\n", tls.upstream()));
    let proxy = Proxy::with(Config::verbatim(config));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().body.len(), 5);
    assert_eq!(origin.handshakes()[0].protocol, None);
}

#[test]
fn a_slow_reader_gets_everything_also_with_tls_on_both_sides() {
    const MUCH: u64 = 4 << 20;
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [Act::ReplyWith(MUCH)]);
    let config = tcp_config(origin.address(), "", "")
        .replace("    - filters:\n", &format!("    - {}\n      filters:\n", tls.downstream()))
        .replace("    type: STATIC\n", &format!("    type: STATIC\n    {}\n", tls.upstream()));
    let proxy = Proxy::with(Config::verbatim(config));
    let mut client = proxy.connect_tls(&tls);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.response().body.len() as u64, MUCH);
    client.is_closed();
    drop(client);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    assert_eq!(proxy.stat("cluster.service.ssl.handshake"), 1);
}
