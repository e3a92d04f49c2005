//! Parity: what the real Envoy 1.40.0 did with a request, compared with what Corvoy does.
//!
//! A folder in `parity/` is a configuration and its cases; `parity/README.md` describes the format.
//! The same cases run over TLS as well ([`over_tls`]). `scripts/parity --record` runs the cases against Envoy and records the results.

mod case;
mod compressed;
mod covered;
mod frames;
mod http2;
mod log;
mod over_tls;
mod raw;
mod run;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rcgen::SanType;

use crate::support::Tls;

use case::Case;

/// Declares a test for each folder.
macro_rules! folders {
    ($($folder:ident),* $(,)?) => {
        $(#[test]
        fn $folder() {
            check(stringify!($folder));
        })*

        #[test]
        fn every_folder_is_checked() {
            let found: Vec<String> = folders()
                .iter()
                .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
                .collect();
            let mut known = vec![$(stringify!($folder)),*];
            known.sort_unstable();
            assert_eq!(found, known);
        }
    };
}

folders!(
    access_logs,
    admin,
    answers,
    attempts,
    bad_requests,
    bodies,
    chain_trees,
    connect,
    connect_forwarded,
    failures,
    filter_admission_control,
    filter_api_key_auth,
    filter_bandwidth_limit,
    filter_basic_auth,
    filter_buffer,
    filter_cdn_loop,
    filter_chains,
    filter_compressor,
    filter_cors,
    filter_credential_injector,
    filter_csrf,
    filter_custom_response,
    filter_decompressor,
    filter_dynamic_forward_proxy,
    filter_ext_authz,
    filter_fault,
    filter_grpc_http1_bridge,
    filter_grpc_http1_bridge_upgrade,
    filter_grpc_reverse_bridge,
    filter_grpc_reverse_bridge_frames,
    filter_grpc_reverse_bridge_size,
    filter_grpc_stats,
    filter_grpc_stats_listed,
    filter_grpc_stats_plain,
    filter_grpc_web,
    filter_header_mutation,
    filter_health_check,
    filter_json_to_metadata,
    filter_jwt_authn,
    filter_local_ratelimit,
    filter_lua,
    filter_metadata,
    filter_rbac,
    filter_rbac_matcher,
    filter_selectors,
    filter_stateful_session,
    filter_upstream,
    grpc,
    hash_policies,
    headers,
    hop_by_hop_added,
    hosts,
    http2,
    http2_both,
    http2_grpc,
    http2_malformed,
    http2_upstream,
    internal_redirects,
    limits,
    listener_filters,
    local_replies,
    log_values,
    malformed_requests,
    mirrors,
    names_preserved,
    names_preserved_or_proper,
    names_proper_upstream,
    options,
    original_addresses,
    own_routes,
    own_tables,
    plain_connections,
    pools,
    provided_clusters,
    refusals,
    retries,
    router,
    router_headers,
    router_headers_strict,
    route_rate_limits,
    routes,
    schemes,
    secrets,
    server_names,
    stream_info,
    tcp,
    tcp_http2,
    timeouts,
    trailers,
    trailers_dropped,
    upgrade_filters,
    upgrades,
    upstream_log_times,
    upstream_logs,
    user_agent,
);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

/// Every folder that contains a configuration.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("config.yaml").exists());
    folders.sort();
    folders
}

fn cases_of(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

fn is_recording() -> bool {
    std::env::var_os("CORVOY_PARITY_RECORD").is_some()
}

/// Runs every case of a folder, and reports all that differ.
fn check(folder: &str) {
    let record = is_recording();
    let tls = two_hosts();
    check_each(folder, |path, case, config| {
        let is_about_tls = config.contains("TLS_CERTIFICATE");
        let happened = run::run(case, config, is_about_tls.then_some(&tls));
        if record {
            fs::write(path, happened.to_string()).unwrap();
            return None;
        }
        case.difference(&happened)
    });
}

/// A certificate for a.test, b.test and 127.0.0.1.
fn two_hosts() -> Tls {
    let name = SanType::DnsName("b.test".try_into().unwrap());
    Tls::with_names(vec![name, SanType::IpAddress([127, 0, 0, 1].into())])
}

/// Calls `difference` with every case of a folder and its configuration, and reports what it returns.
fn check_each(folder: &str, difference: impl Fn(&Path, &Case, &str) -> Option<String> + Sync) {
    let folder = root().join(folder);
    let config = fs::read_to_string(folder.join("config.yaml")).unwrap();
    let paths = cases_of(&folder);
    assert!(!paths.is_empty(), "no cases in {}", folder.display());

    let play = |path: &PathBuf| {
        let case = Case::parse(&fs::read_to_string(path).unwrap());
        let case = case.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let difference = difference(path, &case, &config)?;
        Some(format!("=== {} ===\n{difference}", path.display()))
    };
    // They mostly wait, each for its own proxy.
    let mut differing: Vec<String> = thread::scope(|scope| {
        let shares: Vec<_> = (0..4).map(|first| paths.iter().skip(first).step_by(4)).collect();
        let workers: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(|| share.filter_map(play).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    differing.sort();
    let count = differing.len();
    assert!(count == 0, "{count} of {} cases differ\n{}", paths.len(), differing.join("\n"));
}
