//! One stream of a session, as the task that owns it sees it.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Session;
use super::slot::{Broken, Slot, Taken};
use crate::http::{BodyLength, EndStream, Fault, Intake, More, ResponseHead};
use crate::http2::{ErrorCode, StreamId};
use crate::pipe::outlet::Outlet;

/// Whether the trailers of a body are passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trailers {
    /// They are.
    Kept,
    /// They are not.
    Dropped,
}

/// What [`Stream::pull`] has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pulled {
    /// Whether there may be more.
    pub more: More,
    /// Whether the body has ended.
    pub end: EndStream,
}

/// One stream. When it is dropped before both sides have ended, it is reset.
#[derive(Debug)]
pub struct Stream {
    session: Rc<Session>,
    id: StreamId,
    /// With what it is reset, if it is.
    code: Cell<ErrorCode>,
}

impl Stream {
    /// A stream that the codec knows.
    #[must_use]
    pub fn new(session: &Rc<Session>, id: StreamId) -> Self {
        Self { session: Rc::clone(session), id, code: Cell::new(ErrorCode::InternalError) }
    }

    /// Its connection.
    #[must_use]
    pub const fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// Why it has ended early, if it has.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.with(|slot| slot.broken)
    }

    /// Ready when there is something to take, or never will be.
    pub fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_for(cx, Slot::is_readable)
    }

    /// Ready when it takes bytes, or never will again.
    pub fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        let may_send = self.session.codec(|codec| {
            let is_open = codec.capacity(self.id) > 0 && !self.session.is_backed_up(codec);
            is_open || codec.stream(self.id).is_none_or(|slot| slot.broken.is_some())
        });
        if may_send {
            return Poll::Ready(());
        }
        let replaced = self.with(|slot| keep(&mut slot.writer, cx));
        drop(replaced);
        Poll::Pending
    }

    /// Ready when it has ended early.
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_for(cx, |slot| slot.broken.is_some())
    }

    fn wait_for(&self, cx: &Context<'_>, is_ready: impl FnOnce(&Slot) -> bool) -> Poll<()> {
        let (ready, replaced) = self.with(|slot| {
            if is_ready(slot) {
                return (Poll::Ready(()), None);
            }
            (Poll::Pending, keep(&mut slot.reader, cx))
        });
        drop(replaced);
        ready
    }

    /// Takes what has arrived of the body, and gives its window back.
    ///
    /// # Errors
    /// If the body ends too early.
    pub fn pull(&self, to: &mut impl Intake, trailers: Trailers) -> Result<Pulled, Fault> {
        let taken = match self.with(Slot::take) {
            Taken::Data(data, start) => {
                let rest = data.get(start..).unwrap_or_default();
                let bytes = rest.len().min(to.most());
                to.data(rest.get(..bytes).unwrap_or_default());
                let next = self.with(|slot| {
                    slot.put_back(data, start + bytes);
                    slot.take_end()
                });
                self.session.write(|codec| codec.consumed(self.id, bytes));
                next
            }
            Taken::End(lines) => Some(lines),
            Taken::Nothing => return Ok(Pulled { more: More::Unlikely, end: EndStream::No }),
            Taken::Broken => return Err(Fault::Source),
        };
        let Some(lines) = taken else {
            return Ok(Pulled { more: More::Likely, end: EndStream::No });
        };
        to.end(if trailers == Trailers::Kept { lines } else { Vec::new() });
        Ok(Pulled { more: More::Likely, end: EndStream::Yes })
    }

    /// Frames what the windows allow of `out`; returns the number of bytes.
    ///
    /// # Errors
    /// When the stream has ended early.
    pub fn push(&self, out: &mut Outlet) -> Result<usize, Fault> {
        self.session.push(self.id, out)
    }

    /// Whether the head of a response has arrived that was not taken.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.with(|slot| slot.has_head())
    }

    /// Takes the next head of a response, interim ones included.
    #[must_use]
    pub fn take_head(&self) -> Option<(Box<ResponseHead>, BodyLength)> {
        self.with(Slot::take_head)
    }

    /// Whether both sides have said everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.session.codec(|codec| codec.is_complete(self.id))
    }

    /// Ends the direction to the peer; the other one goes on.
    pub fn end(&self) {
        self.session.write(|codec| codec.send_data(self.id, &[], EndStream::Yes));
    }

    /// With what the stream is reset when it is dropped too early.
    pub fn set_code(&self, code: ErrorCode) {
        self.code.set(code);
    }

    fn with<T>(&self, access: impl FnOnce(&mut Slot) -> T) -> T {
        self.session.codec(|codec| match codec.stream(self.id) {
            Some(slot) => access(slot),
            // The codec keeps a stream until it is released below.
            None => access(&mut Slot::lost()),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let released = self.session.codec(|codec| {
            if !codec.is_complete(self.id) {
                codec.reset(self.id, self.code.get());
            }
            codec.release(self.id)
        });
        if let Some(slot) = &released {
            self.session.forget_pending(slot.pending);
        }
        // Not while the codec is borrowed.
        drop(released);
        self.session.wake();
    }
}

/// Keeps whom to wake; returns the waker that is replaced. It must not be dropped while the codec is
/// borrowed: with it a task may be dropped, which resets its stream.
#[must_use]
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        place => place.replace(cx.waker().clone()),
    }
}
