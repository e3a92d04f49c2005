//! One measurement: origin, peer and clients, each on its cores.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::load::held;
use crate::load::record::Summary;
use crate::measure::callgrind;
use crate::measure::proc::{self, Cpu, Memory};
use crate::measure::syscalls;
use crate::peers::{Addresses, Cores, Downstream, Installed, Peer, Running, Shape, Upstream};
use crate::run::generator::Generator;
use crate::scenario::{Ask, Tool};
use crate::summary::Figures;
use crate::tls::{self, Files};

/// Runs measurements.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cores: Cores,
    /// Configurations, logs and reports, deleted at the end.
    pub(crate) folder: PathBuf,
    pub(crate) seconds: u64,
    /// Every command line, without its ports.
    pub(crate) commands: Vec<String>,
    /// The first of the ports that measurements use in turn.
    port: u16,
    measurements: u16,
    /// The ports of this measurement.
    addresses: Addresses,
}

/// A peer that answers, and its origin.
#[derive(Debug)]
struct Ready {
    peer: Running,
    origin: Option<Running>,
    address: SocketAddr,
    /// The certificate of the peer, if it speaks TLS.
    certificate: Option<PathBuf>,
    first_answer: Duration,
}

/// The options of the generator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rate: Option<u64>,
    pub(crate) requests: Option<u64>,
    pub(crate) hgrm: Option<PathBuf>,
}

impl Stage {
    pub(crate) fn new(port: u16, cores: Cores, folder: &Path, seconds: u64) -> Self {
        Self {
            cores,
            folder: folder.to_owned(),
            seconds,
            commands: Vec::new(),
            port,
            measurements: 0,
            addresses: Addresses::on_loopback(port),
        }
    }

    /// CPU time, rates and latencies under load.
    pub(crate) fn load(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
        plan: &Plan,
    ) -> anyhow::Result<Figures> {
        let ready = self.raise(installed, shape, &[])?;
        let before = Memory::of(ready.peer.pid())?;
        let mut generator = self.clients(&ready, shape, ask, plan)?;
        let pids = [Some(ready.peer.pid()), Some(generator.pid()), ready.origin_pid()];
        let began = cpu_of(pids)?;
        let summary = generator.run()?;
        let [peer, client, origin] = cpu_of(pids)?;
        let memory = Memory::of(ready.peer.pid())?;
        generator.dismiss()?;
        ready.stop()?;
        ensure!(summary.requests > 0, "not one request was answered: {:?}", summary.failures);
        let [peer_began, client_began, origin_began] = began;
        let used = peer.since(peer_began);
        let mut figures = load_figures(&summary, ask, used);
        let requests = summary.requests as f64;
        let mut add = |name: &str, value| {
            figures.insert(name.to_owned(), value);
        };
        add("client_us_per_request", client.since(client_began).total_us() / requests);
        add("origin_us_per_request", origin.since(origin_began).total_us() / requests);
        add("rss_kib", memory.rss_kib as f64);
        let each =
            |after: u64, before: u64| after.saturating_sub(before) as f64 / ask.connections as f64;
        add("pss_kib_per_connection", each(memory.pss_kib, before.pss_kib));
        add("rss_kib_per_connection", each(memory.rss_kib, before.rss_kib));
        Ok(figures)
    }

    /// Load by another tool; CPU time is measured by us, the rest is reported by the tool.
    pub(crate) fn foreign(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
        tool: Tool,
    ) -> anyhow::Result<Figures> {
        let ready = self.raise(installed, shape, &[])?;
        let scheme = if ready.certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", ready.address, shape.path(ask.page));
        let body = (ask.body > 0).then(|| self.folder.join("body"));
        if let Some(file) = &body {
            fs::write(file, vec![b'b'; ask.body])?;
        }
        let line = tool.command_line(&url, body.as_deref(), ask, self.seconds);
        self.note(&self.cores.client.clone(), &line);
        let began = Cpu::of(ready.peer.pid())?;
        let mut figures = tool.run(&self.cores.client, &line)?;
        let used = Cpu::of(ready.peer.pid())?.since(began);
        ready.stop()?;
        let requests = figures.get("requests").copied().filter(|&count| count > 0.0);
        let requests = requests.context("not one request was answered")?;
        figures.insert("cpu_us_per_request".to_owned(), used.total_us() / requests);
        Ok(figures)
    }

    /// Memory of connections that sent one request and are idle.
    pub(crate) fn idle(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
    ) -> anyhow::Result<Figures> {
        let ready = self.raise(installed, shape, &[])?;
        let before = Memory::of(ready.peer.pid())?;
        let generator = self.clients(&ready, shape, ask, &Plan::default())?;
        std::thread::sleep(SETTLING);
        let after = Memory::of(ready.peer.pid())?;
        generator.dismiss()?;
        ready.stop()?;
        let each =
            |after: u64, before: u64| (after as f64 - before as f64) / ask.connections as f64;
        Ok(Figures::from([
            ("pss_kib_per_connection".to_owned(), each(after.pss_kib, before.pss_kib)),
            ("rss_kib_per_connection".to_owned(), each(after.rss_kib, before.rss_kib)),
            ("rss_kib".to_owned(), after.rss_kib as f64),
        ]))
    }

    /// Memory of connections of HTTP/2 that are held open, per connection or per stream.
    pub(crate) fn held(
        &mut self,
        installed: &Installed,
        shape: Shape,
        connections: usize,
        streams: u32,
    ) -> anyhow::Result<Figures> {
        let ready = self.raise(installed, shape, &[])?;
        let before = Memory::of(ready.peer.pid())?;
        let clients = held::open(ready.address, connections, streams)?;
        std::thread::sleep(SETTLING);
        let after = Memory::of(ready.peer.pid())?;
        drop(clients);
        ready.stop()?;
        let (each, count) = match streams {
            0 => ("connection", connections as f64),
            _ => ("stream", connections as f64 * f64::from(streams)),
        };
        let growth = |after: u64, before: u64| (after as f64 - before as f64) / count;
        Ok(Figures::from([
            (format!("pss_kib_per_{each}"), growth(after.pss_kib, before.pss_kib)),
            (format!("rss_kib_per_{each}"), growth(after.rss_kib, before.rss_kib)),
            ("rss_kib".to_owned(), after.rss_kib as f64),
        ]))
    }

    /// The time from exec to the first answer, and the memory then.
    pub(crate) fn start(&mut self, installed: &Installed, shape: Shape) -> anyhow::Result<Figures> {
        let ready = self.raise(installed, shape, &[])?;
        std::thread::sleep(SETTLING);
        let memory = Memory::of(ready.peer.pid())?;
        let start = ready.first_answer.as_secs_f64() * 1e3;
        ready.stop()?;
        Ok(Figures::from([
            ("start_ms".to_owned(), start),
            ("rss_kib".to_owned(), memory.rss_kib as f64),
            ("pss_kib".to_owned(), memory.pss_kib as f64),
        ]))
    }

    /// System calls per request, counted over a fixed number of requests.
    pub(crate) fn syscalls(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
    ) -> anyhow::Result<Figures> {
        let Some(method) = syscalls::Method::find() else { return syscalls::none_here() };
        let ready = self.raise(installed, shape, &[])?;
        let plan = Plan { requests: Some(COUNTED_REQUESTS), ..Plan::default() };
        let mut generator = self.clients(&ready, shape, ask, &plan)?;
        let counting = method.begin(&proc::tree(ready.peer.pid())?)?;
        let summary = generator.run()?;
        let calls = counting.end()?;
        generator.dismiss()?;
        ready.stop()?;
        ensure!(summary.requests > 0, "not one request was answered");
        let per_request = calls as f64 / summary.requests as f64;
        Ok(Figures::from([("syscalls_per_request".to_owned(), per_request)]))
    }

    /// User-space instructions per request, from two runs under callgrind.
    pub(crate) fn instructions(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
    ) -> anyhow::Result<Figures> {
        ensure!(callgrind::is_installed(), "valgrind is not installed");
        let folder = self.folder.join("callgrind");
        let environment = installed.environment_for_valgrind().iter().map(|&word| word.to_owned());
        let before: Vec<String> = environment.chain(callgrind::prefix(&folder)).collect();
        let mut counts = [0; 2];
        for (count, requests) in counts.iter_mut().zip([SHORT, LONG]) {
            fs::remove_dir_all(&folder).ok(); // from the previous run
            fs::create_dir_all(&folder)?;
            // A worker of nginx runs as another user when it writes its report.
            fs::set_permissions(&self.folder, Permissions::from_mode(0o755))?;
            fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
            self.counted(installed, shape, ask, &before, requests)?;
            *count = callgrind::instructions(&folder)?;
        }
        let figure = ("instructions_per_request".to_owned(), per_request(counts));
        Ok(Figures::from([figure]))
    }

    /// System calls per request, from two runs under strace: works where attaching to a process is
    /// not allowed.
    pub(crate) fn syscalls_from_the_start(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
    ) -> anyhow::Result<Figures> {
        let file = self.folder.join("strace");
        let mut counts = [0; 2];
        for (count, requests) in counts.iter_mut().zip([SHORT, LONG]) {
            self.counted(installed, shape, ask, &syscalls::prefix(&file), requests)?;
            *count = syscalls::of_strace(&file)?;
        }
        Ok(Figures::from([("syscalls_per_request".to_owned(), per_request(counts))]))
    }

    /// One of two runs that differ only in the number of requests: their difference is the cost of
    /// the additional requests, without start-up and without the first, cold requests.
    fn counted(
        &mut self,
        installed: &Installed,
        shape: Shape,
        ask: Ask,
        before: &[String],
        requests: u64,
    ) -> anyhow::Result<()> {
        let ready = self.raise(installed, shape, before)?;
        if shape.downstream == Downstream::H2c {
            held::get(ready.address, requests, ask.streams)?;
            return ready.stop();
        }
        let plan = Plan { requests: Some(requests), ..Plan::default() };
        let mut generator = self.clients(&ready, shape, ask, &plan)?;
        let summary = generator.run()?;
        generator.dismiss()?;
        ready.stop()?;
        ensure!(summary.requests == requests, "{} of {requests} answered", summary.requests);
        Ok(())
    }

    /// The last error in the peer's log, or else its last line.
    pub(crate) fn last_words(&self, peer: Peer) -> String {
        let text = fs::read_to_string(self.log(peer)).unwrap_or_default();
        let complains = |line: &&str| COMPLAINTS.iter().any(|word| line.contains(word));
        let complaints: Vec<&str> = text.lines().filter(complains).take(3).collect();
        if complaints.is_empty() {
            text.lines().last().unwrap_or_default().to_owned()
        } else {
            complaints.join("; ")
        }
    }

    /// Starts the origin and the peer and waits for the first answer.
    fn raise(
        &mut self,
        installed: &Installed,
        shape: Shape,
        before: &[String],
    ) -> anyhow::Result<Ready> {
        let log = self.log(installed.peer);
        fs::remove_file(&log).ok(); // from the previous measurement
        let addresses = self.take_fresh_addresses();
        let origin = match installed.peer {
            Peer::Direct => None,
            _ => Some(self.origin(shape.upstream, addresses.origin, &log)?),
        };
        let mut line = before.to_vec();
        line.extend(installed.command_line(shape, addresses, &self.folder, &self.folder)?);
        let files = shape.downstream.key().map(|key| Files::of(key, &self.folder)).transpose()?;
        let certificate = files.map(|files| files.certificate);
        let client = certificate.as_ref().map(|file| tls::Client::new(file, false)).transpose()?;
        let (cores, address) = match installed.peer {
            Peer::Direct => (self.cores.origin.clone(), addresses.origin),
            _ => (self.cores.proxy.clone(), addresses.proxy),
        };
        self.note(&cores, &line);
        let mut peer = Running::start(&cores, &line, &log)?;
        let patience = if before.is_empty() { STARTING_MAX } else { 10 * STARTING_MAX };
        let path = shape.path("/13");
        let first_answer = match shape.downstream {
            Downstream::H2c => peer.first_answer_by_h2c(address, patience)?,
            Downstream::H2(_) => {
                peer.first_answer_by_http2(&format!("https://{address}{path}"), patience)?
            }
            _ => peer.first_answer(address, client.as_ref(), &path, patience)?,
        };
        Ok(Ready { peer, origin, address, certificate, first_answer })
    }

    /// A ring closes its listener some time after its process has exited, so a port is reused only
    /// after many others.
    fn take_fresh_addresses(&mut self) -> Addresses {
        let first = self.port + self.measurements % PORTS_MAX * PORTS_EACH;
        self.measurements = self.measurements.wrapping_add(1);
        self.addresses = Addresses::on_loopback(first);
        self.addresses
    }

    fn origin(
        &mut self,
        speaks: Upstream,
        address: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Running> {
        let line = match speaks {
            Upstream::Http => {
                let program = std::env::current_exe()?.display().to_string();
                vec![program, "origin".to_owned(), "--listen".to_owned(), address.to_string()]
            }
            Upstream::H2c => self.nghttpd(address)?,
        };
        let cores = self.cores.origin.clone();
        self.note(&cores, &line);
        let mut origin = Running::start(&cores, &line, log)?;
        match speaks {
            Upstream::Http => origin.first_answer(address, None, "/13", STARTING_MAX)?,
            Upstream::H2c => {
                origin.first_answer_by_http2(&format!("http://{address}/13"), STARTING_MAX)?
            }
        };
        Ok(origin)
    }

    /// An origin of HTTP/2, whose answers end as those of gRPC do.
    fn nghttpd(&self, address: SocketAddr) -> anyhow::Result<Vec<String>> {
        let files = self.folder.join("files");
        fs::create_dir_all(&files)?;
        fs::write(files.join("13"), "hello, world\n")?;
        let (host, port, files) =
            (address.ip().to_string(), address.port().to_string(), files.display().to_string());
        let line = ["nghttpd", "--no-tls", "-a", &host, "-d", &files];
        let line = line.into_iter().chain(["--trailer", "grpc-status: 0", &port]);
        Ok(line.map(str::to_owned).collect())
    }

    fn clients(
        &mut self,
        ready: &Ready,
        shape: Shape,
        ask: Ask,
        plan: &Plan,
    ) -> anyhow::Result<Generator> {
        let line = self.clients_line(ready, shape, ask, plan)?;
        let cores = self.cores.client.clone();
        self.note(&cores, &line);
        Generator::start(&cores, &line)
    }

    fn clients_line(
        &self,
        ready: &Ready,
        shape: Shape,
        ask: Ask,
        plan: &Plan,
    ) -> anyhow::Result<Vec<String>> {
        let Ask {
            page,
            expect_bytes,
            connections,
            body,
            headers,
            close,
            resume,
            streams: _,
            accept_encoding,
        } = ask;
        let mut line = vec![std::env::current_exe()?.display().to_string()];
        line.extend(["load", "--gated", "--quiet"].map(str::to_owned));
        let mut option = |name: &str, value: String| line.extend([format!("--{name}"), value]);
        option("target", ready.address.to_string());
        option("path", shape.path(page));
        option("connections", connections.to_string());
        option(
            "seconds",
            if plan.requests.is_some() { COUNTING_MAX } else { self.seconds }.to_string(),
        );
        option("body", body.to_string());
        option("headers", headers.to_string());
        if let Some(bytes) = expect_bytes {
            option("expect-bytes", bytes.to_string());
        }
        if let Some(coding) = accept_encoding {
            option("accept-encoding", coding.to_owned());
        }
        if let Some(rate) = plan.rate {
            option("rate", rate.to_string());
        }
        if let Some(requests) = plan.requests {
            option("requests", requests.to_string());
        }
        if let Some(hgrm) = &plan.hgrm {
            option("hgrm", hgrm.display().to_string());
        }
        if let Some(certificate) = &ready.certificate {
            option("trust", certificate.display().to_string());
        }
        let flags = [("--close", close), ("--resume", resume)];
        line.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned()));
        Ok(line)
    }

    fn note(&mut self, cores: &str, line: &[String]) {
        let Addresses { origin, proxy, admin: _ } = self.addresses;
        let command = format!("taskset -c {cores} {}", line.join(" "))
            .replace(&origin.to_string(), "$ORIGIN")
            .replace(&proxy.to_string(), "$PROXY");
        if !self.commands.contains(&command) {
            self.commands.push(command);
        }
    }

    fn log(&self, peer: Peer) -> PathBuf {
        self.folder.join(format!("{}.log", peer.name()))
    }
}

impl Ready {
    fn origin_pid(&self) -> Option<u32> {
        self.origin.as_ref().map(Running::pid)
    }

    fn stop(self) -> anyhow::Result<()> {
        self.peer.stop()?;
        self.origin.map_or(Ok(()), Running::stop)
    }
}

fn cpu_of(pids: [Option<u32>; 3]) -> anyhow::Result<[Cpu; 3]> {
    let mut times = [Cpu::default(); 3];
    for (time, pid) in times.iter_mut().zip(pids) {
        if let Some(pid) = pid {
            *time = Cpu::of(pid)?;
        }
    }
    Ok(times)
}

/// The cost of one request, from the counts of two runs.
fn per_request([short, long]: [u64; 2]) -> f64 {
    (long as f64 - short as f64) / (LONG - SHORT) as f64
}

fn load_figures(summary: &Summary, ask: Ask, used: Cpu) -> Figures {
    let Summary { requests, seconds, requests_per_second, body_bytes, failures, .. } = summary;
    let count = *requests as f64;
    let per_request = used.total_us() / count;
    let moved = (*body_bytes + requests * ask.body as u64) as f64;
    let mut pairs = vec![
        ("requests", count),
        ("requests_per_second", *requests_per_second),
        ("failed", failures.total() as f64),
        ("cpu_us_per_request", per_request),
        ("user_us_per_request", per_request * used.user_share()),
        ("system_us_per_request", per_request * (1.0 - used.user_share())),
        ("core_share", used.total_us() / (seconds * 1e6)),
        ("p50_us", summary.latency_us.p50),
        ("p99_us", summary.latency_us.p99),
        ("p999_us", summary.latency_us.p999),
        ("lateness_p99_us", summary.lateness_us.p99),
    ];
    if moved / count >= BULK_BYTES {
        pairs.push(("cpu_us_per_mb", used.total_us() / (moved / f64::from(1 << 20))));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The numbers of requests in the two runs of a difference.
const SHORT: u64 = 1000;
const LONG: u64 = 4000;
/// With 100,000 routes the slowest needs a quarter of that.
const STARTING_MAX: Duration = Duration::from_secs(60);
const SETTLING: Duration = Duration::from_millis(300);
const COUNTED_REQUESTS: u64 = 20_000;
/// Seconds that a counted run may take at most.
const COUNTING_MAX: u64 = 60;
const COMPLAINTS: [&str; 5] = ["rror", "ALERT", "[emerg]", "panicked", "critical"];
const PORTS_EACH: u16 = 3;
const PORTS_MAX: u16 = 100;
/// From this size on, cost per MB is more useful than cost per request.
const BULK_BYTES: f64 = 32_768.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_up_cancels_out_in_the_difference() {
        let counts = [SHORT, LONG].map(|requests| 5_000_000 + requests * 9000);
        assert!((per_request(counts) - 9000.0).abs() < 0.1);
    }
}
