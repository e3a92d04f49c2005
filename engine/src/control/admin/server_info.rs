//! `/server_info`: version, state, flags, node.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::control::admin::{Effect, Endpoint, json};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/server_info",
    effect: Effect::Shows,
    help: "print server version/status information",
    parameters: &[],
    answer: |admin, _| {
        let identity = admin.server.identity();
        let uptime = seconds(identity.started.elapsed());
        json::reply(&ServerInfo {
            version: &identity.version,
            state: admin.server.state().name(),
            uptime_current_epoch: &uptime,
            uptime_all_epochs: &uptime,
            hot_restart_version: "disabled",
            command_line_options: &identity.command_line_options,
            node: &identity.node,
            hot_restart_initializing: false,
        })
    },
};

/// `envoy.admin.v3.ServerInfo`
#[derive(Serialize)]
struct ServerInfo<'a> {
    version: &'a str,
    state: &'static str,
    uptime_current_epoch: &'a str,
    uptime_all_epochs: &'a str,
    hot_restart_version: &'static str,
    command_line_options: &'a Value,
    node: &'a Value,
    hot_restart_initializing: bool,
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
