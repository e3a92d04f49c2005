//! What the two sides of a call share: the caller's, and the client's side of its exchange.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use super::{CallFailed, Response};
use crate::http::{Fault, Intake, ResponseHead};
use crate::request::end::Ended;
use crate::shard::Shard;

/// Whether the caller waits for the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caller {
    Waits,
    /// No; the response is discarded.
    Discards,
    /// No, and the call goes on without its caller.
    Left,
    /// The call is cancelled.
    Gone,
}

/// The memory between a caller and its exchange.
#[derive(Debug)]
pub(super) struct Channel {
    request: RefCell<Request>,
    response: RefCell<Received>,
    /// What waits in all channels of the shard.
    unsent: &'static Unsent,
    /// The most bytes of the response's body to keep.
    most: usize,
    caller: Cell<Caller>,
    /// Woken when there is something for the caller.
    calling: RefCell<Option<Waker>>,
    /// Woken when there is something for the exchange.
    serving: RefCell<Option<Waker>>,
}

/// How many bytes of requests wait in the channels of a shard.
#[derive(Debug, Default)]
struct Unsent(Cell<usize>);

/// The body of the request on its way to the exchange.
#[derive(Debug, Default)]
struct Request {
    data: Vec<u8>,
    /// So many bytes of it were taken.
    taken: usize,
    /// The trailers, once the body has ended.
    end: Option<Vec<u8>>,
}

/// The response as far as it is here.
#[derive(Debug, Default)]
struct Received {
    head: Option<Box<ResponseHead>>,
    body: Vec<u8>,
    trailers: Vec<u8>,
    ended: Option<Ended>,
}

/// What the exchange has taken of the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    Nothing,
    Something,
    /// All of it.
    End,
}

impl Channel {
    pub(super) fn new(shard: &'static Shard, most: usize) -> Self {
        Self {
            request: RefCell::default(),
            response: RefCell::default(),
            unsent: shard.kept(|_| Unsent::default()),
            most,
            caller: Cell::new(Caller::Waits),
            calling: RefCell::default(),
            serving: RefCell::default(),
        }
    }

    fn wake_exchange(&self) {
        if let Some(waker) = self.serving.take() {
            waker.wake();
        }
    }

    fn wake_caller(&self) {
        if let Some(waker) = self.calling.take() {
            waker.wake();
        }
    }
}

/// The caller's side.
impl Channel {
    pub(super) fn send(&self, data: &[u8]) {
        if self.response.borrow().ended.is_some() {
            return;
        }
        {
            let mut request = self.request.borrow_mut();
            let Request { data: waiting, taken, .. } = &mut *request;
            if *taken > waiting.len() / 2 {
                waiting.drain(..*taken);
                *taken = 0;
            }
            waiting.extend_from_slice(data);
        }
        self.unsent.0.update(|bytes| bytes + data.len());
        self.wake_exchange();
    }

    pub(super) fn unsent_on_shard(&self) -> usize {
        self.unsent.0.get()
    }

    pub(super) fn unsent(&self) -> usize {
        let request = self.request.borrow();
        request.data.len() - request.taken
    }

    pub(super) fn end_request(&self, trailers: Vec<u8>) {
        self.request.borrow_mut().end = Some(trailers);
        self.wake_exchange();
    }

    pub(super) fn discard_response(&self) {
        self.caller.set(Caller::Discards);
    }

    pub(super) fn leave(&self) {
        self.caller.set(Caller::Left);
        self.response.borrow_mut().body = Vec::new();
        self.wake_exchange();
    }

    /// Ends the exchange early, unless it may go on alone.
    pub(super) fn cancel(&self) {
        if self.caller.get() != Caller::Left {
            self.caller.set(Caller::Gone);
            self.wake_exchange();
        }
    }

    pub(super) fn poll_done(&self, cx: &Context<'_>) -> Poll<()> {
        let response = self.response.borrow();
        if response.ended.is_some() || response.body.len() > self.most {
            return Poll::Ready(());
        }
        drop(self.calling.replace(Some(cx.waker().clone())));
        Poll::Pending
    }

    /// Ready when there is something of the response to take, or it has ended.
    pub(super) fn poll_received(&self, cx: &Context<'_>) -> Poll<()> {
        let response = self.response.borrow();
        if response.ended.is_some() || !response.body.is_empty() {
            return Poll::Ready(());
        }
        drop(self.calling.replace(Some(cx.waker().clone())));
        Poll::Pending
    }

    /// Takes what has come of the response's body.
    pub(super) fn take_received(&self) -> Vec<u8> {
        let taken = std::mem::take(&mut self.response.borrow_mut().body);
        if !taken.is_empty() {
            self.wake_exchange();
        }
        taken
    }

    /// The status of the response, once its head is here.
    pub(super) fn response_status(&self) -> Option<u16> {
        self.response.borrow().head.as_ref().map(|head| head.status)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.response.borrow().ended.is_some()
    }

    pub(super) fn take_whole(&self) -> Result<Response, CallFailed> {
        let Received { head, body, trailers, ended } = self.response.take();
        if body.len() > self.most {
            return Err(CallFailed::TooLarge);
        }
        match (ended, head) {
            (Some(Ended::Whole | Ended::Early), Some(head)) => {
                Ok(Response { head, body, trailers })
            }
            _ => Err(CallFailed::Reset),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let left = self.unsent();
        self.unsent.0.update(|bytes| bytes.saturating_sub(left));
    }
}

/// The side of the exchange.
impl Channel {
    pub(super) fn is_cancelled(&self) -> bool {
        self.caller.get() == Caller::Gone
    }

    pub(super) fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_for(cx, false)
    }

    /// Ready when there is something of the request to take.
    pub(super) fn poll_request(&self, cx: &Context<'_>) -> Poll<()> {
        let request = self.request.borrow();
        self.wait_for(cx, request.taken < request.data.len() || request.end.is_some())
    }

    /// Ready when there is room for the response.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait_for(cx, self.has_room())
    }

    fn wait_for(&self, cx: &Context<'_>, is_ready: bool) -> Poll<()> {
        if is_ready || self.is_cancelled() {
            return Poll::Ready(());
        }
        drop(self.serving.replace(Some(cx.waker().clone())));
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.caller.get() != Caller::Waits || self.response.borrow().body.len() <= self.most
    }

    pub(super) fn take_request(&self, to: &mut impl Intake) -> Result<Taken, Fault> {
        if self.is_cancelled() {
            return Err(Fault::Source);
        }
        let mut request = self.request.borrow_mut();
        let Request { data, taken, end } = &mut *request;
        let rest = data.get(*taken..).unwrap_or_default();
        let rest = rest.get(..to.most()).unwrap_or(rest);
        let mut result = Taken::Nothing;
        if !rest.is_empty() {
            to.data(rest);
            *taken += rest.len();
            self.unsent.0.update(|bytes| bytes.saturating_sub(rest.len()));
            result = Taken::Something;
        }
        if *taken < data.len() {
            return Ok(result);
        }
        data.clear();
        *taken = 0;
        match end.take() {
            Some(trailers) => {
                to.end(trailers);
                Ok(Taken::End)
            }
            None => Ok(result),
        }
    }

    pub(super) fn set_head(&self, head: &ResponseHead) {
        self.response.borrow_mut().head = Some(Box::new(head.clone()));
        self.wake_caller();
    }

    /// Takes a part of the response's body; returns whether there was room.
    ///
    /// # Errors
    /// When the call is cancelled.
    pub(super) fn take_response(&self, data: &[u8]) -> Result<bool, Fault> {
        if self.is_cancelled() {
            return Err(Fault::Sink);
        }
        if !self.has_room() {
            return Ok(false);
        }
        if self.caller.get() == Caller::Waits {
            self.response.borrow_mut().body.extend_from_slice(data);
            self.wake_caller();
        }
        Ok(true)
    }

    pub(super) fn set_trailers(&self, trailers: &[u8]) {
        self.response.borrow_mut().trailers = trailers.to_vec();
    }

    /// Notes how the exchange has ended; only the first time counts.
    pub(super) fn set_ended(&self, how: Ended) {
        self.response.borrow_mut().ended.get_or_insert(how);
        self.wake_caller();
    }
}
