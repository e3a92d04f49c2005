//! The runner: scenarios in rounds that alternate between the peers, with everything recorded.

pub(crate) mod environment;
mod generator;
mod scrub;
pub(crate) mod stage;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::measure::syscalls;
use crate::peers::{Addresses, Cores, Downstream, Installed, Peer, Shape};
use crate::report;
use crate::run::environment::Environment;
use crate::run::scrub::Scrub;
use crate::run::stage::{Plan, Stage};
use crate::runtime;
use crate::scenario::{self, Ask, Measure, Scenario};
use crate::summary::{self, Figures, Sample};
use crate::tls::Key;

/// What to measure, and where to write the results.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of this run, for raw data, commands, versions, and the summary; its name is
    /// printed at the end [default: a new one, bench/results/<date>-<machine>]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run a few scenarios in two short rounds, to check that everything works; not for
    /// publication.
    #[arg(long)]
    quick: bool,
    /// Rounds of each scenario [default: 5, quick: 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each load [default: 3, quick: 1]
    #[arg(long)]
    seconds: Option<u64>,
    /// Only these peers; `direct` is the origin without a proxy.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Not these scenarios.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// List the scenarios and what they measure, and exit.
    #[arg(long)]
    list: bool,
    /// The request rate that the rate scenarios are percentages of [default: nginx's peak in this
    /// run]
    #[arg(long)]
    peak: Option<u64>,
    /// The first of 300 ports on loopback that measurements take in turn.
    #[arg(long, default_value_t = 24_000)]
    port: u16,
}

/// Runs the requested measurements.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let scenarios = chosen(options)?;
    if options.list {
        return list(&scenarios);
    }
    runtime::raise_descriptor_limit();
    let mut runner = Runner::new(options)?;
    for batch in scenarios.chunk_by(|one, next| one.batch == next.batch) {
        runner.batch(batch)?;
    }
    let out = runner.finish()?;
    Ok(writeln!(std::io::stdout(), "{}", out.display())?)
}

fn list(scenarios: &[Scenario]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for Scenario { name, about, figure, .. } in scenarios {
        writeln!(out, "{name:24} {about} ({figure})")?;
    }
    Ok(())
}

fn chosen(options: &Options) -> anyhow::Result<Vec<Scenario>> {
    let mut all = scenario::all();
    for name in options.scenarios.iter().chain(&options.without) {
        if !all.iter().any(|scenario| scenario.name == name) {
            let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
            bail!("unknown scenario {name:?}; expected one of {}", names.join(", "));
        }
    }
    if !options.scenarios.is_empty() {
        all.retain(|scenario| options.scenarios.iter().any(|name| name == scenario.name));
    } else if options.quick {
        all.retain(|scenario| scenario::QUICK.contains(&scenario.name));
    }
    all.retain(|scenario| options.without.iter().all(|name| name != scenario.name));
    Ok(all)
}

struct Runner {
    peers: Vec<Installed>,
    rounds: usize,
    peak: Option<u64>,
    out: PathBuf,
    raw: File,
    stage: Stage,
    scrub: Scrub,
    began: Instant,
    environment: Environment,
    samples: Vec<Sample>,
    /// Dropped at the end: it removes the folder of the stage.
    _folder: tempfile::TempDir,
}

impl Runner {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let mut environment = Environment::look();
        let out = match &options.out {
            Some(out) => std::path::absolute(out)?,
            None => std::path::absolute(new_folder(&environment))?,
        };
        fs::create_dir_all(out.join("hgrm")).with_context(|| out.display().to_string())?;
        fs::create_dir_all(out.join("configs"))?;
        let folder = tempfile::Builder::new().prefix("corvoy-bench-").tempdir()?;
        let (peers, skipped) = find(&options.peers);
        let scrub = Scrub::new(folder.path(), &out, &peers);
        let cores = Cores::divide(environment.cores, 1);
        environment.rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 });
        environment.seconds = options.seconds.unwrap_or(if options.quick { 1 } else { 3 });
        environment.cores_of_proxy.clone_from(&cores.proxy);
        environment.cores_of_origin.clone_from(&cores.origin);
        environment.cores_of_client.clone_from(&cores.client);
        environment.syscalls_by =
            syscalls::Method::find().map_or("nothing", syscalls::Method::name).to_owned();
        let version =
            |installed: &Installed| (installed.peer.name().to_owned(), installed.version.clone());
        environment.peers = peers.iter().map(version).collect();
        environment.skipped = skipped;
        let stage = Stage::new(options.port, cores, folder.path(), environment.seconds);
        let (rounds, peak) = (environment.rounds, options.peak);
        let raw = File::create(out.join("raw.jsonl"))?;
        let runner = Self {
            peers,
            rounds,
            peak,
            out,
            raw,
            stage,
            scrub,
            began: Instant::now(),
            environment,
            samples: Vec::new(),
            _folder: folder,
        };
        runner.keep_configs(Addresses::on_loopback(options.port))?;
        Ok(runner)
    }

    /// The configurations of the plain shape for each protocol are part of the record.
    fn keep_configs(&self, addresses: Addresses) -> anyhow::Result<()> {
        let folder = self.out.join("configs");
        let downstreams = [
            Downstream::Http,
            Downstream::Https(Key::P256),
            Downstream::H2c,
            Downstream::H2(Key::P256),
            Downstream::Tcp,
        ];
        for installed in &self.peers {
            for downstream in downstreams {
                let shape = Shape { downstream, ..Shape::PLAIN };
                installed.command_line(shape, addresses, &folder, &self.stage.folder)?;
            }
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            fs::write(&path, self.scrub.clean(&text))?;
        }
        Ok(())
    }

    /// Measures scenarios that are compared with each other, round by round.
    fn batch(&mut self, scenarios: &[Scenario]) -> anyhow::Result<()> {
        let mut batch = Vec::new();
        for scenario in scenarios {
            let peers = self.participants(scenario)?;
            batch.push((scenario, peers));
        }
        for round in 0..self.rounds {
            for (scenario, peers) in &mut batch {
                if round >= scenario.rounds_max() {
                    continue;
                }
                self.stage.cores = Cores::divide(self.environment.cores, scenario.room);
                self.say(&format!("{}: {}", scenario.name, scenario.about))?;
                for installed in peers.iter() {
                    let result = self.measure(scenario, installed, round);
                    self.record(scenario, installed.peer, round, result)?;
                }
                // The next round starts with another peer, so that none always runs first.
                let next = 1.min(peers.len());
                peers.rotate_left(next);
            }
        }
        Ok(())
    }

    /// The peers that can run a scenario; records why others cannot.
    fn participants(&mut self, scenario: &Scenario) -> anyhow::Result<Vec<Installed>> {
        if let Measure::Foreign(tool, _) = scenario.measure
            && !tool.is_installed()
        {
            let what = format!("{} in {}", tool.program(), scenario.name);
            self.say(&format!("{}: skipped: {} is not installed", scenario.name, tool.program()))?;
            self.environment.skipped.push((what, "not installed".to_owned()));
            return Ok(Vec::new());
        }
        let mut peers = Vec::new();
        for installed in &self.peers {
            match installed.peer.left_out(scenario) {
                Some(reason) => {
                    let what = format!("{} in {}", installed.peer.name(), scenario.name);
                    self.environment.skipped.push((what, reason));
                }
                None => peers.push(installed.clone()),
            }
        }
        Ok(peers)
    }

    fn measure(
        &mut self,
        scenario: &Scenario,
        installed: &Installed,
        round: usize,
    ) -> anyhow::Result<Figures> {
        let shape = scenario.shape;
        match scenario.measure {
            Measure::Closed(ask) => self.stage.load(installed, shape, ask, &Plan::default()),
            Measure::Foreign(tool, ask) => self.stage.foreign(installed, shape, ask, tool),
            Measure::Rate { percent, ask } => {
                let rate = self.reference_peak()? * percent / 100;
                let name = format!("{}-{}-{round}.hgrm", scenario.name, installed.peer.name());
                let hgrm = (percent == HGRM_PERCENT).then(|| self.out.join("hgrm").join(name));
                let plan = Plan { rate: Some(rate), hgrm, ..Plan::default() };
                let mut figures = self.stage.load(installed, shape, ask, &plan)?;
                figures.insert("offered_per_second".to_owned(), rate as f64);
                Ok(figures)
            }
            Measure::Idle { connections } => {
                let ask = Ask { connections, ..Ask::PLAIN };
                self.stage.idle(installed, shape, ask)
            }
            Measure::Held { connections, streams } => {
                self.stage.held(installed, shape, connections, streams)
            }
            Measure::Start => self.stage.start(installed, shape),
            Measure::Syscalls(ask) => self.stage.syscalls(installed, shape, ask),
            Measure::Instructions(ask) => self.stage.instructions(installed, shape, ask),
        }
    }

    /// nginx's median peak in this run, or the lowest peak of the measured proxies.
    fn reference_peak(&self) -> anyhow::Result<u64> {
        if let Some(peak) = self.peak {
            return Ok(peak);
        }
        let peak = |peer: Peer| {
            summary::spread(&self.samples, scenario::PEAK, peer.name(), "requests_per_second")
                .map(|spread| summary::whole(spread.median))
        };
        let proxies = [Peer::Haproxy, Peer::Corvoy, Peer::Floor, Peer::Envoy];
        peak(Peer::Nginx).or_else(|| proxies.into_iter().filter_map(peak).min()).with_context(
            || format!("rates need the scenario {} in the same run, or --peak", scenario::PEAK),
        )
    }

    fn record(
        &mut self,
        scenario: &Scenario,
        peer: Peer,
        round: usize,
        result: anyhow::Result<Figures>,
    ) -> anyhow::Result<()> {
        let name = peer.name();
        let mut sample = Sample {
            scenario: scenario.name.to_owned(),
            peer: name.to_owned(),
            round,
            figures: Figures::new(),
            failure: None,
        };
        match result {
            Ok(figures) => {
                let value = figures.get(scenario.figure).copied().unwrap_or(f64::NAN);
                self.say(&format!("  {name:8} {round} {value:12.2} {}", scenario.figure))?;
                sample.figures =
                    figures.into_iter().map(|(name, value)| (name, rounded(value))).collect();
            }
            Err(error) => {
                let words = self.stage.last_words(peer);
                let separator = if words.is_empty() { "" } else { ": " };
                let failure = self.scrub.clean(&format!("{error:#}{separator}{words}"));
                self.say(&format!("  {name:8} {round} failed: {failure}"))?;
                sample.failure = Some(failure);
            }
        }
        writeln!(self.raw, "{}", serde_json::to_string(&sample)?)?;
        self.samples.push(sample);
        Ok(())
    }

    /// Writes the remaining results; returns the folder of the record.
    fn finish(mut self) -> anyhow::Result<PathBuf> {
        self.environment.took_seconds = self.began.elapsed().as_secs();
        let commands: Vec<String> =
            self.stage.commands.iter().map(|line| self.scrub.clean(line)).collect();
        fs::write(self.out.join("commands.txt"), commands.join("\n") + "\n")?;
        write_csv(&self.out.join("raw.csv"), &self.samples)?;
        let environment = self.environment.clean(&self.scrub);
        let text = serde_json::to_string_pretty(&environment)?;
        fs::write(self.out.join("environment.json"), text + "\n")?;
        report::write(&self.out)?;
        Ok(self.out)
    }

    /// Prints a line with the time since the start.
    fn say(&self, line: &str) -> anyhow::Result<()> {
        let seconds = self.began.elapsed().as_secs();
        Ok(writeln!(std::io::stderr(), "{:3}:{:02} {line}", seconds / 60, seconds % 60)?)
    }
}

/// Rounded to a thousandth: more digits are not meaningful.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A new folder for a record, named by date and machine.
fn new_folder(environment: &Environment) -> PathBuf {
    let day = environment.began.split('T').next().unwrap_or_default();
    let base = format!("bench/results/{day}-{}", environment.machine());
    let more = (2..).map(|number| PathBuf::from(format!("{base}-{number}")));
    let mut names = std::iter::once(PathBuf::from(&base)).chain(more);
    names.find(|name| !name.exists()).unwrap_or_else(|| PathBuf::from(&base))
}

/// The installed peers, and why others are missing.
pub(crate) fn find(wanted: &[Peer]) -> (Vec<Installed>, Vec<(String, String)>) {
    let (mut here, mut skipped) = (Vec::new(), Vec::new());
    for peer in Peer::ALL {
        if !wanted.is_empty() && !wanted.contains(&peer) {
            continue;
        }
        match peer.find() {
            Ok(installed) => here.push(installed),
            Err(error) => skipped.push((peer.name().to_owned(), format!("{error:#}"))),
        }
    }
    (here, skipped)
}

/// One figure per line.
fn write_csv(path: &Path, samples: &[Sample]) -> anyhow::Result<()> {
    let mut text = String::from("scenario,peer,round,figure,value\n");
    for Sample { scenario, peer, round, figures, failure } in samples {
        for (figure, value) in figures {
            text.push_str(&format!("{scenario},{peer},{round},{figure},{value}\n"));
        }
        if let Some(failure) = failure {
            let failure = failure.replace(['"', '\n'], " ");
            text.push_str(&format!("{scenario},{peer},{round},failure,\"{failure}\"\n"));
        }
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The rate whose percentile tables are kept.
const HGRM_PERCENT: u64 = 70;
