//! The configuration changes while traffic flows.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::support::{
    Client, Config, Origin, Proxy, Signal, Tls, Wire, corvoy, free_address, is_oracle, wait_until,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";

#[test]
fn a_new_listener_serves_new_connections_and_the_old_ones_end_with_their_next_response() {
    if is_oracle() {
        return; // Envoy reads its bootstrap once.
    }
    let origin = Origin::that_answers();
    let config = |name: &str| Config::to(&origin).manager(&format!("server_name: {name}"));
    let mut proxy = Proxy::with(config("first"));
    let address = proxy.address();
    let mut before = proxy.connect();
    assert_eq!(before.get("/").header("server").as_deref(), Some("first"));

    let answer = proxy.reload(config("second"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text(), "1 listener: 1 modified; 1 cluster: unchanged\n");
    assert_eq!(proxy.address(), address, "the sockets stay");
    assert_eq!(proxy.stat("listener_manager.total_filter_chains_draining"), 1);
    let last = before.get("/");
    assert_eq!(last.header("server").as_deref(), Some("first"));
    assert_eq!(last.header("connection").as_deref(), Some("close"));
    before.is_closed();
    let mut after = proxy.connect();
    for _ in 0..2 {
        let response = after.get("/");
        assert_eq!(response.header("server").as_deref(), Some("second"));
        assert_eq!(response.header("connection"), None);
    }
    assert_eq!(origin.connections(), 1, "the pool of an unchanged cluster stays");
    assert_eq!(proxy.stat("listener_manager.listener_modified"), 1);
    assert_eq!(proxy.stat("listener_manager.total_listeners_active"), 1);
    let dump = proxy.admin("/config_dump").text();
    assert!(dump.contains("\"second\"") && !dump.contains("\"first\""), "{dump}");
}

#[test]
fn new_routes_are_for_the_next_request_of_an_open_connection() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let config = |prefix: &str| Config::to(&origin).route(&format!("prefix_rewrite: {prefix}"));
    let mut proxy = Proxy::with(config("/first/"));
    let mut client = proxy.connect();
    client.get("/");
    proxy.reload(config("/second/"));
    assert_eq!(client.get("/").header("connection"), None);
    let lines: Vec<_> = origin.seen().iter().map(|seen| seen.start_line.clone()).collect();
    assert_eq!(lines, ["GET /first/ HTTP/1.1", "GET /second/ HTTP/1.1"]);
    assert_eq!(proxy.stat("listener_manager.total_filter_chains_draining"), 0);
}

#[test]
fn connections_of_a_filter_chain_that_is_the_same_stay() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    // The chain for other clients changes.
    let config = |name: &str| {
        let yaml = Config::to(&origin).yaml();
        let (head, rest) = yaml.split_once("    - filters:").unwrap();
        let (chain, clusters) = rest.split_once("  clusters:").unwrap();
        let other = chain.replace("stat_prefix: front", &format!("stat_prefix: {name}"));
        let others = "{ source_prefix_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }";
        Config::verbatim(format!(
            "{head}    - filter_chain_match: {others}\n      filters:{other}    - filters:{chain}  clusters:{clusters}"
        ))
    };
    let mut proxy = Proxy::with(config("first"));
    let mut client = proxy.connect();
    client.get("/");
    let answer = proxy.reload(config("second")).text();
    assert_eq!(answer, "1 listener: 1 modified; 1 cluster: unchanged\n");
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(proxy.stat("http.front.downstream_cx_total"), 1);
    assert_eq!(proxy.stat("listener_manager.listener_in_place_updated"), 1);
    assert_eq!(proxy.stat("listener_manager.total_filter_chains_draining"), 1);
}

#[test]
fn what_is_the_same_stays_as_it_is() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let mut proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.get("/");
    assert_eq!(
        proxy.reload(Config::to(&origin)).text(),
        "1 listener: unchanged; 1 cluster: unchanged\n"
    );
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(proxy.stat("listener.127.0.0.1_0.downstream_cx_total"), 1);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_configuration_with_an_error_changes_nothing() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let mut proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    let refused = proxy.reload(Config::to(&origin).route("timeout: soon"));
    assert_eq!(refused.status(), 400);
    assert!(refused.text().contains("timeout"), "{}", refused.text());
    let taken = free_address();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let unusable = Config::to(&origin).listener(&format!(
        "additional_addresses: [{{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }}]",
        taken.port()
    ));
    let refused = proxy.reload(unusable);
    assert_eq!(refused.status(), 400);
    assert!(refused.text().contains("cannot listen on"), "{}", refused.text());
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(proxy.get("/").status(), 200);
    assert!(proxy.log().contains("is refused, nothing is changed"));
}

#[test]
fn a_cluster_has_its_new_hosts_at_once() {
    if is_oracle() {
        return;
    }
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let mut proxy = Proxy::with(Config::to(&origins[0]));
    let mut client = proxy.connect();
    client.get("/");
    let answer = proxy.reload(Config::to(&origins[1]));
    assert_eq!(answer.text(), "1 listener: unchanged; 1 cluster: 1 modified\n");
    assert_eq!(client.get("/").header("connection"), None, "its listener is the same");
    assert_eq!(origins.each_ref().map(|origin| origin.seen().len()), [1, 1]);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 1);
    assert_eq!(proxy.stat("cluster.service.membership_total"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_total"), 2, "the counts go on");
}

#[test]
fn a_new_cluster_is_checked_before_it_is_used() {
    if is_oracle() {
        return;
    }
    let check = "health_checks: [{ timeout: 1s, interval: 1s, unhealthy_threshold: 1, \
                 healthy_threshold: 1, http_health_check: { path: /check } }]";
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let mut proxy = Proxy::with(Config::to(&origins[0]));
    proxy.reload(Config::to(&origins[1]).cluster(check));
    assert_eq!(proxy.get("/").status(), 200);
    let paths: Vec<_> = origins[1].seen().iter().map(|seen| seen.start_line.clone()).collect();
    assert!(paths[0].starts_with("GET /check "), "{paths:?}");
}

/// In a file a route comes together with its cluster: it is used when that is ready.
#[test]
fn no_request_fails_while_the_cluster_of_a_new_route_is_checked() {
    if is_oracle() {
        return;
    }
    let check = "health_checks: [{ timeout: 5s, interval: 1s, unhealthy_threshold: 1, \
                 healthy_threshold: 1, http_health_check: { path: /check } }]";
    let old = Origin::that_answers();
    let new = Origin::that_answers_late(Duration::from_secs(1));
    let mut proxy = Proxy::with(Config::to(&old));
    let (address, done) = (proxy.address(), AtomicBool::new(false));
    let renamed = Config::to(&new).cluster(check).yaml();
    let renamed = renamed.replace("cluster: service", "cluster: other");
    let renamed = renamed.replace("- name: service", "- name: other");
    thread::scope(|scope| {
        let client = scope.spawn(|| ask_until(&done, address));
        assert_eq!(proxy.reload(Config::verbatim(renamed)).status(), 200);
        done.store(true, Relaxed);
        assert!(client.join().unwrap() > 0);
    });
    assert_eq!(proxy.stat("http.front.downstream_rq_5xx"), 0);
}

#[test]
fn a_limit_in_a_static_layer_counts_from_a_reload_on() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let layers = |limit: u32| {
        format!(
            "layered_runtime: {{ layers: [{{ name: a, static_layer: {{ \
             overload.global_downstream_max_connections: {limit} }} }}] }}"
        )
    };
    let mut proxy = Proxy::with(Config::to(&origin).bootstrap(&layers(100)));
    assert_eq!(proxy.reload(Config::to(&origin).bootstrap(&layers(1))).status(), 200);
    let mut first = proxy.connect();
    assert_eq!(first.get("/").status(), 200);
    proxy.connect().is_closed();
}

#[test]
fn listeners_come_and_go() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let [first, second] = [free_address(), free_address()];
    let config = |addresses: &[std::net::SocketAddr]| {
        let yaml = Config::to(&origin).yaml();
        let (head, rest) = yaml.split_once("  - name: front").unwrap();
        let (listener, clusters) = rest.split_once("  clusters:").unwrap();
        let listeners = addresses.iter().map(|address| {
            let port = format!("port_value: {}", address.port());
            format!(
                "  - name: at_{}{}",
                address.port(),
                listener.replacen("port_value: 0", &port, 1)
            )
        });
        let listeners: String = listeners.collect();
        Config::verbatim(format!("{head}{listeners}  clusters:{clusters}"))
    };
    let mut proxy = Proxy::with(config(&[first]));
    let mut client = Client::connect(first);
    client.get("/");
    let answer = proxy.reload(config(&[first, second])).text();
    assert_eq!(answer, "2 listeners: 1 added; 1 cluster: unchanged\n");
    assert_eq!(Client::connect(second).get("/").status(), 200);
    assert_eq!(client.get("/").header("connection"), None);
    let answer = proxy.reload(config(&[second])).text();
    assert_eq!(answer, "1 listener: 1 removed; 1 cluster: unchanged\n");
    wait_until("nobody to listen there", || Wire::connect(first).is_err());
    assert_eq!(client.get("/").header("connection").as_deref(), Some("close"));
    assert_eq!(Client::connect(second).get("/").status(), 200);
}

#[test]
fn connections_of_the_past_are_closed_after_the_drain_time() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_stalls();
    let config = |timeout: &str| {
        let idle = format!("stream_idle_timeout: {timeout}");
        Config::to(&origin).manager(&idle).flags(&["--drain-time-s", "1"])
    };
    let mut proxy = Proxy::with(config("50s"));
    let [mut idle, mut waiting] = [proxy.connect(), proxy.connect()];
    waiting.send(GET);
    origin.has_seen(1);
    proxy.stat_becomes("http.front.downstream_cx_active", 2);
    proxy.reload(config("60s"));
    idle.until_close();
    waiting.until_close();
    proxy.stat_becomes("listener_manager.total_filter_chains_draining", 0);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
}

/// A client that goes on after each response that closes its connection.
fn ask_until(done: &AtomicBool, address: std::net::SocketAddr) -> usize {
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

#[test]
fn no_request_is_lost_while_everything_changes() {
    if is_oracle() {
        return;
    }
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let mut proxy = Proxy::with(Config::to(&origins[0]).shards(2));
    let (address, done) = (proxy.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_until(&done, address))).collect();
        for round in 0..50 {
            let timeout = format!("{}s", 5 + round);
            let config = Config::to(&origins[round % 2]).route(&format!("timeout: {timeout}"));
            let config = match round % 3 {
                0 => config.manager(&format!("request_timeout: {timeout}")),
                _ => config,
            };
            assert_eq!(proxy.reload(config).status(), 200);
        }
        done.store(true, Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert_eq!(proxy.stat("listener_manager.listener_modified"), 50);
    assert_eq!(proxy.stat("http.front.downstream_rq_5xx"), 0);
}

#[test]
fn a_certificate_that_was_renewed_is_taken_although_the_text_is_the_same() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let put = |tls: &Tls| {
        fs::write(file("certificate"), tls.pem()).unwrap();
        fs::write(file("key"), tls.key_pem()).unwrap();
    };
    let [old, new] = [Tls::new(), Tls::new()];
    put(&old);
    let socket = format!(
        "transport_socket: {{ name: tls, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         common_tls_context: {{ tls_certificates: [{{ certificate_chain: {{ filename: {} }}, \
         private_key: {{ filename: {} }} }}] }} }} }}",
        file("certificate"),
        file("key")
    );
    let config = Config::to(&origin).chain(&socket);
    let mut proxy = Proxy::with(&config);
    assert_eq!(proxy.connect_tls(&old).get("/").status(), 200);
    put(&new);
    assert_eq!(proxy.reload(&config).text(), "1 listener: 1 modified; 1 cluster: unchanged\n");
    assert_eq!(proxy.connect_tls(&new).get("/").status(), 200);
}

#[test]
fn an_access_log_may_be_added() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let with_log = Config::to(&origin).manager(&format!(
        "access_log: [{{ name: file, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
         path: {}, log_format: {{ text_format_source: {{ inline_string: \"%REQ(:PATH)%\\n\" }} }} }} }}]",
        log.display()
    ));
    let soon = ["--file-flush-interval-msec", "10"];
    let mut proxy = Proxy::with(Config::to(&origin).flags(&soon));
    proxy.reload(with_log);
    proxy.get("/logged");
    wait_until("the line", || fs::read_to_string(&log).is_ok_and(|log| log == "/logged\n"));
}

#[test]
fn what_counts_at_the_start_only_is_named() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let mut proxy = Proxy::with(Config::to(&origin));
    let answer = proxy.reload(Config::to(&origin).bootstrap("stats_flush_interval: 1s"));
    assert_eq!(answer.status(), 200);
    let text = answer.text();
    assert!(text.contains("stats_flush_interval") && text.contains("starts again"), "{text}");
}

#[test]
fn the_command_waits_for_the_verdict() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let reload = |config: &Config| {
        fs::write(proxy.config_path(), config.yaml()).unwrap();
        let mut command: Command = corvoy();
        command.arg("reload").arg("--admin-address").arg(proxy.admin_address().to_string());
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (status, text) = reload(&Config::to(&origin).route("timeout: 7s"));
    assert_eq!((status, &*text), (Some(0), "1 listener: 1 modified; 1 cluster: unchanged\n"));
    let (status, text) = reload(&Config::to(&origin).route("timeout: soon"));
    assert_eq!(status, Some(1));
    assert!(text.contains("timeout"), "{text}");
}

#[test]
fn a_file_that_is_moved_to_its_place_does_the_same() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).flags(&["--watch"]));
    let path = proxy.config_path();
    let new = path.with_extension("new");
    let old = fs::read_to_string(&path).unwrap();
    fs::write(&new, old.replace("cluster: service", "cluster: service, timeout: 7s")).unwrap();
    fs::rename(&new, &path).unwrap();
    wait_until("the new configuration", || {
        String::from_utf8(proxy.admin("/config_dump?mask=bootstrap").body).unwrap().contains("7s")
    });
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn a_signal_does_the_same() {
    if is_oracle() {
        return;
    }
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let proxy = Proxy::with(Config::to(&origins[0]));
    fs::write(proxy.config_path(), Config::to(&origins[1]).yaml()).unwrap();
    proxy.signal(Signal::Hup);
    wait_until("the change", || proxy.log().contains("1 cluster: 1 modified"));
    proxy.get("/");
    assert_eq!(origins.each_ref().map(|origin| origin.seen().len()), [0, 1]);
}

#[test]
fn a_refused_configuration_is_not_what_dynamic_resources_are_added_to() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clusters.yaml");
    let put = |name: &str| {
        let kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let cluster = format!("resources: [{{ '@type': {kind}, name: {name}, type: STATIC }}]");
        fs::write(folder.path().join("new"), cluster).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
    };
    put("a");
    let source = format!(
        "node: {{ id: edge, cluster: edges }}\ndynamic_resources: {{ cds_config: {{ path_config_source: {{ path: {} }} }} }}",
        path.display()
    );
    let config = |name: &str| {
        Config::to(&origin).bootstrap(&source).manager(&format!("server_name: {name}"))
    };
    let mut proxy = Proxy::with(config("first"));
    let taken = free_address();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let address = format!(
        "additional_addresses: [{{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }}]",
        taken.port()
    );
    assert_eq!(proxy.reload(config("second").listener(&address)).status(), 400);
    put("b");
    proxy.stat_becomes("cluster_manager.cds.update_success", 2);
    proxy.stat_becomes("cluster_manager.cluster_removed", 1);
    assert_eq!(proxy.get("/").header("server").as_deref(), Some("first"));
}

#[test]
fn connections_over_tls_are_closed_after_the_drain_time() {
    if is_oracle() {
        return;
    }
    let (origin, tls) = (Origin::that_answers(), Tls::new());
    let config = |name: &str| {
        let config = Config::to(&origin).tls(&tls).flags(&["--drain-time-s", "1"]);
        config.manager(&format!("server_name: {name}"))
    };
    let mut proxy = Proxy::with(config("first"));
    let mut client = proxy.connect_tls(&tls);
    client.get("/");
    proxy.reload(config("second"));
    assert_eq!(proxy.stat("http.front.downstream_cx_active"), 1);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
}

#[test]
fn a_request_that_waits_gets_the_hosts_that_there_are_then() {
    if is_oracle() {
        return;
    }
    let origins = [Origin::that_answers(), Origin::that_answers()];
    let config = |origin: &Origin| {
        Config::to(origin).filter("buffer", "buffer.v3.Buffer", "max_request_bytes: 100")
    };
    let mut proxy = Proxy::with(config(&origins[0]));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 4\r\n\r\nha");
    proxy.stat_becomes("http.front.downstream_rq_active", 1);
    proxy.reload(config(&origins[1]));
    client.send("lf");
    assert_eq!(client.response().status(), 200);
    assert_eq!(origins[1].seen().len(), 1);
}
