//! Schema → settings of listening sockets.

use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};
use socket2::TcpKeepalive;

use super::SocketSettings;
use crate::shard::socket_option;

/// What a listener says about its sockets, apart from their addresses.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields of the schema")]
pub struct Schema<'a> {
    pub tcp_backlog_size: Option<u32>,
    pub tcp_keepalive: Option<&'a config::TcpKeepalive>,
    pub freebind: Option<bool>,
    pub transparent: Option<bool>,
    pub tcp_fast_open_queue_length: Option<u32>,
    pub enable_reuse_port: Option<bool>,
    pub socket_options: &'a [config::SocketOption],
}

/// Compiles the settings; the socket options are at `at`.
pub fn settings(schema: Schema<'_>, at: &Path, problems: &mut Problems) -> SocketSettings {
    let Schema {
        tcp_backlog_size,
        tcp_keepalive,
        freebind,
        transparent,
        tcp_fast_open_queue_length,
        enable_reuse_port,
        socket_options,
    } = schema;
    let mut options = Vec::new();
    if freebind.is_some_and(|on| on) {
        options.extend(socket_option::freebind());
    }
    if transparent.is_some_and(|on| on) {
        options.extend(socket_option::transparent());
    }
    if let Some(length) = tcp_fast_open_queue_length {
        options.extend(socket_option::fast_open(length));
    }
    options.extend(socket_option::compile::options(socket_options, at, problems));
    SocketSettings {
        backlog: tcp_backlog_size.map(|backlog| i32::try_from(backlog).unwrap_or(i32::MAX)),
        keepalive: tcp_keepalive.map(keepalive),
        reuse_port: enable_reuse_port.unwrap_or(true),
        ipv4_compat: false,
        mode: None,
        options,
    }
}

fn keepalive(keepalive: &config::TcpKeepalive) -> TcpKeepalive {
    let config::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = keepalive;
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let mut compiled = TcpKeepalive::new();
    if let Some(probes) = keepalive_probes {
        compiled = compiled.with_retries(*probes);
    }
    if let Some(time) = keepalive_time {
        compiled = compiled.with_time(seconds(*time));
    }
    if let Some(interval) = keepalive_interval {
        compiled = compiled.with_interval(seconds(*interval));
    }
    compiled
}
