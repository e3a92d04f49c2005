//! HAProxy, as a keep-alive reverse proxy; many routes use a map, as its manual recommends.

use std::fmt::Write;

use super::{Addresses, Downstream, Shape, Upstream};
use crate::tls::Files;

pub(super) fn config(shape: Shape, at: Addresses, map: &str, files: Option<&Files>) -> String {
    let Shape {
        routes,
        hosts,
        clusters,
        retries,
        shards,
        downstream,
        upstream,
        // It has none: such scenarios are skipped.
        filters: _,
    } = shape;
    let alpn = downstream.alpn();
    let Addresses { origin, proxy, .. } = at;
    let (bind, scheme) = match files {
        Some(Files { both, .. }) => {
            let both = both.display();
            (format!(" ssl crt {both} ssl-min-ver TLSv1.3 alpn {alpn}"), "https")
        }
        None if downstream.is_http2() => (" proto h2".to_owned(), "http"),
        None => (String::new(), "http"),
    };
    let proto = if upstream == Upstream::H2c { " proto h2" } else { "" };
    let (mode, rules) = if downstream == Downstream::Tcp {
        ("tcp", String::new())
    } else {
        let rules = format!(
            "http-request set-header X-Request-Id %[uuid()]
    http-request set-header X-Forwarded-Proto {scheme}
    "
        );
        ("http\n    http-reuse always", rules)
    };
    let retry = if retries {
        "retries 3\n    retry-on conn-failure empty-response response-timeout 500 502 503 504"
    } else {
        "retries 0"
    };
    let choice = if hosts > 1 {
        format!("use_backend %[req.hdr(host),lower,map_str({map})]")
    } else if routes > 1 {
        format!("use_backend %[path,map_beg({map})]")
    } else {
        "default_backend c0".to_owned()
    };
    let mut text = format!(
        "global
    nbthread {shards}
    maxconn 20000
    no strict-limits
defaults
    mode {mode}
    option splice-auto
    timeout connect 5s
    timeout client 1h
    timeout http-keep-alive 1h
    timeout server 15s
    {retry}
frontend bench
    bind {proxy} backlog 4096{bind}
    {rules}{choice}
"
    );
    for cluster in 0..clusters {
        writeln!(text, "backend c{cluster}\n    server origin {origin}{proto}").ok();
    }
    text
}

/// Which host or prefix is routed to which backend.
pub(super) fn map(shape: Shape) -> String {
    let mut text = String::new();
    if shape.hosts > 1 {
        for host in shape.hosts() {
            writeln!(text, "{host} c0").ok();
        }
    } else if shape.routes > 1 {
        for route in 0..shape.routes {
            writeln!(text, "/r{route}/ c{}", route % shape.clusters).ok();
        }
    }
    text
}
