//! gRPC through the proxy, with the real client and the real server of `grpcio`
//! (`grpc/interop.py`: the cases of gRPC's interoperability tests).
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Config, Proxy, Tls};

/// The origin speaks HTTP/2.
pub(crate) const HTTP2: &str = "explicit_http_config: { http2_protocol_options: {} }";

/// As a field of the cluster.
pub(crate) fn protocols(options: &str) -> String {
    format!(
        r#"typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, {options} }} }}"#
    )
}

/// A thousand streams at once are more than the proxy may have by default.
const MANY_REQUESTS: &str = "circuit_breakers: { thresholds: [{ max_requests: 4096 }] }";

#[test]
fn grpc_works() {
    let Some(server) = Server::start(None) else { return };
    let cluster = Config::to_addresses(&[server.address]).cluster(&protocols(HTTP2));
    let config = cluster.cluster(MANY_REQUESTS);
    let proxy = Proxy::with(config.descriptors(4096));
    talks(&proxy, None);
    // The thousand streams shared few connections.
    let opened = proxy.stat("cluster.service.upstream_cx_total");
    assert!(opened < 10, "{opened} connections to the origin");
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
}

#[test]
fn grpc_works_over_tls_on_both_sides() {
    let tls = Tls::new();
    let files = Files::of(&tls);
    let Some(server) = Server::start(Some(&files)) else { return };
    let chain = tls.downstream_with_protocols(&["h2", "http/1.1"]);
    let cluster = Config::to_addresses(&[server.address]).upstream_tls(&tls);
    let config = cluster.cluster(&protocols(HTTP2)).cluster(MANY_REQUESTS).chain(&chain);
    let proxy = Proxy::with(config.descriptors(4096));
    talks(&proxy, Some(&files));
}

#[test]
fn grpc_works_between_clients_over_tls_and_an_origin_that_is_spoken_to_as_they_speak() {
    let tls = Tls::new();
    let Some(server) = Server::start(None) else { return };
    let chain = tls.downstream_with_protocols(&["h2", "http/1.1"]);
    let as_clients = "use_downstream_protocol_config: { http2_protocol_options: {} }";
    let cluster = Config::to_addresses(&[server.address]).cluster(&protocols(as_clients));
    let config = cluster.cluster(MANY_REQUESTS).chain(&chain);
    let proxy = Proxy::with(config.descriptors(4096));
    talks(&proxy, Some(&Files::of(&tls)));
}

#[test]
fn grpc_works_between_clients_without_tls_and_an_origin_that_chooses_its_protocol() {
    let tls = Tls::new();
    let Some(server) = Server::start(Some(&Files::of(&tls))) else { return };
    let cluster = Config::to_addresses(&[server.address]).upstream_tls(&tls);
    let chosen = "auto_config: { http2_protocol_options: {} }";
    let config = cluster.cluster(&protocols(chosen)).cluster(MANY_REQUESTS);
    let proxy = Proxy::with(config.descriptors(4096));
    talks(&proxy, None);
}

/// The server as a process. It is killed when the story ends.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// None: the package is missing.
    fn start(tls: Option<&Files>) -> Option<Self> {
        let mut asks = python();
        asks.args(["-c", "import grpc"]).stderr(Stdio::null());
        if !asks.status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: `grpcio` is not in .venv");
            return None;
        }
        let mut command = python();
        command.arg(script()).arg("serve");
        if let Some(files) = tls {
            command.args([files.path("certificate.pem"), files.path("key.pem")]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim().parse().unwrap()));
        Some(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A certificate and its key, as files.
struct Files(TempDir);

impl Files {
    fn of(tls: &Tls) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("certificate.pem"), tls.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), tls.key_pem()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn python() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"))
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/interop.py")
}

/// The client goes through all its cases.
#[track_caller]
fn talks(proxy: &Proxy, tls: Option<&Files>) {
    let mut client = python();
    client.arg(script()).args(["talk", &proxy.address().port().to_string()]);
    if let Some(files) = tls {
        client.arg(files.path("certificate.pem"));
    }
    let output = client.output().unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
}
