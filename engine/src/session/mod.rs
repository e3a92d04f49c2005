//! An HTTP/2 connection over its transport, on either side: what its streams share.
//!
//! One task of the connection receives, dispatches and sends; the tasks of its streams never touch the
//! transport. A stream that has something to send leaves it in the codec and wakes that task, which runs
//! behind all streams woken with it and sends once for all of them.
//!
//! It does not decide what a request is answered with (`request/`), when a connection ends
//! (`downstream/http2`, `upstream/http2`) or what a frame means (`http2/`).
//!
//! Invariant: the codec is never borrowed while other code runs: neither across a wait, nor when a waker
//! is called or a stream dropped.

pub mod counts;
mod gauges;
mod incoming;
pub mod pings;
mod slot;
mod stream;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use self::gauges::{Gauges, Waiting};
pub use self::incoming::Incoming;
pub use self::slot::{Broken, Slot};
pub use self::stream::{Pulled, Stream, Trailers};
use crate::http::{
    BodyLength, EndStream, Fault, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules,
};
use crate::http2::{
    Block, Connection, ConnectionError, Counts, ErrorCode, Event, HeadRefused, RequestLimits,
    StreamId,
};
use crate::limits;
use crate::pipe::outlet::Outlet;
use crate::shard::Shard;
use crate::shard::drain::Draining;
use crate::shard::socket::Received;
use crate::shard::timers::Alarm;
use crate::stats::Http2Stats;
use crate::transport::Transport;

/// What the task of a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// There may be something to do.
    Work,
    /// The same, or everything was sent: the connection is about to close.
    AllSent,
}

/// A connection that carries many streams.
pub struct Session {
    shard: &'static Shard,
    transport: Transport,
    codec: RefCell<Connection<Slot>>,
    /// For trailers of the peer. Whether they are passed on is decided for each stream.
    trailers: TrailerRules,
    /// The task of the connection, while it waits.
    task: Cell<Option<Waker>>,
    /// Whether a stream has something to send, or has ended.
    woken: Cell<bool>,
    /// Whether a stream waits until more of what is to be sent is sent.
    backed_up: Cell<bool>,
    /// Bytes of bodies that no stream could send.
    pending: Cell<usize>,
    gauges: Gauges,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Session {
    /// A session over `transport`. Its first frames are sent with the first flush.
    #[must_use]
    pub fn new(
        shard: &'static Shard,
        transport: Transport,
        mut codec: Connection<Slot>,
        trailers: TrailerRules,
    ) -> Rc<Self> {
        codec.allow_heads_of(trailers.bytes_max);
        codec.start();
        Rc::new(Self {
            shard,
            transport,
            codec: RefCell::new(codec),
            trailers,
            task: Cell::new(None),
            woken: Cell::new(false),
            backed_up: Cell::new(false),
            pending: Cell::new(0),
            gauges: Gauges::default(),
        })
    }

    /// What carries it.
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Gives access to the codec. `access` must not wake or drop anything.
    pub fn codec<T>(&self, access: impl FnOnce(&mut Connection<Slot>) -> T) -> T {
        access(&mut self.codec.borrow_mut())
    }

    /// Lets `access` write frames, and wakes the task of the connection if it has written any. It must not
    /// wake or drop anything.
    pub fn write<T>(&self, access: impl FnOnce(&mut Connection<Slot>) -> T) -> T {
        let (done, has_written) = self.codec(|codec| {
            codec.provide(|| self.shard.buffers.take());
            let before = codec.out().len();
            let done = access(codec);
            (done, codec.out().len() > before)
        });
        if has_written {
            self.wake();
        }
        done
    }

    /// Wakes the task of the connection: there is something to send, or a stream has ended.
    pub fn wake(&self) {
        self.woken.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Handles what was received, up to the next event that the owner of the connection decides about: a
    /// head, or a change of the connection. `None`: everything received is handled.
    ///
    /// # Errors
    /// When the peer violates the protocol: the connection ends.
    pub fn next_event(&self, incoming: &mut Incoming) -> Result<Option<Event>, ConnectionError> {
        let now = self.shard.clock.now();
        loop {
            let event = self.codec.borrow_mut().next(&mut incoming.input(), now)?;
            let woken = match event {
                None => return Ok(None),
                Some(Event::Data { stream, data, end }) => self.codec(|codec| {
                    let slot = codec.stream(stream)?;
                    slot.add_data(incoming.bytes(data), end)
                }),
                Some(Event::Trailers(block)) => self.take_trailers(&block, incoming)?,
                Some(Event::Reset { stream, code }) => {
                    self.fail(stream, Broken::Reset(code));
                    None
                }
                Some(Event::WindowOpened { stream }) => {
                    self.codec(|codec| codec.stream(stream)?.writer.take())
                }
                event => return Ok(event),
            };
            if let Some(waker) = woken {
                waker.wake();
            }
        }
    }

    fn take_trailers(
        &self,
        block: &Block,
        incoming: &mut Incoming,
    ) -> Result<Option<Waker>, ConnectionError> {
        let stream = block.stream();
        let decoded =
            self.codec(|codec| codec.decode_trailers(block, &incoming.input(), &self.trailers));
        match decoded {
            Ok(trailers) => Ok(self.codec(|codec| codec.stream(stream)?.add_trailers(trailers))),
            Err(HeadRefused::Stream(_)) => {
                self.fail(stream, Broken::Reset(ErrorCode::ProtocolError));
                Ok(None)
            }
            Err(HeadRefused::Connection(error)) => Err(error),
        }
    }

    /// Begins a request whose head has arrived; none: it was refused, and its stream is reset.
    ///
    /// # Errors
    /// When the connection has to end.
    pub fn begin_request(
        self: &Rc<Self>,
        block: &Block,
        incoming: &mut Incoming,
        head: &mut RequestHead,
        limits: RequestLimits<'_>,
    ) -> Result<Option<(Stream, BodyLength)>, ConnectionError> {
        let decoded = self.codec(|codec| {
            let body = codec.decode_request(block, &incoming.input(), head, limits)?;
            codec.accept(block, body, Slot::new(block.end()));
            Ok(body)
        });
        match decoded {
            Ok(body) => Ok(Some((Stream::new(self, block.stream()), body))),
            Err(HeadRefused::Stream(_)) => Ok(None),
            Err(HeadRefused::Connection(error)) => Err(error),
        }
    }

    /// Hands the head of a response that has arrived to its stream; returns `head` if it is not used.
    ///
    /// # Errors
    /// When the connection has to end.
    pub fn take_response(
        &self,
        block: &Block,
        incoming: &mut Incoming,
        mut head: Box<ResponseHead>,
        limits: &HeadLimits,
    ) -> Result<Option<Box<ResponseHead>>, ConnectionError> {
        let stream = block.stream();
        let decoded = self.codec(|codec| {
            let method = codec.stream(stream).map_or_else(Method::default, |slot| slot.method);
            codec.decode_response(block, &incoming.input(), &mut head, method, limits)
        });
        match decoded {
            Ok(length) => {
                let waker = self.codec(|codec| codec.stream(stream)?.add_head(head, length));
                waker.into_iter().for_each(Waker::wake);
                Ok(None)
            }
            Err(HeadRefused::Stream(flaw)) => {
                let code = if flaw.is_malformed() {
                    ErrorCode::ProtocolError
                } else {
                    ErrorCode::InternalError
                };
                self.fail(stream, Broken::Reset(code));
                Ok(Some(head))
            }
            Err(HeadRefused::Connection(error)) => Err(error),
        }
    }

    /// How many streams have a task.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.codec(|codec| codec.streams())
    }

    /// Ends a stream early.
    pub fn fail(&self, stream: StreamId, broken: Broken) {
        let woken = self.codec(|codec| codec.stream(stream).map(|slot| slot.fail(broken)));
        woken.into_iter().flatten().flatten().for_each(Waker::wake);
    }

    /// Ends all streams early.
    pub fn fail_all(&self, broken: Broken) {
        self.wake_all(|codec, woken| {
            codec.each(|slot| woken.extend(slot.fail(broken).into_iter().flatten()));
        });
    }

    /// Wakes the streams that have waited for the window of the connection, or for one of their own that the
    /// peer's SETTINGS have opened.
    fn wake_those_with_window(&self) {
        self.wake_all(|codec, woken| codec.wake_writers(|slot| woken.extend(slot.writer.take())));
    }

    fn wake_writers(&self) {
        self.wake_all(|codec, woken| codec.each(|slot| woken.extend(slot.writer.take())));
    }

    /// Wakes whom `collect` takes out of the codec, once that is no longer borrowed.
    fn wake_all(&self, collect: impl FnOnce(&mut Connection<Slot>, &mut Vec<Waker>)) {
        let mut woken = Vec::new();
        self.codec(|codec| collect(codec, &mut woken));
        woken.into_iter().for_each(Waker::wake);
    }

    /// Adds what the codec has counted to the stats.
    pub fn count(&self, stats: &Http2Stats) {
        let counted = self.codec(Connection::take_counts);
        if counted != Counts::default() {
            counts::add(stats, &counted);
        }
    }

    /// Shows in the stats what waits on the connection: to be called before each wait.
    pub fn show_waiting(&self, stats: &Http2Stats) {
        let (frames, control_frames, unread) = self.codec(|codec| {
            let (frames, control_frames) = codec.outbound_frames();
            (frames, control_frames, codec.unread_streams())
        });
        let now = Waiting {
            send_bytes: self.pending.get() as u64,
            frames: frames.into(),
            control_frames: control_frames.into(),
            unread_streams: unread.into(),
        };
        self.gauges.show(now, stats);
    }

    /// The connection has ended: nothing waits any more.
    pub fn show_ended(&self, stats: &Http2Stats) {
        self.gauges.show(Waiting::default(), stats);
    }

    /// Notes how many bytes of a stream could not be sent.
    fn set_pending(&self, codec: &mut Connection<Slot>, id: StreamId, now: usize) {
        if let Some(slot) = codec.stream(id) {
            let before = std::mem::replace(&mut slot.pending, now);
            self.pending.set((self.pending.get() + now).saturating_sub(before));
        }
    }

    /// A stream is forgotten of which so many bytes could not be sent.
    fn forget_pending(&self, pending: usize) {
        self.pending.set(self.pending.get().saturating_sub(pending));
    }

    /// Receives once if anything has arrived, unless far too much waits to be sent. Bodies do not: they wait for less. Otherwise two
    /// proxies that both have much to send would wait for each other (RFC 9113 §5.2.2).
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn receive(&self, incoming: &mut Incoming) -> io::Result<Received> {
        if self.transport.is_quiet() || self.codec(|codec| is_stuck(codec)) {
            return Ok(Received::Nothing);
        }
        incoming.receive(&self.transport, self.shard.buffers)
    }

    /// Sends what the transport takes; returns the number of bytes. What fits into a block is posted: it is
    /// sent together with what other connections send.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn flush(&self) -> io::Result<usize> {
        self.woken.set(false);
        self.wake_those_with_window();
        let sent = self.codec(|codec| {
            let mut sent = 0;
            if (1..=limits::BLOCK_BYTES).contains(&codec.out().len()) && self.transport.may_post() {
                let block = codec.take_out();
                sent = block.len();
                self.transport.post(block);
            }
            while !codec.out().is_empty() {
                let bytes = self.transport.send(codec.out())?;
                if bytes == 0 {
                    break;
                }
                codec.sent(bytes);
                sent += bytes;
            }
            Ok::<_, io::Error>(sent)
        })?;
        if self.backed_up.get() && !self.codec(|codec| self.is_full(codec)) {
            self.backed_up.set(false);
            self.wake_writers();
        }
        Ok(sent)
    }

    /// Whether there is something that the transport has not taken, or not sent.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.transport.has_unsent() || self.codec(|codec| !codec.out().is_empty())
    }

    /// Sends what is left before the connection closes, unless `alarm` expires first.
    pub async fn flush_all(&self, alarm: &Alarm) {
        while self.flush().is_ok() && self.has_unsent() {
            let done = poll_fn(|cx| {
                if self.transport.poll_writable(cx).is_ready() {
                    return self.shard.poll_proceed(cx).map(|()| false);
                }
                alarm.poll_expired(cx).map(|()| true)
            });
            if done.await {
                return;
            }
        }
    }

    /// Waits for `until`, until `alarm` expires, or until a drain begins. Holds no block meanwhile if no frame
    /// has arrived in part.
    pub async fn wait(&self, incoming: &mut Incoming, alarm: &Alarm, until: Until) {
        incoming.rest(self.shard.buffers);
        self.shard.buffers.give(self.codec(Connection::rest));
        let draining = self.shard.draining();
        poll_fn(|cx| self.poll_woken(cx, alarm, draining, until)).await;
    }

    fn poll_woken(
        &self,
        cx: &Context<'_>,
        alarm: &Alarm,
        draining: Draining,
        until: Until,
    ) -> Poll<()> {
        let (has_out, is_stuck) = self.codec(|codec| (!codec.out().is_empty(), is_stuck(codec)));
        // What was posted is no longer in the codec; its completion wakes only those who wait to write.
        let waits_to_send = has_out || until == Until::AllSent;
        let mut is_ready = self.woken.get() || self.shard.draining() != draining;
        is_ready |= !is_stuck && self.transport.poll_readable(cx).is_ready();
        is_ready |= waits_to_send && self.transport.poll_writable(cx).is_ready();
        if !is_ready && alarm.poll_expired(cx).is_pending() {
            self.task.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        self.shard.poll_proceed(cx)
    }

    /// Whether so much waits to be sent that streams have to wait.
    fn is_backed_up(&self, codec: &mut Connection<Slot>) -> bool {
        let is_full = self.is_full(codec);
        if is_full {
            self.backed_up.set(true);
        }
        is_full
    }

    fn is_full(&self, codec: &mut Connection<Slot>) -> bool {
        codec.out().len() >= limits::SESSION_OUT_BYTES_MAX
    }

    fn push(&self, id: StreamId, out: &mut Outlet) -> Result<usize, Fault> {
        self.write(|codec| {
            if codec.stream(id).is_none_or(|slot| slot.broken.is_some()) {
                return Err(Fault::Sink);
            }
            let data = out.unsent();
            // The end of a message is short, and waits for nothing.
            if !data.is_empty() && self.is_backed_up(codec) {
                self.set_pending(codec, id, data.len());
                return Ok(0);
            }
            if !data.is_empty() && !codec.takes_data(id) {
                return Err(Fault::Sink);
            }
            let ends = out.ending().is_some_and(<[u8]>::is_empty);
            let end = if ends { EndStream::Yes } else { EndStream::No };
            let (bytes, all) = (data.len(), !data.is_empty() || ends);
            let sent = if all { codec.send_data(id, data, end) } else { 0 };
            self.set_pending(codec, id, bytes - sent);
            out.taken_by_sink(sent);
            if sent == bytes
                && let Some(trailers) = out.ending()
            {
                if !trailers.is_empty() {
                    codec.send_trailers(id, trailers);
                }
                out.end_taken_by_sink();
            }
            Ok(sent)
        })
    }
}

/// Whether so much waits to be sent, heads and answers to control frames, that nothing more is received.
fn is_stuck(codec: &Connection<Slot>) -> bool {
    codec.out().len() >= limits::SESSION_OUT_STUCK_BYTES
}
