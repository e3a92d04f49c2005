//! A service that the proxy asks over gRPC, as a process: the real `grpcio`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running service. It is killed when the story ends.
#[derive(Debug)]
pub(crate) struct Service {
    process: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Service {
    /// Starts `FOLDER/service.py`. None: the package is missing.
    pub(crate) fn start(folder: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = || Command::new(root.join("../.venv/bin/python"));
        let mut asks = python();
        asks.args(["-c", "import grpc"]).stderr(Stdio::null());
        if !asks.status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: `grpcio` is not in .venv");
            return None;
        }
        let mut command = python();
        command.arg(root.join("tests").join(folder).join("service.py")).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        Some(Self { process, output, port: port.trim().parse().unwrap() })
    }

    /// What it was told with the next call.
    pub(crate) fn told(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The configuration `yaml` with a cluster of this name for it; `options` are further ones of the cluster.
    pub(crate) fn in_cluster(&self, yaml: &str, name: &str, options: &str) -> String {
        let port = self.port;
        let cluster = format!(
            r#"
  - name: {name}
    type: STATIC
    {options}
    load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}] }}
  - name: service"#
        );
        yaml.replace("\n  - name: service", &cluster)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
