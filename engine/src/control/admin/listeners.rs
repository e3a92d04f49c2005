//! `/listeners`: names and addresses.

use std::net::SocketAddr;

use serde::Serialize;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, json, parameter};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/listeners",
    effect: Effect::Shows,
    help: "print listener info",
    parameters: &[parameter("format", "File format to use; One of (text, json)")],
    answer: |admin, query| {
        let listeners = admin.server.listeners();
        if query.value("format") == Some("json") {
            let listener_statuses = listeners.into_iter().map(|listener| ListenerStatus {
                name: listener.name,
                local_address: Address::from(listener.address),
            });
            return json::reply(&Listeners { listener_statuses: listener_statuses.collect() });
        }
        let lines = listeners.iter();
        let lines = lines.map(|listener| format!("{}::{}\n", listener.name, listener.address));
        Reply::text(lines.collect::<String>())
    },
};

/// `envoy.admin.v3.Listeners`
#[derive(Serialize)]
struct Listeners {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listener_statuses: Vec<ListenerStatus>,
}

#[derive(Serialize)]
struct ListenerStatus {
    name: String,
    local_address: Address,
}

/// `envoy.config.core.v3.Address`
#[derive(Serialize)]
pub(super) struct Address {
    socket_address: SocketAddress,
}

#[derive(Serialize)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let (address, port_value) = (address.ip().to_string(), address.port());
        Self { socket_address: SocketAddress { address, port_value } }
    }
}
