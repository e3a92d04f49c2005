//! Unix sockets, in front of the proxy and behind it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Config, Origin, PATIENCE, Proxy, Signal, corvoy, is_oracle, wait_until};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The configuration with these addresses in place of its own.
fn between(listener: &str, endpoint: Option<&str>, origin: &Origin) -> Config {
    let addresses = "response_headers_to_add: [{ header: { key: x-addresses, value: \
         \"%DOWNSTREAM_REMOTE_ADDRESS%|%DOWNSTREAM_LOCAL_ADDRESS%|%UPSTREAM_HOST%\" } }]";
    let yaml = Config::to(origin).yaml();
    let yaml = yaml.replace(
        "- name: everything\n",
        &format!("- name: everything\n              {addresses}\n"),
    );
    let listening =
        "address: { socket_address: { address: 127.0.0.1, port_value: 0 } }\n    filter_chains";
    let yaml =
        yaml.replace(listening, &format!("address: {{ pipe: {listener} }}\n    filter_chains"));
    let yaml = match endpoint {
        Some(path) => yaml.replace(
            &format!(
                "{{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}",
                origin.port()
            ),
            &format!("{{ pipe: {{ path: \"{path}\" }} }}"),
        ),
        None => yaml,
    };
    Config::verbatim(yaml)
}

/// Answers requests on a unix socket, one after the other on each connection.
fn origin_on(listener: UnixListener) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while client.read(&mut buffer).is_ok_and(|n| n > 0) {
                    client.write_all(RESPONSE).unwrap();
                }
            });
        }
    });
}

fn ask(mut stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"ok") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(answer).unwrap()
}

fn get(path: &Path) -> String {
    ask(&UnixStream::connect(path).unwrap())
}

#[test]
fn requests_pass_from_one_unix_socket_to_another() {
    let folder = TempDir::new().unwrap();
    let (front, back) = (folder.path().join("front"), folder.path().join("back"));
    origin_on(UnixListener::bind(&back).unwrap());
    let unused = Origin::that_answers();
    let listener =
        format!("{{ path: \"{}\", mode: 0600 }}", front.display()).replace("0600", "384");
    let config = between(&listener, Some(&back.display().to_string()), &unused).shards(2);
    let proxy = Proxy::with(config);
    assert_eq!(fs::metadata(&front).unwrap().permissions().mode() & 0o777, 0o600);

    let clients: Vec<_> = (0..20).map(|_| UnixStream::connect(&front).unwrap()).collect();
    let (front, back) = (front.display(), back.display());
    for answer in clients.iter().map(ask) {
        assert!(answer.contains(&format!("x-addresses: {front}|{front}|{back}\r\n")), "{answer}");
    }
    assert_eq!(proxy.admin("/listeners").text(), format!("front::{front}\n"));
    assert!(proxy.admin("/clusters").text().contains(&format!("service::{back}::rq_total::20\n")));
    assert_eq!(proxy.stat(&format!("listener.{front}.downstream_cx_total")), 20);
}

#[test]
fn an_abstract_unix_socket_is_not_in_the_file_system() {
    let origin = Origin::that_answers();
    let name = format!("corvoy-{}-front", std::process::id());
    let proxy = Proxy::with(between(&format!("{{ path: \"@{name}\" }}"), None, &origin));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let answer = ask(&UnixStream::connect_addr(&address).unwrap());
    assert!(answer.contains(&format!("x-addresses: @{name}|@{name}|{}", origin.address())));
    assert_eq!(proxy.admin("/listeners").text(), format!("front::@{name}\n"));
}

#[test]
fn a_unix_socket_without_a_listener_is_a_failed_connection() {
    let folder = TempDir::new().unwrap();
    let front = folder.path().join("front");
    let nobody = folder.path().join("nobody").display().to_string();
    let unused = Origin::that_answers();
    let listener = format!("{{ path: \"{}\" }}", front.display());
    let proxy = Proxy::with(between(&listener, Some(&nobody), &unused));
    let mut client = UnixStream::connect(&front).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_fail"), 1);
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    if is_oracle() {
        return; // Envoy takes the path from a running process.
    }
    let folder = TempDir::new().unwrap();
    let front = folder.path().join("front");
    let origin = Origin::that_answers();
    let config = between(&format!("{{ path: \"{}\" }}", front.display()), None, &origin);
    drop(UnixListener::bind(&front).unwrap());
    let proxy = Proxy::with(&config);
    get(&front);
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.yaml()).unwrap();
    let second = corvoy().arg("-c").arg(&file).output().unwrap();
    let log = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success(), "the path belongs to the first process: {log}");
    assert!(log.contains("Address already in use") || log.contains("address in use"), "{log}");
    get(&front);
    drop(proxy);
}

#[test]
fn a_drain_serves_those_who_have_connected_already() {
    let folder = TempDir::new().unwrap();
    let front = folder.path().join("front");
    let origin = Origin::that_answers();
    let config = between(&format!("{{ path: \"{}\" }}", front.display()), None, &origin).shards(2);
    let proxy = Proxy::with(config);
    let waiting: Vec<_> = (0..8).map(|_| UnixStream::connect(&front).unwrap()).collect();
    proxy.signal(Signal::Term);
    thread::sleep(Duration::from_millis(50));
    if !is_oracle() {
        waiting.iter().for_each(|client| drop(ask(client)));
    }
    drop(waiting);
    assert!(proxy.exit().success());
}

#[test]
fn the_admin_endpoint_may_listen_on_a_unix_socket() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (admin, address) = (file("admin"), file("address"));
    fs::write(
        file("config.yaml"),
        format!("admin: {{ address: {{ pipe: {{ path: \"{}\", mode: 384 }} }} }}", admin.display()),
    )
    .unwrap();
    let start = || {
        let mut command = corvoy();
        command.arg("-c").arg(file("config.yaml")).arg("--admin-address-path").arg(&address);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&admin).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    let is_live = || ask("GET /ready").is_some_and(|answer| answer.contains("LIVE"));
    let mut killed = start();
    wait_until("the admin endpoint to answer", is_live);
    assert_eq!(fs::read_to_string(&address).unwrap(), admin.to_str().unwrap());
    let mode = fs::metadata(&admin).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stats = ask("GET /stats?filter=listener.admin").unwrap();
    assert!(stats.contains("listener.admin.downstream_cx_active: 1"), "{stats}");
    // The next process replaces the socket that one has left behind.
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut process = start();
    wait_until("the admin endpoint to answer again", is_live);
    if !is_oracle() {
        let mut second = start();
        assert!(!second.wait().unwrap().success(), "the socket of a running process is left alone");
        assert!(is_live());
    }
    ask("POST /quitquitquit").unwrap();
    assert!(process.wait().unwrap().success());
}
