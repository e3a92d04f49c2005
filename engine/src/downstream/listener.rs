//! One listening socket on one shard: accepts connections and starts a task for each, on this or
//! another shard.
//!
//! Invariant: every connection that the kernel has established is served or counted as refused. When
//! file descriptors run short, connections wait in the accept queue, and the shard does not spin.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::connection::{Arrival, Client, Facts, Seat};
use super::connection_balance::Assignment;
use super::connection_limit::{Overflow, Permits};
use super::filter_chain::{LocalChain, LocalSpeaks};
use super::filter_chain_match::{Connection, Detected};
use super::http1::Behind;
use super::local::{Accepting, Listeners, LocalListener};
use super::log::{self, Unserved};
use super::{Listener, handshake, http1, listener_filters};
use crate::address::Address;
use crate::limits;
use crate::shard::Shard;
use crate::shard::drain::Phase;
use crate::shard::handle::Listening;
use crate::shard::socket::Socket;
use crate::shard::timers::Alarm;
use crate::tcp;
use crate::tcp::filters::Subject;
use crate::transport::Transport;
use crate::transport::tls::{Addresses, Tls};

/// Starts to accept connections from a listening socket of this shard, which has this number.
pub fn listen(
    shard: &'static Shard,
    id: u64,
    listener: &Arc<Listener>,
    socket: OwnedFd,
    address: Address,
) {
    shard.start_accepting();
    match Socket::new(socket) {
        Ok(socket) => {
            let listening = shard.handle.begin_listening();
            let accepting = Listeners::of(shard).begin_accepting(id, listener);
            shard.spawn(accept(shard, accepting, socket, address, listening));
        }
        Err(error) => {
            tracing::error!(target: "main", "{address}: cannot poll the listening socket: {error}");
        }
    }
}

/// Accepts until the shard is asked to stop, then accepts what is left in the queue and closes.
async fn accept(
    shard: &'static Shard,
    accepting: Rc<Accepting>,
    socket: Socket,
    address: Address,
    _listening: Listening,
) {
    let acceptor = Acceptor { shard, accepting, socket, address, alarm: shard.timers.alarm() };
    acceptor.accept_while_open().await;
    acceptor.accept_remaining().await;
    acceptor.socket.stop_listening();
    Listeners::of(shard).end_accepting(&acceptor.accepting);
}

/// The state of the accept queue after a burst.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Queue {
    Empty,
    MaybeMore,
    /// Clients must wait: the remaining descriptors are reserved for upstream connections.
    AtLimit,
}

/// Whether file descriptors are kept free for upstream connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reserve {
    Kept,
    /// No connection comes after these.
    Used,
}

/// An accepted connection.
#[derive(Debug)]
struct AcceptedSocket {
    socket: OwnedFd,
    peer: Address,
    /// The address that the listener is bound to.
    bound: Address,
    /// Count the connection until they are dropped.
    guards: (Permits, Assignment),
}

struct Acceptor {
    shard: &'static Shard,
    accepting: Rc<Accepting>,
    socket: Socket,
    address: Address,
    alarm: Alarm,
}

impl Acceptor {
    fn is_open(&self) -> bool {
        !self.accepting.is_closed()
            && self.shard.accepts(self.accepting.listener().listener().direction)
    }

    async fn accept_while_open(&self) {
        while self.is_open() {
            match self.burst(Reserve::Kept) {
                Ok(Queue::AtLimit) => self.pause(None).await,
                Err(error) if is_exhausted(&error) => self.pause(Some(&error)).await,
                // Any other error: the connection was gone before it was accepted.
                Ok(Queue::Empty | Queue::MaybeMore) | Err(_) => self.readable_or_stopped().await,
            }
        }
    }

    async fn readable_or_stopped(&self) {
        poll_fn(|cx| {
            // The alarm has no deadline: it wakes this task when the state of the shard changes.
            let _ = self.alarm.poll_expired(cx);
            match self.is_open() {
                false => Poll::Ready(()),
                // The queue may hold more than a burst: yield to existing connections in between.
                true if self.socket.poll_readable(cx).is_ready() => self.shard.poll_proceed(cx),
                true => Poll::Pending,
            }
        })
        .await;
    }

    /// Accepts all established connections and handshakes in progress: closing the socket would reset
    /// them. The kernel ignores new SYNs; those clients retry a second later.
    async fn accept_remaining(&self) {
        if let Err(error) = self.socket.drop_new_handshakes() {
            let address = self.address;
            tracing::warn!(target: "main", "{address}: cannot stop new handshakes, clients may be reset: {error}");
        }
        let until = self.shard.clock.now() + limits::DRAIN_HANDSHAKE_MS;
        loop {
            let left = self.burst(Reserve::Used);
            let now = self.shard.clock.now();
            match left {
                Ok(Queue::Empty) if now >= until => return,
                // Another shard that shares the socket has stopped to listen.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                // A client that is reset can try another process; one that waits here cannot.
                Err(error) if is_exhausted(&error) && now >= until + limits::DRAIN_PAUSE_MAX_MS => {
                    return;
                }
                Err(error) if is_exhausted(&error) => self.pause(Some(&error)).await,
                Ok(Queue::AtLimit | Queue::Empty | Queue::MaybeMore) | Err(_) => {
                    self.alarm.set(Some(until), now);
                    self.readable_or_expired().await;
                }
            }
        }
    }

    async fn readable_or_expired(&self) {
        poll_fn(|cx| {
            let expired = self.alarm.poll_expired(cx).is_ready();
            let readable = self.socket.poll_readable(cx).is_ready();
            if expired || readable { self.shard.poll_proceed(cx) } else { Poll::Pending }
        })
        .await;
    }

    /// Leaves new connections in the accept queue for a moment. The control plane logs this: one line
    /// when it begins, however long it lasts and however many listeners pause.
    async fn pause(&self, error: Option<&io::Error>) {
        self.shard.handle.count_accept_pause(error.and_then(io::Error::raw_os_error));
        let now = self.shard.clock.now();
        self.alarm.set(Some(now + limits::ACCEPT_PAUSE_MS), now);
        self.alarm.expired().await;
        self.alarm.set(None, now);
    }

    /// Accepts the connections in the queue, at most a bounded number.
    fn burst(&self, reserve: Reserve) -> io::Result<Queue> {
        let mut accepted = 0;
        let listener = self.accepting.listener();
        let left = self.take(&listener, reserve, &mut accepted);
        if accepted > 0 {
            listener.stats().connections_accepted_per_socket_event.record(accepted);
        }
        left
    }

    fn take(
        &self,
        listener: &Rc<LocalListener>,
        reserve: Reserve,
        accepted: &mut u64,
    ) -> io::Result<Queue> {
        let (shard, shared) = (self.shard, listener.listener());
        // The other shards accept at the same time, so near the limit each connection asks.
        let bursts = shard.handles.count().saturating_mul(limits::ACCEPT_BURST_MAX);
        let is_near_limit = reserve == Reserve::Kept && shard.handles.connections_left() < bursts;
        for _ in 0..shared.accept_burst {
            if is_near_limit && shard.handles.connections_left() == 0 {
                return Ok(if self.socket.has_waiting() { Queue::AtLimit } else { Queue::Empty });
            }
            let Some((socket, peer)) = self.socket.accept()? else { return Ok(Queue::Empty) };
            *accepted += 1;
            // Envoy: the address of a client on a unix socket is that of the listener.
            let peer = peer.map_or(self.address, canonical);
            let permits = match shared.limits.acquire() {
                Ok(permits) => permits,
                Err(overflow) => {
                    count_refused(listener, overflow);
                    continue;
                }
            };
            let random = |below| shard.random.borrow_mut().usize(..below);
            let assignment = shared.balance.assign(shard.handle, shard.handles, random);
            let server = assignment.shard();
            let accepted_socket =
                AcceptedSocket { socket, peer, bound: self.address, guards: (permits, assignment) };
            if server.id() == shard.id {
                start(shard, listener, accepted_socket);
            } else {
                let listener = Arc::clone(shared);
                server.send(Box::new(move |shard| {
                    let listener = Listeners::of(shard).local(&listener);
                    start(shard, &listener, accepted_socket);
                }));
            }
        }
        Ok(Queue::MaybeMore)
    }
}

fn count_refused(listener: &LocalListener, overflow: Overflow) {
    match overflow {
        Overflow::Global => listener.stats().downstream_global_cx_overflow.inc(),
        Overflow::Listener => listener.stats().downstream_cx_overflow.inc(),
    }
}

/// Starts the task of a connection that is assigned to this shard.
fn start(shard: &'static Shard, listener: &Rc<LocalListener>, accepted_socket: AcceptedSocket) {
    let AcceptedSocket { socket, peer, bound, guards } = accepted_socket;
    let socket = Socket::new(socket).and_then(|socket| {
        // If the listener is bound to one address, that is the local address of its connections.
        let local = match bound.ip() {
            Some(ip) if ip.is_unspecified() => canonical(socket.local_address()?),
            _ => bound,
        };
        Ok((socket, local))
    });
    let (socket, local) = match socket {
        Ok(socket) => socket,
        Err(error) => {
            return tracing::warn!(target: "main", "connection from {peer}: {error}");
        }
    };
    let facts = Facts { peer, local, found: None, guards };
    let arrival = Arrival { socket, early: Vec::new(), facts };
    begin(shard, listener, arrival, HandOver::Possible);
}

/// Whether a connection may be handed over to another listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HandOver {
    Possible,
    /// It has been handed over.
    Done,
}

/// Begins to serve a connection, with the listener filters if there are any.
pub(super) fn begin(
    shard: &'static Shard,
    listener: &Rc<LocalListener>,
    arrival: Arrival,
    hand_over: HandOver,
) {
    if listener.listener().listener_filters.filters.is_empty() {
        welcome(shard, listener, arrival, &Detected::default());
    } else {
        shard.spawn(listener_filters::run(shard, Rc::clone(listener), arrival, hand_over));
    }
}

/// Finds the filter chain of a connection and serves it.
pub(super) fn welcome(
    shard: &'static Shard,
    listener: &Rc<LocalListener>,
    arrival: Arrival,
    detected: &Detected,
) {
    let chains = listener.chains();
    let chain = chains.only().or_else(|| {
        chains.find(&Connection {
            local: arrival.facts.local,
            remote: arrival.facts.peer,
            direct_remote: arrival.facts.direct_peer(),
            detected,
        })
    });
    match chain {
        Some(chain) => {
            serve(shard, listener, chain, arrival, detected);
        }
        None => {
            listener.stats().no_filter_chain_match.inc();
            let opened = shard.clock.now();
            log::unserved(shard, listener, &arrival.facts, opened, Unserved::NoFilterChain);
        }
    }
}

/// Serves a connection with its filter chain.
fn serve(
    shard: &'static Shard,
    listener: &Rc<LocalListener>,
    chain: &LocalChain,
    arrival: Arrival,
    detected: &Detected,
) {
    let Arrival { socket, early, facts } = arrival;
    let filters = Rc::clone(&chain.filters);
    match &chain.speaks {
        LocalSpeaks::Http(service) => {
            let subject = (!filters.is_empty()).then(|| subject(shard, &facts, detected));
            let client = Client::new(shard, listener, service, facts);
            let behind = subject.map(|mut subject| {
                subject.id = client.given.id;
                Behind { filters, subject }
            });
            if let Some(tls) = &chain.tls {
                let task = handshake::serve(client, socket, early, Rc::clone(tls), behind);
                return spawn(shard, &chain.speaks, task);
            }
            let connection = http1::Connection::new(client, Transport::Plain(socket), early);
            match behind {
                None => spawn(shard, &chain.speaks, http1::serve(connection)),
                Some(behind) => spawn(shard, &chain.speaks, behind.serve(connection)),
            }
        }
        LocalSpeaks::Tcp(terminal) => {
            let subject = subject(shard, &facts, detected);
            let seat = Seat::new(shard, listener, facts.guards);
            let (transport, early) = match &chain.tls {
                None => (Transport::Plain(socket), early),
                Some(tls) => {
                    let addresses =
                        Addresses { local: subject.local.ip(), remote: subject.peer.ip() };
                    let tls = Tls::server(socket, early, addresses, tls);
                    (Transport::Tls(Box::new(tls)), Vec::new())
                }
            };
            let connection = tcp::connection::Connection::new(subject, transport, early);
            let (terminal, tls) = (Rc::clone(terminal), chain.tls.clone());
            let task = super::tcp::serve(seat, connection, filters, terminal, tls);
            spawn(shard, &chain.speaks, task);
        }
    }
}

/// Starts the task of a connection. It ends when its filter chain, which is not in force any more, has been
/// drained for long enough.
fn spawn(shard: &'static Shard, chain: &LocalSpeaks, task: impl Future<Output = ()> + 'static) {
    match chain {
        LocalSpeaks::Http(service) => service.spawn(shard, task),
        LocalSpeaks::Tcp(terminal) => {
            let terminal = Rc::clone(terminal);
            shard.spawn_until(move || terminal.phase.get() == Phase::Closed, task);
        }
    }
}

/// A connection as network filters see it.
fn subject(shard: &'static Shard, facts: &Facts, detected: &Detected) -> Subject {
    let mut subject = Subject::new(shard, shard.connection_id(), facts.peer, facts.local);
    subject.direct_peer = facts.direct_peer();
    subject.listener_facts.clone_from(&facts.found);
    subject.server_name =
        Some(detected.server_name.as_str()).filter(|name| !name.is_empty()).map(Into::into);
    subject
}

/// A client of IPv4 on a socket of IPv6 has an address of IPv4.
fn canonical(address: SocketAddr) -> Address {
    Address::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
