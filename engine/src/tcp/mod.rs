//! TCP: network filters, and the terminal filters other than HTTP (`tcp_proxy`, `echo`,
//! `direct_response`).
//!
//! It accepts no connections and knows no listeners (`downstream/` does). It parses no data except the
//! response that opens a tunnel.
//!
//! Invariant: nothing more is received from one side until the other side has taken everything received
//! before, and a connection that waits for both sides holds no buffer.

pub mod compile;
pub mod connection;
pub mod direct_response;
pub mod echo;
pub mod filter_state;
pub mod filters;
mod log;
pub mod proxy;

use self::connection::Connection;
use self::direct_response::DirectResponse;
use self::filters::{Filters, Verdict};
use self::proxy::TcpProxy;
use crate::access_log::LocalLogs;
use crate::access_log::entry_type::EntryType;
use crate::metadata::ListenerInfo;

/// The terminal filter of a chain without HTTP.
#[derive(Debug)]
pub enum Terminal {
    /// `tcp_proxy`
    Proxy(Box<TcpProxy>),
    /// `echo`
    Echo,
    /// `direct_response`
    DirectResponse(DirectResponse),
}

/// Logs a connection that the filters have admitted.
pub fn log_start(client: &Connection, terminal: &Terminal, logs: &LocalLogs) {
    if let Terminal::Proxy(proxy) = terminal
        && proxy.log_times.on_start
    {
        log::write(client, &proxy.info, logs, EntryType::TcpConnectionStart);
    }
}

/// Logs a connection that has ended, or was refused.
pub fn log_end(client: &Connection, terminal: &Terminal, logs: &LocalLogs) {
    if let Terminal::Proxy(proxy) = terminal {
        log::write(client, &proxy.info, logs, EntryType::TcpConnectionEnd);
    }
}

/// Logs a connection that has ended in the logs of its listener.
pub fn log_connection(client: &Connection, info: &ListenerInfo, logs: &LocalLogs) {
    log::write(client, info, logs, EntryType::NotSet);
}

/// Runs the filters on a new connection.
pub fn admit(client: &mut Connection, filters: &Filters, terminal: &Terminal) -> Verdict {
    // As in Envoy, a connection that a filter refuses is counted too.
    if let Terminal::Proxy(proxy) = terminal {
        proxy.admit(client);
    }
    filters.admit(&mut client.subject)
}

/// Serves a connection that the filters have admitted until it ends. It is closed when `client` is
/// dropped.
pub async fn serve(
    client: &mut Connection,
    filters: &Filters,
    terminal: &Terminal,
    logs: &LocalLogs,
) {
    match terminal {
        Terminal::Proxy(proxy) => proxy::serve(client, filters, proxy, logs).await,
        Terminal::Echo => echo::serve(client, filters).await,
        Terminal::DirectResponse(response) => direct_response::serve(client, response).await,
    }
}
