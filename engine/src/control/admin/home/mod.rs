//! `/`: clusters, listeners and shards on one page, which keeps itself up to date.
//!
//! It needs no script and nothing from outside to be read: `page.js` only refreshes it and adds the
//! rates. Every number on it is in `/clusters`, `/listeners`, `/shards` or `/stats` as well.

use std::fmt::{Display, Write as _};

use serde_json::Value;

use crate::address::Address;
use crate::control::admin::reply::Reply;
use crate::control::admin::{
    Admin, ClusterView, ENDPOINTS, Effect, Endpoint, HealthFlags, HostView, clusters,
};
use crate::format;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/",
    effect: Effect::Shows,
    help: "Admin home page",
    parameters: &[],
    answer: |admin, _| {
        let mut page = String::new();
        let written = write(&mut page, admin);
        debug_assert!(written.is_ok(), "a string takes everything");
        Reply::text(page).with_content_type("text/html; charset=UTF-8")
    },
};

/// Hosts of a cluster that the page shows; failing ones come first if there are more.
const HOSTS_MAX: usize = 100;

fn write(out: &mut String, admin: &Admin) -> std::fmt::Result {
    let machine = String::from_utf8_lossy(&format::host_name_of_machine()).into_owned();
    let machine = escaped(&machine).to_string();
    let process = std::process::id();
    writeln!(out, "<!DOCTYPE html><html lang=en><meta charset=utf-8>")?;
    writeln!(out, "<meta name=viewport content='width=device-width'>")?;
    writeln!(out, "<title>Corvoy {machine} {process}</title>")?;
    writeln!(out, "<style>\n{}</style>", include_str!("page.css"))?;
    writeln!(out, "<main>")?;
    header(out, admin, &machine, process)?;
    table(out, "Clusters", &CLUSTER_COLUMNS, |out| {
        admin.server.clusters().iter().try_for_each(|cluster| cluster_rows(out, cluster))
    })?;
    table(out, "Listeners", &LISTENER_COLUMNS, |out| listener_rows(out, admin))?;
    table(out, "Shards", &SHARD_COLUMNS, |out| shard_rows(out, admin))?;
    writeln!(out, "</main>")?;
    commands(out)?;
    writeln!(out, "<script>\n{}</script></html>", include_str!("page.js"))
}

fn header(out: &mut String, admin: &Admin, machine: &str, process: u32) -> std::fmt::Result {
    let identity = admin.server.identity();
    let state = admin.server.state().name();
    let uptime = uptime(identity.started.elapsed().as_secs());
    let file = configuration(&identity.command_line_options);
    let file = escaped(&file);
    let version = escaped(&identity.version);
    writeln!(out, "<header><h1>Corvoy</h1> <b id=state class={state}>{state}</b>")?;
    writeln!(out, "<dl><dt>machine<dd>{machine}<dt>process<dd>{process}")?;
    writeln!(out, "<dt>configuration<dd>{file}<dt>up<dd>{uptime}<dt>version<dd>{version}</dl>")?;
    writeln!(out, "</header>")
}

/// The configuration that the flags name: a file with its absolute path, if that can be determined.
fn configuration(flags: &Value) -> String {
    let flag = |name: &str| flags.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
    match (flag("config_path"), flag("config_yaml")) {
        (Some(path), _) => match std::path::absolute(path) {
            Ok(whole) => whole.display().to_string(),
            Err(_) => path.to_owned(),
        },
        (None, Some(_)) => "--config-yaml".to_owned(),
        (None, None) => "built-in demonstration".to_owned(),
    }
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

// === tables ===

/// A column: its head, and what it counts in full.
type Column = (&'static str, &'static str);

const CLUSTER_COLUMNS: [Column; 12] = [
    ("cluster", ""),
    ("host", ""),
    ("state", "what discovery says of the host, or the last requests; there are no health checks"),
    ("weight", "load_balancing_weight"),
    ("cx", "open connections, and those being opened: cx_active"),
    ("active", "requests in flight: rq_active"),
    ("requests", "rq_total"),
    ("/s", "requests per second since the page was last refreshed"),
    ("success", "rq_success"),
    ("error", "5xx responses, resets and failed connects: rq_error"),
    ("timeout", "rq_timeout"),
    ("cx fail", "connects that failed: cx_connect_fail"),
];

const LISTENER_COLUMNS: [Column; 5] = [
    ("listener", ""),
    ("address", ""),
    ("cx", "open connections: downstream_cx_active"),
    ("accepted", "downstream_cx_total"),
    ("/s", "connections accepted per second since the page was last refreshed"),
];

const SHARD_COLUMNS: [Column; 6] = [
    ("shard", ""),
    ("core", ""),
    ("driver", ""),
    ("cx", "open client connections"),
    ("requests", "requests that were begun"),
    ("/s", "requests per second since the page was last refreshed"),
];

fn table(
    out: &mut String,
    title: &str,
    columns: &[Column],
    rows: impl FnOnce(&mut String) -> std::fmt::Result,
) -> std::fmt::Result {
    write!(out, "<h2>{title}</h2><div><table><tr>")?;
    for (name, meaning) in columns {
        write!(out, "<th title='{}'>{name}", escaped(meaning))?;
    }
    writeln!(out)?;
    rows(out)?;
    writeln!(out, "</table></div>")
}

fn shard_rows(out: &mut String, admin: &Admin) -> std::fmt::Result {
    for (number, shard) in admin.server.shards().iter().enumerate() {
        let core = shard.core.map_or_else(|| "unpinned".to_owned(), |core| core.to_string());
        let driver = escaped(&shard.driver);
        write!(out, "<tr><td>{number}<td>{core}<td>{driver}")?;
        cells(out, &[shard.connections])?;
        rate(out, &format!("shard {number}"), shard.requests)?;
        writeln!(out)?;
    }
    Ok(())
}

fn listener_rows(out: &mut String, admin: &Admin) -> std::fmt::Result {
    for listener in admin.server.listeners() {
        let addresses: Vec<String> = listener.addresses.iter().map(Address::to_string).collect();
        let addresses = addresses.join(" ");
        let (name, address) = (escaped(&listener.name), escaped(&addresses));
        write!(out, "<tr><td>{name}<td>{address}")?;
        let accepted = listener.stats.counter(|stats| &stats.downstream_cx_total);
        cells(out, &[listener.cx_active()])?;
        rate(out, &format!("listener {} {addresses}", listener.name), accepted)?;
        writeln!(out)?;
    }
    Ok(())
}

fn cluster_rows(out: &mut String, cluster: &ClusterView) -> std::fmt::Result {
    if cluster.hosts.is_empty() {
        let name = escaped(&cluster.name);
        return writeln!(out, "<tr class=bad><td>{name}<td><td>no hosts<td colspan=9>");
    }
    let mut hosts: Vec<&HostView> = cluster.hosts.iter().collect();
    if hosts.len() > HOSTS_MAX {
        hosts.sort_by_key(|host| host.failing.is_none() && host.health == HealthFlags::default());
    }
    let mut name = cluster.name.as_str();
    for host in hosts.iter().take(HOSTS_MAX) {
        host_row(out, &cluster.name, std::mem::take(&mut name), host)?;
    }
    let more = hosts.len().saturating_sub(HOSTS_MAX);
    if more > 0 {
        writeln!(out, "<tr><td><td colspan=11><a href=/clusters>{more} more</a>")?;
    }
    Ok(())
}

fn host_row(out: &mut String, cluster: &str, shown: &str, host: &HostView) -> std::fmt::Result {
    let (class, state) = host_state(host);
    let (name, state) = (escaped(shown), escaped(&state).to_string());
    let (address, counts) = (host.address.to_string(), host.counts);
    write!(out, "<tr class={class}><td>{name}<td>{}", escaped(&address))?;
    if !host.hostname.is_empty() {
        write!(out, " <small>{}</small>", escaped(&host.hostname))?;
    }
    write!(out, "<td>{state}")?;
    cells(out, &[u64::from(host.weight), counts.cx_active, counts.rq_active])?;
    rate(out, &format!("host {cluster} {address}"), counts.rq_total)?;
    cells(out, &[counts.rq_success])?;
    for count in [counts.rq_error, counts.rq_timeout, counts.cx_connect_fail] {
        let class = if count == 0 { "n" } else { "'n some'" };
        write!(out, "<td class={class}>{count}")?;
    }
    writeln!(out)
}

/// The state of a host, and how it is shown. Without health checks it is not known to be healthy.
fn host_state(host: &HostView) -> (&'static str, String) {
    match &host.failing {
        Some(failing) => {
            ("bad", format!("{}, for {}", failing.cause, uptime(failing.duration.as_secs())))
        }
        None if host.health == HealthFlags::default() => ("unchecked", "not checked".to_owned()),
        None => ("bad", clusters::flags(host.health)),
    }
}

fn cells(out: &mut String, numbers: &[u64]) -> std::fmt::Result {
    numbers.iter().try_for_each(|number| write!(out, "<td class=n>{number}"))
}

/// A count, and room for how much it grows in a second.
fn rate(out: &mut String, key: &str, count: u64) -> std::fmt::Result {
    write!(out, "<td class=n data-rate='{}'>{count}<td class=n>", escaped(key))
}

// === commands ===

fn commands(out: &mut String) -> std::fmt::Result {
    writeln!(out, "<nav><p>")?;
    for endpoint in with(Effect::Shows) {
        let (path, help) = (endpoint.path, escaped(endpoint.help));
        writeln!(out, "<a href='{path}' title='{help}'>{path}</a>")?;
    }
    writeln!(out, "<p>")?;
    for endpoint in with(Effect::Changes) {
        button(out, endpoint, endpoint.path)?;
    }
    writeln!(out, "<p>")?;
    for endpoint in with(Effect::Exits) {
        let (path, help) = (endpoint.path, escaped(endpoint.help));
        writeln!(out, "<details><summary title='{help}'>{path} …</summary>")?;
        writeln!(out, "The process exits at once and its connections are cut. ")?;
        button(out, endpoint, "Exit now")?;
        writeln!(out, "</details>")?;
    }
    writeln!(out, "<p><output></output></nav>")
}

fn with(effect: Effect) -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter().copied().filter(move |endpoint| endpoint.effect == effect)
}

fn button(out: &mut String, endpoint: &Endpoint, label: &str) -> std::fmt::Result {
    let (path, help) = (endpoint.path, escaped(endpoint.help));
    writeln!(
        out,
        "<form method=post action='{path}'><button title='{help}'>{label}</button></form>"
    )
}

/// Names come from the configuration, and may come from elsewhere one day.
pub(super) fn escaped(text: &str) -> impl Display {
    std::fmt::from_fn(move |f| {
        text.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_named_by_where_it_comes_from() {
        let from = |flags: Value| configuration(&flags);
        let both = serde_json::json!({ "config_path": "/etc/a.yaml", "config_yaml": "a: b" });
        assert_eq!(from(both), "/etc/a.yaml");
        let here = serde_json::json!({ "config_path": "a.yaml" });
        let folder = std::env::current_dir().unwrap();
        assert_eq!(from(here), folder.join("a.yaml").display().to_string());
        let yaml = serde_json::json!({ "config_path": "", "config_yaml": "a: b" });
        assert_eq!(from(yaml), "--config-yaml");
        assert_eq!(from(serde_json::json!({})), "built-in demonstration");
    }

    #[test]
    fn a_duration_has_two_units_at_most() {
        for (seconds, text) in
            [(0, "0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (200_000, "2 d 7 h")]
        {
            assert_eq!(uptime(seconds), text);
        }
    }
}
