//! Client connections whose filter chain does not end in HTTP.

use std::rc::Rc;

use super::connection::Seat;
use super::filter_chain::{LocalFilters, LocalTerminal};
use crate::shard::clock::millis;
use crate::tcp;
use crate::tcp::Terminal;
use crate::tcp::connection::Connection;
use crate::tcp::filters::Verdict;
use crate::tcp::proxy::{self, TcpProxy};
use crate::transport::tls::{Failure, ServerTls};

/// Serves a connection until it ends. `tls` is that of its transport.
///
/// The filters see it before the handshake, as in Envoy; the upstream is connected after it.
pub(super) async fn serve(
    seat: Seat,
    mut connection: Connection,
    filters: Rc<LocalFilters>,
    terminal: Rc<LocalTerminal>,
    tls: Option<Rc<ServerTls>>,
) {
    run(&seat, &mut connection, &filters, &terminal, tls.as_deref()).await;
    tcp::log_end(&connection, &terminal, &terminal.logs);
    tcp::log_connection(&connection, &terminal.info, &seat.listener().access_logs);
}

async fn run(
    seat: &Seat,
    connection: &mut Connection,
    filters: &LocalFilters,
    terminal: &LocalTerminal,
    tls: Option<&ServerTls>,
) {
    if let Verdict::Close(delay) = tcp::admit(connection, filters, terminal) {
        return connection.wait_before_close(delay).await;
    }
    tcp::log_start(connection, terminal, &terminal.logs);
    if let Some(tls) = tls
        && handshake(seat, connection, terminal, tls).await.is_err()
    {
        return;
    }
    tcp::serve(connection, filters, terminal, &terminal.logs).await;
}

/// What limits the time of a handshake.
#[derive(Clone, Copy)]
enum Limit<'a> {
    /// `transport_socket_connect_timeout`
    Transport,
    /// A limit of `tcp_proxy`. As in Envoy it holds from the start.
    Proxy(&'a TcpProxy, proxy::Limit),
}

async fn handshake(
    seat: &Seat,
    connection: &mut Connection,
    terminal: &Terminal,
    tls: &ServerTls,
) -> Result<(), Failure> {
    let shard = connection.subject.shard;
    let transport = tls.timeout.map(|timeout| connection.opened.saturating_add(millis(timeout)));
    let transport = transport.map(|at| (at, Limit::Transport));
    let proxy = match terminal {
        Terminal::Proxy(proxy) => {
            proxy.first_limit(connection).map(|(at, limit)| (at, Limit::Proxy(proxy, limit)))
        }
        Terminal::Echo | Terminal::DirectResponse(_) => None,
    };
    let first = [transport, proxy].into_iter().flatten().min_by_key(|(at, _)| *at);
    connection.alarm.set(first.map(|(at, _)| at), shard.clock.now());
    let stats = tls.stats.shard(shard.id);
    if let Err(failure) = connection.transport.handshake(shard, &connection.alarm).await {
        match first {
            Some((_, Limit::Transport)) if failure == Failure::TimedOut => {
                seat.stats().downstream_cx_transport_socket_connect_timeout.inc();
            }
            Some((_, Limit::Proxy(proxy, limit))) if failure == Failure::TimedOut => {
                proxy.count_limit(shard.id, limit);
            }
            _ => {
                let peer = connection.subject.peer;
                tracing::debug!(target: "connection", "{peer}: TLS handshake failed: {failure}");
                stats.record_failure(failure);
            }
        }
        connection.handshake_failed(failure);
        return Err(failure);
    }
    if let Some(facts) = connection.transport.tls() {
        stats.record_handshake(facts);
        connection.subject.tls = Some(Rc::clone(facts));
    }
    Ok(())
}
