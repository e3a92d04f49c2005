//! Clusters, listeners and hosts that come from files, and change.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::support::{Client, Config, Origin, Proxy, Wire, free_address, is_oracle, wait_until};

/// A folder with the files of dynamic resources.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        ["clusters", "listeners", "hosts"].iter().for_each(|name| files.put(name, &[]));
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(format!("{name}.yaml")).display().to_string()
    }

    /// Moves a file with these resources to its place.
    fn put(&self, name: &str, resources: &[String]) {
        let new = self.0.path().join("new");
        let all: String = resources.iter().map(|it| format!("- {it}\n")).collect();
        let list = if all.is_empty() {
            "resources: []\n".to_owned()
        } else {
            format!("resources:\n{all}")
        };
        fs::write(&new, list).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// A proxy that follows them.
    fn proxy(&self) -> Proxy {
        Proxy::with(Config::verbatim(format!(
            "node: {{ id: edge, cluster: edges }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
dynamic_resources:
  cds_config: {{ path_config_source: {{ path: {} }} }}
  lds_config: {{ path_config_source: {{ path: {} }} }}
",
            self.path("clusters"),
            self.path("listeners")
        )))
    }

    fn eds_cluster(&self, name: &str) -> String {
        format!(
            "{{ '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, type: EDS, \
             connect_timeout: 1s, eds_cluster_config: {{ eds_config: {{ path_config_source: {{ path: {} }} }} }} }}",
            self.path("hosts")
        )
    }
}

fn endpoints(addresses: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| {
            format!(
                "{{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}",
                address.ip(),
                address.port()
            )
        })
        .collect();
    format!("endpoints: [{{ lb_endpoints: [{}] }}]", endpoints.join(", "))
}

fn cluster(name: &str, origin: &Origin) -> String {
    format!(
        "{{ '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, type: STATIC, \
         connect_timeout: 1s, load_assignment: {{ cluster_name: {name}, {} }} }}",
        endpoints(&[origin.address()])
    )
}

fn assignment(name: &str, addresses: &[SocketAddr]) -> String {
    format!(
        "{{ '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, \
         cluster_name: {name}, {} }}",
        endpoints(addresses)
    )
}

fn listener(name: &str, address: SocketAddr, cluster: &str) -> String {
    format!(
        "{{ '@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: {name}, \
         address: {{ socket_address: {{ address: {}, port_value: {} }} }}, filter_chains: [{{ filters: [{{ \
         name: http, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.network.\
         http_connection_manager.v3.HttpConnectionManager, stat_prefix: {name}, http_filters: [{{ name: \
         envoy.filters.http.router, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.\
         http.router.v3.Router }} }}], route_config: {{ virtual_hosts: [{{ name: all, domains: ['*'], routes: \
         [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}] }} }} }}] }}] }}",
        address.ip(),
        address.port()
    )
}

#[test]
fn clusters_and_listeners_come_and_go() {
    let (files, origins) = (Files::new(), [Origin::that_answers(), Origin::that_answers()]);
    let [first, second] = [free_address(), free_address()];
    files.put("clusters", &[cluster("a", &origins[0])]);
    files.put("listeners", &[listener("one", first, "a")]);
    let proxy = files.proxy();
    let mut client = Client::connect(first);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(proxy.stat("cluster_manager.cds.update_success"), 1);
    assert_eq!(proxy.stat("listener_manager.lds.update_success"), 1);

    files.put("clusters", &[cluster("a", &origins[1]), cluster("b", &origins[0])]);
    proxy.stat_becomes("cluster_manager.cds.update_success", 2);
    wait_until("the other origin", || {
        client.get("/");
        !origins[1].seen().is_empty()
    });
    assert_eq!(proxy.stat("cluster_manager.cluster_modified"), 1);
    assert_eq!(proxy.stat("cluster_manager.cluster_added"), 2);

    files.put("listeners", &[listener("one", first, "a"), listener("two", second, "b")]);
    wait_until("the second listener", || Wire::connect(second).is_ok());
    assert_eq!(Client::connect(second).get("/").status(), 200);
    assert_eq!(client.get("/").header("connection"), None, "the first one is the same");

    files.put("listeners", &[listener("two", second, "b")]);
    wait_until("the first listener to end", || Wire::connect(first).is_err());
    proxy.stat_becomes("listener_manager.listener_removed", 1);
    assert_eq!(proxy.stat("listener_manager.total_listeners_active"), 1);
}

#[test]
fn a_cluster_that_is_gone_is_missed_by_its_route_and_found_when_it_is_back() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let address = free_address();
    files.put("clusters", &[cluster("a", &origin), cluster("b", &origin)]);
    files.put("listeners", &[listener("one", address, "b")]);
    let proxy = files.proxy();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);
    files.put("clusters", &[cluster("a", &origin)]);
    proxy.stat_becomes("cluster_manager.cluster_removed", 1);
    wait_until("no cluster", || client.get("/").status() == 503);
    assert!(proxy.stat("http.one.no_cluster") > 0);
    files.put("clusters", &[cluster("c", &origin), cluster("b", &origin), cluster("a", &origin)]);
    wait_until("the cluster", || client.get("/").status() == 200);
}

#[test]
fn resources_that_cannot_be_used_do_not_hold_up_the_others() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let [first, second] = [free_address(), free_address()];
    files.put("clusters", &[cluster("a", &origin)]);
    files.put("listeners", &[listener("one", first, "a")]);
    let proxy = files.proxy();
    let unknown = listener("one", first, "nowhere");
    files.put("listeners", &[unknown, listener("two", second, "a")]);
    proxy.stat_becomes("listener_manager.lds.update_rejected", 1);
    wait_until("the second listener", || Wire::connect(second).is_ok());
    assert_eq!(Client::connect(first).get("/").status(), 200, "it stays what it was");
    fs::write(files.path("broken"), "resources: [{").unwrap();
    fs::rename(files.path("broken"), files.path("listeners")).unwrap();
    proxy.stat_becomes("listener_manager.lds.update_failure", 1);
    assert_eq!(Client::connect(second).get("/").status(), 200);
}

/// Its checks hang: as in Envoy requests go to the former one until they have ended.
#[test]
fn the_former_cluster_is_used_until_the_new_one_is_ready() {
    let (files, origins) = (Files::new(), [Origin::that_answers(), Origin::that_stalls()]);
    let address = free_address();
    files.put("clusters", &[cluster("a", &origins[0])]);
    files.put("listeners", &[listener("one", address, "a")]);
    let proxy = files.proxy();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);
    let check = "health_checks: [{ timeout: 600s, interval: 600s, unhealthy_threshold: 1, \
                 healthy_threshold: 1, http_health_check: { path: /check } }], type: STATIC";
    let slow = cluster("a", &origins[1]).replace("type: STATIC", check);
    files.put("clusters", &[slow, cluster("b", &origins[0])]);
    proxy.stat_becomes("cluster_manager.warming_clusters", 1);
    proxy.stat_becomes("cluster_manager.active_clusters", 2);
    assert_eq!(client.get("/").status(), 200, "the former cluster");
    files.put("clusters", &[cluster("a", &origins[0]), cluster("b", &origins[0])]);
    proxy.stat_becomes("cluster_manager.warming_clusters", 0);
    assert_eq!(client.get("/").status(), 200);
}

fn routes(name: &str, cluster: &str) -> String {
    format!(
        "{{ '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: {name}, \
         virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ \
         cluster: {cluster} }} }}] }}] }}"
    )
}

/// A listener whose routes come from a file.
fn listener_with_rds(files: &Files, name: &str, address: SocketAddr) -> String {
    let listener = listener(name, address, "none");
    let (head, rest) = listener.split_once("route_config:").unwrap();
    let (_, tail) = rest.split_once("}] }] }").unwrap();
    let path = files.path("routes");
    format!(
        "{head}rds: {{ route_config_name: routes, config_source: {{ path_config_source: {{ path: {path} \
         }} }} }}{tail}"
    )
}

#[test]
fn routes_change_for_the_next_request_of_an_open_connection() {
    let (files, address) = (Files::new(), free_address());
    let origins = [Origin::that_answers(), Origin::that_answers()];
    files.put("clusters", &[cluster("a", &origins[0]), cluster("b", &origins[1])]);
    files.put("routes", &[routes("routes", "a")]);
    files.put("listeners", &[listener_with_rds(&files, "one", address)]);
    let proxy = files.proxy();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);
    files.put("routes", &[routes("routes", "b")]);
    proxy.stat_becomes("http.one.rds.routes.config_reload", 2);
    wait_until("the other origin", || {
        assert_eq!(client.get("/").header("connection"), None);
        !origins[1].seen().is_empty()
    });
    // A cluster may come later than its routes.
    files.put("routes", &[routes("routes", "c")]);
    proxy.stat_becomes("http.one.rds.routes.config_reload", 3);
    wait_until("no cluster", || client.get("/").status() == 503);
    files.put("clusters", &[cluster("b", &origins[1]), cluster("c", &origins[0])]);
    wait_until("the cluster", || client.get("/").status() == 200);
    files.put("routes", &[routes("others", "b")]);
    proxy.stat_becomes("http.one.rds.routes.update_rejected", 1);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(proxy.stat("http.one.rds.routes.update_success"), 3);
    assert_eq!(proxy.stat("http.one.downstream_cx_total"), 1);
}

#[test]
fn hosts_come_and_go() {
    let (files, address) = (Files::new(), free_address());
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let addresses = origins.each_ref().map(Origin::address);
    files.put("hosts", &[assignment("a", &addresses[..1])]);
    files.put("clusters", &[files.eds_cluster("a")]);
    files.put("listeners", &[listener("one", address, "a")]);
    let proxy = files.proxy();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);
    files.put("hosts", &[assignment("a", &addresses)]);
    proxy.stat_becomes("cluster.a.membership_total", 2);
    for _ in 0..4 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert!(!origins[1].seen().is_empty());
    assert_eq!(origins[0].connections(), 1, "a host that stays keeps its connections");
    files.put("hosts", &[assignment("a", &addresses[1..])]);
    proxy.stat_becomes("cluster.a.membership_total", 1);
    proxy.stat_becomes("cluster.a.upstream_cx_active", 1);
    files.put("hosts", &[assignment("a", &[])]);
    proxy.stat_becomes("cluster.a.membership_total", 0);
    assert_eq!(client.get("/").status(), 503);
    assert_eq!(proxy.stat("cluster.a.update_success"), 4);
}

#[test]
fn a_host_whose_weight_changes_keeps_its_connections_and_its_counts() {
    let (files, address) = (Files::new(), free_address());
    let origin = Origin::that_answers();
    let hosts = assignment("a", &[origin.address()]);
    files.put("hosts", std::slice::from_ref(&hosts));
    files.put("clusters", &[files.eds_cluster("a")]);
    files.put("listeners", &[listener("one", address, "a")]);
    let proxy = files.proxy();
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);
    let changes = [
        ("load_balancing_weight: 7", "::weight::7"),
        ("health_status: DEGRADED", "::health_flags::/degraded_eds_health"),
    ];
    for (field, shown) in changes {
        files.put("hosts", &[hosts.replace("{ endpoint: {", &format!("{{ {field}, endpoint: {{"))]);
        wait_until(shown, || proxy.admin("/clusters").text().contains(shown));
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(origin.connections(), 1);
    let clusters = proxy.admin("/clusters").text();
    assert!(clusters.contains("::rq_total::3\n"), "{clusters}");
    assert_eq!(proxy.stat("cluster.a.membership_change"), 1);
}

#[test]
fn a_file_may_have_the_hosts_of_several_clusters() {
    if is_oracle() {
        return; // Envoy wants a file for each.
    }
    let (files, address) = (Files::new(), free_address());
    let origin = Origin::that_answers();
    files.put("hosts", &[assignment("other", &[]), assignment("a", &[origin.address()])]);
    files.put("clusters", &[files.eds_cluster("a"), files.eds_cluster("other")]);
    files.put("listeners", &[listener("one", address, "a")]);
    let proxy = files.proxy();
    assert_eq!(Client::connect(address).get("/").status(), 200);
    assert_eq!(proxy.stat("cluster.other.membership_total"), 0);
}

#[test]
fn a_host_that_cannot_be_used_changes_nothing() {
    let (files, address) = (Files::new(), free_address());
    let origin = Origin::that_answers();
    files.put("hosts", &[assignment("a", &[origin.address()])]);
    files.put("clusters", &[files.eds_cluster("a")]);
    files.put("listeners", &[listener("one", address, "a")]);
    let proxy = files.proxy();
    let name = assignment("a", &[origin.address()]).replace("127.0.0.1", "no-address");
    files.put("hosts", &[name]);
    proxy.stat_becomes("cluster.a.update_rejected", 1);
    assert_eq!(Client::connect(address).get("/").status(), 200);
}
