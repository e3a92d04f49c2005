//! `/listeners`: names and addresses.

use serde::Serialize;

use crate::address::Address;
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
            let listener_statuses = listeners.into_iter().map(|listener| {
                let mut addresses = listener.addresses.into_iter().map(AddressJson::from);
                ListenerStatus {
                    name: listener.name,
                    local_address: addresses.next(),
                    additional_local_addresses: addresses.collect(),
                }
            });
            return json::reply(&Listeners { listener_statuses: listener_statuses.collect() });
        }
        let lines = listeners.iter();
        let lines = lines.flat_map(|listener| {
            let name = &listener.name;
            listener.addresses.iter().map(move |address| format!("{name}::{address}\n"))
        });
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
    local_address: Option<AddressJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional_local_addresses: Vec<AddressJson>,
}

/// `envoy.config.core.v3.Address`
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AddressJson {
    SocketAddress { address: String, port_value: u16 },
    Pipe { path: &'static str },
}

impl From<Address> for AddressJson {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(address) => {
                let (address, port_value) = (address.ip().to_string(), address.port());
                Self::SocketAddress { address, port_value }
            }
            Address::Pipe(pipe) => Self::Pipe { path: pipe.name() },
        }
    }
}
