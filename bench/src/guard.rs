//! Guards the plain path: compares instructions and system calls per request with the committed
//! record. Both hardly depend on the load of the machine, so CI can check them.
//!
//! With several connections the number of system calls depends on timing, so there is only one.
//! Instructions depend on the compiler: with a different one the limit is wider, and the guard says
//! so. What cannot be counted here is skipped with a message.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::measure::{callgrind, syscalls};
use crate::peers::{Cores, Installed, Peer, Shape};
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

/// The cost of one small GET.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    build: Build,
    /// User-space instructions, under epoll: valgrind does not support io_uring.
    instructions_per_request: Option<f64>,
    /// System calls, with the best ring that the kernel offers.
    syscalls_per_request: Option<f64>,
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
    let cost = measure(&Peer::Corvoy.find()?, options.port)?;
    if options.record {
        let Cost { build: _, instructions_per_request, syscalls_per_request } = &cost;
        if instructions_per_request.is_none() || syscalls_per_request.is_none() {
            bail!("a record needs both figures: install valgrind and strace");
        }
        fs::write(&options.file, serde_json::to_string_pretty(&cost)? + "\n")?;
        return say(&format!("{name}: recorded {cost:?}"));
    }
    let recorded = fs::read_to_string(&options.file)
        .with_context(|| format!("{name}: make the record with scripts/bench --guard --record"))?;
    let recorded: Cost = serde_json::from_str(&recorded).with_context(|| name.to_string())?;
    if recorded.build != cost.build {
        say(&format!("the record is of {:?}, this is {:?}", recorded.build, cost.build))?;
    }
    let findings = compare(&recorded, &cost);
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

fn measure(corvoy: &Installed, port: u16) -> anyhow::Result<Cost> {
    let folder = tempfile::Builder::new().prefix("corvoy-guard-").tempdir()?;
    let cores = Cores::divide(environment::cores(), 1);
    let mut stage = Stage::new(port, cores, folder.path(), 1);
    let ask = Ask { connections: 1, ..Ask::PLAIN };
    let mut figures = Figures::new();
    if callgrind::is_installed() {
        figures.extend(stage.instructions(corvoy, Shape::PLAIN, ask)?);
    } else {
        say("SKIPPED: instructions per request: valgrind is not installed")?;
    }
    if syscalls::can_strace() {
        figures.extend(stage.syscalls_from_the_start(corvoy, Shape::PLAIN, ask)?);
    } else {
        say("SKIPPED: system calls per request: strace is not installed, or may not trace here")?;
    }
    let figure =
        |name: &str, digits: f64| figures.get(name).map(|value| (value * digits).round() / digits);
    Ok(Cost {
        build: Build::of_this(),
        instructions_per_request: figure("instructions_per_request", 1.0),
        syscalls_per_request: figure("syscalls_per_request", 1e3),
    })
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
#[derive(Clone, Copy, Debug, PartialEq)]
struct Finding {
    name: &'static str,
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
fn compare(recorded: &Cost, measured: &Cost) -> Vec<Finding> {
    let finding = |name, recorded: Option<f64>, measured: Option<f64>, limit| {
        Some(Finding { name, recorded: recorded?, measured: measured?, limit })
    };
    let (of, here) = (&recorded.build, &measured.build);
    let instructions = match () {
        () if of == here => Some(WORSE),
        () if of.architecture == here.architecture => Some(WORSE_BY_ANOTHER_COMPILER),
        () => None,
    };
    let instructions = instructions.and_then(|limit| {
        let (recorded, measured) =
            (recorded.instructions_per_request, measured.instructions_per_request);
        finding("instructions per request", recorded, measured, limit)
    });
    let (recorded, measured) = (recorded.syscalls_per_request, measured.syscalls_per_request);
    let syscalls = finding("system calls per request", recorded, measured, WORSE);
    instructions.into_iter().chain(syscalls).collect()
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

    fn cost(instructions: f64, syscalls: f64) -> Cost {
        let [architecture, rustc, profile] = ["x86_64", "1.95.0", "guard"].map(str::to_owned);
        let build = Build { architecture, rustc, profile };
        let (instructions, syscalls) = (Some(instructions), Some(syscalls));
        Cost { build, instructions_per_request: instructions, syscalls_per_request: syscalls }
    }

    fn too_much(measured: &Cost) -> Vec<&'static str> {
        let findings = compare(&cost(9000.0, 4.0), measured);
        findings.iter().filter(|finding| finding.is_worse()).map(|finding| finding.name).collect()
    }

    #[test]
    fn three_percent_more_is_the_limit() {
        assert!(too_much(&cost(9260.0, 4.1)).is_empty());
        assert_eq!(too_much(&cost(9280.0, 4.0)), ["instructions per request"]);
        assert_eq!(too_much(&cost(8000.0, 5.0)), ["system calls per request"]);
    }

    #[test]
    fn an_improvement_should_be_recorded() {
        let findings = compare(&cost(9000.0, 4.0), &cost(8000.0, 4.0));
        assert!(findings[0].describe().ends_with("improved: update the record"));
    }

    #[test]
    fn another_compiler_gets_a_wider_limit_for_instructions_only() {
        let by_another = |instructions, syscalls| {
            let mut cost = cost(instructions, syscalls);
            cost.build.rustc = "1.96.0".to_owned();
            cost
        };
        assert!(too_much(&by_another(9800.0, 4.0)).is_empty());
        let both = ["instructions per request", "system calls per request"];
        assert_eq!(too_much(&by_another(9950.0, 4.2)), both);
    }

    #[test]
    fn on_another_architecture_only_system_calls_are_compared() {
        let mut other = cost(20_000.0, 4.2);
        other.build.architecture = "aarch64".to_owned();
        assert_eq!(too_much(&other), ["system calls per request"]);
    }

    #[test]
    fn only_counted_figures_are_compared() {
        let uncounted = Cost { instructions_per_request: None, ..cost(1.0, 4.0) };
        assert_eq!(compare(&cost(9000.0, 4.0), &uncounted).len(), 1);
    }
}
