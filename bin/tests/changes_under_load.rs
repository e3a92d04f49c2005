//! A thousand changes of every kind from a management server, under clients that never pause.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use serde_json::{Value, json};

use crate::management_servers::{
    CLUSTER, ENDPOINTS, LISTENER, ROUTES, all_from, cluster, endpoints, listener, routes_to,
};
use crate::support::{Client, ManagementServer, Origin, Proxy, Wire, free_address, wait_until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";

/// Goes on until told to stop; opens another connection when a response closes it. How many were answered.
fn ask(done: &AtomicBool, address: SocketAddr) -> usize {
    let mut wire = Wire::connect(address).unwrap();
    let mut answered = 0;
    while !done.load(Relaxed) {
        wire.send(GET).unwrap();
        let response = wire.response("GET").unwrap_or_else(|broken| panic!("lost: {broken:?}"));
        assert_eq!(response.status(), 200);
        answered += 1;
        if response.header("connection").is_some() {
            wire = Wire::connect(address).unwrap();
        }
    }
    answered
}

fn listener_at(name: &str, address: SocketAddr, server_name: &str) -> Value {
    let mut listener = listener(name);
    listener["address"]["socket_address"]["port_value"] = address.port().into();
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["server_name"] = server_name.into();
    listener
}

/// What the server has in a round.
struct Rounds<'a> {
    server: &'a ManagementServer,
    origins: &'a [Origin; 2],
    addresses: [SocketAddr; 3],
}

impl Rounds<'_> {
    /// One kind changes in each round: hosts, a cluster, routes, a filter chain, or whole listeners.
    fn set(&self, round: usize) {
        let Self { server, origins, addresses: [front, chain, other] } = self;
        let version = format!("v{round}");
        let place = round / 5;
        match round % 5 {
            0 => {
                let origin = &origins[place % 2];
                let all = ["a", "b"].map(|name| endpoints(name, origin));
                server.set(ENDPOINTS, &version, &all);
            }
            1 => {
                let mut changing = cluster("b");
                changing["connect_timeout"] = format!("{}s", 1 + place % 7).into();
                server.set(CLUSTER, &version, &[cluster("a"), changing]);
            }
            2 => {
                let mut routes = routes_to("a");
                routes["virtual_hosts"][0]["routes"][0]["route"]["timeout"] =
                    format!("{}s", 5 + place % 7).into();
                server.set(ROUTES, &version, &[routes]);
            }
            3 => self.set_listeners(
                &version,
                &[
                    listener_at("front", *front, "front"),
                    listener_at("chain", *chain, &format!("chain-{place}")),
                ],
            ),
            _ => self.set_listeners(
                &version,
                &[
                    listener_at("front", *front, "front"),
                    listener_at("chain", *chain, &format!("chain-{place}")),
                    listener_at("other", *other, "other"),
                ],
            ),
        }
    }

    fn set_listeners(&self, version: &str, listeners: &[Value]) {
        self.server.set(LISTENER, version, listeners);
    }

    /// Waits until the last rounds are in force.
    fn settle(&self, proxy: &Proxy, round: usize) {
        let version = format!("l{round}");
        let front = listener_at("front", self.addresses[0], "front");
        let chain = listener_at("chain", self.addresses[1], "last");
        self.set_listeners(&version, &[front, chain]);
        wait_until("the last version", || {
            let stats = proxy.admin("/stats?filter=lds.version_text").body;
            String::from_utf8(stats).unwrap().contains(&format!("\"{version}\""))
        });
        wait_until("its listener", || {
            let response = Client::connect(self.addresses[1]).get("/");
            response.header("server").is_some_and(|it| it == "last")
        });
    }
}

#[test]
fn no_request_is_lost_in_a_thousand_changes_of_every_kind() {
    let Some(server) = ManagementServer::start(None) else { return };
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let addresses = [free_address(), free_address(), free_address()];
    let rounds = Rounds { server: &server, origins: &origins, addresses };
    (0..5).for_each(|round| rounds.set(round));
    let proxy = all_from(&server, "DELTA_GRPC");
    let [front, chain, _] = addresses;
    // Of the listener that never changes no connection ends.
    let mut quiet = Client::connect(front);
    assert_eq!(quiet.get("/").status(), 200);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [front, front, chain, chain].map(|it| scope.spawn(|| ask(&done, it)));
        (5..105).for_each(|round| rounds.set(round));
        rounds.settle(&proxy, 105);
        let before = (proxy.memory_kib(), proxy.open_files().len());
        (106..1106).for_each(|round| rounds.set(round));
        rounds.settle(&proxy, 1106);
        let grown = proxy.memory_kib().saturating_sub(before.0);
        assert!(grown < 16 << 10, "{grown} KiB more after a thousand changes");
        done.store(true, Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert_eq!(quiet.get("/").header("connection"), None, "its listener has not changed");
    let stats = proxy.stats();
    let sum = |end: &str| -> u64 {
        stats.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, value)| value).sum()
    };
    assert_eq!(sum("front.downstream_rq_5xx"), 0);
    assert_eq!(sum("update_rejected"), 0);
    let nacks = server.requests().iter().filter(|it| it.is_nack()).count();
    assert_eq!(nacks, 0);
}

/// A generator of numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Whatever the order in which valid and invalid resources come: what counts are the last valid ones.
#[test]
fn any_sequence_of_resources_ends_in_the_state_of_the_last_valid_ones() {
    let Some(server) = ManagementServer::start(None) else { return };
    let names = ["a", "b", "c", "d"];
    server.set(CLUSTER, "c0", &[]);
    server.set(LISTENER, "l0", &[]);
    let proxy = all_from(&server, "GRPC");
    let mut dice = Dice(7);
    let mut valid: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 1..=60 {
        let mut wanted = Vec::new();
        let mut next = BTreeMap::new();
        for name in names {
            let seconds = 1 + dice.below(9);
            // A static cluster, so that it is ready at once.
            let of =
                |text: String| json!({ "name": name, "type": "STATIC", "connect_timeout": text });
            match dice.below(4) {
                // It is gone.
                0 => {}
                // An invalid one: the former one stays, if there was one.
                1 => {
                    let mut invalid = of(format!("{seconds}s"));
                    invalid["load_assignment"] = json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
                        "endpoint": { "address": { "socket_address": { "address": "no.ip", "port_value": 1 } } } }] }] });
                    wanted.push(invalid);
                    if let Some(former) = valid.get(name) {
                        next.insert(name, *former);
                    }
                }
                _ => {
                    wanted.push(of(format!("{seconds}s")));
                    next.insert(name, seconds);
                }
            }
        }
        valid = next;
        let before = proxy.stat("cluster_manager.cds.update_attempt");
        server.set(CLUSTER, &format!("c{round}"), &wanted);
        wait_until("an answer", || proxy.stat("cluster_manager.cds.update_attempt") > before);
        let body = proxy.admin("/config_dump?resource=dynamic_active_clusters").body;
        let dump: Value = serde_json::from_slice(&body).unwrap();
        let active = dump["configs"].as_array().cloned().unwrap_or_default();
        let found: BTreeMap<String, String> = active
            .iter()
            .map(|it| {
                let text = |field: &str| it["cluster"][field].as_str().unwrap().to_owned();
                (text("name"), text("connect_timeout"))
            })
            .collect();
        let expected = valid.iter().map(|(name, it)| ((*name).to_owned(), format!("{it}s")));
        assert_eq!(found, expected.collect(), "round {round}");
    }
}
