//! The client's side: listeners, their filter chains, client connections, and the connection
//! manager's rules for heads.
//!
//! It does not decide where a request goes (`request/`).
//!
//! Invariant: everything here is immutable after compilation, except what one connection owns and how
//! many connections there are.

mod closing;
pub mod compile;
pub mod connection;
pub mod connection_balance;
pub mod connection_limit;
pub mod connection_manager;
pub mod filter_chain;
mod interest;
pub mod listener;
pub mod local;
mod next_request;
pub mod normalize;
pub(crate) mod path;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::TcpKeepalive;

use self::connection_balance::ConnectionBalance;
use self::connection_limit::Limits;
use self::filter_chain::FilterChain;
use crate::stats::{ListenerStats, Scope};

/// One address where clients are accepted.
#[derive(Debug)]
pub struct Listener {
    /// Its name; the address if the configuration gives none.
    pub name: String,
    /// Who connects to it.
    pub direction: Direction,
    /// As configured; port 0 asks the kernel for one.
    pub address: SocketAddr,
    /// `tcp_backlog_size`; none: the longest that the kernel allows.
    pub backlog: Option<i32>,
    /// `tcp_keepalive` of its connections.
    pub keepalive: Option<TcpKeepalive>,
    /// Connections that are accepted in a row.
    pub accept_burst: usize,
    /// Bytes of a request body that are kept for a retry at the most.
    pub buffer_limit: usize,
    /// How many connections there may be.
    pub limits: Limits,
    /// Which shard serves a connection.
    pub balance: ConnectionBalance,
    /// What its connections are given.
    pub filter_chain: Arc<FilterChain>,
    /// `listener.<address>.`
    pub stats: Arc<Scope<ListenerStats>>,
}

/// `traffic_direction`: what a drain of the inbound listeners asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// `INBOUND`
    Inbound,
    /// `OUTBOUND`, or not said.
    Other,
}
