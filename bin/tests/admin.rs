//! The admin interface, as operators and their scripts use it.

use std::net::TcpStream;

use crate::support::{Client, Config, Origin, Proxy, wait_until};

#[test]
fn ready_follows_the_health_that_the_operator_sets() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    assert_eq!(proxy.admin("/ready").text(), "LIVE\n");
    assert_eq!(client.get("/").header("connection"), None);

    assert_eq!(proxy.admin_post("/healthcheck/fail").text(), "OK\n");
    let ready = proxy.admin("/ready");
    assert_eq!((ready.status(), ready.text().as_str()), (503, "DRAINING\n"));
    assert_eq!(proxy.get("/").header("connection").as_deref(), Some("close"));

    assert_eq!(proxy.admin_post("/healthcheck/ok").text(), "OK\n");
    let ready = proxy.admin("/ready");
    assert_eq!((ready.status(), ready.text().as_str()), (200, "LIVE\n"));
    assert_eq!(proxy.get("/").header("connection"), None);
}

#[test]
fn an_http_1_0_request_is_not_answered() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let mut client = Client::connect(proxy.admin_address());
    let refusal = client.send("GET /ready HTTP/1.0\r\n\r\n").response();
    assert_eq!((refusal.status(), refusal.text().as_str()), (426, "Upgrade Required"));
    client.is_closed();
}

#[test]
fn changes_require_a_post() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    for path in ["/quitquitquit", "/reset_counters", "/drain_listeners", "/healthcheck/fail"] {
        let refusal = proxy.admin(path);
        assert_eq!(refusal.status(), 405, "{path}");
        assert_eq!(refusal.text(), "Method GET not allowed, POST required.", "{path}");
    }
    assert!(proxy.is_running());
}

#[test]
fn an_unknown_path_lists_the_known_ones() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let lost = proxy.admin("/nope");
    assert_eq!(lost.status(), 404);
    let text = lost.text();
    assert!(
        text.starts_with("invalid path. admin commands are:\n  /: Admin home page\n"),
        "{text}"
    );
    for command in ["/clusters", "/config_dump", "/listeners", "/ready", "/server_info", "/stats"] {
        assert!(text.contains(&format!("\n  {command}: ")), "{command} is missing in {text}");
    }
}

#[test]
fn stats_can_be_filtered_and_returned_as_json() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_total", 1);
    let filtered = proxy.admin("/stats?filter=^cluster\\.service\\.upstream_rq_(total|retry)$");
    assert_eq!(
        filtered.text(),
        "cluster.service.upstream_rq_retry: 0\ncluster.service.upstream_rq_total: 1\n"
    );
    let used = proxy.admin("/stats?usedonly&filter=upstream_rq_(total|retry)$").text();
    assert_eq!(used, "cluster.service.upstream_rq_total: 1\n");
    let json = proxy.admin("/stats?format=json&filter=service.upstream_rq_total");
    assert_eq!(json.header("content-type").as_deref(), Some("application/json"));
    let json: serde_json::Value = serde_json::from_str(&json.text()).unwrap();
    assert_eq!(json["stats"][0]["name"], "cluster.service.upstream_rq_total");
    assert_eq!(json["stats"][0]["value"], 1);
}

#[test]
fn an_invalid_filter_expression_is_rejected() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let refusal = proxy.admin("/stats?filter=*");
    assert_eq!(refusal.status(), 400);
    assert!(refusal.text().starts_with("Invalid re2 regex: "), "{refusal}");
}

#[test]
fn prometheus_finds_what_it_scrapes() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_200", 1);
    let text = proxy.admin("/stats/prometheus").text();
    for line in [
        "# TYPE envoy_cluster_upstream_rq_total counter",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"service\"} 1",
        "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"service\"} 1",
        "# TYPE envoy_cluster_membership_total gauge",
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"front\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn clusters_listeners_and_server_info_show_what_runs() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2));
    proxy.get("/");
    proxy.stat_becomes("cluster.service.upstream_rq_total", 1);
    let clusters = proxy.admin("/clusters").text();
    for line in [
        "service::default_priority::max_connections::1024".to_owned(),
        "service::added_via_api::false".to_owned(),
        format!("service::{}::rq_total::1", origin.address()),
        format!("service::{}::health_flags::healthy", origin.address()),
    ] {
        assert!(clusters.lines().any(|found| found == line), "{line} is missing in\n{clusters}");
    }
    assert_eq!(proxy.admin("/listeners").text(), format!("front::{}\n", proxy.address()));
    let info: serde_json::Value =
        serde_json::from_str(&proxy.admin("/server_info").text()).unwrap();
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["command_line_options"]["concurrency"], 2);
}

#[test]
fn config_dump_returns_the_configuration() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let dump: serde_json::Value =
        serde_json::from_str(&proxy.admin("/config_dump").text()).unwrap();
    let bootstrap = &dump["configs"][0]["bootstrap"];
    assert_eq!(bootstrap["static_resources"]["clusters"][0]["name"], "service");
    let types: Vec<&str> =
        dump["configs"].as_array().unwrap().iter().filter_map(|c| c["@type"].as_str()).collect();
    for kind in ["BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump"] {
        assert!(types.iter().any(|found| found.ends_with(kind)), "{kind} is missing in {types:?}");
    }
}

#[test]
fn drained_listeners_refuse_new_connections_and_keep_existing_ones() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.get("/");
    assert_eq!(proxy.admin_post("/drain_listeners").text(), "OK\n");
    wait_until("connections to be refused", || TcpStream::connect(proxy.address()).is_err());
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(proxy.admin("/ready").text(), "LIVE\n");
}

#[test]
fn a_drain_of_inbound_listeners_leaves_other_listeners_alone() {
    for direction in ["INBOUND", "OUTBOUND"] {
        let origin = Origin::that_answers();
        let listener = "  - name: front\n";
        let directed = format!("{listener}    traffic_direction: {direction}\n");
        let config = Config::verbatim(Config::to(&origin).yaml().replacen(listener, &directed, 1));
        let proxy = Proxy::with(config.shards(2));
        assert_eq!(proxy.admin_post("/drain_listeners?inboundonly").text(), "OK\n");
        if direction == "INBOUND" {
            wait_until("connections to be refused", || {
                TcpStream::connect(proxy.address()).is_err()
            });
            proxy.stat_becomes("listener_manager.listener_stopped", 1);
        } else {
            assert_eq!(proxy.get("/").header("connection"), None);
            assert_eq!(proxy.stat("listener_manager.listener_stopped"), 0);
        }
        for _ in 0..2 {
            proxy.admin_post("/drain_listeners");
        }
        proxy.stat_becomes("listener_manager.listener_stopped", 1);
    }
}

#[test]
fn healthcheck_ok_does_not_end_a_drain_of_listeners() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let closes = |expected: bool| {
        let wanted = expected.then(|| "close".to_owned());
        // The endpoint answers before the shards have received the order.
        wait_until(&format!("connection: close in responses: {expected}"), || {
            proxy.get("/").header("connection") == wanted
        });
    };
    proxy.admin_post("/healthcheck/fail");
    closes(true);
    proxy.admin_post("/healthcheck/ok");
    closes(false);
    proxy.admin_post("/drain_listeners?graceful&skip_exit");
    closes(true);
    proxy.admin_post("/healthcheck/fail");
    proxy.admin_post("/healthcheck/ok");
    closes(true);
}

#[test]
fn healthcheck_ok_ends_what_healthcheck_fail_began_for_listeners_that_do_not_drain() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let becomes = |header: Option<&str>| {
        wait_until("the order to reach the shard", || {
            proxy.get("/").header("connection").as_deref() == header
        });
    };
    proxy.admin_post("/healthcheck/fail");
    becomes(Some("close"));
    // This listener has no traffic_direction.
    proxy.admin_post("/drain_listeners?inboundonly&graceful&skip_exit");
    proxy.admin_post("/healthcheck/ok");
    becomes(None);
}

#[test]
fn quitquitquit_quits() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    assert_eq!(proxy.admin_post("/quitquitquit").text(), "OK\n");
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn only_allowed_paths_are_answered() {
    let allowed = "allow_paths: [{ exact: /ready }, { prefix: /stats }]";
    let proxy = Proxy::with(Config::to_addresses(&[]).admin(allowed));
    assert_eq!(proxy.admin("/ready").status(), 200);
    assert_eq!(proxy.admin("/stats?filter=server.live").status(), 200);
    let refusal = proxy.admin("/config_dump?mask=a");
    assert_eq!(refusal.status(), 403);
    assert_eq!(refusal.text(), "request to path /config_dump?mask=a not allowed");
}

#[test]
fn the_endpoint_logs_its_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let logs = format!(
        "access_log_path: {old:?}, access_log: [{{ name: log, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {new:?}, \
         log_format: {{ text_format_source: {{ inline_string: \
         \"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %BYTES_SENT% %RESPONSE_CODE_DETAILS%\\n\" }} }} }} }}]"
    );
    let proxy = Proxy::with(Config::to_addresses(&[]).admin(&logs));
    let read = |path| std::fs::read_to_string(path).unwrap();
    // The harness asks for the addresses first.
    let before = read(&new).lines().count();
    proxy.admin("/ready?a=b");
    proxy.admin("/nope");
    proxy.admin_post("/reset_counters");
    wait_until("the lines", || read(&new).lines().count() == before + 3);
    let lines = read(&new);
    let lines: Vec<&str> = lines.lines().skip(before).collect();
    assert_eq!(lines[0], "GET /ready?a=b 200 5 admin_filter_response");
    assert!(lines[1].starts_with("GET /nope 404 "), "{}", lines[1]);
    assert_eq!(lines[2], "POST /reset_counters 200 3 admin_filter_response");
    let old = read(&old);
    assert!(old.contains("\"GET /ready?a=b HTTP/1.1\" 200 - 0 5 "), "{old}");
}
