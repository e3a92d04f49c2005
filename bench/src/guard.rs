//! Guards the path of small requests: compares instructions and system calls per request with the committed
//! record. Both hardly depend on the load of the machine, so CI can check them.
//!
//! With several connections, or several streams of HTTP/2, the number of system calls depends on timing, so
//! there is only one.
//! Instructions depend on the compiler: with a different one the limit is wider, and the guard says
//! so. What cannot be counted here is skipped with a message.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::measure::{callgrind, syscalls};
use crate::peers::{Cores, Downstream, Installed, Peer, Shape};
use crate::run::environment;
use crate::run::stage::Stage;
use crate::runtime;
use crate::scenario::Ask;
use crate::summary::Figures;

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The committed record.
    #[arg(long, default_value = "bench/guard.json")]
    file: PathBuf,
    /// Write the record instead of comparing with it.
    #[arg(long)]
    record: bool,
    /// The first of 300 ports on loopback that measurements take in turn.
    #[arg(long, default_value_t = 24_500)]
    port: u16,
}

/// The costs of small GETs, by what is spoken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Record {
    build: Build,
    costs: BTreeMap<String, Cost>,
}

/// The cost of one small GET.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    /// User-space instructions, under epoll: valgrind does not support io_uring.
    instructions_per_request: Option<f64>,
    /// System calls, with the best ring that the kernel offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    syscalls_per_request: Option<f64>,
}

/// What is measured.
const SPOKEN: [Spoken; 3] = [
    Spoken { name: "http1", downstream: Downstream::Http, streams: 1 },
    Spoken { name: "http2-1-stream", downstream: Downstream::H2c, streams: 1 },
    Spoken { name: "http2-16-streams", downstream: Downstream::H2c, streams: 16 },
];

/// What the client speaks, on one connection.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    name: &'static str,
    downstream: Downstream,
    /// Requests at a time.
    streams: usize,
}

/// What the instructions of a program depend on besides its source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Build {
    architecture: String,
    rustc: String,
    /// The profile in Cargo.toml.
    profile: String,
}

/// Measures, then records or compares.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime::raise_descriptor_limit();
    let name = options.file.display();
    if let Err(error) = runtime::block_on(async {}) {
        return say(&format!("SKIPPED: origin and client cannot run here: {error:#}"));
    }
    let measured = measure(&Peer::Corvoy.find()?, options.port)?;
    if options.record {
        if measured.costs.values().any(|cost| cost.instructions_per_request.is_none())
            || measured.costs.values().all(|cost| cost.syscalls_per_request.is_none())
        {
            bail!("a record needs both figures: install valgrind and strace");
        }
        fs::write(&options.file, serde_json::to_string_pretty(&measured)? + "\n")?;
        return say(&format!("{name}: recorded {measured:?}"));
    }
    let recorded = fs::read_to_string(&options.file)
        .with_context(|| format!("{name}: make the record with scripts/bench --guard --record"))?;
    let recorded: Record = serde_json::from_str(&recorded).with_context(|| name.to_string())?;
    if recorded.build != measured.build {
        say(&format!("the record is of {:?}, this is {:?}", recorded.build, measured.build))?;
    }
    let findings = compare(&recorded, &measured);
    for finding in &findings {
        say(&finding.describe())?;
    }
    if findings.iter().any(Finding::is_worse) {
        bail!(
            "a small GET costs more than {name} allows; scripts/bench --guard --record, if it must"
        );
    }
    Ok(())
}

fn measure(corvoy: &Installed, port: u16) -> anyhow::Result<Record> {
    let folder = tempfile::Builder::new().prefix("corvoy-guard-").tempdir()?;
    let cores = Cores::divide(environment::cores(), 1);
    let mut stage = Stage::new(port, cores, folder.path(), 1);
    let (can_count, can_strace) = (callgrind::is_installed(), syscalls::can_strace());
    if !can_count {
        say("SKIPPED: instructions per request: valgrind is not installed")?;
    }
    if !can_strace {
        say("SKIPPED: system calls per request: strace is not installed, or may not trace here")?;
    }
    let mut costs = BTreeMap::new();
    for Spoken { name, downstream, streams } in SPOKEN {
        let ask = Ask { connections: 1, streams, ..Ask::PLAIN };
        let shape = Shape { downstream, ..Shape::PLAIN };
        let mut figures = Figures::new();
        if can_count {
            figures.extend(stage.instructions(corvoy, shape, ask)?);
        }
        if can_strace && streams == 1 {
            figures.extend(stage.syscalls_from_the_start(corvoy, shape, ask)?);
        }
        let figure = |name: &str, digits: f64| {
            figures.get(name).map(|value| (value * digits).round() / digits)
        };
        let cost = Cost {
            instructions_per_request: figure("instructions_per_request", 1.0),
            syscalls_per_request: figure("syscalls_per_request", 1e3),
        };
        costs.insert(name.to_owned(), cost);
    }
    Ok(Record { build: Build::of_this(), costs })
}

impl Build {
    /// Corvoy's binary is beside this program, built by the same command.
    fn of_this() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let profile = program.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
        Self {
            architecture: std::env::consts::ARCH.to_owned(),
            rustc: environment::Environment::look().rustc,
            profile: profile.display().to_string(),
        }
    }
}

/// One figure and its record.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    /// What was measured.
    name: String,
    recorded: f64,
    measured: f64,
    /// The allowed increase over the record, as a factor.
    limit: f64,
}

impl Finding {
    fn is_worse(&self) -> bool {
        self.measured > self.recorded * self.limit
    }

    fn describe(&self) -> String {
        let Self { name, recorded, measured, limit } = self;
        let percent = |factor: f64| (factor - 1.0) * 100.0;
        let (change, allowed) = (percent(measured / recorded), percent(*limit));
        let verdict = match () {
            () if self.is_worse() => "above the limit",
            () if measured * limit < *recorded => "improved: update the record",
            () => "fine",
        };
        format!(
            "{name}: {measured} against {recorded} ({change:+.1} %, {allowed:.0} % allowed): {verdict}"
        )
    }
}

/// The figures that both have and that are comparable.
fn compare(recorded: &Record, measured: &Record) -> Vec<Finding> {
    let (of, here) = (&recorded.build, &measured.build);
    let instructions = match () {
        () if of == here => Some(WORSE),
        () if of.architecture == here.architecture => Some(WORSE_BY_ANOTHER_COMPILER),
        () => None,
    };
    let mut findings = Vec::new();
    for (spoken, recorded) in &recorded.costs {
        let Some(measured) = measured.costs.get(spoken) else { continue };
        let mut add = |what: &str, recorded: Option<f64>, measured: Option<f64>, limit| {
            if let (Some(recorded), Some(measured)) = (recorded, measured) {
                let name = format!("{spoken}: {what} per request");
                findings.push(Finding { name, recorded, measured, limit });
            }
        };
        if let Some(limit) = instructions {
            let (recorded, measured) =
                (recorded.instructions_per_request, measured.instructions_per_request);
            add("instructions", recorded, measured, limit);
        }
        let (recorded, measured) = (recorded.syscalls_per_request, measured.syscalls_per_request);
        add("system calls", recorded, measured, WORSE);
    }
    findings
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "guard: {line}")?)
}

/// The allowed increase over the record.
const WORSE: f64 = 1.03;
/// A new compiler release changes about this much.
const WORSE_BY_ANOTHER_COMPILER: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(instructions: f64, syscalls: f64) -> Record {
        let [architecture, rustc, profile] = ["x86_64", "1.95.0", "guard"].map(str::to_owned);
        let build = Build { architecture, rustc, profile };
        let cost = Cost {
            instructions_per_request: Some(instructions),
            syscalls_per_request: Some(syscalls),
        };
        Record { build, costs: BTreeMap::from([("http1".to_owned(), cost)]) }
    }

    fn too_much(measured: &Record) -> Vec<String> {
        let findings = compare(&record(9000.0, 4.0), measured);
        let worse = findings.into_iter().filter(Finding::is_worse);
        worse.map(|finding| finding.name).collect()
    }

    #[test]
    fn three_percent_more_is_the_limit() {
        assert!(too_much(&record(9260.0, 4.1)).is_empty());
        assert_eq!(too_much(&record(9280.0, 4.0)), ["http1: instructions per request"]);
        assert_eq!(too_much(&record(8000.0, 5.0)), ["http1: system calls per request"]);
    }

    #[test]
    fn an_improvement_should_be_recorded() {
        let findings = compare(&record(9000.0, 4.0), &record(8000.0, 4.0));
        assert!(findings[0].describe().ends_with("improved: update the record"));
    }

    #[test]
    fn another_compiler_gets_a_wider_limit_for_instructions_only() {
        let by_another = |instructions, syscalls| {
            let mut record = record(instructions, syscalls);
            record.build.rustc = "1.96.0".to_owned();
            record
        };
        assert!(too_much(&by_another(9800.0, 4.0)).is_empty());
        let both = ["http1: instructions per request", "http1: system calls per request"];
        assert_eq!(too_much(&by_another(9950.0, 4.2)), both);
    }

    #[test]
    fn on_another_architecture_only_system_calls_are_compared() {
        let mut other = record(20_000.0, 4.2);
        other.build.architecture = "aarch64".to_owned();
        assert_eq!(too_much(&other), ["http1: system calls per request"]);
    }

    #[test]
    fn only_counted_figures_are_compared() {
        let mut uncounted = record(1.0, 4.0);
        for cost in uncounted.costs.values_mut() {
            cost.instructions_per_request = None;
        }
        assert_eq!(compare(&record(9000.0, 4.0), &uncounted).len(), 1);
        uncounted.costs.clear();
        assert!(compare(&record(9000.0, 4.0), &uncounted).is_empty());
    }
}
