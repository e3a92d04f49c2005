//! Limits of connections, per listener and global.

use crate::support::{Config, Origin, Proxy};

const OF_FRONT: &str = "layered_runtime: { layers: [{ name: static, static_layer: \
     { envoy: { resource_limits: { listener: { front: { connection_limit: 2 } } } } } }] }";

/// Envoy's admin endpoint counts too, unless it is exempted.
const OF_ALL: &str = "admin: { ignore_global_conn_limit: true }\n\
     layered_runtime: { layers: [{ name: static, static_layer: \
     { overload: { global_downstream_max_connections: 3 } } }] }\n\
     overload_manager: { resource_monitors: [{ \
     name: envoy.resource_monitors.global_downstream_max_connections, typed_config: { \
     \"@type\": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, \
     max_active_downstream_connections: 2 } }] }";

fn counted(proxy: &Proxy, stat: &str) -> u64 {
    let stats = proxy.stats();
    let suffix = format!(".{stat}");
    let of_front = stats.iter().filter(|(name, _)| name.starts_with("listener.127"));
    of_front.filter(|(name, _)| name.ends_with(&suffix)).map(|(_, value)| value).sum()
}

#[test]
fn a_listener_at_its_limit_closes_new_connections() {
    let origin = Origin::that_answers();
    let config = Config::to(&origin).shards(2).flags(&["--config-yaml", OF_FRONT]);
    let proxy = Proxy::with(config);
    let mut first = proxy.connect();
    let mut second = proxy.connect();
    first.get("/");
    second.get("/");
    proxy.connect().is_closed();
    assert_eq!(counted(&proxy, "downstream_cx_overflow"), 1);
    assert_eq!(proxy.stat("http.front.downstream_cx_total"), 2);

    drop(first);
    proxy.stat_becomes("http.front.downstream_cx_active", 1);
    assert_eq!(proxy.connect().get("/").status(), 200, "its place is free");
}

#[test]
fn the_overload_manager_limits_connections_globally() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).flags(&["--config-yaml", OF_ALL]));
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(|client| drop(client.get("/")));
    proxy.connect().is_closed();
    assert_eq!(counted(&proxy, "downstream_global_cx_overflow"), 1);
}

/// A field of the listener, and how many connections it admits.
#[test]
fn a_listener_may_be_exempt_from_the_global_limit() {
    for (field, most) in
        [("ignore_global_conn_limit: true", 4), ("bypass_overload_manager: true", 3)]
    {
        let origin = Origin::that_answers();
        let yaml = Config::to(&origin).yaml();
        let yaml = yaml.replace("- name: front\n", &format!("- name: front\n    {field}\n"));
        let proxy = Proxy::with(Config::verbatim(yaml).flags(&["--config-yaml", OF_ALL]));
        let mut clients: Vec<_> = (0..most).map(|_| proxy.connect()).collect();
        clients.iter_mut().for_each(|client| drop(client.get("/")));
        if most == 3 {
            proxy.connect().is_closed();
        }
    }
}

#[test]
fn runtime_values_are_shown() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).flags(&["--config-yaml", OF_FRONT]));
    let shown: serde_json::Value = serde_json::from_str(&proxy.admin("/runtime").text()).unwrap();
    let key = "envoy.resource_limits.listener.front.connection_limit";
    assert_eq!(shown["entries"][key]["final_value"], "2");
    assert_eq!(shown["entries"][key]["layer_values"], serde_json::json!(["2"]));
    assert_eq!(shown["layers"], serde_json::json!(["static"]));
    assert_eq!((proxy.stat("runtime.num_keys"), proxy.stat("runtime.num_layers")), (1, 1));
}
