//! The proxies under test, each with the configuration that its experts would write for this task:
//! keep-alive to the origin, no access log, as many threads as shards, and a request id and
//! `x-forwarded-proto` where it can add them.
//!
//! No configuration is tuned for one scenario: a peer has one per [`Shape`], and the shapes are the
//! same for all. A peer that is not installed is skipped with a message.

mod envoy;
mod haproxy;
mod nginx;
mod process;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::runtime;
use crate::scenario::{Measure, Scenario};
use crate::tls::{Files, Key};

pub(crate) use process::{Cores, Running, pinned};

/// A peer. `Direct` is the origin without a proxy.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Peer {
    Direct,
    Floor,
    Corvoy,
    Nginx,
    Haproxy,
    Envoy,
}

/// What a configuration needs besides forwarding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Shape {
    /// Prefix routes `/r0/`, `/r1/`, …; with one route everything matches.
    pub(crate) routes: usize,
    /// Virtual hosts; the last one is the host that the clients name.
    pub(crate) hosts: usize,
    /// Clusters that the routes are distributed over.
    pub(crate) clusters: usize,
    pub(crate) retries: bool,
    /// Proxy threads.
    pub(crate) shards: usize,
    pub(crate) downstream: Downstream,
    pub(crate) upstream: Upstream,
    pub(crate) filters: HttpFilters,
}

/// What stands before the router. Only Envoy and Corvoy read it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HttpFilters {
    None,
    /// So many that each set a header of the request.
    Head(usize),
    /// `rbac` with so many policies, of which the last one allows the request.
    Rbac(usize),
    /// A compressor of responses with this library.
    Compressor(&'static str),
}

/// What the clients of a proxy speak to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Downstream {
    Http,
    /// HTTP/1 over TLS 1.3, with a certificate for a key of this kind.
    Https(Key),
    /// HTTP/2 with prior knowledge.
    H2c,
    /// HTTP/2 over TLS 1.3.
    H2(Key),
    /// The proxy forwards bytes and looks at none of them.
    Tcp,
}

/// What a proxy speaks to its origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upstream {
    Http,
    /// HTTP/2 with prior knowledge. The origin is `nghttpd`.
    H2c,
}

impl Downstream {
    /// The key of the certificate, over TLS.
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Self::Https(key) | Self::H2(key) => Some(key),
            Self::Http | Self::H2c | Self::Tcp => None,
        }
    }

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2(_))
    }

    /// The protocol that is chosen by ALPN.
    fn alpn(self) -> &'static str {
        if self.is_http2() { "h2" } else { "http/1.1" }
    }
}

/// The listening addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) origin: SocketAddr,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// An installed peer.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) peer: Peer,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Addresses {
    /// Three ports on loopback, starting with this one.
    pub(crate) fn on_loopback(first: u16) -> Self {
        let at = |offset| SocketAddr::from((Ipv4Addr::LOCALHOST, first + offset));
        Self { origin: at(0), proxy: at(1), admin: at(2) }
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 6] =
        [Self::Direct, Self::Floor, Self::Corvoy, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Corvoy => "corvoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// Finds the program; the error says where it was expected.
    pub(crate) fn find(self) -> anyhow::Result<Installed> {
        let program = match self {
            Self::Direct | Self::Floor => env::current_exe()?,
            Self::Corvoy => corvoy()?,
            Self::Nginx => on_path("nginx")?,
            Self::Haproxy => on_path("haproxy")?,
            Self::Envoy => envoy_binary()?,
        };
        let version = match self {
            Self::Direct | Self::Floor => format!("corvoy-bench {}", env!("CARGO_PKG_VERSION")),
            Self::Nginx => said(&program, "-v")?,
            Self::Haproxy => said(&program, "-v")?,
            Self::Corvoy | Self::Envoy => said(&program, "--version")?,
        };
        Ok(Installed { peer: self, program, version })
    }

    /// Why this peer cannot run a scenario, if it cannot.
    pub(crate) fn left_out(self, scenario: &Scenario) -> Option<String> {
        let bare = matches!(self, Self::Direct | Self::Floor);
        match scenario.measure {
            _ if scenario.shape.upstream == Upstream::H2c && on_path("nghttpd").is_err() => {
                Some("nghttpd, the origin of HTTP/2, is not installed".to_owned())
            }
            _ if self == Self::Nginx && scenario.shape.upstream == Upstream::H2c => {
                // 1.29.4 and later can; it is not yet in distributions.
                Some("it speaks HTTP/2 to origins only as gRPC".to_owned())
                    .filter(|_| scenario.name != "grpc-unary")
            }
            _ if bare && scenario.shape != Shape::PLAIN => {
                Some("it has no routes, retries, threads or TLS".to_owned())
            }
            _ if bare && scenario.room > 1 => Some("it has only one thread".to_owned()),
            _ if scenario.shape.filters != HttpFilters::None
                && !matches!(self, Self::Corvoy | Self::Envoy) =>
            {
                Some("it has no such HTTP filters".to_owned())
            }
            Measure::Instructions(_) if self == Self::Direct => {
                Some("it is not a proxy".to_owned())
            }
            Measure::Instructions(_) if self == Self::Envoy => {
                Some("too large to run under callgrind".to_owned())
            }
            Measure::Idle { connections } if matches!(self, Self::Floor | Self::Corvoy) => {
                // One to the client and one to the origin, which Corvoy keeps free for it.
                let (needed, limit) = (2 * connections as u64, runtime::descriptor_limit());
                (needed >= limit).then(|| format!("it needs {needed} descriptors of {limit}"))
            }
            _ => None,
        }
    }
}

/// The host that the clients name.
pub(crate) const HOST: &str = "bench.test";

impl Shape {
    pub(crate) const PLAIN: Self = Self {
        routes: 1,
        hosts: 1,
        clusters: 1,
        retries: false,
        shards: 1,
        downstream: Downstream::Http,
        upstream: Upstream::Http,
        filters: HttpFilters::None,
    };

    /// The path of `page` through the last route of the configuration.
    pub(crate) fn path(self, page: &str) -> String {
        if self.routes == 1 { page.to_owned() } else { format!("/r{}{page}", self.routes - 1) }
    }

    /// The names of the virtual hosts; with one everything matches.
    fn hosts(self) -> impl Iterator<Item = String> {
        let last = self.hosts - 1;
        (0..last).map(|host| format!("h{host}.test")).chain([HOST.to_owned()])
    }

    pub(crate) fn name(self) -> String {
        let Self { routes, hosts, clusters, retries, shards, downstream, upstream, filters } = self;
        let filters = match filters {
            HttpFilters::None => String::new(),
            HttpFilters::Head(count) => format!("-{count}-filters"),
            HttpFilters::Rbac(count) => format!("-rbac-{count}"),
            HttpFilters::Compressor(library) => format!("-{library}"),
        };
        let retries = if retries { "-retries" } else { "" };
        let downstream = match downstream {
            Downstream::Http => "",
            Downstream::Https(Key::P256) => "-tls-p256",
            Downstream::Https(Key::Rsa2048) => "-tls-rsa2048",
            Downstream::H2c => "-h2c",
            Downstream::H2(_) => "-h2",
            Downstream::Tcp => "-tcp",
        };
        let upstream = match upstream {
            Upstream::Http => "",
            Upstream::H2c => "-to-h2c",
        };
        let size =
            format!("{hosts}-hosts-{routes}-routes-{clusters}-clusters{retries}-{shards}-shards");
        size + downstream + upstream + &filters
    }
}

impl Installed {
    /// The valgrind command prefix. valgrind holds its lock while one thread waits in a ring, so
    /// Corvoy's other threads would wait forever; under epoll the same code runs in user space.
    pub(crate) fn environment_for_valgrind(&self) -> &'static [&'static str] {
        match self.peer {
            Peer::Corvoy => &["env", "CORVOY_RING=epoll"],
            Peer::Direct | Peer::Floor | Peer::Nginx | Peer::Haproxy | Peer::Envoy => &[],
        }
    }

    /// Writes the configuration into `folder` and returns the command line that runs it.
    /// `certificates` has the files of [`crate::tls::Files`].
    pub(crate) fn command_line(
        &self,
        shape: Shape,
        at: Addresses,
        folder: &Path,
        certificates: &Path,
    ) -> anyhow::Result<Vec<String>> {
        let key = shape.downstream.key();
        let files = key.map(|key| Files::of(key, certificates)).transpose()?;
        let files = files.as_ref();
        let program = self.program.display().to_string();
        let file = |extension: &str| {
            folder.join(format!("{}-{}.{extension}", self.peer.name(), shape.name()))
        };
        let write = |path: PathBuf, text: String| {
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            Ok::<_, anyhow::Error>(path.display().to_string())
        };
        let mut line = vec![program];
        match self.peer {
            Peer::Direct => line.extend(words(&["origin", "--listen"], &at.origin)),
            Peer::Floor => {
                line.extend(words(&["floor", "--listen"], &at.proxy));
                line.extend(words(&["--origin"], &at.origin));
            }
            Peer::Nginx => {
                let config = write(file("conf"), nginx::config(shape, at, files))?;
                line.extend(
                    ["-p", &folder.display().to_string(), "-c", &config].map(str::to_owned),
                );
            }
            Peer::Haproxy => {
                let map = write(file("map"), haproxy::map(shape))?;
                let config = write(file("cfg"), haproxy::config(shape, at, &map, files))?;
                line.extend(["-db", "-f", &config].map(str::to_owned));
            }
            Peer::Envoy | Peer::Corvoy => {
                let config = write(file("yaml"), envoy::config(shape, at, files))?;
                line.extend(["-c", &config, "--log-level", "error"].map(str::to_owned));
                line.extend(words(&["--concurrency"], &shape.shards));
                if self.peer == Peer::Envoy {
                    line.push("--disable-hot-restart".to_owned());
                }
            }
        }
        Ok(line)
    }
}

fn words(before: &[&str], last: &impl ToString) -> Vec<String> {
    before.iter().map(|&word| word.to_owned()).chain([last.to_string()]).collect()
}

fn said(program: &Path, flag: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(flag).output();
    let output = output.with_context(|| format!("{} {flag}", program.display()))?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // Some print their own path first.
    Ok(line.replace(&program.display().to_string(), "").trim().to_owned())
}

fn on_path(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let mut found =
        folders.into_iter().map(|folder| folder.join(name)).filter(|file| file.exists());
    found.next().with_context(|| format!("{name} is not in $PATH"))
}

/// The path in the variable, or beside this program, where cargo puts both.
fn corvoy() -> anyhow::Result<PathBuf> {
    let beside = env::current_exe()?.with_file_name("corvoy");
    let program = env::var_os(CORVOY).map_or(beside, PathBuf::from);
    program
        .exists()
        .then_some(program)
        .context("no corvoy beside this program: build it, or set CORVOY_BENCH_CORVOY")
}

/// The path in the variable, in the Python environment of the repository, or in $PATH: that
/// environment's `envoy` in $PATH is a script around the binary.
fn envoy_binary() -> anyhow::Result<PathBuf> {
    if let Some(program) = env::var_os(ENVOY).map(PathBuf::from) {
        return program.exists().then_some(program).context("CORVOY_BENCH_ENVOY: no such file");
    }
    let libraries = std::fs::read_dir(".venv/lib").ok().into_iter().flatten().flatten();
    let mut candidates =
        libraries.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    if let Some(program) = candidates.find(|file| file.exists()) {
        return Ok(program);
    }
    on_path("envoy").context(
        "no envoy in .venv (scripts/bench --setup) or on the path, and CORVOY_BENCH_ENVOY is not set",
    )
}

const CORVOY: &str = "CORVOY_BENCH_CORVOY";
const ENVOY: &str = "CORVOY_BENCH_ENVOY";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn the_last_of_many_routes_is_requested() {
        assert_eq!(Shape::PLAIN.path("/13"), "/13");
        assert_eq!(Shape { routes: 1000, ..Shape::PLAIN }.path("/13"), "/r999/13");
    }

    #[test]
    fn a_peer_that_cannot_run_a_scenario_is_skipped_with_a_reason() {
        let scenarios = scenario::all();
        let find = |name: &str| scenarios.iter().find(|scenario| scenario.name == name).unwrap();
        assert_eq!(Peer::Floor.left_out(find("get-64")), None);
        assert!(Peer::Floor.left_out(find("shards-2")).is_some());
        assert!(Peer::Envoy.left_out(find("instructions")).is_some());
        assert_eq!(Peer::Nginx.left_out(find("shards-2")), None);
    }

    #[test]
    fn every_route_of_every_peer_has_its_cluster() {
        let shape = Shape { routes: 30, clusters: 10, retries: true, ..Shape::PLAIN };
        let hosts = Shape { hosts: 20, ..Shape::PLAIN };
        let at = Addresses::on_loopback(1);
        assert_eq!(nginx::config(shape, at, None).matches("location /r").count(), 30);
        assert_eq!(nginx::config(shape, at, None).matches("upstream c").count(), 10);
        assert_eq!(haproxy::map(shape).lines().count(), 30);
        assert_eq!(haproxy::config(shape, at, "x", None).matches("backend c").count(), 10);
        assert_eq!(envoy::config(shape, at, None).matches("prefix: \"/r").count(), 30);
        assert_eq!(envoy::config(shape, at, None).matches("type: STATIC").count(), 10);
        assert_eq!(nginx::config(hosts, at, None).matches("server_name ").count(), 20);
        assert_eq!(haproxy::map(hosts).lines().count(), 20);
        assert_eq!(envoy::config(hosts, at, None).matches("domains: [").count(), 20);
    }
}
