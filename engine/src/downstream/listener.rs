//! One address on one shard: accepts connections and starts a task for each, here or on another shard.
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
use super::connection_balance::Seat;
use super::connection_limit::{Overflow, Places};
use super::local::LocalListener;
use crate::limits;
use crate::shard::Shard;
use crate::shard::mailbox::Order;
use crate::shard::socket::Socket;
use crate::shard::timers::Alarm;

/// Accepts until the shard is told to stop, then takes those who wait already and closes.
pub async fn accept(
    shard: &'static Shard,
    listener: Rc<LocalListener>,
    socket: Socket,
    address: SocketAddr,
) {
    let alarm = shard.timers.alarm();
    let is_open = || shard.accepts(listener.listener().direction);
    loop {
        match burst(shard, &listener, &socket, address) {
            Ok(Queue::Empty) if !is_open() => return socket.stop_listening(),
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
            match is_open() {
                false => Poll::Ready(()),
                // More may wait than one burst: those who came before are served meanwhile.
                true if socket.poll_readable(cx).is_ready() => shard.poll_patience(cx),
                true => Poll::Pending,
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

/// A connection that the kernel completed.
#[derive(Debug)]
pub struct Arrival {
    socket: OwnedFd,
    peer: SocketAddr,
    /// What the listener is bound to.
    bound: SocketAddr,
    /// Its places within the limits, and its seat on the shard that is to serve it.
    held: (Places, Seat),
}

/// Takes the connections that wait now, or a bounded number of them.
fn burst(
    shard: &'static Shard,
    listener: &Rc<LocalListener>,
    socket: &Socket,
    bound: SocketAddr,
) -> io::Result<Queue> {
    let mut accepted = 0;
    let left = take(shard, listener, socket, bound, &mut accepted);
    if accepted > 0 {
        listener.stats().connections_accepted_per_socket_event.record(accepted);
    }
    left
}

fn take(
    shard: &'static Shard,
    listener: &Rc<LocalListener>,
    socket: &Socket,
    bound: SocketAddr,
    accepted: &mut u64,
) -> io::Result<Queue> {
    let shared = listener.listener();
    for _ in 0..shared.accept_burst {
        let Some((socket, peer)) = socket.accept()? else { return Ok(Queue::Empty) };
        *accepted += 1;
        let places = match shared.limits.take() {
            Ok(places) => places,
            Err(overflow) => {
                match overflow {
                    Overflow::Global => listener.stats().downstream_global_cx_overflow.inc(),
                    Overflow::Listener => listener.stats().downstream_cx_overflow.inc(),
                }
                continue;
            }
        };
        let random = |below| shard.random.borrow_mut().usize(..below);
        let seat = shared.balance.seat(shard.post, shard.roster, random);
        let server = seat.post();
        let arrival = Arrival { socket, peer, bound, held: (places, seat) };
        if server.id() == shard.id {
            start(shard, listener, arrival);
        } else {
            server.tell(Order::Serve { listener: Arc::clone(shared), arrival });
        }
    }
    Ok(Queue::MaybeMore)
}

/// Serves a connection that another shard accepted.
pub fn take_over(shard: &'static Shard, listener: &Arc<Listener>, arrival: Arrival) {
    let listener = shard.world().local_listener(shard.id, listener);
    start(shard, &listener, arrival);
}

/// Starts the task of a connection that has its seat on this shard.
fn start(shard: &'static Shard, listener: &Rc<LocalListener>, arrival: Arrival) {
    let Arrival { socket, peer, bound, held } = arrival;
    let socket = Socket::new(socket).and_then(|socket| {
        // A listener on one address is what its connections came to: no need to ask.
        let local = if bound.ip().is_unspecified() { socket.local_address()? } else { bound };
        Ok((socket, local))
    });
    match socket {
        Ok((socket, local)) => {
            shard.spawn(serve(Client::new(shard, listener, socket, peer, local, held)));
        }
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
