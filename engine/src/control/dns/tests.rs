//! Against a name server of our own on 127.0.0.1, over UDP and TCP.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::*;
use crate::control::dns_cache::DnsCaches;
use crate::control::eds::Endpoints;
use crate::control::membership::Membership;
use crate::metadata::Metadata;
use crate::shard::socket_option::LocalEnd;
use crate::stats::Registry;
use crate::upstream::Cluster;
use crate::upstream::balance::LbPolicy;
use crate::upstream::circuit_breaker::{CircuitBreakers, Thresholds};
use crate::upstream::cluster::HttpProtocolOptions;
use crate::upstream::discovery::{LookupFamily, OwnResolver, Refresh, Semantics, Target};
use crate::upstream::health_check::tests::check;
use crate::upstream::health_check::{EndpointCheck, HealthCheck, Intervals};
use crate::upstream::host::{Endpoint, HealthFlags, Locality};
use crate::upstream::host_set::{DistributionRules, HostSet};
use crate::upstream::numbers::Numbers;
use crate::upstream::override_host::{HealthStatus, HealthStatuses};
use crate::upstream::transport_socket::{TransportSocket, TransportSockets};

// === The name server ===

const A: u16 = 1;
const AAAA: u16 = 28;

/// What the server does with a question.
#[derive(Clone, Debug)]
enum Reply {
    Addresses(Vec<IpAddr>),
    Code(u8),
    Silence,
}

const SERVFAIL: Reply = Reply::Code(2);
const NXDOMAIN: Reply = Reply::Code(3);

/// A name server with configurable replies.
struct NameServer {
    address: SocketAddr,
    replies: Arc<Mutex<BTreeMap<(String, u16), Reply>>>,
    asked: UnboundedReceiver<(String, u16)>,
}

impl NameServer {
    fn start() -> Self {
        let (tcp, udp, address) = Self::bind();
        let replies: Arc<Mutex<BTreeMap<_, _>>> = Arc::default();
        let (queries, asked) = unbounded_channel();
        let (over_udp, udp_queries) = (replies.clone(), queries.clone());
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                if let Some(reply) = answer(&packet[..length], &over_udp, &udp_queries, 1232) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        let over_tcp = replies.clone();
        thread::spawn(move || {
            while let Ok((mut connection, _)) = tcp.accept() {
                let mut length = [0; 2];
                while connection.read_exact(&mut length).is_ok() {
                    let mut packet = vec![0; u16::from_be_bytes(length).into()];
                    connection.read_exact(&mut packet).unwrap();
                    if let Some(reply) = answer(&packet, &over_tcp, &queries, usize::MAX) {
                        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                        connection.write_all(&[&length[..], &reply].concat()).unwrap();
                    }
                }
            }
        });
        Self { address, replies, asked }
    }

    /// One port for both.
    fn bind() -> (TcpListener, UdpSocket, SocketAddr) {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address) {
                return (tcp, udp, address);
            }
        }
    }

    /// Names without a reply do not exist.
    fn says(&self, name: &str, kind: u16, reply: Reply) {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.insert((name.to_owned(), kind), reply);
    }

    fn resolver(&self) -> Resolver {
        Resolver::asking(
            self.address,
            Duration::from_millis(50),
            "127.0.0.99 in-hosts-file In_Hosts_File",
        )
    }
}

fn answer(
    query: &[u8],
    replies: &Mutex<BTreeMap<(String, u16), Reply>>,
    queries: &UnboundedSender<(String, u16)>,
    length_max: usize,
) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let name = labels.join(".");
    let replies = replies.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = replies.get(&(name.clone(), kind)).cloned().unwrap_or(NXDOMAIN);
    // A test that has ended no longer receives the queries.
    drop(queries.send((name, kind)));
    let (code, addresses) = match reply {
        Reply::Silence => return None,
        Reply::Code(code) => (code, Vec::new()),
        Reply::Addresses(addresses) => (0, addresses),
    };
    let message = |flags: u8, addresses: &[IpAddr]| {
        let count = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        let mut message = vec![query[0], query[1], flags, 0x80 | code, 0, 1];
        message.extend([count[0], count[1], 0, 0, 0, 0]);
        message.extend(question);
        for address in addresses {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(bytes.len()).unwrap()]);
            message.extend(bytes);
        }
        message
    };
    let whole = message(0x85, &addresses);
    // Truncated: ask again over TCP.
    Some(if whole.len() > length_max { message(0x87, &[]) } else { whole })
}

fn v4(last_bytes: &[u8]) -> Reply {
    Reply::Addresses(last_bytes.iter().map(|&n| IpAddr::from([127, 0, 0, n])).collect())
}

fn v6() -> Reply {
    Reply::Addresses(vec!["::1".parse().unwrap()])
}

// === Harness ===

/// Clusters that are resolved, and the hosts that were published.
struct Harness {
    runtime: tokio::runtime::Runtime,
    clusters: Vec<Arc<Cluster>>,
    published: UnboundedReceiver<(usize, Vec<String>)>,
    initialized: Option<Pin<Box<dyn Future<Output = ()>>>>,
    control: LocalSet,
}

impl Harness {
    fn of(clusters: Vec<Arc<Cluster>>, resolver: Resolver) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, published) = unbounded_channel();
        let all = clusters.clone();
        let publish = move |cluster: &Arc<Cluster>, hosts: Arc<HostSet>| {
            let index = all.iter().position(|it| Arc::ptr_eq(it, cluster)).unwrap();
            let addresses = hosts.hosts().iter().map(|host| host.address.to_string());
            sender.send((index, addresses.collect())).unwrap();
        };
        let control = LocalSet::new();
        let endpoints = Endpoints::new(Arc::new(Registry::new(1)), Rc::default());
        let (resolver, epoch) = (Rc::new(resolver), Instant::now());
        let caches = DnsCaches::new(Rc::clone(&resolver), 1, epoch, |_, _, _| {});
        let membership = Membership::new(resolver, caches, endpoints, 1, epoch, publish);
        let initialized = {
            let _runtime = runtime.enter();
            let _control = control.enter();
            membership.follow(&clusters)
        };
        let initialized = async {
            for (_, ready) in initialized {
                drop(ready.await);
            }
        };
        Self { runtime, clusters, published, initialized: Some(Box::pin(initialized)), control }
    }

    fn wait_until_initialized(&mut self) {
        let initialized = self.initialized.take().unwrap();
        self.block_on(initialized);
    }

    fn wait_for_hosts(&mut self) -> (usize, Vec<String>) {
        let Self { runtime, published, control, .. } = self;
        runtime.block_on(control.run_until(published.recv())).unwrap()
    }

    /// Lets the control plane work until the server was asked so often again.
    fn go_on_until_asked(&self, server: &mut NameServer, times: usize) {
        while server.asked.try_recv().is_ok() {}
        self.block_on(async {
            for _ in 0..times {
                server.asked.recv().await.unwrap();
            }
        });
    }

    fn nothing_was_published(&mut self) -> bool {
        self.published.try_recv().is_err()
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(self.control.run_until(future))
    }

    fn stats(&self, cluster: usize) -> &ClusterStats {
        self.clusters[cluster].stats.control()
    }
}

/// A cluster of these names that asks every 10 ms.
fn cluster(semantics: Semantics, lookup_family: LookupFamily, names: &[&str]) -> Arc<Cluster> {
    let target = |name: &&str| Target {
        name: (*name).to_owned(),
        port: 80,
        endpoint: Arc::new(Endpoint {
            hostname: (*name).to_owned(),
            weight: 1,
            priority: 0,
            locality: Locality::default(),
            locality_weight: 0,
            check: EndpointCheck::default(),
            health_flags: HealthFlags::EMPTY,
            health_status: HealthStatus::default(),
            transport_socket: TransportSocket::plain(),
            metadata: Arc::default(),
        }),
    };
    let refresh = Refresh { rate: Duration::from_millis(10), ..Refresh::default() };
    let targets = names.iter().map(target).collect();
    with_discovery(Discovery::Dns(Dns {
        semantics,
        targets,
        lookup_family,
        refresh,
        resolver: None,
    }))
}

fn with_discovery(discovery: Discovery) -> Arc<Cluster> {
    let registry = Registry::new(1);
    let limits = Thresholds::default();
    Arc::new(Cluster {
        name: "c".to_owned(),
        number: Numbers::default().of("c"),
        is_local: false,
        observability_name: "c".to_owned(),
        metadata: Metadata::default(),
        connect_timeout: Duration::from_secs(5),
        per_connection_buffer_limit_bytes: 0,
        local_end: LocalEnd::default(),
        transport_sockets: TransportSockets {
            matches: Vec::new(),
            default: TransportSocket::plain(),
        },
        tcp_keepalive: None,
        http: HttpProtocolOptions::default(),
        auto_sni: None,
        circuit_breakers: CircuitBreakers::new(limits, limits, &registry, 1, "c"),
        override_host: None,
        override_host_status: HealthStatuses::default(),
        lb_policy: LbPolicy::RoundRobin(None),
        table_stats: None,
        health_check: None,
        outlier_detection: None,
        ignore_health_on_host_removal: false,
        ignore_new_hosts_until_first_hc: false,
        wait_for_warm_on_init: true,
        close_connections_on_host_set_change: false,
        distribution: DistributionRules::default(),
        discovery,
        stats: registry.scope("cluster.c."),
        http2_stats: registry.scope("cluster.c.http2."),
        zones: HashMap::new(),
    })
}

fn strict(names: &[&str]) -> Arc<Cluster> {
    cluster(Semantics::Strict, LookupFamily::V4Only, names)
}

fn logical(names: &[&str]) -> Arc<Cluster> {
    cluster(Semantics::Logical, LookupFamily::V4Only, names)
}

// === The stories ===

#[test]
fn every_address_becomes_a_host_and_the_change_of_an_answer_is_published() {
    let server = NameServer::start();
    server.says("a", A, v4(&[1, 2]));
    let mut harness = Harness::of(vec![strict(&["a"])], server.resolver());
    assert_eq!(harness.wait_for_hosts(), (0, vec!["127.0.0.1:80".into(), "127.0.0.2:80".into()]));
    server.says("a", A, v4(&[2, 3]));
    assert_eq!(harness.wait_for_hosts(), (0, vec!["127.0.0.2:80".into(), "127.0.0.3:80".into()]));
    assert_eq!(harness.stats(0).membership_total.value(), 2);
    assert_eq!(harness.stats(0).membership_change.value(), 2);
}

#[test]
fn hosts_keep_serving_when_dns_fails() {
    for failure in [SERVFAIL, Reply::Silence] {
        for cluster in [strict(&["a"]), logical(&["a"])] {
            let mut server = NameServer::start();
            server.says("a", A, v4(&[1]));
            let mut harness = Harness::of(vec![cluster], server.resolver());
            harness.wait_for_hosts();
            server.says("a", A, failure.clone());
            harness.go_on_until_asked(&mut server, 8);
            assert!(harness.nothing_was_published());
            assert!(harness.stats(0).update_failure.value() > 0);
            server.says("a", A, v4(&[2]));
            assert_eq!(harness.wait_for_hosts(), (0, vec!["127.0.0.2:80".into()]));
        }
    }
}

#[test]
fn a_name_that_is_gone_takes_the_hosts_of_a_strict_cluster_and_not_of_a_logical_one() {
    for gone in [NXDOMAIN, v4(&[])] {
        let mut server = NameServer::start();
        server.says("a", A, v4(&[1]));
        let clusters = vec![strict(&["a"]), logical(&["a"])];
        let mut harness = Harness::of(clusters, server.resolver());
        harness.wait_for_hosts();
        harness.wait_for_hosts();
        server.says("a", A, gone);
        assert_eq!(harness.wait_for_hosts(), (0, vec![]));
        harness.go_on_until_asked(&mut server, 8);
        assert!(harness.nothing_was_published());
        assert_eq!(harness.stats(0).update_failure.value(), 0);
        assert!(harness.stats(1).update_failure.value() > 0);
        assert_eq!(harness.stats(1).membership_total.value(), 1);
    }
}

#[test]
fn the_shards_may_start_when_every_cluster_was_answered_or_failed_once() {
    let server = NameServer::start();
    server.says("a", A, v4(&[1]));
    server.says("broken", A, SERVFAIL);
    server.says("silent", A, Reply::Silence);
    let fixed = with_discovery(Discovery::Static(Arc::default()));
    let none = strict(&[]);
    let clusters = vec![fixed, strict(&["a"]), strict(&["broken"]), strict(&["silent", "a"]), none];
    let mut harness = Harness::of(clusters, server.resolver());
    harness.wait_until_initialized();
    assert_eq!(harness.wait_for_hosts(), (0, vec![]));
    assert!(
        harness.clusters.iter().all(|cluster| cluster.stats.control().warming_state.value() == 0)
    );
}

#[test]
fn a_thousand_addresses_come_over_tcp() {
    let server = NameServer::start();
    let addresses = (0..1000u16).map(ten);
    server.says("a", A, Reply::Addresses(addresses.collect()));
    let mut harness = Harness::of(vec![strict(&["a"])], server.resolver());
    assert_eq!(harness.wait_for_hosts().1.len(), 1000);
}

#[test]
fn an_address_and_localhost_need_no_name_server() {
    let mut server = NameServer::start();
    let clusters = vec![logical(&["192.0.2.7"]), strict(&["2001:db8::1"]), logical(&["localhost"])];
    let mut harness = Harness::of(clusters, server.resolver());
    let mut hosts: Vec<_> = (0..3).map(|_| harness.wait_for_hosts()).collect();
    hosts.sort();
    let hosts: Vec<_> = hosts.into_iter().flat_map(|(_, hosts)| hosts).collect();
    assert_eq!(hosts, ["192.0.2.7:80", "[2001:db8::1]:80", "127.0.0.1:80"]);
    assert!(server.asked.try_recv().is_err());
}

#[test]
fn the_hosts_file_comes_first() {
    let mut server = NameServer::start();
    server.says("in-hosts-file", A, v4(&[1]));
    let mut harness = Harness::of(vec![logical(&["in-hosts-file"])], server.resolver());
    assert_eq!(harness.wait_for_hosts(), (0, vec!["127.0.0.99:80".into()]));
    assert!(server.asked.try_recv().is_err());
}

#[test]
fn a_cluster_may_have_name_servers_of_its_own() {
    for only_tcp in [false, true] {
        let (mut of_process, own) = (NameServer::start(), NameServer::start());
        own.says("a", A, v4(&[7]));
        let plain = strict(&["a"]);
        let Discovery::Dns(dns) = &plain.discovery else { unreachable!("it is made so") };
        let target =
            |it: &Target| Target { name: it.name.clone(), endpoint: it.endpoint.clone(), ..*it };
        let servers = vec![own.address];
        let resolver = OwnResolver { servers, only_tcp, ..OwnResolver::default() };
        let cluster = with_discovery(Discovery::Dns(Dns {
            targets: dns.targets.iter().map(target).collect(),
            resolver: Some(resolver),
            ..*dns
        }));
        let mut harness = Harness::of(vec![cluster], of_process.resolver());
        assert_eq!(harness.wait_for_hosts(), (0, vec!["127.0.0.7:80".into()]));
        assert!(of_process.asked.try_recv().is_err());
    }
}

#[test]
fn names_may_have_underscores_and_capitals() {
    let server = NameServer::start();
    server.says("my_service.zone", A, v4(&[1]));
    let clusters = vec![logical(&["My_Service.zone"]), logical(&["in_hosts_FILE"])];
    let mut harness = Harness::of(clusters, server.resolver());
    let mut hosts = [harness.wait_for_hosts(), harness.wait_for_hosts()];
    hosts.sort();
    assert_eq!(hosts, [(0, vec!["127.0.0.1:80".into()]), (1, vec!["127.0.0.99:80".into()])]);
}

#[test]
fn the_family_decides_which_addresses_count() {
    let server = NameServer::start();
    server.says("dual", A, v4(&[6, 7]));
    server.says("dual", AAAA, v6());
    server.says("old", A, v4(&[6]));
    server.says("new", AAAA, v6());
    server.says("torn", A, v4(&[6]));
    server.says("torn", AAAA, SERVFAIL);
    let (old, new) = (["127.0.0.6:80"].as_slice(), ["[::1]:80"].as_slice());
    let two = ["127.0.0.6:80", "127.0.0.7:80"].as_slice();
    let three = ["127.0.0.6:80", "127.0.0.7:80", "[::1]:80"].as_slice();
    for (family, name, expected) in [
        (LookupFamily::Auto, "dual", new),
        (LookupFamily::Auto, "old", old),
        (LookupFamily::Auto, "torn", old),
        (LookupFamily::V4Preferred, "dual", two),
        (LookupFamily::V4Preferred, "new", new),
        (LookupFamily::V4Only, "dual", two),
        (LookupFamily::V6Only, "dual", new),
        (LookupFamily::All, "dual", three),
        (LookupFamily::All, "torn", old),
    ] {
        let clusters = vec![cluster(Semantics::Strict, family, &[name])];
        let mut harness = Harness::of(clusters, server.resolver());
        assert_eq!(harness.wait_for_hosts().1, expected, "{family:?} {name}");
    }
}

#[test]
fn half_a_failure_does_not_take_the_hosts_away() {
    let mut server = NameServer::start();
    server.says("a", A, v4(&[1]));
    let clusters = vec![cluster(Semantics::Strict, LookupFamily::Auto, &["a"])];
    let mut harness = Harness::of(clusters, server.resolver());
    harness.wait_for_hosts();
    server.says("a", A, SERVFAIL);
    harness.go_on_until_asked(&mut server, 8);
    assert!(harness.nothing_was_published());
}

#[test]
fn the_system_can_be_asked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        Resolver::system().unwrap().lookup("localhost", LookupFamily::V4Only).await
    });
    assert_eq!(answer.unwrap().addresses, [IpAddr::from([127, 0, 0, 1])]);
}

/// One of many addresses.
fn ten(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    [10, 0, high, low].into()
}

/// A cluster whose host is checked every 10 ms by TCP on this port.
fn checked(port: u16, ignore_health_on_host_removal: bool) -> Arc<Cluster> {
    let mut cluster = strict(&["a"]);
    let inner = Arc::get_mut(&mut cluster).unwrap();
    let interval = Duration::from_millis(10);
    let intervals = Intervals {
        healthy: interval,
        unhealthy: interval,
        no_traffic: interval,
        no_traffic_healthy: interval,
        ..check(1, 1).intervals
    };
    let alt_port = Some(port);
    inner.health_check = Some(Arc::new(HealthCheck { alt_port, intervals, ..check(1, 1) }));
    inner.ignore_health_on_host_removal = ignore_health_on_host_removal;
    cluster
}

/// 127.0.0.1, and 127.0.0.2 where nothing listens.
fn one_that_listens() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_host_that_passes_its_checks_outlives_its_name() {
    let (listener, port) = one_that_listens();
    let server = NameServer::start();
    server.says("a", A, v4(&[1]));
    let mut harness = Harness::of(vec![checked(port, false)], server.resolver());
    harness.wait_until_initialized();
    server.says("a", A, v4(&[2]));
    let both = vec!["127.0.0.2:80".to_owned(), "127.0.0.1:80".to_owned()];
    while harness.wait_for_hosts() != (0, both.clone()) {}
    // Now it fails, and goes.
    drop(listener);
    while harness.wait_for_hosts() != (0, vec!["127.0.0.2:80".to_owned()]) {}
}

#[test]
fn a_host_may_go_with_its_name_whatever_its_health() {
    let (_listener, port) = one_that_listens();
    let server = NameServer::start();
    server.says("a", A, v4(&[1]));
    let mut harness = Harness::of(vec![checked(port, true)], server.resolver());
    harness.wait_until_initialized();
    server.says("a", A, v4(&[2]));
    loop {
        let (_, hosts) = harness.wait_for_hosts();
        assert_eq!(hosts.len(), 1);
        if hosts == ["127.0.0.2:80"] {
            return;
        }
    }
}

#[test]
fn a_cluster_is_warming_until_its_hosts_were_checked() {
    let (listener, port) = one_that_listens();
    let server = NameServer::start();
    server.says("a", A, v4(&[1]));
    let mut harness = Harness::of(vec![checked(port, false)], server.resolver());
    harness.wait_until_initialized();
    let stats = harness.clusters[0].health_check.as_ref().unwrap().stats.control();
    assert!(stats.attempt.value() >= 1);
    assert_eq!(harness.stats(0).warming_state.value(), 0);
    drop(listener);
}
