//! A management server (`xds/server.py`, with the real gRPC of `grpcio`), for the resources that a story sets.
//!
//! Its package is in `.venv/xds` at the root of the repository, otherwise the stories print SKIPPED.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Tls, wait_for};

/// It sends all resources of a type when a stream asks for the type, and again whenever they are set.
pub(crate) struct ManagementServer {
    process: Child,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _files: Option<TempDir>,
}

struct State {
    orders: ChildStdin,
    /// By their types: a version, and the resources.
    resources: BTreeMap<String, (String, Vec<Value>)>,
    streams: BTreeMap<u64, Stream>,
    /// All requests so far.
    requests: Vec<Request>,
    nonces: u64,
    is_stopped: bool,
}

struct Stream {
    method: String,
    /// The types that it asks for.
    types: BTreeSet<String>,
}

/// A request on a stream.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) stream: u64,
    pub(crate) message: Value,
}

impl ManagementServer {
    /// None: the packages are missing. With TLS if there is a certificate.
    pub(crate) fn start(tls: Option<&Tls>) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let packages = root.join(".venv/xds");
        if !packages.join("grpc").exists() {
            eprintln!("SKIPPED: `xds-protos` is not in .venv/xds");
            return None;
        }
        let mut command = Command::new(root.join(".venv/bin/python"));
        command.env("PYTHONPATH", packages).arg(root.join("bin/tests/xds/server.py")).arg("0");
        let files = tls.map(|tls| {
            let folder = TempDir::new().unwrap();
            let place = |name: &str, text: &str| -> PathBuf {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            };
            command.args([place("certificate", tls.pem()), place("key", tls.key_pem())]);
            folder
        });
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(process.stdout.take().unwrap());
        let mut first = String::new();
        events.read_line(&mut first).unwrap();
        let port = serde_json::from_str::<Value>(&first).unwrap()["port"].as_u64().unwrap();
        let state = Arc::new(Mutex::new(State {
            orders: process.stdin.take().unwrap(),
            resources: BTreeMap::new(),
            streams: BTreeMap::new(),
            requests: Vec::new(),
            nonces: 0,
            is_stopped: false,
        }));
        thread::spawn({
            let state = Arc::clone(&state);
            move || State::follow(&state, events)
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()));
        Some(Self { process, address, state, _files: files })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets all resources of a type: `envoy.config.cluster.v3.Cluster`. Each gets its `@type`.
    pub(crate) fn set(&self, kind: &str, version: &str, resources: &[Value]) {
        self.state().set(kind, version, resources);
    }

    /// Sends a message on all streams, as it is.
    pub(crate) fn send(&self, message: &Value) {
        let mut state = self.state();
        for stream in state.streams.keys().copied().collect::<Vec<_>>() {
            state.order(&json!({ "send": stream, "message": message }));
        }
    }

    /// Ends all streams.
    pub(crate) fn end_streams(&self) {
        let mut state = self.state();
        for stream in state.streams.keys().copied().collect::<Vec<_>>() {
            state.order(&json!({ "end": stream, "code": "UNAVAILABLE", "text": "be right back" }));
        }
    }

    /// Goes away: nothing listens at its port.
    pub(crate) fn stop(&self) {
        self.state().order(&json!({ "stop": true }));
        wait_for("the server to stop", || self.state().is_stopped.then_some(()));
    }

    /// Comes back.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        state.is_stopped = false;
        state.order(&json!({ "start": true }));
    }

    /// Waits for a request that the story looks for.
    #[track_caller]
    pub(crate) fn request(&self, what: &str, is_it: impl Fn(&Request) -> bool) -> Request {
        wait_for(what, || self.state().requests.iter().find(|it| is_it(it)).cloned())
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for ManagementServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Request {
    /// Its text at this place; empty if there is none: `/error_detail/message`.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.message.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it rejects a response.
    pub(crate) fn is_nack(&self) -> bool {
        self.message.get("error_detail").is_some()
    }
}

impl State {
    fn follow(state: &Mutex<Self>, events: BufReader<ChildStdout>) {
        for line in events.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap();
            let number = |name: &str| event[name].as_u64();
            let mut state = state.lock().unwrap();
            if event.get("stopped").is_some() {
                state.streams.clear();
                state.is_stopped = true;
            } else if let Some(stream) = number("opened") {
                let method = event["method"].as_str().unwrap().to_owned();
                state.streams.insert(stream, Stream { method, types: BTreeSet::new() });
            } else if let Some(stream) = number("closed") {
                state.streams.remove(&stream);
            } else if let Some(stream) = number("request") {
                state.take(Request { stream, message: event["message"].clone() });
            }
        }
    }

    /// The first request for a type is answered.
    fn take(&mut self, request: Request) {
        let kind = request.text("/type_url").rsplit('/').next().unwrap().to_owned();
        let stream = request.stream;
        self.requests.push(request);
        let Some(known) = self.streams.get_mut(&stream) else { return };
        if known.types.insert(kind.clone())
            && let Some((version, resources)) = self.resources.get(&kind).cloned()
        {
            self.answer(stream, &kind, &version, &resources, &[]);
        }
    }

    fn set(&mut self, kind: &str, version: &str, resources: &[Value]) {
        let resources: Vec<Value> = resources.to_vec();
        let value = (version.to_owned(), resources.clone());
        let before = self.resources.insert(kind.to_owned(), value).unwrap_or_default().1;
        let gone = before
            .iter()
            .map(name_of)
            .filter(|name| !resources.iter().any(|it| name_of(it) == *name));
        let gone: Vec<&str> = gone.collect();
        let asking = self.streams.iter().filter(|(_, stream)| stream.types.contains(kind));
        for stream in asking.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.answer(stream, kind, version, &resources, &gone);
        }
    }

    fn answer(
        &mut self,
        stream: u64,
        kind: &str,
        version: &str,
        resources: &[Value],
        gone: &[&str],
    ) {
        let type_url = format!("type.googleapis.com/{kind}");
        let typed = resources.iter().map(|resource| {
            let mut resource = resource.clone();
            resource["@type"] = type_url.as_str().into();
            resource
        });
        self.nonces += 1;
        let mut message = json!({
            "nonce": format!("nonce {}", self.nonces),
            "type_url": type_url,
            "control_plane": { "identifier": "story" },
        });
        if self.streams[&stream].method.starts_with("Delta") {
            let wrapped = typed.map(|resource| {
                json!({ "name": name_of(&resource), "version": version, "resource": resource })
            });
            message["system_version_info"] = version.into();
            message["resources"] = wrapped.collect();
            message["removed_resources"] = gone.into();
        } else {
            message["version_info"] = version.into();
            message["resources"] = typed.collect();
        }
        self.order(&json!({ "send": stream, "message": message }));
    }

    fn order(&mut self, order: &Value) {
        writeln!(self.orders, "{order}").unwrap();
    }
}

fn name_of(resource: &Value) -> &str {
    let name = resource.get("name").or_else(|| resource.get("cluster_name"));
    name.and_then(Value::as_str).unwrap_or_default()
}
