//! Prometheus for real: its tools read the metrics, it scrapes them, and the rules and the dashboard of
//! `docs/monitoring` find what they ask for.
//!
//! What needs Prometheus is skipped where it is not installed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Client, Config, Origin, Proxy, free_address, wait_for, wait_until};

const FILE_LOG: &str = "access_log: [{ name: log, typed_config: { \"@type\": \
    type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null } }]";

/// A proxy that has answered requests, and logs them.
fn proxy(origin: &Origin) -> Proxy {
    let config = Config::to(origin).manager(FILE_LOG).shards(2);
    let proxy = Proxy::with(config.bootstrap("stats_flush_interval: 0.1s"));
    proxy.get("/");
    proxy.stat_becomes("http.front.downstream_rq_completed", 1);
    wait_until("a flushed histogram", || {
        proxy.admin("/stats?filter=service.upstream_rq_time").text().contains("P100(")
    });
    proxy
}

fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").join(file)
}

/// Every expression of the rules.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(monitoring("rules.yaml")).unwrap();
    let mut expressions = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim().strip_prefix("expr: ") else { continue };
        let mut expression = expression.trim_start_matches('|').to_owned();
        if expression.is_empty() {
            while let Some(more) = lines.next_if(|line| line.starts_with("      ")) {
                write!(expression, "{} ", more.trim()).unwrap();
            }
        }
        expressions.push(expression);
    }
    expressions
}

/// Every expression of the dashboard, with its variables filled in.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let filled =
        |expression: &str| expression.replace("$__rate_interval", "1m").replace("$cluster", ".*");
    targets.map(|target| filled(target["expr"].as_str().unwrap())).collect()
}

/// The names of metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c)).filter(|word| word.starts_with("envoy_"));
    // Labels begin like metrics.
    let labels = [
        "envoy_cluster_name",
        "envoy_http_conn_manager_prefix",
        "envoy_listener_address",
        "envoy_response_code_class",
        "envoy_worker_id",
    ];
    words.filter(|word| !labels.contains(word)).collect()
}

#[test]
fn the_rules_and_the_dashboard_name_metrics_that_exist() {
    let origin = Origin::that_answers();
    let scraped = proxy(&origin).admin("/stats/prometheus").text();
    let scraped: BTreeSet<&str> =
        scraped.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let (rules, dashboard) = (rules(), dashboard());
    assert!(rules.len() > 10 && dashboard.len() > 20);
    for expression in rules.iter().chain(&dashboard) {
        for metric in metrics(expression) {
            assert!(
                scraped.contains(metric) || metric.ends_with("_xx"),
                "{metric} does not exist: {expression}"
            );
        }
    }
    assert!(scraped.contains("envoy_cluster_upstream_rq_xx"));
}

/// The program, if it is installed.
fn installed(program: &str) -> Option<Command> {
    let has_it = Command::new(program).arg("--version").output().is_ok();
    if !has_it {
        eprintln!("skipped: {program} is not installed");
    }
    has_it.then(|| Command::new(program))
}

#[test]
fn promtool_finds_nothing_but_envoys_names() {
    let Some(mut promtool) = installed("promtool") else { return };
    let origin = Origin::that_answers();
    for buckets in ["cumulative", "summary"] {
        let proxy = proxy(&origin);
        let scraped = proxy.admin(&format!("/stats/prometheus?histogram_buckets={buckets}"));
        let mut check = promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(scraped.text().as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // That the names are not Prometheus' own kind, and are not explained, is as in Envoy.
        let of_names = ["suffix", "no help text", "abbreviated units", "use base unit"];
        let others = said.lines().filter(|line| !of_names.iter().any(|name| line.contains(name)));
        assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
        promtool = Command::new("promtool");
    }
}

#[test]
fn promtool_accepts_the_rules() {
    let Some(mut promtool) = installed("promtool") else { return };
    let output = promtool.args(["check", "rules"]).arg(monitoring("rules.yaml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A Prometheus that scrapes a proxy twice a second; ended when it is dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn of(proxy: &Proxy) -> Option<Self> {
        let mut command = installed("prometheus")?;
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n\
             - job_name: corvoy\n  metrics_path: /stats/prometheus\n  \
             static_configs: [{{ targets: [\"{}\"] }}]\n",
            monitoring("rules.yaml"),
            proxy.admin_address(),
        );
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        let process = command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, address, _folder: folder })
    }

    /// What an expression evaluates to; none while it does not answer.
    fn query(&self, expression: &str) -> Option<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            write!(encoded, "%{byte:02x}").unwrap();
        }
        std::net::TcpStream::connect(self.address).ok()?;
        let answer = Client::connect(self.address).get(&format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&answer.text()).ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        Some(answer["data"]["result"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

#[test]
fn prometheus_scrapes_the_proxy_and_evaluates_every_expression() {
    let origin = Origin::that_answers();
    let proxy = proxy(&origin);
    let Some(prometheus) = Prometheus::of(&proxy) else { return };
    wait_for("a scrape", || {
        let up = prometheus.query("up")?;
        (up[0]["value"][1] == "1").then_some(())
    });
    for expression in rules().into_iter().chain(dashboard()) {
        prometheus.query(&expression).expect("it answers");
    }
    // Rates need two scrapes, with something between them.
    wait_until("the recording rules have values", || {
        proxy.get("/");
        let has_value = |rule: &str| {
            let result = prometheus.query(rule).unwrap();
            result.as_array().is_some_and(|series| !series.is_empty())
        };
        has_value("corvoy:cluster_requests:rate5m{envoy_cluster_name=\"service\"}")
            && has_value("corvoy:cluster_response_ms:p99{envoy_cluster_name=\"service\"}")
            && has_value("corvoy:listener_requests:rate5m")
    });
}
