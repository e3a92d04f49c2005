//! The results of a run for readers: `summary.md`, and `summary.json` for the plots.

mod page;
mod targets;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::peers::{Cores, Peer};
use crate::report::targets::Limit;
use crate::run::environment::Environment;
use crate::scenario::{self, Scenario};
use crate::summary::{self, Ratio, Sample, Spread};

/// Which results to write again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of a run.
    folder: PathBuf,
    /// Also show it on this page: targets, plots and medians, with links into the folder.
    #[arg(long)]
    page: Option<PathBuf>,
}

/// Writes the summary of a run again, from its raw data.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    write(&options.folder)?;
    if let Some(page) = &options.page {
        let summary = fs::read_to_string(options.folder.join("summary.md"))?;
        let text = page::of(&summary, &options.folder, page)?;
        fs::write(page, text).with_context(|| page.display().to_string())?;
    }
    Ok(())
}

/// Reads raw data and environment from `folder` and writes the summary beside them.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let samples: Vec<Sample> =
        read("raw.jsonl")?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let environment: Environment = serde_json::from_str(&read("environment.json")?)?;
    let chapters = chapters(&samples);
    let text = markdown(&samples, &environment, &chapters, &plots(folder));
    fs::write(folder.join("summary.md"), text)?;
    let lines: Vec<String> =
        chapters.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(folder.join("summary.json"), format!("[\n{}\n]\n", lines.join(",\n")))?;
    Ok(())
}

/// One scenario, as shown.
#[derive(Debug, Serialize)]
struct Chapter {
    scenario: String,
    about: String,
    /// The figure of the ratios.
    figure: String,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

#[derive(Debug, Serialize)]
struct Row {
    peer: String,
    figures: BTreeMap<String, Spread>,
    failure: Option<String>,
}

fn chapters(samples: &[Sample]) -> Vec<Chapter> {
    let measured = |scenario: &Scenario| samples.iter().any(|s| s.scenario == scenario.name);
    scenario::all()
        .into_iter()
        .filter(measured)
        .map(|Scenario { name, about, figure, .. }| {
            let mine = || samples.iter().filter(|sample| sample.scenario == name);
            let mut peers = summary::distinct(mine().map(|sample| sample.peer.as_str()));
            peers.sort_by_key(|peer| Peer::ALL.iter().position(|known| known.name() == *peer));
            let rows = peers.iter().map(|peer| row(samples, name, peer)).collect();
            let pairs = peers.iter().flat_map(|of| peers.iter().map(move |to| (*of, *to)));
            let ratios = pairs
                .filter(|(of, to)| of != to)
                .filter_map(|pair| summary::ratio(samples, name, figure, pair))
                .collect();
            let (scenario, about, figure) = (name.to_owned(), about.to_owned(), figure.to_owned());
            Chapter { scenario, about, figure, rows, ratios }
        })
        .collect()
}

fn row(samples: &[Sample], scenario: &str, peer: &str) -> Row {
    let mine = || samples.iter().filter(|s| s.scenario == scenario && s.peer == peer);
    let names = summary::distinct(mine().flat_map(|s| s.figures.keys().map(String::as_str)));
    let figures = names
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), summary::spread(samples, scenario, peer, name)?)))
        .collect();
    let failure = mine().find_map(|sample| sample.failure.clone());
    Row { peer: peer.to_owned(), figures, failure }
}

fn markdown(
    samples: &[Sample],
    environment: &Environment,
    chapters: &[Chapter],
    plots: &[String],
) -> String {
    let mut text = String::new();
    let out = &mut text;
    heading(out, environment);
    if samples.iter().any(|sample| sample.peer == Peer::Corvoy.name()) {
        targets(out, samples);
    }
    for plot in plots {
        line(out, &format!("![{plot}](plots/{plot}.svg)\n"));
    }
    overview(out, chapters);
    line(out, page::END);
    for chapter in chapters {
        line(out, &format!("## {}: {}\n", chapter.scenario, chapter.about));
        table(out, &chapter.rows);
        ratios(out, chapter);
    }
    text
}

fn heading(out: &mut String, environment: &Environment) {
    let Environment {
        began,
        kernel,
        cpu,
        cores,
        memory_kib,
        hypervisor,
        mitigations,
        governor,
        congestion_control,
        load_average,
        commit,
        rustc,
        command,
        rounds,
        seconds,
        took_seconds: _,
        cores_of_proxy,
        cores_of_origin,
        cores_of_client,
        syscalls_by,
        peers,
        tools,
        skipped,
    } = environment;
    line(out, &format!("# Bench of {began}, commit {commit}\n"));
    let metal = if *hypervisor { "a virtual machine" } else { "bare metal" };
    let memory = memory_kib >> 20;
    line(out, &format!("{cpu}, {cores} cores, {memory} GiB, {metal}; Linux {kernel}; {rustc}."));
    let governor = if governor.is_empty() { "not visible" } else { governor };
    let congestion_control =
        if congestion_control.is_empty() { "not noted" } else { congestion_control };
    line(out, &format!("Governor {governor}; TCP congestion control {congestion_control};"));
    line(out, &format!("load average before the run {load_average}."));
    line(out, &format!("Mitigations: {}.\n", mitigations.join("; ")));
    line(
        out,
        &format!("`{command}`: {rounds} rounds that alternate between the peers, {seconds} s"),
    );
    line(out, &format!("each. One thread a proxy, on core {cores_of_proxy}; origin on core"));
    line(out, &format!("{cores_of_origin}, clients on core {cores_of_client}. Cells are medians"));
    line(out, "with the range of the rounds. CPU time is of the proxy's processes, user and");
    line(out, "system, from /proc. Where client and origin share a core, that core limits");
    line(out, "requests/s of the cheaper proxies: compare the CPU time. Latency in closed loops");
    line(out, "is that of a saturated proxy; the `rate-` scenarios show what users would feel.");
    line(out, &format!("System calls are counted by `{syscalls_by}`, instructions by callgrind."));
    let Cores { proxy, origin, client } = Cores::divide(*cores, 2);
    let apart = format!("proxy {proxy}, origin {origin}, clients {client}");
    line(
        out,
        &format!("Scenarios with two threads have other cores: {apart}. The time from exec to"),
    );
    line(out, "the first answer includes pinning the process (two further execs, some 2 ms).\n");
    line(out, "| program | version |\n| --- | --- |");
    for (peer, version) in peers.iter().chain(tools) {
        line(out, &format!("| {peer} | {version} |"));
    }
    for (name, reason) in skipped {
        line(out, &format!("| {name} | skipped: {reason} |"));
    }
    line(out, "");
}

fn targets(out: &mut String, samples: &[Sample]) {
    line(
        out,
        "## Targets\n\nThe last column has the ratio of the floor, which only forwards bytes.\n\n\
         | figure of Corvoy | target | measured | | floor |\n| --- | --- | --- | --- | --- |",
    );
    for verdict in targets::verdicts(samples) {
        let measured = verdict.measured.map_or_else(|| "–".to_owned(), number);
        let floor = verdict.of_the_floor.map_or_else(String::new, number);
        let limit = match verdict.limit {
            Limit::AtMost(most) => format!("≤ {}", number(most)),
            Limit::AtLeast(least) => format!("≥ {}", number(least)),
        };
        let (about, word) = (verdict.about, verdict.word());
        line(out, &format!("| {about} | {limit} | {measured} | {word} | {floor} |"));
    }
    line(out, "");
}

/// The medians of the main figure of each scenario, with all peers side by side.
fn overview(out: &mut String, chapters: &[Chapter]) {
    let rows = || chapters.iter().flat_map(|chapter| &chapter.rows);
    let peers: Vec<&str> = Peer::ALL
        .iter()
        .map(|peer| peer.name())
        .filter(|name| rows().any(|row| row.peer == *name))
        .collect();
    line(out, &format!("## Medians\n\n| scenario | figure | {} |", peers.join(" | ")));
    line(out, &format!("| --- | --- |{}", " ---: |".repeat(peers.len())));
    for Chapter { scenario, about, figure, rows, ratios: _ } in chapters {
        let cell = |peer: &&str| {
            let row = rows.iter().find(|row| row.peer == **peer);
            let spread = row.and_then(|row| row.figures.get(figure));
            spread.map_or_else(|| "–".to_owned(), |spread| number(spread.median))
        };
        let cells: Vec<String> = peers.iter().map(cell).collect();
        let title = title(figure);
        line(out, &format!("| {scenario}: {about} | {title} | {} |", cells.join(" | ")));
    }
    line(out, "");
}

/// The name of a figure in tables.
fn title(figure: &str) -> &str {
    COLUMNS.iter().find(|(name, _)| *name == figure).map_or(figure, |(_, title)| *title)
}

fn table(out: &mut String, rows: &[Row]) {
    let shown: Vec<_> = COLUMNS
        .iter()
        .filter(|(figure, _)| rows.iter().any(|row| row.figures.contains_key(*figure)))
        .collect();
    let titles: Vec<&str> = shown.iter().map(|(_, title)| *title).collect();
    line(out, &format!("| peer | {} |", titles.join(" | ")));
    line(out, &format!("| --- |{}", " ---: |".repeat(titles.len())));
    for row in rows {
        let cells: Vec<String> = shown
            .iter()
            .map(|(figure, _)| row.figures.get(*figure).map_or_else(|| "–".to_owned(), cell))
            .collect();
        line(out, &format!("| {} | {} |", row.peer, cells.join(" | ")));
    }
    line(out, "");
    for row in rows {
        if let Some(failure) = &row.failure {
            line(out, &format!("{} failed: {failure}\n", row.peer));
        }
    }
}

/// All pairs of peers: the row's figure divided by the column's.
fn ratios(out: &mut String, chapter: &Chapter) {
    let peers = summary::distinct(chapter.ratios.iter().map(|ratio| ratio.of.as_str()));
    if peers.len() < 2 {
        return;
    }
    let title = title(&chapter.figure);
    line(out, &format!("Ratio of {title}, row to column; in brackets the range of the rounds:\n"));
    line(out, &format!("| | {} |", peers.join(" | ")));
    line(out, &format!("| --- |{}", " ---: |".repeat(peers.len())));
    for of in &peers {
        let cells: Vec<String> = peers
            .iter()
            .map(|to| {
                let pair = |ratio: &&Ratio| ratio.of == *of && ratio.to == *to;
                chapter.ratios.iter().find(pair).map_or_else(String::new, |ratio| {
                    let Spread { min, max, .. } = ratio.rounds;
                    format!("{:.2} ({min:.2}–{max:.2})", ratio.medians)
                })
            })
            .collect();
        line(out, &format!("| {of} | {} |", cells.join(" | ")));
    }
    line(out, "");
}

fn cell(spread: &Spread) -> String {
    let Spread { median, min, max, count } = *spread;
    if count == 1 || (max - min).abs() < f64::EPSILON {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(min), number(max))
}

/// With as many digits as are meaningful.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The names of the existing plots, without extension, the most important first.
fn plots(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("plots")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".svg").map(str::to_owned))
        .collect();
    let place = |name: &String| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len());
    names.sort_by_key(|name| (place(name), name.clone()));
    names
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").ok();
}

/// The plots that come first.
const FIRST: [&str; 5] = [
    "cpu-per-request",
    "requests-per-second",
    "cpu-per-mb",
    "p99-against-rate",
    "latency-by-percentile",
];

/// The figures of the tables, in order.
const COLUMNS: [(&str, &str); 20] = [
    ("offered_per_second", "offered/s"),
    ("requests_per_second", "requests/s"),
    ("cpu_us_per_request", "CPU µs/request"),
    ("user_us_per_request", "user µs"),
    ("system_us_per_request", "system µs"),
    ("cpu_us_per_mb", "CPU µs/MB"),
    ("core_share", "core share"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("p999_us", "p99.9 µs"),
    ("lateness_p99_us", "sent late p99 µs"),
    ("syscalls_per_request", "system calls/request"),
    ("instructions_per_request", "instructions/request"),
    ("start_ms", "exec to first answer, ms"),
    ("rss_kib", "RSS KiB"),
    ("pss_kib", "PSS KiB"),
    ("pss_kib_per_connection", "PSS KiB/connection"),
    ("pss_kib_per_stream", "PSS KiB/stream"),
    ("rss_kib_per_connection", "RSS KiB/connection"),
    ("failed", "failed"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Figures;

    fn sample(peer: &str, round: usize, value: f64) -> Sample {
        let figures = Figures::from([("cpu_us_per_request".to_owned(), value)]);
        let (scenario, peer) = ("get-64".to_owned(), peer.to_owned());
        Sample { scenario, peer, round, figures, failure: None }
    }

    #[test]
    fn a_table_has_median_range_and_every_pair() {
        let mut samples: Vec<Sample> =
            [11.0, 12.0, 13.0].iter().enumerate().map(|(i, v)| sample("corvoy", i, *v)).collect();
        samples.extend([16.0, 15.0, 17.0].iter().enumerate().map(|(i, v)| sample("nginx", i, *v)));
        let chapters = chapters(&samples);
        let mut text = String::new();
        table(&mut text, &chapters[0].rows);
        ratios(&mut text, &chapters[0]);
        assert!(text.contains("| corvoy | 12.0 (11.0–13.0) |"), "{text}");
        assert!(text.contains("| corvoy |  | 0.75 (0.69–0.80) |"), "{text}");
        assert!(text.contains("| nginx | 1.33 (1.25–1.45) |  |"), "{text}");
    }

    #[test]
    fn a_failure_is_shown_in_place_of_its_figures() {
        let mut failed = sample("envoy", 0, 1.0);
        failed.figures.clear();
        failed.failure = Some("no answer within 20s".to_owned());
        let mut text = String::new();
        table(&mut text, &chapters(&[failed])[0].rows);
        assert!(text.contains("envoy failed: no answer within 20s"));
    }

    #[test]
    fn the_overview_has_a_line_a_scenario_and_a_column_a_peer() {
        let mut text = String::new();
        overview(&mut text, &chapters(&[sample("corvoy", 0, 11.0), sample("nginx", 0, 16.0)]));
        assert!(text.contains("| scenario | figure | corvoy | nginx |"), "{text}");
        assert!(text.contains("| CPU µs/request | 11.0 | 16.0 |"), "{text}");
    }
}
