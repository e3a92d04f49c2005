//! The cases again, with TLS on both sides of the proxy.
//!
//! What is recorded holds for both transports, but for the scheme. Not here: folders about the
//! connection itself (`chain_trees`, `filter_chains`, `listener_filters`, `plain_connections`, `tcp`), about TLS (`secrets`, `server_names`) or the scheme
//! (`schemes`, which the engine's tests have over TLS, `internal_redirects`, and `filter_basic_auth`, whose realms have it), and `admin`.

use std::sync::LazyLock;

use regex::Regex;

use crate::support::Tls;

use super::case::Case;
use super::{check_each, run};

macro_rules! folders {
    ($($folder:ident),* $(,)?) => {
        $(#[test]
        fn $folder() {
            check(stringify!($folder));
        })*
    };
}

folders!(
    answers,
    attempts,
    bad_requests,
    bodies,
    connect,
    connect_forwarded,
    failures,
    filter_api_key_auth,
    filter_buffer,
    filter_cdn_loop,
    filter_compressor,
    filter_cors,
    filter_csrf,
    filter_decompressor,
    filter_ext_authz,
    filter_fault,
    filter_header_mutation,
    filter_local_ratelimit,
    filter_metadata,
    filter_rbac,
    filter_upstream,
    hash_policies,
    headers,
    hop_by_hop_added,
    hosts,
    http2,
    http2_both,
    http2_grpc,
    http2_malformed,
    http2_upstream,
    limits,
    local_replies,
    malformed_requests,
    mirrors,
    names_preserved,
    names_preserved_or_proper,
    names_proper_upstream,
    options,
    original_addresses,
    own_routes,
    own_tables,
    pools,
    refusals,
    retries,
    router,
    router_headers,
    router_headers_strict,
    route_rate_limits,
    routes,
    stream_info,
    timeouts,
    trailers,
    trailers_dropped,
    upgrades,
    user_agent,
);

/// Cases with another outcome over TLS, or whose time is too short for a handshake on a busy machine.
const OTHERWISE: [&str; 6] = [
    "filter_rbac/conditions", // `authenticated: {}` is any client over TLS
    "limits/http1-safe-max-connection-duration-false", // 0.2 s
    "names_preserved/body-looks-like-a-head", // and the body has that field
    "options/https-target-at-an-edge", // refused without TLS
    "options/https-target-with-0-trusted-hops", // refused without TLS
    "options/scheme-header-transformation-http", // overwritten
];

fn check(folder: &str) {
    let tls = Tls::new();
    check_each(folder, |path, case, config| {
        if OTHERWISE.iter().any(|case| path.ends_with(format!("{case}.txt"))) {
            return None;
        }
        let case = case.clone().with_recorded(with_https).with_sent_frames(with_https);
        let happened = run::run(&case, &with_transport_sockets(&case, config, &tls), Some(&tls));
        case.difference(&happened)
    });
}

static SCHEMES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    // What the proxy adds for the origin and what HTTP/2 says, where it redirects to, and an absolute target.
    [
        "(?mi)^( *(?:x-forwarded-proto|:scheme): )http$",
        "(?m)^( *location: )http:",
        "(?m)^([A-Z]+ )http:",
    ]
    .map(|pattern| Regex::new(pattern).unwrap())
});

/// A text for a connection with the other scheme.
fn with_https(text: &str) -> String {
    let [forwarded, location, target] = &*SCHEMES;
    let text = forwarded.replace_all(text, "${1}https");
    let text = location.replace_all(&text, "${1}https:");
    target.replace_all(&text, "${1}https:").into_owned()
}

/// The configuration with TLS in the filter chains and in every cluster.
fn with_transport_sockets(case: &Case, config: &str, tls: &Tls) -> String {
    let protocols: &[&str] = if case.client_speaks_http2() { &["h2", "http/1.1"] } else { &[] };
    let (downstream, upstream) = (tls.downstream_with_protocols(protocols), tls.upstream());
    let mut section = "";
    let mut all = String::new();
    for line in config.lines() {
        if line.ends_with(':') && line.starts_with("  ") && !line.starts_with("   ") {
            section = line.trim();
        }
        all += line;
        all += "\n";
        if section == "clusters:" && line.starts_with("  - ") {
            all += &format!("    {upstream}\n");
        }
        if section == "listeners:" && line == "    - filters:" {
            all.truncate(all.len() - "filters:\n".len());
            all += &format!("{downstream}\n      filters:\n");
        }
    }
    all
}
