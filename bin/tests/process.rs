//! The process: start-up, start-up errors, signals, and output.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    Client, Config, Origin, Proxy, Signal, corvoy, free_address, is_oracle, wait_until,
};

/// Runs the binary in a mode in which it exits by itself.
fn run(args: &[&str]) -> Output {
    corvoy().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An address where no origin is.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

#[test]
fn a_valid_configuration_is_ok() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("good.yaml");
    fs::write(&path, Config::to_addresses(&[]).yaml()).unwrap();
    let path = path.to_str().unwrap();
    let output = run(&["--mode", "validate", "-c", path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("configuration '{path}' OK\n"));
}

#[test]
fn an_invalid_configuration_is_exit_status_1_with_a_position() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bad.yaml");
    let bad = Config::to_addresses(&[]).yaml().replace("prefix: \"/\"", "prefix: \"/\", sufix: a");
    let line = bad.lines().position(|line| line.contains("sufix")).unwrap() + 1;
    fs::write(&path, bad).unwrap();
    for mode in ["validate", "serve"] {
        let output = run(&["--mode", mode, "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{mode}");
        let said = text(&output.stderr);
        assert!(said.contains("sufix"), "{said}");
        if !is_oracle() {
            assert!(
                said.contains(&format!("bad.yaml:{line}:")),
                "no file, line and column in: {said}"
            );
        }
    }
}

/// The exit status and the output of `--mode validate`.
fn validate(yaml: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["--mode", "validate", "--config-yaml", yaml], flags].concat());
    (output.status.code(), text(&output.stderr))
}

#[test]
fn strict_turns_every_warning_into_an_error() {
    if is_oracle() {
        return; // Envoy has no such flag.
    }
    let good = Config::to_addresses(&[NOBODY]).yaml();
    assert_eq!(validate(&good, &["--strict"]), (Some(0), String::new()));
    let doubled = format!("node: {{ id: a }}\nnode: {{ id: b }}\n{good}");
    let (status, said) = validate(&doubled, &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("warning: `node` is set twice"), "{said}");
    assert!(said.contains("--config-yaml:1:1") && said.contains("--config-yaml:2:1"), "{said}");
    let (status, said) = validate(&doubled, &["--strict"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("error: `node` is set twice"), "{said}");
    let serving = run(&["--strict", "--config-yaml", &doubled]);
    assert_eq!(serving.status.code(), Some(1), "{}", text(&serving.stderr));
}

#[test]
fn a_configuration_without_a_listener_is_a_warning() {
    if is_oracle() {
        return; // Envoy does not warn.
    }
    for yaml in ["{}", "static_resources: {}", "static_resources: { clusters: [{ name: a }] }"] {
        let (status, said) = validate(yaml, &[]);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.starts_with("warning: there is no listener"), "{yaml}\n{said}");
        assert_eq!(validate(yaml, &["--strict"]).0, Some(1));
    }
}

#[test]
fn validating_opens_no_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let yaml = Config::to_addresses(&[])
        .yaml()
        .replace("port_value: 0", &format!("port_value: {}", address.port()));
    let output = run(&["--mode", "validate", "--config-yaml", &yaml]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_taken_port_is_one_clear_line_and_exit_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = format!("port_value: {}", address.port());
    let yaml = Config::to_addresses(&[NOBODY]).yaml();
    let (before, after) = yaml.rsplit_once("port_value: 0").unwrap();
    let for_admin = yaml.replacen("port_value: 0", &port, 1);
    let for_listener = format!("{before}{port}{after}");
    for yaml in [for_admin, for_listener] {
        let output = run(&["--config-yaml", &yaml, "-l", "error"]);
        assert_eq!(output.status.code(), Some(1));
        if !is_oracle() {
            let said = text(&output.stderr);
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(&address.to_string()), "{said}");
            let who = format!("ss -ltnp 'sport = :{}'", address.port());
            assert!(said.contains(&who), "{said}");
            assert_eq!(said.matches("os error").count(), 1, "{said}");
        }
    }
}

#[test]
fn usage_errors_are_exit_status_2_and_help_and_version_are_0() {
    if is_oracle() {
        return; // Envoy has one exit status for all errors.
    }
    for (args, status) in [
        (&["--no-such-flag"][..], 2),
        (&["--mode", "lint"], 2),
        (&["--stats-tag", "a:b"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["--hot-restart-version"], 0),
        (&["-c", "/no/such/file.yaml"], 1),
    ] {
        assert_eq!(run(args).status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn yaml_on_the_command_line_is_merged_over_the_file() {
    let origin = Origin::that_answers();
    let node = "node: { id: from-the-command-line, cluster: c }";
    let proxy = Proxy::with(Config::to(&origin).flags(&["--config-yaml", node]));
    assert_eq!(proxy.get("/").status(), 200);
    let dump = proxy.admin("/config_dump").text();
    assert!(dump.contains("from-the-command-line"), "{dump}");
}

#[test]
fn the_log_has_envoys_lines() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let line = regex::Regex::new(
        r"(?m)^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]\[\d+\]\[info\]\[[a-z_]+\] .+$",
    );
    let log = proxy.log();
    assert!(line.unwrap().is_match(&log), "{log}");
}

#[test]
fn the_log_goes_to_the_log_path() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let config = Config::to_addresses(&[NOBODY]).flags(&["--log-path", path.to_str().unwrap()]);
    let proxy = Proxy::with(config);
    assert_eq!(proxy.log(), "", "the log also went to standard error");
    wait_until("the log", || fs::read_to_string(&path).unwrap().contains("][info]["));
}

#[test]
fn a_log_that_was_moved_away_is_reopened_on_request() {
    let folder = TempDir::new().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let config = Config::to_addresses(&[]).flags(&["--log-path", path.to_str().unwrap()]);
    let proxy = Proxy::with(config);
    let signal = || proxy.signal(Signal::Usr1);
    let ask = || assert_eq!(proxy.admin_post("/reopen_logs").text(), "OK\n");
    for reopen in [&signal as &dyn Fn(), &ask] {
        wait_until("the log", || path.exists());
        fs::rename(&path, &moved).unwrap();
        reopen();
        wait_until("a new log", || path.exists());
    }
}

#[test]
fn the_command_line_overrides_the_name_of_the_node() {
    let yaml = "node: { id: a, cluster: b, locality: { region: r, zone: z }, metadata: { k: v } }";
    let flags = ["--config-yaml", yaml, "--service-node", "N", "--service-zone", "Z"];
    let proxy = Proxy::with(Config::to_addresses(&[]).flags(&flags));
    let info = proxy.admin("/server_info").text();
    let node = &serde_json::from_str::<serde_json::Value>(&info).unwrap()["node"];
    assert_eq!((&node["id"], &node["cluster"]), (&"N".into(), &"b".into()), "{info}");
    let locality = serde_json::json!({ "region": "r", "zone": "Z", "sub_zone": "" });
    assert_eq!(node["locality"], locality);
    assert_eq!(node["metadata"]["k"], "v");
}

#[test]
fn a_signal_drains_and_loses_no_request_in_progress() {
    if is_oracle() {
        return; // Envoy exits at once and takes its requests along.
    }
    for signal in [Signal::Term, Signal::Int, Signal::Quit] {
        let origin = Origin::that_answers_late(Duration::from_millis(500));
        let proxy = Proxy::with(Config::to(&origin).shards(2));
        let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.ask("/");
        }
        origin.has_seen(clients.len());
        proxy.signal(signal);
        for client in &mut clients {
            let response = client.response();
            assert_eq!(response.text(), "ok");
            assert_eq!(response.header("connection").as_deref(), Some("close"));
            client.is_closed();
        }
        assert_eq!(proxy.exit().code(), Some(0));
    }
}

#[test]
fn hup_and_usr2_do_no_harm() {
    if is_oracle() {
        return; // Envoy exits on USR2 and silently ignores HUP.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    for (signal, name) in [(Signal::Usr2, "SIGUSR2 ignored"), (Signal::Hup, "is read again")] {
        proxy.signal(signal);
        wait_until(name, || proxy.log().contains(name));
        assert_eq!(proxy.get("/").status(), 200);
    }
}

#[test]
fn the_help_has_all_signals_and_the_environment() {
    if is_oracle() {
        return;
    }
    let help = text(&run(&["--help"]).stdout);
    for word in ["TERM", "INT", "QUIT", "USR1", "HUP", "USR2", "CORVOY_RING", "NOTIFY_SOCKET"] {
        assert!(help.contains(word), "no {word} in:\n{help}");
    }
}

#[test]
fn the_log_path_gets_startup_errors() {
    if is_oracle() {
        return; // Envoy's log does not say where in the file.
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port_value: {}", taken.local_addr().unwrap().port());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let yaml = Config::to_addresses(&[]).yaml();
    let bad_field = yaml.replace("prefix: \"/\"", "prefix: \"/\", sufix: a");
    let bad_port = yaml.replacen("port_value: 0", &port, 1);
    let (line, text) =
        bad_field.lines().enumerate().find(|(_, line)| line.contains("sufix")).unwrap();
    let place = format!("{}:{}", line + 1, text.find("sufix").unwrap() + 1);
    let at_field = format!("[error][config] --config-yaml:{place}: static_resources.listeners[0].");
    for (yaml, reason) in [
        (bad_field, at_field.as_str()),
        (bad_port, "[error][main] cannot listen"),
        ("a:\n\tb: 1\n".to_owned(), "[error][config] --config-yaml:2:1: invalid YAML: indented"),
        ("# x\n".to_owned(), "[error][config] --config-yaml: the configuration is empty\n"),
    ] {
        let output = run(&["--config-yaml", &yaml, "--log-path", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!output.stderr.is_empty());
        let log = fs::read_to_string(&path).unwrap();
        assert!(log.contains(reason), "{log}");
    }
}

#[test]
fn when_io_uring_is_refused_one_warning_says_what_to_do() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).locked_memory(64 << 10));
    assert_eq!(proxy.get("/").status(), 200);
    let log = proxy.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("io_uring is")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("[warning]") && warnings[0].contains("LimitMEMLOCK"), "{log}");
    assert!(log.contains("1 shard on epoll"), "{log}");
}

#[test]
fn idle_connections_do_not_delay_a_drain() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.get("/");
    let mut silent = proxy.connect();
    proxy.stat_becomes("http.front.downstream_cx_active", 2);
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit().code(), Some(0));
    client.is_closed();
    silent.is_closed();
}

#[test]
fn connections_that_were_idle_for_long_do_not_delay_a_drain() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.get("/");
    thread::sleep(Duration::from_secs(3)); // the story needs a long idle time
    proxy.signal(Signal::Term);
    let begun = Instant::now();
    assert_eq!(proxy.exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    client.is_closed();
}

#[test]
fn without_a_ring_epoll_does_the_same() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_echoes();
    let proxy = Proxy::with(Config::to(&origin).environment("CORVOY_RING", "epoll"));
    assert!(proxy.log().contains("1 shard on epoll"), "{}", proxy.log());
    let mut client = proxy.connect();
    for i in 0..10 {
        assert!(client.get(&format!("/{i}")).text().starts_with(&format!("GET /{i} ")));
    }
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn no_new_connection_is_accepted_during_a_drain() {
    if is_oracle() {
        return; // Envoy exits at once.
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    refuses_connections(&proxy);
    assert!(proxy.is_running());
}

#[test]
fn a_second_signal_exits_immediately() {
    if is_oracle() {
        return; // Envoy exits with the first.
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    refuses_connections(&proxy);
    assert!(proxy.is_running());
    proxy.signal(Signal::Term);
    proxy.exit();
}

#[test]
fn a_drain_ends_after_the_drain_time() {
    if is_oracle() {
        return; // Envoy exits at once.
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).flags(&["--drain-time-s", "1"]));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn no_request_is_lost_in_a_drain_under_load() {
    if is_oracle() {
        return; // Envoy exits at once and takes its requests along.
    }
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                loop {
                    // An idle connection may be closed at the moment that a request is sent.
                    if client.wire().send(GET).is_err() {
                        break;
                    }
                    match client.try_response("GET") {
                        Ok(response) if response.header("connection").is_some() => break,
                        Ok(response) => assert_eq!(response.status(), 200),
                        Err(broken) => break assert_eq!(broken.bytes(), b"", "{broken:?}"),
                    }
                }
            });
        }
        origin.has_seen(500);
        proxy.signal(Signal::Term);
    });
    assert_eq!(proxy.exit().code(), Some(0));
}

#[track_caller]
fn refuses_connections(proxy: &Proxy) {
    wait_until("connections to be refused", || TcpStream::connect(proxy.address()).is_err());
}

#[test]
fn a_wildcard_and_a_specific_address_may_share_a_port() {
    let port = free_address().port();
    let origin = Origin::that_answers();
    let yaml = Config::to(&origin).yaml();
    let (head, rest) = yaml.split_once("  - name: front\n").unwrap();
    let (listener, clusters) = rest.split_once("  clusters:\n").unwrap();
    let on = |address: &str| {
        let address = format!("address: {address}, port_value: {port}");
        let listener = listener.replace("address: 127.0.0.1, port_value: 0", &address);
        format!("  - name: front_{port}_{}\n{listener}", address.len())
    };
    let (wide, narrow) = (on("0.0.0.0"), on("127.0.0.1"));
    for listeners in [format!("{wide}{narrow}"), format!("{narrow}{wide}")] {
        let proxy =
            Proxy::with(Config::verbatim(format!("{head}{listeners}  clusters:\n{clusters}")));
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        assert_eq!(client.get("/").status(), 200);
        drop(proxy);
    }
}
