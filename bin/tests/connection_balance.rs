//! Which shard serves a connection.

use crate::support::{Client, Config, Origin, Proxy};

/// Clients that come one after the other, each of which has its answer before the next one comes.
fn clients(proxy: &Proxy, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), 200);
        client
    };
    (0..count).map(client).collect()
}

/// How many connections each shard has.
fn on_shards(proxy: &Proxy) -> Vec<u64> {
    let stats = proxy.stats();
    let of_front = stats.iter().filter(|(name, _)| name.starts_with("listener.127"));
    let of_shards = of_front
        .filter(|(name, _)| name.contains(".worker_") && name.ends_with(".downstream_cx_active"));
    of_shards.map(|(_, active)| *active).collect()
}

#[test]
fn a_listener_with_exact_balance_spreads_its_connections_evenly() {
    let origin = Origin::that_answers();
    let yaml = Config::to(&origin).yaml().replace(
        "- name: front\n",
        "- name: front\n    connection_balance_config: { exact_balance: {} }\n",
    );
    let proxy = Proxy::with(Config::verbatim(yaml).shards(4));
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

/// The kernel chooses by a hash: four and four are what comes out of every fourth round.
#[test]
fn few_connections_lie_evenly_on_two_shards() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2));
    for _round in 0..4 {
        let clients = clients(&proxy, 8);
        assert_eq!(on_shards(&proxy), [4, 4]);
        drop(clients);
        proxy.stat_becomes("http.front.downstream_cx_active", 0);
    }
}
