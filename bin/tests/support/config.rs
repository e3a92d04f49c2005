//! Configurations for the stories: one listener, one virtual host, one cluster, and additions.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use super::{Origin, Tls};

/// The YAML for a proxy. Ports that are 0 come from the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    bootstrap: Vec<String>,
    admin: Vec<String>,
    listener: Vec<String>,
    chain: Vec<String>,
    manager: Vec<String>,
    filters: Vec<String>,
    router: Vec<String>,
    route: Vec<String>,
    cluster: Vec<String>,
    endpoints: Vec<SocketAddr>,
    others: Vec<(String, SocketAddr)>,
    verbatim: Option<String>,
    shards: usize,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    launcher: Vec<String>,
}

impl Config {
    /// Routes everything to this origin.
    pub(crate) fn to(origin: &Origin) -> Self {
        Self::to_addresses(&[origin.address()])
    }

    /// Routes everything to these addresses, round robin.
    pub(crate) fn to_addresses(endpoints: &[SocketAddr]) -> Self {
        Self {
            bootstrap: Vec::new(),
            admin: Vec::new(),
            listener: Vec::new(),
            chain: Vec::new(),
            manager: Vec::new(),
            filters: Vec::new(),
            router: Vec::new(),
            route: Vec::new(),
            cluster: vec!["connect_timeout: 1s".into()],
            endpoints: endpoints.to_vec(),
            others: Vec::new(),
            verbatim: None,
            shards: 1,
            flags: Vec::new(),
            environment: Vec::new(),
            launcher: Vec::new(),
        }
    }

    /// Exactly this text.
    pub(crate) fn verbatim(yaml: impl Into<String>) -> Self {
        Self { verbatim: Some(yaml.into()), ..Self::to_addresses(&[]) }
    }

    /// Adds a field to the bootstrap.
    pub(crate) fn bootstrap(mut self, field: &str) -> Self {
        self.bootstrap.push(field.into());
        self
    }

    /// Adds a field to the admin endpoint.
    pub(crate) fn admin(mut self, field: &str) -> Self {
        self.admin.push(field.into());
        self
    }

    /// Adds a field to the listener.
    pub(crate) fn listener(mut self, field: &str) -> Self {
        self.listener.push(field.into());
        self
    }

    /// Adds a field to the filter chain.
    pub(crate) fn chain(mut self, field: &str) -> Self {
        self.chain.push(field.into());
        self
    }

    /// Clients speak TLS.
    pub(crate) fn tls(self, tls: &Tls) -> Self {
        let socket = tls.downstream();
        self.chain(&socket)
    }

    /// The origins speak TLS.
    pub(crate) fn upstream_tls(self, tls: &Tls) -> Self {
        let socket = tls.upstream();
        self.cluster(&socket)
    }

    /// Adds a field to the connection manager.
    pub(crate) fn manager(mut self, field: &str) -> Self {
        self.manager.push(field.into());
        self
    }

    /// Adds an HTTP filter before the router: `buffer.v3.Buffer`, `max_request_bytes: 10`.
    pub(crate) fn filter(mut self, name: &str, kind: &str, options: &str) -> Self {
        let prefix = "type.googleapis.com/envoy.extensions.filters.http";
        self.filters.push(format!(
            "{{ name: {name}, typed_config: {{ \"@type\": {prefix}.{kind}, {options} }} }}"
        ));
        self
    }

    /// Adds a field to the router.
    pub(crate) fn router(mut self, field: &str) -> Self {
        self.router.push(field.into());
        self
    }

    /// Adds a field to the route's action: `timeout: 1s`.
    pub(crate) fn route(mut self, field: &str) -> Self {
        self.route.push(field.into());
        self
    }

    /// The route retries on these conditions, up to this many times.
    pub(crate) fn retry(self, retry_on: &str, num_retries: u32) -> Self {
        self.route(&format!("retry_policy: {{ retry_on: {retry_on}, num_retries: {num_retries} }}"))
    }

    /// Adds a field to the cluster.
    pub(crate) fn cluster(mut self, field: &str) -> Self {
        let (name, _) = field.split_once(':').unwrap_or((field, ""));
        self.cluster.retain(|known| !known.starts_with(&format!("{name}:")));
        self.cluster.push(field.into());
        self
    }

    /// Adds a cluster with this endpoint.
    pub(crate) fn other_cluster(mut self, name: &str, endpoint: SocketAddr) -> Self {
        self.others.push((name.to_owned(), endpoint));
        self
    }

    /// Runs this many shards.
    pub(crate) fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Adds command-line flags.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Limits the process to this many descriptors.
    pub(crate) fn descriptors(self, most: u32) -> Self {
        self.soft_and_hard_descriptors(most, most)
    }

    /// Sets the soft and hard limits of descriptors.
    pub(crate) fn soft_and_hard_descriptors(self, soft: u32, hard: u32) -> Self {
        self.launched_by(&["prlimit", &format!("--nofile={soft}:{hard}")])
    }

    /// Limits the locked memory of the process to this many bytes.
    pub(crate) fn locked_memory(self, bytes: u32) -> Self {
        let limit = format!("--memlock={bytes}:{bytes}");
        // Root is not subject to the limit, and only root can drop the privilege.
        if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            let unprivileged = ["setpriv", "--bounding-set=-ipc_lock,-sys_resource"];
            return self.launched_by(&[&["prlimit", &limit][..], &unprivileged].concat());
        }
        self.launched_by(&["prlimit", &limit])
    }

    /// Starts the process through this command, which execs it.
    pub(crate) fn launched_by(mut self, command: &[&str]) -> Self {
        self.launcher = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// `program`, with the wrapper and limits of this configuration.
    pub(super) fn launched(&self, program: Command) -> Command {
        let [launcher, arguments @ ..] = self.launcher.as_slice() else { return program };
        let mut launched = Command::new(launcher);
        launched.args(arguments).arg(program.get_program()).args(program.get_args());
        launched
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.environment.iter().cloned()
    }

    pub(super) fn command_line(&self) -> Vec<String> {
        let shards = ["--concurrency".to_owned(), self.shards.to_string()];
        shards.into_iter().chain(self.flags.iter().cloned()).collect()
    }

    pub(crate) fn yaml(&self) -> String {
        if let Some(yaml) = &self.verbatim {
            return yaml.clone();
        }
        let bootstrap = self.bootstrap.iter().fold(String::new(), |all, field| all + field + "\n");
        let admin = self.admin.iter().fold(String::new(), |all, field| all + ", " + field);
        let listener =
            self.listener.iter().fold(String::new(), |all, field| all + "\n    " + field);
        let chain = self.chain.iter().fold(String::new(), |all, field| all + field + "\n      ");
        let manager =
            self.manager.iter().fold(String::new(), |all, field| all + "\n          " + field);
        let filters =
            self.filters.iter().fold(String::new(), |all, filter| all + "\n          - " + filter);
        let router = self.router.iter().fold(String::new(), |all, field| all + ", " + field);
        let route = self.route.iter().fold(String::new(), |all, field| all + ", " + field);
        let cluster = self.cluster.iter().fold(String::new(), |all, field| all + "\n    " + field);
        let endpoints = self.endpoints.iter().fold(String::new(), |mut all, address| {
            let _ = write!(all, "\n        - {}", endpoint(*address));
            all
        });
        let others = self.others.iter().fold(String::new(), |mut all, (name, address)| {
            let endpoint = endpoint(*address);
            let assignment =
                format!("{{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ {endpoint} }}] }}] }}");
            let _ = writeln!(
                all,
                "  - {{ name: {name}, type: STATIC, connect_timeout: 1s, load_assignment: {assignment} }}"
            );
            all
        });
        let endpoints = if endpoints.is_empty() { " []".into() } else { endpoints };
        format!(
            r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}{admin} }}
{bootstrap}static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}{listener}
    filter_chains:
    - {chain}filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front{manager}
          http_filters:{filters}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router{router} }}
          route_config:
            name: routes
            virtual_hosts:
            - name: everything
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: service{route} }}
  clusters:
  - name: service
    type: STATIC{cluster}
    load_assignment:
      cluster_name: service
      endpoints:
      - lb_endpoints:{endpoints}
{others}"#
        )
    }
}

fn endpoint(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}"
    )
}
