//! The client side: listeners, their filter chains and client connections.
//!
//! It does not route requests (`request/` does).
//!
//! Invariant: everything here is immutable after compilation, except the state of a connection and
//! the counts of connections.

mod closing;
pub mod compile;
pub mod connection;
pub mod connection_balance;
pub mod connection_limit;
pub mod filter_chain;
pub mod filter_chain_compile;
pub mod filter_chain_match;
pub mod filter_chains;
mod handshake;
pub mod http1;
mod http2;
pub mod listener;
pub mod listener_filters;
pub mod local;
mod log;
#[cfg(test)]
mod simulation;
pub mod socket_settings;
mod tcp;

use std::sync::Arc;

use self::connection_balance::ConnectionBalance;
use self::connection_limit::Limits;
use self::filter_chains::FilterChains;
use self::listener_filters::ListenerFilters;
use self::socket_settings::SocketSettings;
use crate::access_log::AccessLogs;
use crate::address::Address;
use crate::fingerprint::Fingerprint;
use crate::shard::drain::Direction;
use crate::stats::{ListenerStats, Scope};

/// An address of a listener.
#[derive(Clone, Debug)]
pub struct ListenAddress {
    /// As configured; with port 0 the kernel chooses a port.
    pub address: Address,
    /// How its sockets are made.
    pub settings: SocketSettings,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name; the address if the configuration has no name.
    pub name: String,
    /// `traffic_direction`
    pub direction: Direction,
    /// `address`, then `additional_addresses`.
    pub addresses: Vec<ListenAddress>,
    /// `bind_to_port`: whether it has sockets. Without, it only serves connections that other listeners
    /// hand over.
    pub binds: bool,
    /// `use_original_dst`: whether a connection is handed over to the listener of its original
    /// destination, if there is one.
    pub hands_over: bool,
    /// How many connections are accepted in a row.
    pub accept_burst: usize,
    /// The limits on its connections.
    pub limits: Limits,
    /// How connections are distributed over the shards.
    pub balance: ConnectionBalance,
    /// What happens to a connection before it has a filter chain.
    pub listener_filters: ListenerFilters,
    /// The filter chains of its connections.
    pub filter_chains: FilterChains,
    /// `access_log`: the logs of its connections.
    pub access_logs: AccessLogs,
    /// `listener.<address>.`
    pub stats: Arc<Scope<ListenerStats>>,
    /// What it was compiled from, but for its filter chains.
    pub(crate) frame: Fingerprint,
}
