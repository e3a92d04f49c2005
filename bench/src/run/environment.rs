//! Where and with what a run was made: figures mean nothing without it.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::run::scrub::Scrub;

/// The machine, the software, and the options.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Environment {
    pub(crate) began: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_kib: u64,
    pub(crate) hypervisor: bool,
    pub(crate) mitigations: Vec<String>,
    pub(crate) governor: String,
    /// The TCP congestion control: it affects every peer.
    #[serde(default)]
    pub(crate) congestion_control: String,
    pub(crate) load_average: String,
    pub(crate) commit: String,
    pub(crate) rustc: String,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    /// How long the whole run took.
    #[serde(default)]
    pub(crate) took_seconds: u64,
    pub(crate) cores_of_proxy: String,
    pub(crate) cores_of_origin: String,
    pub(crate) cores_of_client: String,
    pub(crate) syscalls_by: String,
    /// Peer and version.
    pub(crate) peers: Vec<(String, String)>,
    /// Tool and version.
    #[serde(default)]
    pub(crate) tools: Vec<(String, String)>,
    /// Peer or tool, and why it is missing.
    pub(crate) skipped: Vec<(String, String)>,
}

impl Environment {
    /// The properties that can be read from the machine; the runner fills in the rest.
    pub(crate) fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        Self {
            began: said("date", &["-u", "+%FT%TZ"]),
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: field("model name").to_owned(),
            cores: cores(),
            memory_kib: memory_kib(&read("/proc/meminfo")).unwrap_or(0),
            hypervisor: field("flags").contains("hypervisor"),
            mitigations: mitigations(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_average: read("/proc/loadavg"),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            rustc: said("rustc", &["--version"]),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            rounds: 0,
            seconds: 0,
            took_seconds: 0,
            cores_of_proxy: String::new(),
            cores_of_origin: String::new(),
            cores_of_client: String::new(),
            syscalls_by: String::new(),
            peers: Vec::new(),
            tools: tools(),
            skipped: Vec::new(),
        }
    }

    /// A name for the machine without its address: `epyc-2-cores`.
    pub(crate) fn machine(&self) -> String {
        let model = self.cpu.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
        let model = model.split('@').next().unwrap_or_default();
        let common = |word: &&str| !["amd", "intel", "cpu", "processor"].contains(word);
        let mut words: Vec<&str> = model
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .filter(common)
            .collect();
        words.truncate(4);
        format!(
            "{}-{}-cores",
            if words.is_empty() { "cpu".into() } else { words.join("-") },
            self.cores
        )
    }

    /// The same without paths of this machine.
    pub(crate) fn clean(mut self, scrub: &Scrub) -> Self {
        self.command = scrub.clean(&self.command);
        for (_, said) in self.peers.iter_mut().chain(&mut self.tools).chain(&mut self.skipped) {
            *said = scrub.clean(said);
        }
        self
    }
}

/// Other settings that affect the figures.
fn tools() -> Vec<(String, String)> {
    let tools =
        [("wrk", "-v"), ("oha", "--version"), ("perf", "--version"), ("valgrind", "--version")];
    let version = |(tool, flag): (&str, &str)| {
        let line = said(tool, &[flag]).lines().next()?.trim().to_owned();
        // The rest is not about the version.
        let line = line.split(" Copyright").next().unwrap_or_default().to_owned();
        Some((tool.to_owned(), line))
    };
    tools.into_iter().filter_map(version).collect()
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Kernel mitigations that cost time at each system call.
fn mitigations() -> Vec<String> {
    let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let mut lines: Vec<String> = folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let state = read(&entry.path().display().to_string());
            format!("{}: {state}", entry.file_name().display())
        })
        .filter(|line| !line.ends_with("Not affected"))
        .collect();
    lines.sort();
    lines
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_cores_and_memory() {
        let here = Environment::look();
        assert!(!here.kernel.is_empty() && here.cores > 0 && here.memory_kib > 0);
    }

    #[test]
    fn a_machine_is_named_after_its_processor() {
        let named = |cpu: &str| {
            let cpu = cpu.to_owned();
            Environment { cpu, cores: 2, ..Environment::look() }.machine()
        };
        assert_eq!(named("AMD EPYC"), "epyc-2-cores");
        assert_eq!(
            named("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"),
            "xeon-platinum-8481c-2-cores"
        );
        assert_eq!(named(""), "cpu-2-cores");
    }

    #[test]
    fn memory_is_the_total() {
        assert_eq!(memory_kib("MemTotal:       24000000 kB\nMemFree: 1 kB\n"), Some(24_000_000));
    }
}
