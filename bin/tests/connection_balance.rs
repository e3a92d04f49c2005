//! Which shard serves a connection.

use crate::support::{Client, Config, Origin, Proxy, Signal, is_oracle};

/// Clients that connect one after the other, each after the previous one has its answer.
fn clients(proxy: &Proxy, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), 200);
        client
    };
    (0..count).map(client).collect()
}

/// The number of connections of each shard.
fn on_shards(proxy: &Proxy) -> Vec<u64> {
    let stats = proxy.stats();
    let of_front = stats.iter().filter(|(name, _)| name.starts_with("listener.127"));
    let of_shards = of_front
        .filter(|(name, _)| name.contains(".worker_") && name.ends_with(".downstream_cx_active"));
    of_shards.map(|(_, active)| *active).collect()
}

/// A listener on four shards that are to be balanced.
fn exact(origin: &Origin) -> Config {
    let yaml = Config::to(origin).yaml().replace(
        "- name: front\n",
        "- name: front\n    connection_balance_config: { exact_balance: {} }\n",
    );
    Config::verbatim(yaml).shards(4)
}

#[test]
fn a_listener_with_exact_balance_spreads_its_connections_evenly() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(exact(&origin));
    let mut clients = clients(&proxy, 20);
    assert_eq!(on_shards(&proxy), [5; 4]);
    assert_eq!(proxy.stat("http.front.downstream_cx_total"), 20);
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200, "also where it was handed over to");
    }

    drop(clients);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    assert_eq!(on_shards(&proxy), [0; 4]);
}

/// The kernel distributes by a hash: one round in four ends with four on each shard.
#[test]
fn few_connections_are_even_on_two_shards() {
    if is_oracle() {
        return; // Envoy leaves them on the worker that the kernel chose.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2));
    for _round in 0..4 {
        let clients = clients(&proxy, 8);
        assert_eq!(on_shards(&proxy), [4, 4]);
        drop(clients);
        proxy.stat_becomes("http.front.downstream_cx_active", 0);
    }
}

#[test]
fn connections_are_handed_over_without_a_ring() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(exact(&origin).environment("CORVOY_RING", "epoll"));
    let _clients = clients(&proxy, 8);
    assert_eq!(on_shards(&proxy), [2; 4]);
}

/// The local address of a connection to a wildcard listener has to be queried.
#[test]
fn a_connection_that_is_handed_over_keeps_its_local_address() {
    let origin = Origin::that_answers();
    let anywhere = "- name: front\n    address: { socket_address: { address: 0.0.0.0,";
    let header = "response_headers_to_add: \
                  [{ header: { key: to, value: \"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\" } }]";
    let yaml = Config::to(&origin)
        .yaml()
        .replace("- name: front\n    address: { socket_address: { address: 127.0.0.1,", anywhere)
        .replace("domains: [\"*\"]\n", &format!("domains: [\"*\"]\n              {header}\n"));
    let proxy = Proxy::with(Config::verbatim(yaml).shards(4));
    let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").header("to").as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn a_drain_closes_connections_on_every_shard() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(exact(&origin));
    let mut clients = clients(&proxy, 8);
    proxy.signal(Signal::Term);
    clients.iter_mut().for_each(Client::is_closed);
    assert!(proxy.exit().success());
}
