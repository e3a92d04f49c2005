//! `/`: clusters, listeners and shards on one page, which keeps itself up to date.

use std::fmt::{Display, Write as _};

use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, ClusterView, ENDPOINTS, Effect, Endpoint, clusters};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/",
    effect: Effect::Shows,
    help: "Admin home page",
    parameters: &[],
    answer: |admin, _| {
        let mut page = HEAD.to_owned();
        let written = body(&mut page, admin);
        debug_assert!(written.is_ok(), "a string takes everything");
        Reply::text(page).with_content_type("text/html; charset=UTF-8")
    },
};

fn body(out: &mut String, admin: &Admin) -> std::fmt::Result {
    let identity = admin.server.identity();
    let (state, uptime) = (admin.server.state().name(), identity.started.elapsed().as_secs());
    let version = escaped(&identity.version);
    writeln!(
        out,
        "<main><h1>Corvoy <b class={state}>{state}</b> <small>{uptime} s, {version}</small></h1>"
    )?;
    shards(out, admin)?;
    listeners(out, admin)?;
    writeln!(
        out,
        "<h2>Clusters</h2><table><tr><th>cluster<th>host<th>health<th>weight<th>cx<th>rq"
    )?;
    writeln!(out, "<th>rq total<th>success<th>error<th>timeout<th>cx fail")?;
    admin.server.clusters().iter().try_for_each(|cluster| cluster_rows(out, cluster))?;
    writeln!(out, "</table></main><nav>")?;
    for endpoint in ENDPOINTS {
        let (path, help) = (endpoint.path, escaped(endpoint.help));
        match endpoint.effect {
            Effect::Shows => writeln!(out, "<a href='{path}' title='{help}'>{path}</a>")?,
            Effect::Changes => writeln!(
                out,
                "<form method=post action='{path}'><button title='{help}'>{path}</button></form>"
            )?,
        }
    }
    writeln!(out, "</nav>{SCRIPT}")
}

fn shards(out: &mut String, admin: &Admin) -> std::fmt::Result {
    writeln!(
        out,
        "<h2>Shards</h2><table><tr><th>shard<th>core<th>driver<th>connections<th>requests"
    )?;
    for (number, shard) in admin.server.shards().iter().enumerate() {
        let core = shard.core.map_or_else(|| "unpinned".to_owned(), |core| core.to_string());
        let driver = escaped(&shard.driver);
        write!(out, "<tr><td>{number}<td>{core}<td>{driver}")?;
        cells(out, &[shard.connections, shard.requests])?;
    }
    writeln!(out, "</table>")
}

fn listeners(out: &mut String, admin: &Admin) -> std::fmt::Result {
    writeln!(
        out,
        "<h2>Listeners</h2><table><tr><th>listener<th>address<th>connections<th>accepted"
    )?;
    for listener in admin.server.listeners() {
        let (name, address) = (escaped(&listener.name), listener.address);
        write!(out, "<tr><td>{name}<td>{address}")?;
        let accepted = listener.stats.counter(|stats| &stats.downstream_cx_total);
        cells(out, &[listener.cx_active(), accepted])?;
    }
    writeln!(out, "</table>")
}

fn cluster_rows(out: &mut String, cluster: &ClusterView) -> std::fmt::Result {
    if cluster.hosts.is_empty() {
        return writeln!(
            out,
            "<tr class=bad><td>{}<td colspan=10>no hosts",
            escaped(&cluster.name)
        );
    }
    for (at, host) in cluster.hosts.iter().enumerate() {
        let name = if at == 0 { cluster.name.as_str() } else { "" };
        let health = clusters::flags(host.health);
        let class = if health == "healthy" { "good" } else { "bad" };
        let (name, address, counts) = (escaped(name), host.address, host.counts);
        write!(out, "<tr class={class}><td>{name}<td>{address}<td>{health}")?;
        cells(out, &[u64::from(host.weight), counts.cx_active, counts.rq_active, counts.rq_total])?;
        cells(
            out,
            &[counts.rq_success, counts.rq_error, counts.rq_timeout, counts.cx_connect_fail],
        )?;
    }
    Ok(())
}

fn cells(out: &mut String, numbers: &[u64]) -> std::fmt::Result {
    numbers.iter().try_for_each(|number| write!(out, "<td class=n>{number}"))
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

const HEAD: &str = "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Corvoy</title><style>
body{font:13px/1.4 system-ui,sans-serif;margin:1em 2em;color:#222;background:#fff}
h1{font-size:18px}h1 small{font-weight:normal;color:#777}h2{font-size:14px;margin:1em 0 .2em}
table{border-collapse:collapse}td,th{padding:1px 10px 1px 0;text-align:left;white-space:nowrap}
th{color:#777;font-weight:normal;border-bottom:1px solid #ccc}.n{text-align:right;font-variant-numeric:tabular-nums}
.LIVE,.good td:nth-child(3){color:#080}.bad td,.DRAINING{color:#c00}
nav{margin-top:2em}nav a,nav form{display:inline-block;margin:0 1em .3em 0}button{font:inherit}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}</style>
";

const SCRIPT: &str = "<script>setInterval(async()=>{const page=await(await fetch('/')).text();
const main=new DOMParser().parseFromString(page,'text/html').querySelector('main');
document.querySelector('main').replaceWith(main)},2000)</script></html>";
