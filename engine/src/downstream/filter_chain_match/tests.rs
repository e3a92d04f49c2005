use super::*;
use crate::address::Pipe;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn range(text: &str) -> Cidr {
    let (address, len) = text.split_once('/').expect("a range");
    Cidr { address: ip(address), prefix_len: len.parse().expect("a length") }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A client of another machine, with what its ClientHello says.
struct Client {
    local: &'static str,
    remote: &'static str,
    direct: Option<&'static str>,
    detected: Detected,
}

fn client() -> Client {
    let (local, remote) = ("10.0.0.1:443", "192.0.2.7:5000");
    Client { local, remote, direct: None, detected: Detected::default() }
}

fn tls(server_name: &str, alpn: &[&str]) -> Client {
    let detected = Detected {
        transport: TransportProtocol::Tls,
        server_name: server_name.to_owned(),
        application_protocols: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
    };
    Client { detected, ..client() }
}

impl Client {
    fn chain(&self, chains: &[Criteria]) -> Option<usize> {
        let tree = MatchTree::new(chains).expect("no overlap");
        let at = |text: &str| match text.strip_prefix("unix:") {
            Some(path) => Address::Pipe(Pipe::new(path).expect("a path")),
            None => Address::Ip(text.parse().expect("an address")),
        };
        tree.find(&Connection {
            local: at(self.local),
            remote: at(self.remote),
            direct_remote: at(self.direct.unwrap_or(self.remote)),
            detected: &self.detected,
        })
    }
}

#[test]
fn a_chain_without_criteria_serves_everybody() {
    let chains = [Criteria::default()];
    assert_eq!(client().chain(&chains), Some(0));
    assert_eq!(tls("a.test", &["h2"]).chain(&chains), Some(0));
}

#[test]
fn a_listener_without_chains_serves_nobody() {
    assert_eq!(client().chain(&[]), None);
}

#[test]
fn a_chain_for_the_port_excludes_those_for_any_port() {
    let chains = [
        Criteria {
            destination_port: Some(443),
            server_names: names(&["a.test"]),
            ..Criteria::default()
        },
        Criteria::default(),
    ];
    assert_eq!(tls("a.test", &[]).chain(&chains), Some(0));
    assert_eq!(tls("b.test", &[]).chain(&chains), None, "no backtracking");
    assert_eq!(Client { local: "10.0.0.1:80", ..client() }.chain(&chains), Some(1));
}

#[test]
fn the_longest_prefix_of_the_destination_wins() {
    let to = |ranges: &[&str]| Criteria {
        destinations: ranges.iter().map(|text| range(text)).collect(),
        ..Criteria::default()
    };
    let chains = [to(&["10.0.0.0/8", "fd00::/8"]), to(&["10.0.0.0/24"]), Criteria::default()];
    let reached = |local| Client { local, ..client() }.chain(&chains);
    assert_eq!(reached("10.0.0.9:1"), Some(1));
    assert_eq!(reached("10.1.0.9:1"), Some(0));
    assert_eq!(reached("[fd01::1]:1"), Some(0));
    assert_eq!(reached("11.0.0.1:1"), Some(2));
    assert_eq!(reached("[::1]:1"), Some(2));
}

#[test]
fn the_most_specific_server_name_wins() {
    let named = |list: &[&str]| Criteria { server_names: names(list), ..Criteria::default() };
    let chains = [
        named(&["www.example.com"]),
        named(&[".example.com"]),
        named(&[".com", "other.test"]),
        Criteria::default(),
    ];
    let chain = |name| tls(name, &[]).chain(&chains);
    assert_eq!(chain("www.example.com"), Some(0));
    assert_eq!(chain("a.example.com"), Some(1));
    assert_eq!(chain("a.b.example.com"), Some(1));
    assert_eq!(chain("example.com"), Some(2), "a wildcard needs a label before it");
    assert_eq!(chain("other.test"), Some(2));
    assert_eq!(chain("test"), Some(3));
    assert_eq!(chain(""), Some(3));
    assert_eq!(chain("example.com."), Some(3));
}

#[test]
fn a_connection_that_is_not_tls_is_a_raw_buffer() {
    let of = |protocol: &str| Criteria {
        transport_protocol: protocol.to_owned(),
        ..Criteria::default()
    };
    let chains = [of("tls"), of("raw_buffer")];
    assert_eq!(tls("", &[]).chain(&chains), Some(0));
    assert_eq!(client().chain(&chains), Some(1));
    assert_eq!(client().chain(&[of("tls"), of("quic")]), None);
}

#[test]
fn application_protocols_are_matched_in_the_order_of_the_client() {
    let of = |list: &[&str]| Criteria { application_protocols: names(list), ..Criteria::default() };
    let chains = [of(&["h2"]), of(&["http/1.1"]), Criteria::default()];
    assert_eq!(tls("", &["http/1.1", "h2"]).chain(&chains), Some(1));
    assert_eq!(tls("", &["h2", "http/1.1"]).chain(&chains), Some(0));
    assert_eq!(tls("", &["foo", "h2"]).chain(&chains), Some(0));
    assert_eq!(tls("", &["foo"]).chain(&chains), Some(2));
    assert_eq!(tls("", &[]).chain(&chains), Some(2));
}

#[test]
fn the_direct_source_is_the_proxy_before_this_one() {
    let chains = [
        Criteria { direct_sources: vec![range("198.51.100.0/24")], ..Criteria::default() },
        Criteria { sources: vec![range("192.0.2.0/24")], ..Criteria::default() },
    ];
    assert_eq!(client().chain(&chains), Some(1));
    let behind_a_proxy = Client { direct: Some("198.51.100.1:9"), ..client() };
    assert_eq!(behind_a_proxy.chain(&chains), Some(0));
}

#[test]
fn a_source_on_this_machine_is_local() {
    let of = |source_type| Criteria { source_type, ..Criteria::default() };
    let chains = [of(SourceType::SameIpOrLoopback), of(SourceType::External)];
    let from = |remote| Client { remote, ..client() }.chain(&chains);
    assert_eq!(from("10.0.0.1:5"), Some(0), "the local address");
    assert_eq!(from("127.0.0.1:5"), Some(0));
    assert_eq!(from("[::1]:5"), Some(0));
    assert_eq!(from("127.0.0.2:5"), Some(1), "as in Envoy");
    assert_eq!(from("192.0.2.7:5"), Some(1));
    let chains = [of(SourceType::External), Criteria::default()];
    assert_eq!(Client { remote: "127.0.0.1:5", ..client() }.chain(&chains), Some(1));
}

#[test]
fn a_unix_socket_is_local_and_in_ranges_of_all_addresses_only() {
    let chains = [
        Criteria {
            source_type: SourceType::SameIpOrLoopback,
            destinations: vec![range("0.0.0.0/0")],
            ..Criteria::default()
        },
        Criteria { destinations: vec![range("127.0.0.0/8")], ..Criteria::default() },
        Criteria { source_type: SourceType::External, ..Criteria::default() },
    ];
    let on_pipe = Client { local: "unix:/run/a", remote: "unix:/run/a", ..client() };
    assert!(MatchTree::new(&chains).is_ok());
    assert_eq!(on_pipe.chain(&chains), Some(0));
}

#[test]
fn source_addresses_and_ports_come_last() {
    let chains = [
        Criteria {
            sources: vec![range("192.0.2.0/24")],
            source_ports: vec![5000, 5001],
            ..Criteria::default()
        },
        Criteria { sources: vec![range("192.0.2.0/24")], ..Criteria::default() },
        Criteria { source_ports: vec![5000], ..Criteria::default() },
    ];
    let from = |remote| Client { remote, ..client() }.chain(&chains);
    assert_eq!(from("192.0.2.1:5001"), Some(0));
    assert_eq!(from("192.0.2.1:5002"), Some(1));
    assert_eq!(from("192.0.3.1:5000"), Some(2));
    assert_eq!(from("192.0.3.1:5001"), None);
}

#[test]
fn chains_that_match_the_same_connections_are_refused() {
    let named = |list: &[&str]| Criteria { server_names: names(list), ..Criteria::default() };
    let overlap = |chains: &[Criteria]| {
        MatchTree::new(chains).map(drop).map_err(|Overlap { chain, other }| (other, chain))
    };
    assert_eq!(overlap(&[Criteria::default(), Criteria::default()]), Err((0, 1)));
    assert_eq!(overlap(&[named(&["a", "b"]), named(&["c"]), named(&["b"])]), Err((0, 2)));
    assert_eq!(overlap(&[named(&["a", "a"])]), Err((0, 0)));
    let to = |text| Criteria { destinations: vec![range(text)], ..Criteria::default() };
    assert_eq!(overlap(&[to("10.0.0.0/8"), to("10.1.2.3/8")]), Err((0, 1)));
    assert_eq!(overlap(&[to("0.0.0.0/0"), Criteria::default()]), Err((0, 1)));
    assert_eq!(overlap(&[to("10.0.0.0/8"), to("10.0.0.0/9")]), Ok(()));
    // They overlap, but one of them is always more specific.
    let port = Criteria { destination_port: Some(1), ..Criteria::default() };
    assert_eq!(overlap(&[named(&["a"]), port]), Ok(()));
}
