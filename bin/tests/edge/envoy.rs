//! The responses of the real Envoy 1.40.0 to each payload, compared with Corvoy's. In the tables in
//! `envoy/` a line is a payload and the statuses of all responses, including the canary's;
//! `scripts/parity --record edge` records Envoy's responses again. `envoy/differences.txt` lists
//! the payloads with different responses, and the reasons; a payload that Envoy rejects is never
//! among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::is_oracle;

use super::corpus::Case;
use super::exchange::Exchange;

/// Compares each exchange with the record, or writes the record.
#[track_caller]
pub(super) fn compare<'a>(options: &str, played: impl Iterator<Item = (&'a Case, &'a Exchange)>) {
    let played: Vec<(&Case, String)> =
        played.map(|(case, exchange)| (case, statuses(exchange))).collect();
    if std::env::var_os("CORVOY_PARITY_RECORD").is_some() {
        let lines = played.iter().map(|(case, statuses)| format!("{}\t{statuses}\n", case.id));
        return fs::write(file(options), lines.collect::<String>()).unwrap();
    }
    let record = fs::read_to_string(file(options)).unwrap();
    let record: BTreeMap<&str, &str> =
        record.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(record.len(), played.len(), "a record of every payload");
    let different = fs::read_to_string(file("differences").with_extension("txt")).unwrap();
    let known = if is_oracle() { BTreeSet::new() } else { listed(&different, options) };
    let mut report = String::new();
    for (case, ours) in &played {
        let theirs = record[case.id.as_str()];
        let verdict = match (verdict(ours, theirs), known.contains(case.id.as_str())) {
            (None, false) | (Some(Verdict::Stricter | Verdict::Otherwise), true) => continue,
            (None, true) => "is answered as by Envoy, and listed as different".to_owned(),
            (Some(verdict), _) => format!("{verdict:?}"),
        };
        let _ = writeln!(report, "{} {verdict}: {ours}; Envoy: {theirs}", case.id);
    }
    assert!(report.is_empty(), "{report}");
}

/// The payloads with different responses under these options. A paragraph has the options, the
/// reason, and then the payloads.
fn listed<'a>(different: &'a str, options: &str) -> BTreeSet<&'a str> {
    let mut listed = BTreeSet::new();
    for paragraph in different.split("\n\n") {
        let (with, rest) = paragraph.split_once(": ").unwrap();
        assert!(["any", "default", "edge"].contains(&with), "{paragraph}");
        if with == "any" || with == options {
            let lines = rest.lines().filter_map(|line| line.strip_prefix("  "));
            listed.extend(lines.flat_map(str::split_ascii_whitespace));
        }
    }
    listed
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// Envoy rejects it, but we do not.
    Laxer,
    /// We reject it, but Envoy does not.
    Stricter,
    /// Both reject it, or both do not, with different statuses.
    Otherwise,
}

/// By the first responses that differ.
fn verdict(ours: &str, theirs: &str) -> Option<Verdict> {
    let (mut ours, mut theirs) = (ours.split(' '), theirs.split(' '));
    loop {
        let (one, other) = (ours.next(), theirs.next());
        if one == other {
            one?;
            continue;
        }
        // Anything but a response is a rejection. A 404 is not: the request was understood, but
        // matched no route. A 503 is the origin's failure.
        let refuses = |status: Option<&str>| {
            status.is_none_or(|status| {
                status == "-" || status == "501" || status.starts_with('4') && status != "404"
            })
        };
        return Some(match (refuses(one), refuses(other)) {
            (false, true) => Verdict::Laxer,
            (true, false) => Verdict::Stricter,
            _ => Verdict::Otherwise,
        });
    }
}

fn statuses(exchange: &Exchange) -> String {
    let statuses: Vec<String> =
        exchange.answers.iter().map(|answer| answer.status().to_string()).collect();
    if statuses.is_empty() { "-".into() } else { statuses.join(" ") }
}

fn file(options: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edge/envoy");
    folder.join(options).with_extension("tsv")
}
