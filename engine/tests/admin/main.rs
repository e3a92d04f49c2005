//! The admin endpoint over real sockets, against recordings of Envoy 1.40 in `tests/envoy/`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod console;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use corvoy_engine::control::admin::{DrainListeners, FailingHost, Order, ServerState};
use corvoy_engine::stats::{ClusterStats, Scope};
use serde_json::{Value, json};

use console::Console;

#[test]
fn every_answer_has_the_headers_of_envoy_and_is_chunked() {
    let console = Console::of_the_seed();
    let answer = console.get("/ready");
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    assert_eq!(answer.body, "LIVE\n");
    let headers: Vec<_> =
        answer.headers.iter().map(|header| header.split(": ").next().unwrap()).collect();
    let expected = [
        "content-type",
        "cache-control",
        "x-content-type-options",
        "date",
        "server",
        "connection",
        "transfer-encoding",
    ];
    assert_eq!(headers, expected);
    for header in [
        "content-type: text/plain; charset=UTF-8",
        "cache-control: no-cache, max-age=0",
        "x-content-type-options: nosniff",
        "server: envoy",
        "connection: close",
        "transfer-encoding: chunked",
    ] {
        assert!(answer.headers.iter().any(|h| h == header), "{header}: {:?}", answer.headers);
    }
}

#[test]
fn an_unknown_path_gets_404_and_a_list_of_the_endpoints() {
    let console = Console::of_the_seed();
    for path in ["/nope", "/stats/", "/Ready"] {
        let answer = console.get(path);
        assert_eq!(answer.status, "HTTP/1.1 404 Not Found");
        assert!(
            answer.body.starts_with("invalid path. admin commands are:\n  /: Admin home page\n")
        );
    }
    assert_eq!(console.post("/nope").status, "HTTP/1.1 404 Not Found");
}

#[test]
fn help_lists_every_endpoint() {
    let console = Console::of_the_seed();
    let help = console.get("/help").body;
    assert!(help.starts_with(
        "admin commands are:\n  /: Admin home page\n  /certs: print certs on machine\n"
    ));
    assert!(help.contains(
        "\n  /stats: print server stats\n      usedonly: Only include stats that have been written by \
         system since restart\n      filter: Regular expression (Google re2) for filtering stats\n"
    ));
    assert!(
        help.contains(
            "\n  /drain_listeners (POST): drain listeners\n      graceful: When draining "
        )
    );
    for line in help.lines().filter(|line| line.starts_with("  /")) {
        let path = line.trim_start().split([':', ' ']).next().unwrap();
        let answer = if line.contains(" (POST)") { console.post(path) } else { console.get(path) };
        assert!(!answer.status.contains("404"), "{path}: {}", answer.status);
    }
}

#[test]
fn endpoints_with_side_effects_need_post() {
    let console = Console::of_the_seed();
    for path in
        ["/quitquitquit", "/logging", "/reset_counters", "/healthcheck/fail", "/drain_listeners"]
    {
        let answer = console.get(path);
        assert_eq!(answer.status, "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(answer.body, "Method GET not allowed, POST required.");
    }
    assert!(console.ask("PUT", "/reset_counters").body.starts_with("Method PUT not allowed"));
    assert_eq!(console.orders(), []);
    assert_eq!(console.post("/ready").body, "LIVE\n", "what only shows takes any method");
}

#[test]
fn orders_reach_the_server_and_are_answered_ok() {
    let console = Console::of_the_seed();
    let drain = DrainListeners::default();
    for (path, order) in [
        ("/healthcheck/fail", Order::FailHealthCheck),
        ("/healthcheck/ok", Order::PassHealthCheck),
        ("/drain_listeners", Order::DrainListeners(drain)),
        (
            "/drain_listeners?graceful&inboundonly",
            Order::DrainListeners(DrainListeners { graceful: true, inbound_only: true, ..drain }),
        ),
        (
            "/drain_listeners?skip_exit",
            Order::DrainListeners(DrainListeners { skip_exit: true, ..drain }),
        ),
        ("/reopen_logs", Order::ReopenLogs),
        ("/quitquitquit", Order::Quit),
    ] {
        assert_eq!(console.post(path).body, "OK\n");
        assert_eq!(console.next_order(), order);
    }
}

#[test]
fn a_server_that_fails_health_checks_is_not_ready() {
    let console = Console::of_the_seed();
    for (state, name) in [
        (ServerState::Draining, "DRAINING"),
        (ServerState::PreInitializing, "PRE_INITIALIZING"),
        (ServerState::Initializing, "INITIALIZING"),
    ] {
        *console.server.state.lock().unwrap() = state;
        let answer = console.get("/ready");
        assert_eq!(answer.status, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(answer.body, format!("{name}\n"));
        assert_eq!(console.json("/server_info")["state"], name);
    }
}

#[test]
fn clusters_and_listeners_are_shown_as_by_envoy() {
    let console = Console::of_the_seed();
    assert_eq!(console.get("/clusters").body, include_str!("../envoy/clusters.txt"));
    assert_eq!(console.get("/clusters?format=json").body, include_str!("../envoy/clusters.json"));
    assert_eq!(console.get("/listeners").body, "httpbin-demo::127.0.0.1:15001\n");
    assert_eq!(console.get("/listeners?format=json").body, include_str!("../envoy/listeners.json"));
    assert_eq!(console.get("/clusters?filter=^nope").body, "");
    assert_eq!(console.get("/clusters?filter=^nope&format=json").body, "{}\n");
    let bad = console.get("/clusters?filter=(");
    assert_eq!(
        (bad.status.as_str(), bad.body.as_str()),
        ("HTTP/1.1 400 Bad Request", "Invalid re2 regex")
    );
}

#[test]
fn an_unhealthy_host_is_shown_with_the_reason() {
    let console = Console::of_the_seed();
    console.server.health.lock().unwrap().failed_active_hc = true;
    console.server.health.lock().unwrap().degraded_eds_health = true;
    assert!(
        console
            .get("/clusters")
            .body
            .contains("::health_flags::/failed_active_hc/degraded_eds_health\n")
    );
    let health = &console.json("/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0]
        ["health_status"];
    assert_eq!(
        *health,
        json!({ "failed_active_health_check": true, "eds_health_status": "DEGRADED" })
    );
}

#[test]
fn the_configuration_is_dumped_as_by_envoy() {
    let console = Console::of_the_seed();
    let envoy: Value = serde_json::from_str(include_str!("../envoy/config_dump.json")).unwrap();
    assert_eq!(console.get("/config_dump").body, include_str!("../envoy/config_dump.json"));
    let of = |query: &str| console.json(&format!("/config_dump?{query}"));
    let cluster = &envoy["configs"][1]["static_clusters"][0];
    let dumped = &of("resource=static_clusters")["configs"][0];
    assert_eq!(
        dumped["@type"],
        "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster"
    );
    assert_eq!(
        (&dumped["cluster"], &dumped["last_updated"]),
        (&cluster["cluster"], &cluster["last_updated"])
    );
    assert_eq!(of("resource=dynamic_listeners"), json!({}));
    assert_eq!(of("resource=static_clusters&name_regex=httpbin"), json!({}), "the whole name");
    assert_eq!(of("name_regex=httpbin_.*")["configs"][1]["static_clusters"][0], *cluster);
    let admin = &envoy["configs"][0]["bootstrap"]["admin"];
    let kind = "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump";
    assert_eq!(
        of("mask=bootstrap.admin"),
        json!({ "configs": [{ "@type": kind, "bootstrap": { "admin": admin } }] })
    );
    assert_eq!(
        of("resource=static_clusters&mask=cluster.name")["configs"][0]["cluster"],
        json!({ "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "httpbin_service" })
    );
}

#[test]
fn an_unknown_part_of_the_config_dump_is_rejected_with_envoys_message() {
    let console = Console::of_the_seed();
    for (query, status, body) in [
        ("resource=nope", "404 Not Found", "nope not found in config dump"),
        (
            "resource=bootstrap",
            "400 Bad Request",
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        (
            "mask=bogus",
            "400 Bad Request",
            "FieldMask bogus could not be successfully applied to any configs.",
        ),
        (
            "mask=static_clusters.cluster.name",
            "400 Bad Request",
            "FieldMask static_clusters.cluster.name could not be successfully applied to any configs.",
        ),
        (
            "name_regex=(",
            "400 Bad Request",
            "INVALID_ARGUMENT: Error while parsing name_regex from (: missing ): (",
        ),
    ] {
        let answer = console.get(&format!("/config_dump?{query}"));
        assert_eq!(answer.status, format!("HTTP/1.1 {status}"));
        assert_eq!(answer.body, body);
        assert_eq!(answer.headers[0], "content-type: text/plain");
    }
}

#[test]
fn stats_are_filtered_by_name_use_and_type() {
    let console = Console::of_the_seed();
    let admin = console.get("/stats?filter=http.admin.downstream_rq_(total|active)").body;
    assert_eq!(admin, "http.admin.downstream_rq_active: 1\nhttp.admin.downstream_rq_total: 1\n");
    let text = console.get("/stats?filter=^cluster").body;
    assert!(text.contains("cluster.httpbin_service.upstream_rq_total: 23\n"));
    assert!(text.contains("cluster.httpbin_service.upstream_rq_timeout: 0\n"));
    let used = console.get("/stats?usedonly&filter=^cluster").body;
    assert_eq!(used, "cluster.httpbin_service.upstream_rq_total: 23\n");
    let gauges = console.get("/stats?type=Gauges&filter=^cluster.*_rq_").body;
    assert!(gauges.contains("upstream_rq_active: 0\n") && !gauges.contains("upstream_rq_total"));
    let others = console.get("/stats?filter=^cluster&invert_filter").body;
    assert!(others.contains("\nserver.concurrency: 2\n") && !others.contains("\ncluster"));
    assert_eq!(console.get("/stats?type=TextReadouts").body, "");
}

#[test]
fn stats_are_available_as_json_and_for_prometheus() {
    let console = Console::of_the_seed();
    let answer = console.get("/stats?format=json&filter=cluster.httpbin_service.upstream_rq_total");
    assert_eq!(answer.headers[0], "content-type: application/json");
    assert_eq!(
        answer.body,
        r#"{"stats":[{"name":"cluster.httpbin_service.upstream_rq_total","value":23}]}"#
    );
    for path in [
        "/stats/prometheus?filter=upstream_rq_total",
        "/stats?format=prometheus&filter=upstream_rq_total",
    ] {
        let answer = console.get(path);
        assert_eq!(answer.headers[0], "content-type: text/plain; charset=UTF-8");
        assert_eq!(
            answer.body,
            "# TYPE envoy_cluster_upstream_rq_total counter\n\
             envoy_cluster_upstream_rq_total{envoy_cluster_name=\"httpbin_service\"} 23\n"
        );
    }
}

#[test]
fn an_invalid_stats_query_gets_400_with_envoys_message() {
    let console = Console::of_the_seed();
    for (query, body) in [
        ("filter=(", "Invalid re2 regex: missing ): ("),
        ("filter=%29", "Invalid re2 regex: unexpected ): )"),
        ("filter=[[", "Invalid re2 regex: missing ]: [["),
        ("filter=*", "Invalid re2 regex: no argument for repetition operator: *"),
        ("format=foo", "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"),
        ("type=bogus", "invalid &type= param"),
        (
            "histogram_buckets=bogus",
            "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n",
        ),
        (
            "format=prometheus&histogram_buckets=disjoint",
            "unsupported prometheus histogram bucket mode",
        ),
    ] {
        let answer = console.get(&format!("/stats?{query}"));
        assert_eq!(answer.status, "HTTP/1.1 400 Bad Request");
        assert_eq!(answer.body, body);
    }
}

#[test]
fn a_browser_gets_the_stats_as_a_page() {
    let console = Console::of_the_seed();
    let text = console.get("/stats?filter=upstream_rq_total").body;
    for format in ["html", "active-html"] {
        let answer = console.get(&format!("/stats?format={format}&filter=upstream_rq_total"));
        assert!(answer.headers.contains(&"content-type: text/html; charset=UTF-8".to_owned()));
        assert!(answer.body.contains(&format!("<pre>\n{text}</pre>")), "{}", answer.body);
    }
}

#[test]
fn a_scrape_of_many_clusters_is_streamed() {
    let console = Console::of_the_seed();
    let clusters: Vec<Arc<Scope<ClusterStats>>> =
        (0..500).map(|n| console.registry.scope(&format!("cluster.c{n}."))).collect();
    let answer = console.get("/stats");
    assert!(answer.chunks > 50, "{} chunks for {} bytes", answer.chunks, answer.body.len());
    assert!(answer.body.contains("\ncluster.c499.upstream_rq_total: 0\n"));
    let answer = console.get("/stats/prometheus");
    assert!(answer.chunks > 50 && answer.body.contains("{envoy_cluster_name=\"c499\"} 0\n"));
    drop(clusters);
}

#[test]
fn a_scraper_that_does_not_read_does_not_block_others() {
    let console = Console::of_the_seed();
    let clusters: Vec<Arc<Scope<ClusterStats>>> =
        (0..3000).map(|n| console.registry.scope(&format!("cluster.c{n}."))).collect();
    let mut lazy = TcpStream::connect(console.address).unwrap();
    lazy.write_all(b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    lazy.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(console.get("/ready").body, "LIVE\n");
    let active = console.get("/stats?filter=http.admin.downstream_rq_active").body;
    assert_eq!(active, "http.admin.downstream_rq_active: 2\n", "it is still being answered");
    drop((lazy, clusters));
}

#[test]
fn counters_are_reset_and_gauges_are_not() {
    let console = Console::of_the_seed();
    assert_eq!(console.post("/reset_counters").body, "OK\n");
    let stats =
        console.get("/stats?filter=(httpbin_service.upstream_rq_total|server.concurrency)").body;
    assert_eq!(stats, "cluster.httpbin_service.upstream_rq_total: 0\nserver.concurrency: 2\n");
}

#[test]
fn the_admin_endpoint_counts_itself() {
    let console = Console::of_the_seed();
    console.get("/nope");
    console.get("/ready");
    console.await_stat("http.admin.downstream_cx_destroy", 2);
    let stats = console.get("/stats?filter=admin").body;
    for line in [
        "http.admin.downstream_rq_4xx: 1",
        "listener.admin.http.admin.downstream_rq_4xx: 1",
        "listener.admin.downstream_cx_active: 1",
        "listener.admin.main_thread.downstream_cx_active: 1",
        "http.admin.downstream_cx_http1_active: 1",
        "http.admin.downstream_rq_active: 1",
    ] {
        assert!(stats.contains(&format!("{line}\n")), "{line} in {stats}");
    }
    assert!(!stats.contains("http.admin.downstream_cx_rx_bytes_total: 0\n"));
    assert!(!stats.contains("http.admin.downstream_cx_tx_bytes_total: 0\n"));
}

#[test]
fn connections_are_kept_alive_and_pipelined_requests_answered_in_order() {
    let console = Console::of_the_seed();
    let mut stream = TcpStream::connect(console.address).unwrap();
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\nGET /certs HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let (ready, certs) =
        (answers.find("LIVE\n").unwrap(), answers.find("\"certificates\": []").unwrap());
    assert!(ready < certs);
    assert_eq!(answers.matches("connection: close").count(), 1);
}

#[test]
fn log_levels_are_shown_and_changed_all_at_once_or_not_at_all() {
    let console = Console::of_the_seed();
    assert_eq!(console.post("/logging").body, "active loggers:\n  http: info\n  router: info\n\n");
    let body = console.post("/logging?http=debug").body;
    assert_eq!(body, "active loggers:\n  http: debug\n  router: info\n\n");
    let body = console.post("/logging?level=warning").body;
    assert_eq!(body, "active loggers:\n  http: warning\n  router: warning\n\n");
    let body = console.post("/logging?paths=http:trace,router:off").body;
    assert_eq!(body, "active loggers:\n  http: trace\n  router: off\n\n");
    let unchanged = body;
    for query in ["level=", "http=", "paths="] {
        assert_eq!(console.post(&format!("/logging?{query}")).body, unchanged);
    }
    for (query, error) in [
        ("nope=debug", "unknown logger name"),
        ("nope=loud", "unknown logger level"),
        ("http=loud", "unknown logger level"),
        ("level=warn", "unknown logger level"),
        ("paths=http:debug,nope:debug", "unknown logger name"),
        ("http=debug&router=debug", "invalid number of parameters"),
    ] {
        let answer = console.post(&format!("/logging?{query}"));
        assert_eq!(answer.status, "HTTP/1.1 400 Bad Request");
        assert!(
            answer.body.starts_with(&format!("error: {error}\n\nusage: /logging?<name>=<level>"))
        );
        assert!(answer.body.ends_with("\nactive loggers:\n  http: trace\n  router: off\n\n\n"));
    }
}

#[test]
fn empty_lists_are_shown_as_by_envoy() {
    let console = Console::of_the_seed();
    assert_eq!(console.get("/certs").body, "{\n \"certificates\": []\n}\n");
    assert_eq!(console.get("/runtime").body, "{\n \"entries\": {},\n \"layers\": []\n}\n");
    assert_eq!(console.get("/init_dump").body, "{}\n");
    assert_eq!(console.get("/hot_restart_version").body, "disabled");
    let answer = console.post("/runtime_modify?a=1");
    assert_eq!(answer.status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(answer.body, "No admin layer specified");
}

#[test]
fn server_info_has_version_state_flags_and_node() {
    let console = Console::of_the_seed();
    let body = console.get("/server_info").body;
    assert!(body.starts_with("{\n \"version\": \"c0ffee/0.1.0/Clean/RELEASE/none\",\n \"state\": \"LIVE\",\n \"uptime_current_epoch\": \"0s\",\n"));
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(info["command_line_options"]["concurrency"], 2);
    assert_eq!(info["node"]["user_agent_name"], "envoy");
    let memory = console.json("/memory");
    assert!(memory["total_physical_bytes"].as_str().unwrap().parse::<u64>().unwrap() > 0);
}

#[test]
fn shards_show_their_core_and_ring() {
    let console = Console::of_the_seed();
    assert_eq!(
        console.get("/shards").body,
        "0::core::0\n0::driver::io_uring: SINGLE_ISSUER | DEFER_TASKRUN\n0::connections::3\n\
         0::requests::23\n1::core::unpinned\n1::driver::epoll: <denied>\n1::connections::0\n\
         1::requests::0\n"
    );
    let shards = console.json("/shards?format=json");
    assert_eq!(shards["shard_statuses"][1]["core"], Value::Null);
    assert_eq!(shards["shard_statuses"][0]["requests"], 23);
}

#[test]
fn the_home_page_escapes_names() {
    let console = Console::of_the_seed();
    let answer = console.get("/");
    assert_eq!(answer.headers[0], "content-type: text/html; charset=UTF-8");
    assert!(answer.body.starts_with("<!DOCTYPE html>"));
    assert!(answer.body.contains("epoll: &lt;denied&gt;") && !answer.body.contains("<denied>"));
    let row = "<td>httpbin_service<td>127.0.0.1:18000 <small>localhost</small><td>not checked";
    assert!(answer.body.contains(row));
}

#[test]
fn the_home_page_shows_machine_process_and_file() {
    let page = Console::of_the_seed().get("/").body;
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (machine, process) = (machine.trim(), std::process::id());
    for text in [
        format!("<title>Corvoy {machine} {process}</title>"),
        format!("<dt>machine<dd>{machine}<dt>process<dd>{process}"),
        "<dt>configuration<dd>/etc/&lt;proxy&gt;.yaml".to_owned(),
    ] {
        assert!(page.contains(&text), "{text} is not in {page}");
    }
}

#[test]
fn a_failing_host_is_red_on_the_page_and_unchanged_in_clusters() {
    let console = Console::of_the_seed();
    let failing =
        FailingHost { cause: "connection refused".to_owned(), duration: Duration::from_secs(62) };
    *console.server.failing.lock().unwrap() = Some(failing);
    let page = console.get("/").body;
    let row = "<tr class=bad><td>httpbin_service<td>127.0.0.1:18000 <small>localhost</small>\
               <td>connection refused, for 1 min 2 s<td";
    assert!(page.contains(row), "{page}");
    assert_eq!(console.get("/clusters").body, include_str!("../envoy/clusters.txt"));
    assert_eq!(console.get("/clusters?format=json").body, include_str!("../envoy/clusters.json"));
}

#[test]
fn quitting_is_separate_on_the_page_and_asks_for_confirmation() {
    let page = Console::of_the_seed().get("/").body;
    let (others, exits) = page.split_once("<details>").unwrap();
    let button = "<form method=post action='/quitquitquit'><button";
    assert!(!others.contains("quitquitquit") && exits.contains(button), "{page}");
    assert!(others.contains("<form method=post action='/healthcheck/fail'><button"), "{page}");
    assert!(exits.contains("</details>"));
}

#[test]
fn the_page_loads_nothing_from_other_hosts() {
    let page = Console::of_the_seed().get("/").body;
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} is in {page}");
    }
}
