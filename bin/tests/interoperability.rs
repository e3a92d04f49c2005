//! TLS with other implementations: OpenSSL's tools and Python's `ssl`. rustls is in all other stories.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Config, Origin, PATIENCE, Proxy, Tls, free_address, wait_until};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// The files of a certificate.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn of(tls: &Tls) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("certificate.pem"), tls.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), tls.key_pem()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A process that ends with the story.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

fn is_installed(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/local/bin", "/bin"];
    let found = found.iter().any(|folder| Path::new(folder).join(program).exists());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// `openssl s_client`, which verifies the certificate and sends one request.
fn s_client(proxy: &Proxy, files: &Files, options: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &proxy.address().to_string()]);
    command.args(["-servername", "a.test", "-verify_hostname", "a.test", "-verify_return_error"]);
    command.args(["-CAfile", &files.path("certificate.pem"), "-ign_eof"]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = command.spawn().unwrap();
    client.stdin.take().unwrap().write_all(REQUEST).unwrap();
    client.wait_with_output().unwrap()
}

#[track_caller]
fn is_answered(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("HTTP/1.1 200 OK") && said.contains("\r\n\r\nok"), "{said}{errors}");
    said
}

#[test]
fn openssl_is_a_client() {
    if !is_installed("openssl") {
        return;
    }
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let (files, proxy) = (Files::of(&tls), Proxy::with(Config::to(&origin).tls(&tls)));
    for version in VERSIONS {
        is_answered(&s_client(&proxy, &files, &[version]));
    }
}

#[test]
fn openssl_resumes_its_session_and_may_not_send_early_data() {
    if !is_installed("openssl") {
        return;
    }
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let (files, proxy) = (Files::of(&tls), Proxy::with(Config::to(&origin).tls(&tls)));
    let (session, early) = (files.path("session"), files.path("early"));
    std::fs::write(&early, REQUEST).unwrap();
    let first = is_answered(&s_client(&proxy, &files, &["-tls1_3", "-sess_out", &session]));
    assert!(first.contains("Max Early Data: 0"), "{first}");
    let options = ["-tls1_3", "-sess_in", &session, "-early_data", &early];
    let second = is_answered(&s_client(&proxy, &files, &options));
    assert!(second.contains("Reused, TLSv1.3"), "{second}");
    assert!(second.contains("Early data was not sent"), "{second}");
    assert_eq!(origin.seen().len(), 2, "each request arrives once");
}

#[test]
fn openssl_is_an_origin() {
    if !is_installed("openssl") {
        return;
    }
    let tls = Tls::new();
    let files = Files::of(&tls);
    for version in VERSIONS {
        let address = free_address();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", &address.to_string(), "-www", version]);
        command.args(["-cert", &files.path("certificate.pem"), "-key", &files.path("key.pem")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Server(command.spawn().unwrap());
        wait_until("s_server to listen", || TcpStream::connect(address).is_ok());
        is_served(address, &tls, "s_server");
    }
}

#[test]
fn python_is_an_origin() {
    let tls = Tls::new();
    let files = Files::of(&tls);
    let script = "import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '11')
        self.end_headers()
        self.wfile.write(b'from python')
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";
    let mut command = Command::new("python3");
    command.args(["-c", script, &files.path("certificate.pem"), &files.path("key.pem")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(command.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim().parse().unwrap()));
    is_served(address, &tls, "from python");
}

/// A proxy answers with what this origin says over TLS.
#[track_caller]
fn is_served(origin: SocketAddr, tls: &Tls, says: &str) {
    let proxy = Proxy::with(Config::to_addresses(&[origin]).upstream_tls(tls));
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 200, "{answer}");
    assert!(answer.text().contains(says), "{answer}");
}

#[test]
fn python_is_a_client_that_resumes_its_session() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let (files, proxy) = (Files::of(&tls), Proxy::with(Config::to(&origin).tls(&tls)));
    let script = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
session = None
for _ in range(2):
    plain = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    with context.wrap_socket(plain, server_hostname='a.test', session=session) as stream:
        stream.sendall(b'GET / HTTP/1.1\\r\\nhost: a.test\\r\\nconnection: close\\r\\n\\r\\n')
        answer = b''.join(iter(lambda: stream.recv(4096), b''))
        assert answer.startswith(b'HTTP/1.1 200 OK') and answer.endswith(b'ok'), answer
        print(stream.version(), stream.session_reused)
        session = stream.session
";
    let port = proxy.address().port().to_string();
    let mut command = Command::new("python3");
    let output = command.args(["-c", script, &files.path("certificate.pem"), &port]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "TLSv1.3 False\nTLSv1.3 True\n", "{errors}");
}

/// What the proxy answers to these bytes, up to the end of the connection.
fn answer_to(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_no_client_hello_gets_the_alert_that_says_so() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let alert = |description| vec![0x15, 3, 1, 0, 2, 2, description];
    let missing_extension = vec![0x15, 3, 3, 0, 2, 2, 109];
    let hello = tls.client_hello();
    let mut server_hello = hello.clone();
    server_hello[5] = 2;
    let handshake_failure = vec![0x15, 3, 3, 0, 2, 2, 40];
    let key_share = hello.windows(3).position(|window| window == [0, 51, 0]).unwrap();
    let mut no_key_share = hello.clone();
    no_key_share[key_share + 1] = 99;
    // The certificate's key is ECDSA: its signatures are none that this client can verify. Envoy says so
    // before its ServerHello.
    let signatures = hello.windows(3).position(|window| window == [0, 13, 0]).unwrap();
    let mut other_signatures = hello.clone();
    let count = usize::from(hello[signatures + 5]) / 2;
    for i in 0..count {
        // rsa_pss_pss_sha256
        other_signatures[signatures + 6 + 2 * i..][..2].copy_from_slice(&[8, 9]);
    }
    // Of TLS 1.2, by a client that says it could do more.
    let versions = hello.windows(3).position(|window| window == [0, 43, 0]).unwrap();
    let mut fallback = hello.clone();
    fallback[versions + 1] = 99;
    let suites = 5 + 4 + 2 + 32 + 1 + usize::from(hello[5 + 4 + 2 + 32]);
    fallback[suites + 2..suites + 4].copy_from_slice(&[0x56, 0]);
    let inappropriate_fallback = vec![0x15, 3, 3, 0, 2, 2, 86];
    for (bytes, answer) in [
        (&b"\x17\x03\x03\x00\x03abc"[..], alert(10)), // application data
        (b"\x14\x03\x03\x00\x01\x01", alert(10)),     // a change of ciphers
        (b"\x15\x03\x03\x00\x02\x02\x28", Vec::new()), // an alert
        (b"\x63\x03\x03\x00\x03abc", alert(10)),      // no such record
        (&server_hello, alert(10)),
        (&no_key_share, missing_extension),
        (&other_signatures, handshake_failure),
        (&fallback, inappropriate_fallback),
    ] {
        assert_eq!(answer_to(&proxy, bytes), answer, "{:?}", &bytes[..6]);
    }
}
