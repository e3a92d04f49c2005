//! The head that the origin receives for the head that a client sent, as recorded with Envoy 1.40.

use std::net::IpAddr;

use super::normalize::{Facts, Outcome, Refusal, request};
use super::{ClientAddress, ConnectionManager, HostRules, Peer, RequestIds, StripPort};
use crate::address::{Address, Cidr};
use crate::http::{FieldName, HeadLimits, RequestHead, Scheme, Underscores};
use crate::http1::encode;
use crate::transport::tls::facts::{TlsFacts, TlsVersion};

const ID: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn a_plain_request_gets_a_scheme_and_an_id() {
    let manager = ConnectionManager::default();
    assert_eq!(
        forwarded(&manager, &["Host: h", "User-Agent: u", "Accept: */*"]),
        [
            "host: h",
            "user-agent: u",
            "accept: */*",
            "x-forwarded-proto: http",
            &format!("x-request-id: {ID}"),
        ]
    );
}

#[test]
fn the_client_is_trusted_if_the_proxy_is_not_at_the_edge() {
    let manager = ConnectionManager::default();
    assert_eq!(
        forwarded(
            &manager,
            &[
                "Host: h",
                "X-Forwarded-For: 1.2.3.4",
                "X-Forwarded-Proto: https",
                "X-Request-Id: abc",
                "X-Envoy-External-Address: 9.9.9.9",
                "X-Envoy-Original-Path: /z",
                "X-Envoy-Decorator-Operation: foo",
            ]
        ),
        [
            "host: h",
            "x-forwarded-for: 1.2.3.4",
            "x-forwarded-proto: https",
            "x-request-id: abc",
            "x-envoy-external-address: 9.9.9.9",
            "x-envoy-original-path: /z",
            "x-envoy-decorator-operation: foo",
        ]
    );
}

#[test]
fn an_external_client_does_not_control_envoy() {
    let control = [
        "x-envoy-internal",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-stream-duration-ms",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-force-trace",
        "x-envoy-ip-tags",
        "x-envoy-original-url",
        "x-envoy-hedge-on-per-try-timeout",
        "x-forwarded-client-cert",
    ];
    let at_the_edge = [
        "x-envoy-original-path",
        "x-envoy-original-host",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
    ];
    let harmless = ["x-envoy-foo", "x-envoy-original-method", "x-envoy-attempt-count"];
    for name in control {
        assert!(!passes(&ConnectionManager::default(), name), "{name}");
        assert!(!passes(&edge(), name), "{name} at the edge");
    }
    for name in at_the_edge {
        assert!(passes(&ConnectionManager::default(), name), "{name}");
        assert!(!passes(&edge(), name), "{name} at the edge");
    }
    for name in harmless {
        assert!(passes(&ConnectionManager::default(), name), "{name}");
        assert!(passes(&edge(), name), "{name} at the edge");
    }
}

#[test]
fn the_edge_overrides_what_the_client_says() {
    let id = format!("x-request-id: {ID}");
    assert_eq!(
        forwarded(
            &edge(),
            &[
                "Host: h",
                "X-Envoy-External-Address: 9.9.9.9",
                "X-Forwarded-For: 1.2.3.4, 10.0.0.2",
                "X-Forwarded-Proto: https",
                "X-Request-Id: abc",
            ]
        ),
        [
            "host: h",
            "x-envoy-external-address: 127.0.0.1",
            "x-forwarded-for: 1.2.3.4, 10.0.0.2,192.0.2.2",
            "x-forwarded-proto: http",
            &id,
        ]
    );
    assert_eq!(
        forwarded(&edge(), &["Host: h"]),
        [
            "host: h",
            "x-forwarded-for: 192.0.2.2",
            "x-forwarded-proto: http",
            "x-envoy-external-address: 127.0.0.1",
            &id,
        ]
    );
}

#[test]
fn an_external_id_is_kept_at_the_edge_if_configured() {
    let mut manager = edge();
    manager.request_id.preserve_external = true;
    assert!(
        forwarded(&manager, &["Host: h", "X-Request-Id: abc"])
            .contains(&"x-request-id: abc".to_owned())
    );
    manager.request_id = RequestIds { generate: false, ..RequestIds::default() };
    assert!(
        forwarded(&manager, &["Host: h", "X-Request-Id: abc"])
            .contains(&"x-request-id: abc".to_owned())
    );
    assert!(!forwarded(&manager, &["Host: h"]).iter().any(|line| line.starts_with("x-request")));
}

#[test]
fn the_trusted_address_is_counted_from_the_end_of_x_forwarded_for() {
    let manager = |use_remote_address, xff_num_trusted_hops| ConnectionManager {
        client: ClientAddress {
            use_remote_address,
            xff_num_trusted_hops,
            ..ClientAddress::default()
        },
        ..ConnectionManager::default()
    };
    for (use_remote_address, hops, xff, wanted) in [
        (false, 0, "1.2.3.4", "1.2.3.4:0"),
        (false, 0, "1.1.1.1,2.2.2.2, 3.3.3.3", "3.3.3.3:0"),
        (false, 0, "::1, 2001:db8::5", "[2001:db8::5]:0"),
        (false, 0, "bogus", "127.0.0.1:4000"),
        (false, 0, "1.2.3.4:80", "127.0.0.1:4000"),
        (false, 0, "10.0.0.1, bogus", "127.0.0.1:4000"),
        (false, 1, "1.2.3.4", "127.0.0.1:4000"),
        (false, 1, "1.2.3.4, 10.0.0.2", "1.2.3.4:0"),
        (false, 1, "10.0.0.1, bogus", "10.0.0.1:0"),
        (true, 0, "1.2.3.4", "127.0.0.1:4000"),
        (true, 1, "1.2.3.4, 10.0.0.2", "10.0.0.2:0"),
        (true, 1, "bogus", "127.0.0.1:4000"),
    ] {
        let (facts, _) = facts(
            &manager(use_remote_address, hops),
            &["Host: h", &format!("X-Forwarded-For: {xff}")],
        );
        assert_eq!(facts.client.to_string(), wanted, "{use_remote_address} {hops} {xff}");
    }
}

#[test]
fn x_forwarded_proto_of_a_trusted_hop_is_kept() {
    let mut manager = edge();
    manager.client.xff_num_trusted_hops = 1;
    let request = ["Host: h", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"];
    let lines = forwarded(&manager, &request);
    assert_eq!(scheme(&manager, "/", "https"), Some(Scheme::Https));
    assert!(lines.contains(&"x-forwarded-proto: https".to_owned()));
    assert!(lines.contains(&"x-envoy-external-address: 1.2.3.4".to_owned()));
}

#[test]
fn no_client_is_internal_unless_the_ranges_say_so() {
    let ranges = vec![Cidr { address: [10, 0, 0, 0].into(), prefix_len: 8 }];
    let inside = ConnectionManager { internal_addresses: ranges, ..ConnectionManager::default() };
    let request = ["Host: h", "X-Forwarded-For: 10.1.1.1", "x-envoy-max-retries: 3"];
    let (found, lines) = facts(&inside, &request);
    assert!(found.internal);
    assert!(lines.contains(&"x-envoy-max-retries: 3".to_owned()));
    assert!(lines.contains(&"x-envoy-internal: true".to_owned()));

    assert!(!facts(&ConnectionManager::default(), &request).0.internal);
    assert!(!facts(&inside, &["Host: h", "X-Forwarded-For: 1.1.1.1, 10.1.1.1"]).0.internal);
    assert!(!facts(&inside, &["Host: h"]).0.internal);
}

#[test]
fn repeated_fields_that_envoy_joins_are_joined() {
    let lines = forwarded(
        &ConnectionManager::default(),
        &[
            "Host: h",
            "X-A: 1",
            "X-A: 2",
            "X-Forwarded-For: 1.1.1.1",
            "X-Request-Id: a",
            "X-Forwarded-For: 2.2.2.2",
            "X-Request-Id: b",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Proto: https",
        ],
    );
    assert_eq!(
        lines,
        [
            "host: h",
            "x-a: 1",
            "x-a: 2",
            "x-forwarded-for: 1.1.1.1,2.2.2.2",
            "x-request-id: a,b",
            "x-forwarded-proto: http,https",
        ]
    );
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let lines = forwarded(
        &ConnectionManager::default(),
        &[
            "Host: h",
            "Connection: X-A, close",
            "Connection: Te",
            "X-A: 1",
            "X-B: 2",
            "Keep-Alive: 5",
            "Proxy-Connection: keep-alive",
            "Upgrade: websocket",
            "TE: trailers, deflate",
            "X-Request-Id: a",
        ],
    );
    assert_eq!(
        lines,
        ["host: h", "x-b: 2", "te: trailers", "x-request-id: a", "x-forwarded-proto: http"]
    );
    assert!(
        !forwarded(&ConnectionManager::default(), &["Host: h", "TE: gzip"])
            .iter()
            .any(|line| line.starts_with("te"))
    );
}

#[test]
fn a_client_cannot_remove_fields_of_proxies() {
    for name in ["x-forwarded-for", "X-Forwarded-Host", "x-forwarded-proto", ":path"] {
        let request = ["Host: h".to_owned(), format!("Connection: {name}")];
        let request: Vec<&str> = request.iter().map(String::as_str).collect();
        assert_eq!(refused(&ConnectionManager::default(), &request), Refusal::Nomination);
    }
    let ten = "Connection: a,b,c,d,e,f,g,h,i,j";
    assert_eq!(refused(&ConnectionManager::default(), &["Host: h", ten]), Refusal::Nomination);
    let host = ["Host: h", "Connection: host"];
    assert_eq!(refused(&ConnectionManager::default(), &host), Refusal::MissingHost);
}

#[test]
fn upgrade_fields_are_kept_unless_it_is_h2c() {
    let manager = ConnectionManager::default();
    let upgrade = ["Host: h", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"];
    let (found, lines) = facts(&manager, &upgrade);
    assert!(found.upgrade);
    assert_eq!(lines[1..3], ["connection: keep-alive, Upgrade", "upgrade: WebSocket"]);
    let h2c =
        ["Host: h", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"];
    assert_eq!(forwarded(&manager, &h2c)[1], "x-forwarded-proto: http");
}

#[test]
fn a_request_without_a_host_is_rejected() {
    assert_eq!(refused(&ConnectionManager::default(), &[]), Refusal::MissingHost);
    let manager = ConnectionManager {
        limits: HeadLimits { accept_http_10: true, ..HeadLimits::default() },
        default_host_for_http_10: b"dh".to_vec(),
        ..ConnectionManager::default()
    };
    assert_eq!(refused(&manager, &[]), Refusal::MissingHost);
    let head = parsed(&manager, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(encoded(&manager, head).expect("goes on").1[0], "host: dh");
}

#[test]
fn a_target_that_is_not_a_path_is_not_found() {
    let manager = ConnectionManager {
        limits: HeadLimits { allow_absolute_url: false, ..HeadLimits::default() },
        ..ConnectionManager::default()
    };
    let head = parsed(&manager, "GET http://h2/p HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(encoded(&manager, head), Err(Refusal::NotAPath));
    let head = parsed(&manager, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(encoded(&manager, head), Err(Refusal::Asterisk));
    let head = parsed(&manager, "QUERY / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(encoded(&manager, head), Err(Refusal::QueryWithoutContentType));
}

#[test]
fn port_and_trailing_dot_are_stripped_from_the_host() {
    let rules = |strip_port, strip_trailing_dot| ConnectionManager {
        host: HostRules { strip_port, strip_trailing_dot },
        ..ConnectionManager::default()
    };
    for (received, any, matching, dot, both) in [
        ("h:80", "h", "h:80", "h:80", "h"),
        ("h:5000", "h", "h", "h:5000", "h"),
        ("h:", "h:", "h:", "h:", "h:"),
        ("[::1]:80", "[::1]", "[::1]:80", "[::1]:80", "[::1]"),
        ("[::1]:5000", "[::1]", "[::1]", "[::1]:5000", "[::1]"),
        ("[::1]", "[::1]", "[::1]", "[::1]", "[::1]"),
        ("h.", "h.", "h.", "h", "h"),
        ("h.:80", "h.", "h.:80", "h:80", "h"),
        ("h..", "h..", "h..", "h.", "h."),
        ("h:080", "h", "h:080", "h:080", "h"),
    ] {
        let host = |manager: &ConnectionManager| {
            forwarded(manager, &[&format!("Host: {received}")])[0].replace("host: ", "")
        };
        assert_eq!(host(&rules(StripPort::Any, false)), any, "{received}");
        assert_eq!(host(&rules(StripPort::Matching, false)), matching, "{received}");
        assert_eq!(host(&rules(StripPort::Never, true)), dot, "{received}");
        assert_eq!(host(&rules(StripPort::Any, true)), both, "{received}");
    }
}

#[test]
fn fields_with_underscores_are_allowed_rejected_or_dropped() {
    let rules = |underscores| ConnectionManager { underscores, ..ConnectionManager::default() };
    let request = ["Host: h", "X_A: 1", "X-B: 2"];
    assert_eq!(forwarded(&rules(Underscores::Allow), &request)[1], "x_a: 1");
    assert_eq!(forwarded(&rules(Underscores::Drop), &request)[1], "x-b: 2");
    assert_eq!(refused(&rules(Underscores::Reject), &request), Refusal::Underscore);
}

#[test]
fn options_add_their_fields_in_envoys_order() {
    let manager = ConnectionManager { append_x_forwarded_port: true, via: b"v".to_vec(), ..edge() };
    assert_eq!(
        forwarded(&manager, &["Host: h", "Via: 1.1 x"]),
        [
            "host: h",
            "via: 1.1 x, v",
            "x-forwarded-for: 192.0.2.2",
            "x-forwarded-proto: http",
            "x-forwarded-port: 5000",
            "x-envoy-external-address: 127.0.0.1",
            &format!("x-request-id: {ID}"),
        ]
    );
    let https = ConnectionManager { scheme: Some(Scheme::Https), ..ConnectionManager::default() };
    let lines = forwarded(&https, &["Host: h", "X-Forwarded-Proto: http"]);
    assert_eq!(lines[1], "x-forwarded-proto: https");
    assert_eq!(scheme(&https, "http://h/", ""), Some(Scheme::Https));
}

#[test]
fn the_scheme_comes_from_the_target_or_a_field_unless_it_is_invalid() {
    for (target, proto, wanted) in [
        ("/", "HTTPS", Some(Scheme::Https)),
        ("/", "ftp", Some(Scheme::Http)),
        ("/", "http,https", Some(Scheme::Http)),
        ("/", "", None),
        ("https://h/", "http", Some(Scheme::Https)),
        ("https://h/", "", None),
    ] {
        assert_eq!(
            scheme(&ConnectionManager::default(), target, proto),
            wanted,
            "{target} {proto}"
        );
    }
    assert_eq!(scheme(&edge(), "/", "https"), Some(Scheme::Http));
}

#[test]
fn only_the_usual_loopback_addresses_are_replaced() {
    for (client, line) in [
        ("127.0.0.1", "x-forwarded-for: 192.0.2.2"),
        ("::1", "x-forwarded-for: 192.0.2.2"),
        ("127.0.0.2", "x-forwarded-for: 127.0.0.2"),
    ] {
        let mut head = parsed(&edge(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let peer = Peer {
            remote: Address::Ip((client.parse::<IpAddr>().unwrap(), 4000).into()),
            ..peer()
        };
        request(&mut head, &edge(), &peer, &mut || 0);
        assert_eq!(lines(&head)[1], line);
    }
}

#[test]
fn the_proxy_answers_an_expectation() {
    let request = ["Host: h", "Expect: 100-Continue"];
    let (found, lines) = facts(&ConnectionManager::default(), &request);
    assert!(found.expects_continue);
    assert_eq!(lines[1], "x-forwarded-proto: http");
    let proxied = ConnectionManager { proxy_100_continue: true, ..ConnectionManager::default() };
    let (found, lines) = facts(&proxied, &request);
    assert!(!found.expects_continue);
    assert_eq!(lines[1], "expect: 100-Continue");
    let other = forwarded(&ConnectionManager::default(), &["Host: h", "Expect: x"]);
    assert_eq!(other[1], "expect: x");
}

#[test]
fn ids_are_random_uuids_of_version_4() {
    let mut bits = [u64::MAX, u64::MAX].into_iter();
    let mut head = parsed(&ConnectionManager::default(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let outcome = request(&mut head, &ConnectionManager::default(), &peer(), &mut || {
        bits.next().expect("two words are enough")
    });
    assert!(matches!(outcome, Outcome::Continue(_)));
    let id = head.fields.find(b"x-request-id").expect("an id");
    assert_eq!(id, b"ffffffff-ffff-4fff-bfff-ffffffffffff");
}

#[test]
fn over_tls_schemes_are_those_recorded_from_envoy() {
    let recorded = include_str!("../../../tests/envoy/schemes-over-tls.txt");
    let facts = TlsFacts::new(TlsVersion::Tls13);
    let over_tls = Peer { tls: Some(&facts), ..peer() };
    let mut count = 0;
    for line in recorded.lines().skip(1) {
        let (given, expected) = line.split_once(" | ").expect("a bar");
        let [manager, target, proto] = given.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut one_hop = edge();
        one_hop.client.xff_num_trusted_hops = 1;
        let manager = match manager {
            "edge" => edge(),
            "one-hop" => one_hop,
            "overwritten" => {
                ConnectionManager { scheme: Some(Scheme::Http), ..ConnectionManager::default() }
            }
            _ => ConnectionManager::default(),
        };
        let proto = match proto {
            "absent" => String::new(),
            "empty" => "x-forwarded-proto:\r\n".to_owned(),
            proto => format!("x-forwarded-proto: {proto}\r\n"),
        };
        let mut head =
            parsed(&manager, &format!("GET {target} HTTP/1.1\r\nHost: h\r\n{proto}\r\n"));
        let outcome = request(&mut head, &manager, &over_tls, &mut || 0);
        assert!(matches!(outcome, Outcome::Continue(_)), "{line}");
        let proto = head.fields.get(FieldName::XForwardedProto).unwrap_or_default();
        let proto = std::str::from_utf8(proto).expect("text");
        let found = head.scheme.map(|scheme| format!("{proto} {}", scheme.as_str()));
        assert_eq!(found.as_deref().unwrap_or("no route"), expected, "{given}");
        count += 1;
    }
    assert_eq!(count, 60);
}

fn edge() -> ConnectionManager {
    ConnectionManager {
        client: ClientAddress {
            use_remote_address: true,
            local_address: Some([192, 0, 2, 2].into()),
            ..ClientAddress::default()
        },
        ..ConnectionManager::default()
    }
}

fn peer() -> Peer<'static> {
    let at = |port| Address::Ip(([127, 0, 0, 1], port).into());
    Peer { remote: at(4000), local: at(5000), tls: None }
}

fn parsed(manager: &ConnectionManager, text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.received().extend_from_slice(text.as_bytes());
    head.parse(&manager.limits).expect("valid").expect("complete");
    head
}

fn encoded(
    manager: &ConnectionManager,
    mut head: RequestHead,
) -> Result<(Facts, Vec<String>), Refusal> {
    match request(&mut head, manager, &peer(), &mut || 0) {
        Outcome::Refuse(refusal) => Err(refusal),
        Outcome::Continue(facts) => Ok((facts, lines(&head))),
    }
}

fn lines(head: &RequestHead) -> Vec<String> {
    let mut out = Vec::new();
    encode::request(head, &mut out);
    let text = String::from_utf8(out).expect("text");
    text.trim_end().split("\r\n").skip(1).map(str::to_owned).collect()
}

fn scheme(manager: &ConnectionManager, target: &str, proto: &str) -> Option<Scheme> {
    let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
    let mut head = parsed(manager, &text);
    request(&mut head, manager, &peer(), &mut || 0);
    head.scheme
}

fn facts(manager: &ConnectionManager, fields: &[&str]) -> (Facts, Vec<String>) {
    let text = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"));
    encoded(manager, parsed(manager, &text)).expect("goes on")
}

fn forwarded(manager: &ConnectionManager, fields: &[&str]) -> Vec<String> {
    facts(manager, fields).1
}

fn refused(manager: &ConnectionManager, fields: &[&str]) -> Refusal {
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let head = parsed(manager, &format!("GET / HTTP/1.1\r\n{lines}\r\n"));
    encoded(manager, head).expect_err("refused")
}

fn passes(manager: &ConnectionManager, name: &str) -> bool {
    let line = format!("{name}: theirs");
    forwarded(manager, &["Host: h", &line]).contains(&line)
}
