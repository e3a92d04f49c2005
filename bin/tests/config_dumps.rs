//! What `/config_dump`, `/init_dump` and `/clusters` show of resources that came while the process runs.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::management_servers::{
    CLUSTER, ENDPOINTS, LISTENER, ROUTES, all_from, cluster, endpoints, listener, routes_to,
};
use crate::support::{
    Config, ManagementServer, Origin, Proxy, free_address, is_oracle, wait_for, wait_until,
};

fn configs(proxy: &Proxy, query: &str) -> Vec<Value> {
    let body = proxy.admin(&format!("/config_dump{query}")).body;
    let dump: Value = serde_json::from_slice(&body).unwrap();
    dump["configs"].as_array().cloned().unwrap_or_default()
}

/// The elements of a list in the dump.
fn elements(proxy: &Proxy, list: &str) -> Vec<Value> {
    configs(proxy, &format!("?resource={list}"))
}

/// A listener at this address; without a `stat_prefix` it is invalid.
fn listener_at(address: SocketAddr, stat_prefix: &str) -> Value {
    let mut listener = listener("front");
    listener["address"]["socket_address"]["port_value"] = address.port().into();
    listener["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = stat_prefix.into();
    listener
}

#[test]
fn listeners_are_active_and_drain_and_the_last_failure_is_told() {
    let Some(server) = ManagementServer::start(None) else { return };
    let origin = Origin::that_answers();
    let [first, second] = [free_address(), free_address()];
    server.set(CLUSTER, "c1", &[cluster("a")]);
    server.set(ENDPOINTS, "e1", &[endpoints("a", &origin)]);
    server.set(ROUTES, "r1", &[routes_to("a")]);
    server.set(LISTENER, "l1", &[listener_at(first, "x")]);
    let proxy = all_from(&server, "GRPC");
    let listeners = elements(&proxy, "dynamic_listeners");
    let kind = "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener";
    assert_eq!(listeners[0]["@type"], kind);
    assert_eq!(listeners[0]["active_state"]["version_info"], "l1");
    let routes = elements(&proxy, "dynamic_route_configs");
    assert_eq!(routes[0]["version_info"], "r1");
    assert_eq!(routes[0]["route_config"]["name"], "routes");

    server.set(LISTENER, "l2", &[listener_at(second, "x")]);
    proxy.stat_becomes("listener_manager.lds.update_success", 2);
    let state = |name: &str| -> Value {
        let listeners = elements(&proxy, "dynamic_listeners");
        let state = &listeners[0][name];
        let port = &state["listener"]["address"]["socket_address"]["port_value"];
        json!([state["version_info"], port])
    };
    wait_until("the new listener", || state("active_state") == json!(["l2", second.port()]));
    assert_eq!(state("draining_state"), json!(["l1", first.port()]));

    // Its filter chain is another one: as in Envoy it keeps its version.
    server.set(LISTENER, "l3", &[listener_at(second, "y")]);
    proxy.stat_becomes("listener_manager.listener_in_place_updated", 1);
    assert_eq!(state("active_state"), json!(["l2", second.port()]));

    server.set(LISTENER, "l4", &[listener_at(second, "")]);
    proxy.stat_becomes("listener_manager.lds.update_rejected", 1);
    let listeners = elements(&proxy, "dynamic_listeners");
    let failed = &listeners[0]["error_state"];
    assert_eq!(failed["failed_configuration"]["name"], "front");
    assert!(failed["details"].as_str().unwrap().contains("stat_prefix") || is_oracle());
    assert!(failed["last_update_attempt"].is_string());
    assert_eq!(listeners[0]["active_state"]["version_info"], "l2");
    assert_eq!(listeners.last().unwrap()["name"], Value::Null, "the failure is told once more");
    let all = configs(&proxy, "?mask=version_info");
    let versions: Vec<&Value> = all.iter().map(|it| &it["version_info"]).collect();
    assert_eq!(versions, ["c1", "l3"], "nothing of the last one is used");
    assert_eq!(proxy.admin("/config_dump?resource=dynamic_listeners&name_regex=b.*").status(), 200);
}

#[test]
fn what_is_not_ready_is_warming() {
    let Some(server) = ManagementServer::start(None) else { return };
    let origin = Origin::that_answers();
    server.set(CLUSTER, "c1", &[cluster("a")]);
    server.set(ENDPOINTS, "e1", &[endpoints("a", &origin)]);
    server.set(ROUTES, "r1", &[routes_to("a")]);
    server.set(LISTENER, "l1", &[listener("front")]);
    let proxy = all_from(&server, "GRPC");
    let names = |list: &str, at: &str| -> Vec<String> {
        let all = elements(&proxy, list);
        all.iter().filter_map(|it| Some(it.pointer(at)?.as_str()?.to_owned())).collect()
    };
    server.set(CLUSTER, "c2", &[cluster("a"), cluster("b")]);
    wait_until("the new cluster", || names("dynamic_warming_clusters", "/cluster/name") == ["b"]);
    assert_eq!(names("dynamic_active_clusters", "/cluster/name"), ["a"]);
    assert_eq!(proxy.stat("cluster_manager.warming_clusters"), 1);
    server.set(ENDPOINTS, "e2", &[endpoints("a", &origin), endpoints("b", &origin)]);
    wait_until("its hosts", || names("dynamic_active_clusters", "/cluster/name").len() == 2);

    let mut other = listener("other");
    let rds = "/filter_chains/0/filters/0/typed_config/rds/route_config_name";
    *other.pointer_mut(rds).unwrap() = "others".into();
    server.set(LISTENER, "l2", &[listener("front"), other]);
    let warming = "/warming_state/listener/name";
    wait_until("the new listener", || names("dynamic_listeners", warming) == ["other"]);
    let dump: Value = serde_json::from_slice(&proxy.admin("/init_dump").body).unwrap();
    let unready = &dump["unready_targets_dumps"][0];
    let name = unready["name"].as_str().unwrap();
    assert!(name.starts_with("init manager Listener-local-init-manager other "), "{name}");
    let target = "shared target RdsRouteConfigSubscription RDS init others";
    assert_eq!(unready["target_names"], json!([target]));
    assert_eq!(proxy.admin("/init_dump?mask=cluster").body, b"{}\n");
    let mut others = routes_to("a");
    others["name"] = "others".into();
    server.set(ROUTES, "r2", &[routes_to("a"), others]);
    wait_until("its routes", || names("dynamic_listeners", warming).is_empty());
    assert_eq!(proxy.admin("/init_dump").body, b"{}\n");
}

#[test]
fn hosts_are_dumped_if_asked_for() {
    let folder = TempDir::new().unwrap();
    let hosts = folder.path().join("hosts.yaml");
    fs::write(
        &hosts,
        "version_info: e1\nresources:\n- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: svc
  endpoints:
  - { locality: { region: r, zone: z }, load_balancing_weight: 5, lb_endpoints: [{ load_balancing_weight: 3, \
         health_status: DEGRADED, metadata: { filter_metadata: { a: { b: x } } }, endpoint: { hostname: h, \
         health_check_config: { port_value: 99 }, address: { socket_address: { address: 127.0.0.1, port_value: 7 } } } }] }
  - { priority: 1, lb_endpoints: [{ health_status: DRAINING, endpoint: { address: { pipe: { path: /x } } } }] }
",
    )
    .unwrap();
    let clusters = format!(
        "{{ name: s, type: EDS, connect_timeout: 1s, eds_cluster_config: {{ service_name: svc, \
         eds_config: {{ path_config_source: {{ path: {} }} }} }} }}",
        hosts.display()
    );
    let proxy = Proxy::with(Config::verbatim(format!(
        "node: {{ id: edge, cluster: edges }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources: {{ clusters: [{clusters}] }}
"
    )));
    wait_for("the hosts", || (proxy.stat("cluster.s.membership_total") == 2).then_some(()));
    let all = configs(&proxy, "?include_eds");
    let dump = all.iter().find(|it| it.get("static_endpoint_configs").is_some()).unwrap();
    let config = &dump["static_endpoint_configs"][0]["endpoint_config"];
    let expected = json!([
        { "locality": { "region": "r", "zone": "z" }, "load_balancing_weight": 5, "lb_endpoints": [{
            "endpoint": { "hostname": "h", "health_check_config": { "port_value": 99 },
                "address": { "socket_address": { "address": "127.0.0.1", "port_value": 7 } } },
            "health_status": "DEGRADED", "load_balancing_weight": 3,
            "metadata": { "filter_metadata": { "a": { "b": "x" } } } }] },
        { "locality": {}, "load_balancing_weight": 0, "priority": 1, "lb_endpoints": [{
            "endpoint": { "health_check_config": {}, "address": { "pipe": { "path": "/x" } } },
            "health_status": "UNHEALTHY", "load_balancing_weight": 1 }] },
    ]);
    assert_eq!(config["endpoints"], expected);
    assert_eq!(config["cluster_name"], "svc");
    assert_eq!(config["policy"], json!({ "overprovisioning_factor": 140 }));
    let none = proxy.admin("/config_dump?resource=static_endpoint_configs");
    assert_eq!(none.status(), 404, "they are shown only if asked for");
    let text = String::from_utf8(proxy.admin("/stats?filter=version").body).unwrap();
    assert!(text.contains("cluster.s.version_text: \"e1\"\n"), "{text}");
}

#[test]
fn a_response_names_the_management_server_and_its_version() {
    let Some(server) = ManagementServer::start(None) else { return };
    let origin = Origin::that_answers();
    server.set(CLUSTER, "c1", &[cluster("a")]);
    server.set(ENDPOINTS, "e1", &[endpoints("a", &origin)]);
    server.set(LISTENER, "l1", &[]);
    let proxy = all_from(&server, "GRPC");
    let stats = String::from_utf8(proxy.admin("/stats?type=TextReadouts").body).unwrap();
    assert!(stats.contains("control_plane.identifier: \"story\"\n"), "{stats}");
    assert!(stats.contains("cluster_manager.cds.version_text: \"c1\"\n"), "{stats}");
    assert!(stats.contains("cluster.a.version_text: \"e1\"\n"), "{stats}");
    let clusters = String::from_utf8(proxy.admin("/clusters").body).unwrap();
    assert!(clusters.contains("a::added_via_api::true\n"), "{clusters}");
    assert!(clusters.contains("management::added_via_api::false\n"), "{clusters}");
}
