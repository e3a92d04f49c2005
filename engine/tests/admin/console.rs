//! Support for these tests: an admin endpoint, its client, and the server behind it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use corvoy_engine::address::Address;
use corvoy_engine::admin_settings::Settings;
use corvoy_engine::control::admin::{
    self, Admin, ClusterView, ConfigDump, FailingHost, HealthFlags, HostCounts, HostView, Identity,
    ListenerView, LogLevel, Order, Reloaded, Server, ServerState, ShardView, StaticDump,
    Thresholds, Unready,
};
use corvoy_engine::explain::{Asked, AskedError, Explanation, explain};
use corvoy_engine::snapshot::Snapshot;
use corvoy_engine::stats::{ClusterStats, ProcessStats, Registry, Scope};
use corvoy_engine::stats_sink::StatsFlush;
use corvoy_engine::transport::tls::inventory::Inventory;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// An admin endpoint of a server with the traffic of the recordings.
pub(crate) struct Console {
    pub(crate) address: SocketAddr,
    pub(crate) server: Arc<Recorded>,
    pub(crate) registry: Arc<Registry>,
    orders: Receiver<Order>,
    _cluster: Arc<Scope<ClusterStats>>,
}

pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    pub(crate) chunks: usize,
}

impl Console {
    pub(crate) fn of_the_seed() -> Self {
        let registry = Arc::new(Registry::new(2));
        let process = Arc::new(ProcessStats::new(&registry));
        let (sender, orders) = mpsc::channel();
        let server = Arc::new(Recorded::new(&registry, sender));
        let cluster = registry.scope::<ClusterStats>("cluster.httpbin_service.");
        cluster.shard(1).upstream_rq_total.add(23);
        let admin = Arc::new(Admin::new(
            server.clone(),
            registry.clone(),
            process,
            Settings::default(),
            StatsFlush::Every(Duration::from_secs(5)),
        ));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = admin::Listener::new(listener.into(), address.into()).unwrap();
                admin::serve(admin, listener).await;
            });
        });
        Self { address, server, registry, orders, _cluster: cluster }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        self.ask("POST", path)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).body).unwrap()
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n").map(str::to_owned);
        let (status, headers) = (lines.next().unwrap(), lines.collect());
        let (mut body, mut chunks) = (String::new(), 0);
        loop {
            let (size, data) = rest.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return Answer { status, headers, body, chunks };
            }
            body.push_str(&data[..size]);
            chunks += 1;
            rest = data[size..].strip_prefix("\r\n").unwrap();
        }
    }

    /// Polls until the stat has the value: the end of a connection is counted after the client sees it.
    pub(crate) fn await_stat(&self, name: &str, value: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let line = self.get(&format!("/stats?filter=^{name}$")).body;
            let shown: u64 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
            if shown >= value {
                return;
            }
            assert!(Instant::now() < deadline, "{line}");
        }
    }

    pub(crate) fn next_order(&self) -> Order {
        self.orders.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    pub(crate) fn orders(&self) -> Vec<Order> {
        self.orders.try_iter().collect()
    }
}

/// A server in the state of the recorded Envoy.
#[derive(Debug)]
pub(crate) struct Recorded {
    identity: Identity,
    pub(crate) state: Mutex<ServerState>,
    pub(crate) health: Mutex<HealthFlags>,
    pub(crate) failing: Mutex<Option<FailingHost>>,
    levels: Mutex<Vec<(String, LogLevel)>>,
    listener: ListenerView,
    orders: Sender<Order>,
}

impl Recorded {
    fn new(registry: &Registry, orders: Sender<Order>) -> Self {
        Self {
            identity: Identity {
                version: "c0ffee/0.1.0/Clean/RELEASE/none".to_owned(),
                started: Instant::now(),
                command_line_options: json!({ "concurrency": 2, "config_path": "/etc/<proxy>.yaml" }),
                node: json!({ "user_agent_name": "envoy" }),
            },
            state: Mutex::new(ServerState::Live),
            health: Mutex::default(),
            failing: Mutex::default(),
            levels: Mutex::new(vec![
                ("http".to_owned(), LogLevel::Info),
                ("router".to_owned(), LogLevel::Info),
            ]),
            listener: ListenerView {
                name: "httpbin-demo".to_owned(),
                addresses: vec![Address::Ip("127.0.0.1:15001".parse().unwrap())],
                stats: registry.scope("listener.127.0.0.1_15001."),
            },
            orders,
        }
    }
}

impl Server for Recorded {
    fn state(&self) -> ServerState {
        *self.state.lock().unwrap()
    }

    fn refresh_stats(&self) {}

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn runtime(&self) -> Value {
        json!({ "entries": {}, "layers": [] })
    }

    fn reload(&self) -> oneshot::Receiver<Reloaded> {
        let (reply, replied) = oneshot::channel();
        reply.send(Err("3 is not a port\n".to_owned())).unwrap();
        replied
    }

    fn explain(&self, asked: &Asked) -> Result<Explanation, AskedError> {
        explain(&Snapshot::default(), asked)
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let limits = Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
        };
        let host = HostView {
            address: Address::Ip("127.0.0.1:18000".parse().unwrap()),
            hostname: "localhost".to_owned(),
            counts: HostCounts {
                cx_total: 7,
                rq_error: 1,
                rq_success: 21,
                rq_total: 23,
                ..HostCounts::default()
            },
            health: *self.health.lock().unwrap(),
            failing: self.failing.lock().unwrap().clone(),
            weight: 1,
            region: String::new(),
            zone: String::new(),
            sub_zone: String::new(),
            canary: false,
            priority: 0,
            success_rates: [-1.0; 2],
        };
        vec![ClusterView {
            name: "httpbin_service".to_owned(),
            observability_name: "httpbin_service".to_owned(),
            added_via_api: false,
            circuit_breakers: [limits; 2],
            hosts: vec![host],
        }]
    }

    fn certificates(&self) -> Vec<Arc<Inventory>> {
        Vec::new()
    }

    fn listeners(&self) -> Vec<ListenerView> {
        vec![self.listener.clone()]
    }

    fn shards(&self) -> Vec<ShardView> {
        let ring = ShardView {
            core: Some(0),
            driver: "io_uring: SINGLE_ISSUER | DEFER_TASKRUN".to_owned(),
            connections: 3,
            requests: 23,
        };
        let epoll = ShardView {
            core: None,
            driver: "epoll: <denied>".to_owned(),
            connections: 0,
            requests: 0,
        };
        vec![ring, epoll]
    }

    fn unready(&self) -> Vec<Unready> {
        Vec::new()
    }

    fn set_runtime<'a>(&self, _: &mut dyn Iterator<Item = (&'a str, &'a str)>) -> bool {
        false
    }

    fn config_dump(&self, _: bool) -> ConfigDump {
        let envoy: Value = serde_json::from_str(include_str!("../envoy/config_dump.json")).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_464_918_139);
        let bootstrap = envoy["configs"][0]["bootstrap"].clone();
        ConfigDump::of_statics(StaticDump::of_bootstrap(&bootstrap, at))
    }

    fn loggers(&self) -> Vec<(String, LogLevel)> {
        self.levels.lock().unwrap().clone()
    }

    fn set_log_level(&self, logger: Option<&str>, level: LogLevel) {
        for (name, of) in self.levels.lock().unwrap().iter_mut() {
            if logger.is_none_or(|logger| logger == name) {
                *of = level;
            }
        }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}
