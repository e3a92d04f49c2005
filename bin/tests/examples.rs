//! The README's examples, as an operator tries them.

use std::path::PathBuf;

use crate::support::{Config, Origin, Proxy, corvoy, is_oracle};

fn example(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples")
}

/// The example with free ports, and this origin in place of the one on `port`.
fn proxy(name: &str, port: u16, origin: &Origin) -> Proxy {
    let yaml = example(name)
        .replace("port_value: 15000", "port_value: 0")
        .replace("port_value: 15001", "port_value: 0")
        .replace(&format!("port_value: {port}"), &format!("port_value: {}", origin.port()));
    Proxy::with(Config::verbatim(yaml))
}

/// A folder with the files that the example with TLS names.
fn certificate() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    folder
}

#[test]
fn every_example_is_valid_and_named_in_the_readme() {
    if is_oracle() {
        return;
    }
    let readme = std::fs::read_to_string(folder().join("../../README.md")).unwrap();
    let certificate = certificate();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let mut validate = corvoy();
        validate.args(["--mode", "validate", "-c"]).arg(&path).current_dir(certificate.path());
        let output = validate.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(name), "{name} is not in README.md");
    }
}

#[test]
fn the_redirects_have_the_documented_targets() {
    let origin = Origin::that_echoes();
    let proxy = proxy("redirects.yaml", 8000, &origin);
    for (path, status, location) in
        [("/index.html", 308, "http://front/"), ("/old/a?b=c", 302, "http://front/a")]
    {
        let head = format!("GET {path} HTTP/1.1\r\nHost: front\r\n\r\n");
        let answer = proxy.connect().send(head).response();
        assert_eq!(
            (answer.status(), answer.header("location").as_deref()),
            (status, Some(location))
        );
    }
    let other = proxy.connect().send("GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n").response();
    assert_eq!(other.header("location").as_deref(), Some("https://www.example.com/a"));
    assert!(proxy.get("/api/x").text().starts_with("GET /anything/x HTTP/1.1\r\n"));
    assert!(proxy.get("/item/7").text().starts_with("GET /anything/items?id=7 HTTP/1.1\r\n"));
    assert!(proxy.get("/robots.txt").text().starts_with("User-agent"));
}

#[test]
fn the_split_sends_opted_in_clients_to_the_new_version() {
    let new = Origin::that_echoes();
    let proxy = proxy("weighted_split.yaml", 8001, &new);
    let asked = "GET / HTTP/1.1\r\nHost: front\r\nx-version: new\r\n\r\n";
    assert_eq!(proxy.connect().send(asked).response().status(), 200);
}

#[test]
fn the_websocket_example_upgrades_on_its_path_only() {
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::that_says(switch);
    let proxy = proxy("websocket.yaml", 8000, &origin);
    let ask = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: front\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        proxy.connect().send(head).response().status()
    };
    assert_eq!(ask("/chat"), 101);
    assert_eq!(ask("/"), 403);
}

#[test]
fn the_tcp_example_passes_everything_on() {
    let origin = Origin::that_echoes();
    let proxy = proxy("tcp.yaml", 8000, &origin);
    // It is not the proxy that reads this request: it would add its own fields.
    let answer = proxy.get("/anything");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("server"), None, "{answer}");
}
