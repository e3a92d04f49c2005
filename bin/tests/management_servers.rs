//! Resources come from a management server, over gRPC.

use serde_json::{Value, json};

use crate::grpc::{HTTP2, protocols};
use crate::support::{
    Client, Config, ManagementServer, Origin, Proxy, Tls, is_oracle, transport_socket, wait_until,
};

pub(crate) const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
pub(crate) const ENDPOINTS: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const LISTENER: &str = "envoy.config.listener.v3.Listener";
pub(crate) const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";
const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

const ADS: &str = "{ ads: {}, resource_api_version: V3 }";

/// The management server as a source for resources of its own.
const ALONE: &str = "{ api_config_source: { api_type: GRPC, transport_api_version: V3, \
                     grpc_services: [{ envoy_grpc: { cluster_name: management } }] }, \
                     resource_api_version: V3 }";

const NODE: &str =
    "node: { id: story, cluster: stories, metadata: { a: [1, x] }, locality: { zone: z } }";

fn ads(api_type: &str, more: &str) -> String {
    format!(
        "dynamic_resources: {{ ads_config: {{ api_type: {api_type}, transport_api_version: V3, \
         grpc_services: [{{ envoy_grpc: {{ cluster_name: management, \
         retry_policy: {{ retry_back_off: {{ base_interval: 0.05s, max_interval: 0.1s }} }} }} }}], \
         {more} }}"
    )
}

/// The cluster of the management server, as an item of a list.
fn management(server: &ManagementServer, more: &str) -> String {
    let port = server.address().port();
    format!(
        "{{ name: management, connect_timeout: 1s, {}, {more} load_assignment: {{ \
         cluster_name: management, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}] }} }}",
        protocols(HTTP2)
    )
}

/// A proxy that has nothing but a management server.
pub(crate) fn all_from(server: &ManagementServer, api_type: &str) -> Proxy {
    let dynamic = ads(api_type, &format!("}}, lds_config: {ADS}, cds_config: {ADS}"));
    let clusters = management(server, "");
    Proxy::with(Config::verbatim(format!(
        "{NODE}\nadmin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}\n\
         {dynamic}\nstatic_resources: {{ clusters: [{clusters}] }}\n"
    )))
}

/// A proxy with a static listener, whose certificate comes from `source`.
fn with_secret(server: &ManagementServer, origin: &Origin, source: &str, bootstrap: &str) -> Proxy {
    Proxy::with(secret_config(server, origin, source, bootstrap, ""))
}

fn secret_config(
    server: &ManagementServer,
    origin: &Origin,
    source: &str,
    bootstrap: &str,
    cluster: &str,
) -> Config {
    let common =
        format!("tls_certificate_sds_secret_configs: [{{ name: cert, sds_config: {source} }}]");
    let clusters = management(server, cluster);
    let more = format!("static_resources: {{ clusters: [{clusters}] }}");
    let config = Config::to(origin)
        .chain(&transport_socket("DownstreamTlsContext", &common, ""))
        .bootstrap(NODE)
        .flags(&["--config-yaml", &more]);
    if bootstrap.is_empty() { config } else { config.bootstrap(bootstrap) }
}

fn certificate(tls: &Tls) -> Value {
    let pair: Value = serde_json::from_str(&tls.pair()).unwrap();
    json!({ "name": "cert", "tls_certificate": pair })
}

/// A certificate with the key of another one.
fn mismatch(tls: &Tls, other: &Tls) -> Value {
    let mut secret = certificate(tls);
    secret["tls_certificate"]["private_key"]["inline_string"] = other.key_pem().into();
    secret
}

pub(crate) fn cluster(name: &str) -> Value {
    json!({
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": { "ads": {}, "resource_api_version": "V3" } },
    })
}

pub(crate) fn endpoints(name: &str, origin: &Origin) -> Value {
    let (ip, port) = (origin.address().ip().to_string(), origin.address().port());
    let address = json!({ "socket_address": { "address": ip, "port_value": port } });
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

pub(crate) fn listener(name: &str) -> Value {
    let manager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
            "@type": format!("type.googleapis.com/{manager}"),
            "stat_prefix": "front",
            "rds": {
                "route_config_name": "routes",
                "config_source": { "ads": {}, "resource_api_version": "V3" },
            },
            "http_filters": [{ "name": "router", "typed_config": { "@type": router } }],
        } }] }],
    })
}

pub(crate) fn routes_to(cluster: &str) -> Value {
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } });
    json!({ "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] })
}

/// One cluster with its host, one listener and its routes.
fn set_all(server: &ManagementServer, origin: &Origin) {
    server.set(CLUSTER, "c1", &[cluster("a")]);
    server.set(ENDPOINTS, "e1", &[endpoints("a", origin)]);
    server.set(LISTENER, "l1", &[listener("front")]);
    server.set(ROUTES, "r1", &[routes_to("a")]);
}

#[test]
fn everything_comes_over_one_stream_and_changes() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let Some(server) = ManagementServer::start(None) else { return };
        let [first, second] = [Origin::that_answers(), Origin::that_answers()];
        set_all(&server, &first);
        let proxy = all_from(&server, api_type);
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), 200, "{api_type}");
        assert_eq!(proxy.stat("control_plane.connected_state"), 1);
        assert_eq!(proxy.stat("cluster_manager.cds.update_success"), 1);
        assert_eq!(proxy.stat("listener_manager.lds.update_success"), 1);
        assert_eq!(proxy.stat("http.front.rds.routes.update_success"), 1);

        server.set(ENDPOINTS, "e2", &[endpoints("a", &second)]);
        proxy.stat_becomes("cluster.a.update_success", 2);
        wait_until("the new host", || client.get("/").status() == 200 && second.connections() > 0);

        server.set(CLUSTER, "c2", &[cluster("a"), cluster("b")]);
        server.set(ENDPOINTS, "e3", &[endpoints("a", &second), endpoints("b", &first)]);
        proxy.stat_becomes("cluster_manager.cds.update_success", 2);
        let before = first.connections();
        server.set(ROUTES, "r2", &[routes_to("b")]);
        wait_until("the new routes", || {
            client.get("/").status() == 200 && first.connections() > before
        });

        server.set(LISTENER, "l2", &[listener("front"), listener("other")]);
        proxy.stat_becomes("listener_manager.total_listeners_active", 2);
        server.set(LISTENER, "l3", &[listener("front")]);
        proxy.stat_becomes("listener_manager.total_listeners_active", 1);
        assert_eq!(client.get("/").status(), 200, "its listener has not changed");
        let rejecting = server.requests().into_iter().find(super::support::Request::is_nack);
        assert!(rejecting.is_none(), "{rejecting:?}");
    }
}

#[test]
fn a_resource_that_cannot_be_used_is_rejected_and_the_old_one_goes_on() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let Some(server) = ManagementServer::start(None) else { return };
        let origin = Origin::that_answers();
        let [old, new] = [Tls::new(), Tls::new()];
        server.set(SECRET, "1", &[certificate(&old)]);
        let proxy = with_secret(&server, &origin, ADS, &ads(api_type, "}"));
        let mut early = proxy.connect_tls(&old);
        assert_eq!(early.get("/").status(), 200);
        server.set(SECRET, "2", &[mismatch(&old, &new)]);
        let nack = server.request("the rejection", |it| it.is_nack());
        assert_eq!(nack.message["error_detail"]["code"], 13);
        assert_eq!(nack.text("/response_nonce"), "nonce 2");
        if api_type == "GRPC" {
            assert_eq!(nack.text("/version_info"), "1", "the version that goes on");
        }
        if !is_oracle() {
            let why = nack.text("/error_detail/message");
            assert!(why.contains("this private key does not belong to the certificate"), "{why}");
        }
        assert_eq!(proxy.stat("sds.cert.update_rejected"), 1);
        assert_eq!(proxy.connect_tls(&old).get("/").status(), 200);
        server.set(SECRET, "3", &[certificate(&new)]);
        proxy.stat_becomes("sds.cert.update_success", 2);
        assert_eq!(proxy.connect_tls(&new).get("/").status(), 200);
        assert_eq!(early.get("/").status(), 200, "an open connection stays");
        if api_type == "GRPC" {
            assert_eq!(proxy.stat("sds.cert.update_attempt"), 4);
        }
    }
}

#[test]
fn what_is_there_goes_on_while_the_server_is_away_and_the_next_stream_begins_with_its_version() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let Some(server) = ManagementServer::start(None) else { return };
        let origin = Origin::that_answers();
        set_all(&server, &origin);
        let proxy = all_from(&server, api_type);
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), 200);
        server.request("the first acknowledgement", |it| !it.text("/response_nonce").is_empty());
        server.stop();
        proxy.stat_becomes("control_plane.connected_state", 0);
        proxy.stat_becomes_at_least("cluster_manager.cds.update_failure", 2);
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(Client::connect(proxy.address()).get("/").status(), 200);
        let last = server.requests().iter().map(|it| it.stream).max().unwrap();
        server.restart();
        let again = server.request("the stream to be opened again", |it| {
            it.stream > last && it.text("/type_url").ends_with(CLUSTER)
        });
        assert_eq!(again.text("/response_nonce"), "", "nonces belong to one stream");
        if api_type == "GRPC" {
            assert_eq!(again.text("/version_info"), "c1");
        } else {
            assert_eq!(again.message["initial_resource_versions"], json!({ "a": "c1" }));
        }
        proxy.stat_becomes("control_plane.connected_state", 1);
        server.set(LISTENER, "l2", &[listener("front"), listener("other")]);
        proxy.stat_becomes("listener_manager.total_listeners_active", 2);
        assert_eq!(client.get("/").status(), 200);
    }
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_any_longer_than_configured() {
    let Some(server) = ManagementServer::start(None) else { return };
    let (origin, tls) = (Origin::that_answers(), Tls::new());
    let source = ALONE.replace("resource_api", "initial_fetch_timeout: 0.2s, resource_api");
    let proxy = with_secret(&server, &origin, &source, "");
    assert_eq!(proxy.stat("sds.cert.init_fetch_timeout"), 1);
    assert_eq!(proxy.stat("sds.cert.control_plane.connected_state"), 1);
    let sent = proxy.connect_tls(&tls).wire().send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    drop(sent);
    server.set(SECRET, "1", &[certificate(&tls)]);
    proxy.stat_becomes("sds.cert.update_success", 1);
    assert_eq!(proxy.connect_tls(&tls).get("/").status(), 200);
}

#[test]
fn the_node_is_in_each_request_or_only_in_the_first_of_a_stream() {
    for (more, is_only_in_first) in [("}", false), ("set_node_on_first_message_only: true }", true)]
    {
        let Some(server) = ManagementServer::start(None) else { return };
        let (origin, tls) = (Origin::that_answers(), Tls::new());
        server.set(SECRET, "1", &[certificate(&tls)]);
        let proxy = with_secret(&server, &origin, ADS, &ads("GRPC", more));
        let acknowledged =
            server.request("the acknowledgement", |it| it.text("/version_info") == "1");
        assert_eq!(acknowledged.message.get("node").is_none(), is_only_in_first);
        let first = server.requests().remove(0);
        assert_eq!(first.text("/node/id"), "story");
        assert_eq!(first.text("/node/cluster"), "stories");
        assert_eq!(first.message["node"]["metadata"], json!({ "a": [1.0, "x"] }));
        assert_eq!(first.text("/node/locality/zone"), "z");
        let name = if is_oracle() { "envoy" } else { "corvoy" };
        assert_eq!(first.text("/node/user_agent_name"), name);
        server.end_streams();
        let again = server.request("the next stream", |it| it.stream > first.stream);
        assert_eq!(again.text("/node/id"), "story");
        assert_eq!(proxy.stat("sds.cert.update_rejected"), 0);
    }
}

#[test]
fn the_server_may_speak_tls() {
    let (tls, server_tls) = (Tls::new(), Tls::new());
    let Some(server) = ManagementServer::start(Some(&server_tls)) else { return };
    let origin = Origin::that_answers();
    server.set(SECRET, "1", &[certificate(&tls)]);
    let socket = format!("{},", server_tls.upstream());
    let proxy = Proxy::with(secret_config(&server, &origin, ALONE, "", &socket));
    assert_eq!(proxy.connect_tls(&tls).get("/").status(), 200);
    assert_eq!(proxy.stat("cluster.management.upstream_cx_total"), 1);
    assert_eq!(proxy.stat("cluster.management.upstream_rq_active"), 1);
}

#[test]
fn a_response_with_another_type_is_rejected_and_one_that_nobody_wants_is_ignored() {
    let Some(server) = ManagementServer::start(None) else { return };
    let (origin, tls) = (Origin::that_answers(), Tls::new());
    server.set(SECRET, "1", &[certificate(&tls)]);
    let proxy = with_secret(&server, &origin, ADS, &ads("GRPC", "}"));
    let type_url = |kind: &str| format!("type.googleapis.com/{kind}");
    server
        .send(&json!({ "version_info": "x", "nonce": "unwanted", "type_url": type_url(CLUSTER) }));
    let cluster = json!({ "@type": type_url(CLUSTER), "name": "a" });
    server.send(&json!({
        "version_info": "y", "nonce": "mixed", "type_url": type_url(SECRET), "resources": [cluster],
    }));
    let nack = server.request("the rejection", |it| it.is_nack());
    assert_eq!(nack.text("/response_nonce"), "mixed");
    let why = nack.text("/error_detail/message");
    let expected = format!("{} does not match the message-wide type URL", type_url(CLUSTER));
    assert!(why.starts_with(&expected), "{why}");
    assert!(!server.requests().iter().any(|it| it.text("/response_nonce") == "unwanted"));
    assert_eq!(proxy.stat("sds.cert.update_rejected"), 1);
}

#[test]
fn a_cluster_whose_time_to_live_ends_is_gone() {
    let Some(server) = ManagementServer::start(None) else { return };
    let origin = Origin::that_answers();
    set_all(&server, &origin);
    let proxy = all_from(&server, "DELTA_GRPC");
    assert_eq!(proxy.get("/").status(), 200);
    let type_url = format!("type.googleapis.com/{CLUSTER}");
    let kept = json!({ "@type": type_url, "name": "kept", "connect_timeout": "1s" });
    let wrapped = json!({ "name": "kept", "version": "1", "ttl": "1s", "resource": kept });
    let beats = json!({ "name": "kept", "version": "1", "ttl": "1s" });
    let response = |nonce: &str, resource: &Value| json!({ "system_version_info": nonce, "nonce": nonce, "type_url": type_url, "resources": [resource] });
    server.send(&response("with ttl", &wrapped));
    proxy.stat_becomes("cluster_manager.active_clusters", 3);
    if !is_oracle() {
        // Envoy 1.40 rejects a resource without content in a delta response.
        server.send(&response("heartbeat", &beats));
        server.request("the heartbeat's acknowledgement", |it| {
            it.text("/response_nonce") == "heartbeat" && !it.is_nack()
        });
    }
    proxy.stat_becomes("cluster_manager.active_clusters", 2);
    assert_eq!(proxy.get("/").status(), 200);
}
