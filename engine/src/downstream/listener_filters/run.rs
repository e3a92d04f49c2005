//! Runs the listener filters of a connection, one after the other.

use std::future::poll_fn;
use std::rc::Rc;

use super::inspect::{self, Found, Step};
use super::{Kind, ListenerFilter, OnTimeout};
use crate::address::Address;
use crate::downstream::connection::Arrival;
use crate::downstream::filter_chain_match::Detected;
use crate::downstream::listener::{HandOver, begin, welcome};
use crate::downstream::local::{Listeners, LocalListener};
use crate::downstream::log::{self, Unserved};
use crate::limits;
use crate::listener_facts::ListenerFacts;
use crate::shard::Shard;
use crate::shard::clock::millis;
use crate::shard::drain::Draining;
use crate::shard::socket::{Received, Socket};
use crate::shard::timers::Alarm;

/// Runs the filters; a connection that passes them is served.
pub(in crate::downstream) async fn run(
    shard: &'static Shard,
    listener: Rc<LocalListener>,
    mut arrival: Arrival,
    hand_over: HandOver,
) {
    let mut found = Found {
        local: arrival.facts.local,
        remote: arrival.facts.peer,
        detected: Detected::default(),
        facts: ListenerFacts::default(),
    };
    let opened = shard.clock.now();
    let early = std::mem::take(&mut arrival.early);
    let mut waiting = Waiting::new(shard, &listener, &arrival.socket, early);
    let outcome = waiting.pass_all(&mut found).await;
    let early = std::mem::take(&mut waiting.bytes);
    drop(waiting);
    let stats = listener.stats();
    // Envoy's filters only look at what the client has sent, and a socket that is closed with unread bytes
    // sends a reset.
    let close = || {
        if !early.is_empty() {
            arrival.socket.reset_on_close();
        }
    };
    let on_timeout = listener.listener().listener_filters.on_timeout;
    match outcome {
        Ok(()) => {}
        Err(Stopped::TimedOut) => {
            stats.downstream_pre_cx_timeout.inc();
            if on_timeout == OnTimeout::Close {
                close();
            }
        }
        Err(Stopped::Refused) => close(),
        Err(Stopped::Ended) => stats.downstream_listener_filter_remote_close.inc(),
        Err(Stopped::Broken) => stats.downstream_listener_filter_error.inc(),
    }
    let is_closed = match outcome {
        Ok(()) => false,
        Err(Stopped::TimedOut) => on_timeout == OnTimeout::Close,
        Err(Stopped::Broken | Stopped::Ended | Stopped::Refused) => true,
    };
    if is_closed {
        return log::unserved(shard, &listener, &arrival.facts, opened, Unserved::ListenerFilter);
    }
    arrival.early = early;
    let facts = &mut arrival.facts;
    if found.remote != facts.peer {
        found.facts.direct_peer = Some(facts.peer);
    }
    if found.local != facts.local {
        found.facts.direct_local = Some(facts.local);
    }
    if found.facts != ListenerFacts::default() {
        facts.found = Some(Rc::new(std::mem::take(&mut found.facts)));
    }
    let is_redirected = facts.local != found.local;
    (facts.local, facts.peer) = (found.local, found.remote);
    if is_redirected && listener.listener().hands_over && hand_over == HandOver::Possible {
        let destination = Listeners::of(shard).listening_on(found.local);
        if let Some(other) = destination.filter(|other| !Rc::ptr_eq(other, &listener)) {
            return begin(shard, &other, arrival, HandOver::Done);
        }
    }
    welcome(shard, &listener, arrival, &found.detected);
}

/// Why the filters did not get to their end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stopped {
    /// A filter has refused the connection.
    Refused,
    /// They took too long.
    TimedOut,
    /// The client has closed its side.
    Ended,
    /// The client has reset the connection.
    Broken,
}

/// What the alarm of a waiting connection stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Until {
    /// `listener_filters_timeout`
    Timeout,
    /// The process is about to exit.
    Exit,
}

/// A connection that has no filter chain yet.
struct Waiting<'a> {
    shard: &'static Shard,
    listener: &'a LocalListener,
    socket: &'a Socket,
    alarm: Alarm,
    until: Until,
    /// What has arrived and is not consumed.
    bytes: Vec<u8>,
}

impl<'a> Waiting<'a> {
    fn new(
        shard: &'static Shard,
        listener: &'a LocalListener,
        socket: &'a Socket,
        bytes: Vec<u8>,
    ) -> Self {
        listener.stats().downstream_pre_cx_active.inc();
        let alarm = shard.timers.alarm();
        let now = shard.clock.now();
        let timeout = listener.listener().listener_filters.timeout;
        alarm.set(timeout.map(|most| now.saturating_add(millis(most))), now);
        Self { shard, listener, socket, alarm, until: Until::Timeout, bytes }
    }

    async fn pass_all(&mut self, found: &mut Found) -> Result<(), Stopped> {
        for filter in &self.listener.listener().listener_filters.filters {
            let port = found.local.port().unwrap_or(0);
            if filter.disabled.as_ref().is_some_and(|predicate| predicate.matches(port)) {
                continue;
            }
            self.pass(filter, found).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, filter: &ListenerFilter, found: &mut Found) -> Result<(), Stopped> {
        loop {
            match self.step(filter, found) {
                Step::Continue { consumed } => {
                    self.bytes.drain(..consumed);
                    return Ok(());
                }
                Step::Wait => self.receive_more().await?,
                Step::Close => return Err(Stopped::Refused),
            }
        }
    }

    fn step(&self, filter: &ListenerFilter, found: &mut Found) -> Step {
        let shard = self.shard.id;
        match &filter.kind {
            Kind::OriginalDst => {
                // Without a redirection the kernel knows no other destination.
                if let Address::Ip(local) = found.local
                    && let Ok(destination) = self.socket.original_destination(local)
                {
                    found.local = destination.into();
                }
                Step::Continue { consumed: 0 }
            }
            Kind::ProxyProtocol(options) => options.inspect(shard, &self.bytes, found),
            Kind::TlsInspector(options) => options.inspect(shard, &self.bytes, found),
            Kind::HttpInspector(stats) => inspect::http(stats.shard(shard), &self.bytes, found),
        }
    }

    /// Receives at least one more byte. How many a filter waits for is bounded by the filter.
    async fn receive_more(&mut self) -> Result<(), Stopped> {
        loop {
            // A client that sends slowly does not keep a block: the bytes have a buffer of their size.
            let mut block = self.shard.buffers.take();
            let received = self.socket.receive(&mut block);
            self.bytes.extend_from_slice(&block);
            self.shard.buffers.give(block);
            match received {
                Ok(Received::Bytes(_)) => return Ok(()),
                Ok(Received::Nothing) => self.readable().await?,
                Ok(Received::End) => return Err(Stopped::Ended),
                Err(_) => return Err(Stopped::Broken),
            }
        }
    }

    async fn readable(&mut self) -> Result<(), Stopped> {
        poll_fn(|cx| {
            if self.socket.poll_readable(cx).is_ready() {
                return self.shard.poll_proceed(cx).map(Ok);
            }
            let is_silent = self.bytes.is_empty();
            if is_silent
                && self.until == Until::Timeout
                && self.shard.draining() == Draining::Process
            {
                // The process exits: as on an idle connection, first bytes may be on their way.
                let now = self.shard.clock.now();
                self.alarm.set(Some(now + limits::DRAIN_IDLE_GRACE_MS), now);
                self.until = Until::Exit;
            }
            self.alarm.poll_expired(cx).map(|()| {
                Err(if self.until == Until::Exit { Stopped::Refused } else { Stopped::TimedOut })
            })
        })
        .await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.listener.stats().downstream_pre_cx_active.dec();
    }
}
