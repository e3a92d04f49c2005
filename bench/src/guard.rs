//! The guard of the plain path: instructions and system calls per request against the committed
//! record. Both hardly depend on how busy the machine is, so a build server can hold them.
//!
//! One connection, because with several the number of system calls depends on who waits for whom.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::measure::syscalls;
use crate::peers::{Cores, Installed, Peer, Shape};
use crate::run::environment;
use crate::run::stage::Stage;
use crate::runtime;
use crate::scenario::Ask;

/// What to compare with what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The committed record.
    #[arg(long, default_value = "bench/guard.json")]
    file: PathBuf,
    /// Write the record instead of comparing with it.
    #[arg(long)]
    record: bool,
    /// Whose plain path is guarded.
    #[arg(long, value_enum, default_value_t = Peer::Corvoy)]
    peer: Peer,
    /// The first of 300 ports on loopback that measurements take in turn.
    #[arg(long, default_value_t = 24_500)]
    port: u16,
}

/// What one small GET costs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    peer: String,
    /// Instructions differ between architectures: a record holds for one.
    architecture: String,
    instructions_per_request: f64,
    syscalls_per_request: f64,
}

/// Measures, then records or compares.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime::raise_descriptor_limit();
    let cost = measure(&options.peer.find()?, options.port)?;
    let text = serde_json::to_string_pretty(&cost)? + "\n";
    let mut out = std::io::stderr();
    write!(out, "{text}")?;
    if options.record {
        fs::write(&options.file, text)?;
        return Ok(());
    }
    let name = options.file.display();
    let recorded = fs::read_to_string(&options.file)
        .with_context(|| format!("{name}: make the record with scripts/bench --guard --record"))?;
    let recorded: Cost = serde_json::from_str(&recorded).with_context(|| name.to_string())?;
    let findings = compare(&recorded, &cost)?;
    for finding in &findings {
        writeln!(out, "{}", finding.describe())?;
    }
    if findings.iter().any(|finding| finding.is_worse()) {
        bail!("a small GET costs more than {name} allows");
    }
    Ok(())
}

fn measure(installed: &Installed, port: u16) -> anyhow::Result<Cost> {
    let folder = tempfile::Builder::new().prefix("corvoy-guard-").tempdir()?;
    let cores = Cores::divide(environment::cores(), 1);
    let mut stage = Stage::new(port, cores, folder.path(), 1);
    if syscalls::Method::find().is_none() {
        return syscalls::none_here();
    }
    let ask = Ask { connections: 1, ..Ask::PLAIN };
    let mut figures = stage.instructions(installed, Shape::PLAIN, ask)?;
    figures.extend(stage.syscalls(installed, Shape::PLAIN, ask)?);
    let figure = |name: &str| figures.get(name).copied().with_context(|| format!("no {name}"));
    Ok(Cost {
        peer: installed.peer.name().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        instructions_per_request: figure("instructions_per_request")?.round(),
        syscalls_per_request: (figure("syscalls_per_request")? * 1e3).round() / 1e3,
    })
}

/// One figure against its record.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Finding {
    name: &'static str,
    recorded: f64,
    measured: f64,
}

impl Finding {
    fn is_worse(&self) -> bool {
        self.measured > self.recorded * WORSE
    }

    fn describe(&self) -> String {
        let Self { name, recorded, measured } = self;
        let change = (measured / recorded - 1.0) * 100.0;
        let verdict = match () {
            () if self.is_worse() => "too much",
            () if measured * WORSE < *recorded => "better: record it",
            () => "fine",
        };
        format!("{name}: {measured} against {recorded} ({change:+.1} %): {verdict}")
    }
}

fn compare(recorded: &Cost, measured: &Cost) -> anyhow::Result<[Finding; 2]> {
    let Cost { peer, architecture, instructions_per_request, syscalls_per_request } = recorded;
    if (peer, architecture) != (&measured.peer, &measured.architecture) {
        bail!("the record is of {peer} on {architecture}");
    }
    Ok([
        Finding {
            name: "instructions per request",
            recorded: *instructions_per_request,
            measured: measured.instructions_per_request,
        },
        Finding {
            name: "system calls per request",
            recorded: *syscalls_per_request,
            measured: measured.syscalls_per_request,
        },
    ])
}

/// What is allowed over the record.
const WORSE: f64 = 1.03;

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions_per_request: f64, syscalls_per_request: f64) -> Cost {
        let (peer, architecture) = ("corvoy".to_owned(), "x86_64".to_owned());
        Cost { peer, architecture, instructions_per_request, syscalls_per_request }
    }

    #[test]
    fn three_percent_more_is_the_limit() {
        let judge = |measured| {
            let findings = compare(&cost(9000.0, 4.0), &measured).unwrap();
            findings.map(|finding| finding.is_worse())
        };
        assert_eq!(judge(cost(9260.0, 4.1)), [false, false]);
        assert_eq!(judge(cost(9280.0, 4.0)), [true, false]);
        assert_eq!(judge(cost(8000.0, 5.0)), [false, true]);
    }

    #[test]
    fn a_gain_asks_to_be_recorded() {
        let [instructions, _] = compare(&cost(9000.0, 4.0), &cost(8000.0, 4.0)).unwrap();
        assert!(instructions.describe().ends_with("better: record it"));
    }

    #[test]
    fn another_architecture_has_no_record() {
        let other = Cost { architecture: "aarch64".to_owned(), ..cost(1.0, 1.0) };
        assert!(compare(&cost(1.0, 1.0), &other).is_err());
    }
}
