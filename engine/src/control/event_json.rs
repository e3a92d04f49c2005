//! What the event logs of health checks and outlier detection have in common: JSON as Envoy writes it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::address::Address;
use crate::upstream::host::Host;

/// Appends lines to a file. Events are rare, so it is opened for each: rotation needs no signal.
pub(super) fn append(path: &Path, lines: impl Iterator<Item = Value>) -> io::Result<()> {
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    if text.is_empty() {
        return Ok(());
    }
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

/// The time, in milliseconds.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The address of a host, as `envoy.config.core.v3.Address`.
pub(super) fn address(host: &Host) -> Value {
    match host.address {
        Address::Ip(address) => json!({
            "socket_address": {
                "protocol": "TCP",
                "address": address.ip().to_string(),
                "port_value": address.port(),
                "resolver_name": "",
                "ipv4_compat": false,
                "network_namespace_filepath": "",
            },
        }),
        Address::Pipe(_) => json!({ "pipe": { "path": host.address.to_string(), "mode": 0 } }),
    }
}
