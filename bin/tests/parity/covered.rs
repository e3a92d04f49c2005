//! Which options of the connection manager have cases: the generated table in `README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use regex::Regex;

use super::case::{Case, Kind};
use super::{cases_of, folders, root};

/// Options whose fields are options.
const GROUPS: [&str; 4] = [
    "common_http_protocol_options",
    "http_protocol_options",
    "internal_address_config",
    "scheme_header_transformation",
];

/// Options that every case has, that have only one value, or whose stories are elsewhere: routes that come while
/// the proxy runs are in `dynamic_resources.rs`.
const EVERYWHERE: [&str; 5] = ["codec_type", "http_filters", "rds", "route_config", "stat_prefix"];

/// Options that only a cluster may have.
const OF_A_CLUSTER: [&str; 2] = [
    "common_http_protocol_options.max_response_headers_kb",
    "http_protocol_options.send_fully_qualified_url",
];

/// The values of an option in the cases, and the cases.
#[derive(Default)]
struct Covered {
    values: BTreeSet<String>,
    cases: BTreeSet<String>,
}

#[test]
fn every_option_of_the_connection_manager_has_cases() {
    let covered = covered();
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    let mut missing = Vec::new();
    for option in &documented {
        match covered.get(option) {
            None => missing.push(format!("{option}: no case")),
            Some(Covered { values, .. }) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                if let ["true"] | ["false"] = values[..] {
                    missing.push(format!("{option}: only {values:?}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");

    let readme = root().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once("<!-- options -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let now = format!("{before}<!-- options -->\n{}<!-- end -->{after}", table(&covered));
    if std::env::var_os("BLESS").is_some() {
        fs::write(readme, now).unwrap();
    } else {
        assert!(now == text, "the table of options is old: BLESS=1 renews it");
    }
}

fn table(covered: &BTreeMap<String, Covered>) -> String {
    let mut table = String::from("| option | values | cases |\n| --- | --- | --- |\n");
    for (option, Covered { values, cases }) in covered {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut named: Vec<&str> = cases.iter().map(String::as_str).collect();
        // Cases about the option come first.
        let about = option.rsplit('.').next().unwrap_or_default().replace('_', "-");
        named.sort_by_key(|case| !case.contains(&about));
        let more = if named.len() > 3 { ", …" } else { "" };
        named.truncate(3);
        let (values, named) = (values.join(" · "), named.join(", "));
        let _ = writeln!(table, "| `{option}` | {values} | {named}{more} |");
    }
    table
}

/// The options of all cases, including those of the configuration of their folder.
fn covered() -> BTreeMap<String, Covered> {
    let mut covered: BTreeMap<String, Covered> = BTreeMap::new();
    let mut add = |yaml: &str, case: &str| {
        for (option, value) in options(yaml) {
            let entry = covered.entry(option).or_default();
            entry.values.insert(value);
            entry.cases.insert(case.to_owned());
        }
    };
    for folder in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let config = fs::read_to_string(folder.join("config.yaml")).unwrap();
        add(&of_manager(&config), &name);
        for path in cases_of(&folder) {
            let case = Case::parse(&fs::read_to_string(&path).unwrap()).unwrap();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            for step in case.steps.iter().filter(|step| step.kind == Kind::ManagerHas) {
                add(&step.text, &format!("{name}/{stem}"));
            }
        }
    }
    covered
}

/// The fields of the connection manager in a configuration, without indentation.
fn of_manager(config: &str) -> String {
    let mut lines = config.lines().skip_while(|line| !line.contains("stat_prefix: front"));
    let Some(first) = lines.next() else { return String::new() };
    let indent = first.len() - first.trim_start().len();
    lines
        .take_while(|line| {
            line.trim().is_empty() || line.get(..indent).unwrap_or("x").trim().is_empty()
        })
        .map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// The options in a piece of YAML, with their values; for long or nested values, only that they
/// exist.
fn options(yaml: &str) -> Vec<(String, String)> {
    let top = Regex::new(r"(?m)^(\w+):[ \t]*(.*)$").unwrap();
    let field = Regex::new(r"(\w+):\s*(\{.*\}|\[.*\]|[^,{}]+)").unwrap();
    let shown = |value: &str| {
        let value = value.trim().trim_matches('"');
        let is_plain = !value.is_empty() && value.len() < 40 && !value.contains(['{', '[', '|']);
        if is_plain || value == "{}" {
            format!("`{value}`").replace("`true`", "true")
        } else {
            "…".into()
        }
    };
    let shown = |value: &str| shown(value).replace("`false`", "false");
    let mut options = Vec::new();
    for found in top.captures_iter(yaml) {
        let (name, value) = (&found[1], &found[2]);
        if EVERYWHERE.contains(&name) || name.starts_with('#') {
            continue;
        }
        options.push((name.to_owned(), shown(value)));
        if GROUPS.contains(&name) {
            options.pop();
            let inner = value.trim().trim_start_matches('{').trim_end_matches('}');
            if inner.trim().is_empty() {
                options.push((name.to_owned(), shown(value)));
            }
            for found in field.captures_iter(inner) {
                options.push((format!("{name}.{}", &found[1]), shown(&found[2])));
            }
        }
    }
    options
}

/// The options of the connection manager that `docs/COMPATIBILITY.md` lists as done.
fn documented() -> BTreeSet<String> {
    let page = root().join("../../../docs/COMPATIBILITY.md");
    let page = fs::read_to_string(page).unwrap();
    let name = Regex::new("`([a-z_0-9]+)`").unwrap();
    let done = |message: &str, prefix: &str| -> Vec<String> {
        let (_, section) = page.split_once(&format!("### envoy.{message}\n")).unwrap();
        let section = section.split("\n### ").next().unwrap_or_default();
        let lines = section.lines().filter(|line| {
            line.starts_with("- done:")
                || line.starts_with("- in part:") && line.contains("(refused")
        });
        let lines = lines.map(|line| line.split(" (").next().unwrap_or_default());
        lines
            .flat_map(|line| name.captures_iter(line).map(|found| format!("{prefix}{}", &found[1])))
            .collect()
    };
    const MANAGER: &str =
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let mut all: BTreeSet<String> = done(MANAGER, "").into_iter().collect();
    all.extend(done("config.core.v3.HttpProtocolOptions", "common_http_protocol_options."));
    all.extend(done("config.core.v3.Http1ProtocolOptions", "http_protocol_options."));
    all.retain(|option| {
        let option = option.as_str();
        ![&EVERYWHERE[..], &GROUPS, &OF_A_CLUSTER].iter().any(|names| names.contains(&option))
    });
    all
}
