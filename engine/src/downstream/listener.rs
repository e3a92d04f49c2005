//! One address on one shard: accepts connections and starts a task for each.
//!
//! Invariant: a connection that the kernel completed is served or counted as refused; when the
//! process is out of descriptors the listener rests instead of spinning.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::Listener;
use super::connection::{Client, serve};
use super::connection_limit::Overflow;
use super::filter_chain::ConnectionChain;
use crate::limits;
use crate::shard::socket::Socket;
use crate::shard::timers::Alarm;
use crate::shard::{Accepting, Shard};

/// Accepts until the shard is told to stop, then takes those who wait already and closes.
pub async fn accept(
    shard: &'static Shard,
    listener: Arc<Listener>,
    socket: Socket,
    address: SocketAddr,
) {
    let alarm = shard.timers.alarm();
    let chain = ConnectionChain::new(&listener.filter_chain);
    loop {
        match burst(shard, &listener, &chain, &socket, address) {
            Ok(Queue::Empty) if shard.accepting() == Accepting::No => {
                return socket.stop_listening();
            }
            Ok(Queue::Empty | Queue::MaybeMore) => {}
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(target: "main", "{address}: accept: {error}; resting");
                rest(shard, &alarm).await;
                continue;
            }
            // That connection was gone before it was accepted.
            Err(_) => {}
        }
        poll_fn(|cx| {
            // Looked at again whenever the shard's state changes.
            let _ = alarm.poll_rang(cx);
            match shard.accepting() {
                Accepting::No => Poll::Ready(()),
                // More may wait than one burst: those who came before are served meanwhile.
                Accepting::Yes if socket.poll_readable(cx).is_ready() => shard.poll_patience(cx),
                Accepting::Yes => Poll::Pending,
            }
        })
        .await;
    }
}

/// What is left in the kernel's queue after a burst.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Queue {
    Empty,
    MaybeMore,
}

/// Takes the connections that wait now, or a bounded number of them.
fn burst(
    shard: &'static Shard,
    listener: &Arc<Listener>,
    chain: &Rc<ConnectionChain>,
    socket: &Socket,
    address: SocketAddr,
) -> io::Result<Queue> {
    for _ in 0..listener.accept_burst {
        let Some((connection, peer)) = socket.accept()? else { return Ok(Queue::Empty) };
        start(shard, listener, chain, connection, peer, address);
    }
    Ok(Queue::MaybeMore)
}

fn start(
    shard: &'static Shard,
    listener: &Arc<Listener>,
    chain: &Rc<ConnectionChain>,
    connection: OwnedFd,
    peer: SocketAddr,
    address: SocketAddr,
) {
    let places = match listener.limits.take() {
        Ok(places) => places,
        Err(overflow) => {
            let stats = listener.stats.shard(shard.id);
            match overflow {
                Overflow::Global => stats.downstream_global_cx_overflow.inc(),
                Overflow::Listener => stats.downstream_cx_overflow.inc(),
            }
            return;
        }
    };
    let client = Socket::new(connection).and_then(|socket| {
        let (listener, chain) = (Arc::clone(listener), Rc::clone(chain));
        Client::new(shard, listener, chain, socket, peer, address, places)
    });
    match client {
        Ok(client) => shard.spawn(serve(client)),
        Err(error) => tracing::warn!(target: "main", "connection of {peer}: {error}"),
    }
}

async fn rest(shard: &'static Shard, alarm: &Alarm) {
    let now = shard.clock.now();
    alarm.set(Some(now + limits::ACCEPT_BACKOFF_MS), now);
    alarm.rang().await;
    alarm.set(None, now);
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
