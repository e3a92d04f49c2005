//! Schema → the admin endpoint.

use std::path::PathBuf;

use corvoy_config::{self as config, Path, Problems};

use super::Settings;
use crate::access_log::compile::{Context, access_logs, default_file_log};
use crate::address;
use crate::downstream::ListenAddress;
use crate::downstream::socket_settings::{self, SocketSettings};
use crate::request::manager::local_address;
use crate::text_matcher::compile::text;

/// Compiles the endpoint; its address is none if it does not listen.
pub fn admin(
    schema: &config::Admin,
    at: &Path,
    logs: Context<'_>,
    problems: &mut Problems,
) -> (Option<ListenAddress>, Settings) {
    let config::Admin {
        address,
        ignore_global_conn_limit,
        access_log,
        access_log_path,
        allow_paths,
        socket_options,
    } = schema;
    // Corvoy's admin endpoint is always exempt from connection limits.
    let _ = ignore_global_conn_limit;
    let mut access_logs = access_logs(access_log, &at.field("access_log"), logs, problems);
    if !access_log_path.is_empty() {
        let at = at.field("access_log_path");
        let log = default_file_log(PathBuf::from(access_log_path), &at, logs, problems);
        access_logs = access_logs.with(log);
    }
    let allow_paths = allow_paths.iter().enumerate();
    let allow_paths = allow_paths
        .filter_map(|(i, path)| text(path, &at.field("allow_paths").index(i), problems))
        .collect();
    let address =
        address.as_ref().and_then(|address| listen_address(address, socket_options, at, problems));
    let own_address = local_address().filter(|_| !access_logs.is_empty());
    (address, Settings { allow_paths, access_logs, own_address })
}

/// Where it listens.
fn listen_address(
    address: &config::Address,
    socket_options: &[config::SocketOption],
    at: &Path,
    problems: &mut Problems,
) -> Option<ListenAddress> {
    let sockets = socket_settings::compile::Schema { socket_options, ..Default::default() };
    let settings =
        socket_settings::compile::settings(sockets, &at.field("socket_options"), problems);
    let address::compile::Listening { address, ipv4_compat, mode } =
        address::compile::listening(address, &at.field("address"), problems)?;
    let options = settings.options;
    let settings = SocketSettings { ipv4_compat, mode, options, ..SocketSettings::default() };
    Some(ListenAddress { address, settings })
}
