//! Client connections whose filter chain does not end in HTTP.

use std::rc::Rc;

use super::connection::Seat;
use super::filter_chain::{LocalFilters, LocalTerminal};
use crate::shard::clock::millis;
use crate::tcp;
use crate::tcp::connection::Connection;
use crate::tcp::filters::Verdict;
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
    if let Verdict::Close(delay) = tcp::admit(&mut connection, &filters, &terminal) {
        return connection.wait_before_close(delay).await;
    }
    if let Some(tls) = tls
        && handshake(&seat, &mut connection, &tls).await.is_err()
    {
        return;
    }
    tcp::serve(&mut connection, &filters, &terminal).await;
}

async fn handshake(
    seat: &Seat,
    connection: &mut Connection,
    tls: &ServerTls,
) -> Result<(), Failure> {
    let shard = connection.subject.shard;
    let now = shard.clock.now();
    let until = tls.timeout.map(|timeout| now.saturating_add(millis(timeout)));
    connection.alarm.set(until, now);
    let stats = tls.stats.shard(shard.id);
    if let Err(failure) = connection.transport.handshake(shard, &connection.alarm).await {
        if failure == Failure::TimedOut {
            seat.stats().downstream_cx_transport_socket_connect_timeout.inc();
        } else {
            let peer = connection.subject.peer;
            tracing::debug!(target: "connection", "{peer}: TLS handshake failed: {failure}");
            stats.record_failure(failure);
        }
        return Err(failure);
    }
    if let Some(facts) = connection.transport.tls() {
        stats.record_handshake(facts);
        connection.subject.tls = Some(Rc::clone(facts));
    }
    Ok(())
}
