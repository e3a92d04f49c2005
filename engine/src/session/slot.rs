//! What a session keeps of one stream: what has arrived for its task, and whom to wake.

use std::collections::VecDeque;
use std::task::Waker;

use crate::http::{BodyLength, EndStream, Method, ResponseHead};
use crate::http2::ErrorCode;
use crate::limits;

/// Why a stream has ended early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// It was reset, by either side.
    Reset(ErrorCode),
    /// The peer has gone away without having processed it: it may be sent again.
    NotProcessed,
    /// The connection has ended.
    ConnectionLost,
}

/// A stream as its session sees it. The window bounds the unread bytes.
#[derive(Debug, Default)]
pub struct Slot {
    data: Vec<u8>,
    /// So many bytes of `data` were taken.
    taken: usize,
    ended: bool,
    trailers: Vec<u8>,
    pub(super) broken: Option<Broken>,
    /// Bytes of its body that were not taken with the last push.
    pub(super) pending: usize,
    /// Waits for something to take.
    pub(super) reader: Option<Waker>,
    /// Waits for room to send.
    pub(super) writer: Option<Waker>,
    /// That of the request, for its response.
    pub(super) method: Method,
    /// The next head of a response, interim ones included.
    head: Option<(Box<ResponseHead>, BodyLength)>,
    /// Those behind it: rarely any.
    heads: VecDeque<(Box<ResponseHead>, BodyLength)>,
}

/// What can be taken from a stream.
#[derive(Debug)]
pub(super) enum Taken {
    /// Bytes of the body, to be given back with [`Slot::put_back`].
    Data(Vec<u8>, usize),
    /// The end of the body, with its trailers.
    End(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// There will be no more.
    Broken,
}

impl Slot {
    /// A request whose body may have ended with its head.
    #[must_use]
    pub fn new(end: EndStream) -> Self {
        Self { ended: end == EndStream::Yes, ..Self::default() }
    }

    /// A request of ours with this method: a response is to come.
    #[must_use]
    pub fn request(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    /// One whose connection is lost.
    pub(super) fn lost() -> Self {
        Self { broken: Some(Broken::ConnectionLost), ..Self::default() }
    }

    /// Adds what has arrived; returns whom to wake.
    pub(super) fn add_data(&mut self, data: &[u8], end: bool) -> Option<Waker> {
        // Rarely: what is left moves.
        if self.taken > 0 && self.taken >= self.data.len() / 2 {
            self.data.drain(..self.taken);
            self.taken = 0;
        }
        self.data.extend_from_slice(data);
        self.ended |= end;
        self.reader.take()
    }

    /// Adds the end of the body; returns whom to wake.
    pub(super) fn add_trailers(&mut self, trailers: Vec<u8>) -> Option<Waker> {
        self.trailers = trailers;
        self.ended = true;
        self.reader.take()
    }

    /// Adds the head of a response; returns whom to wake.
    pub fn add_head(&mut self, head: Box<ResponseHead>, length: BodyLength) -> Option<Waker> {
        if length == BodyLength::None {
            self.ended = true;
        }
        match &self.head {
            None => self.head = Some((head, length)),
            Some(_) => self.heads.push_back((head, length)),
        }
        self.reader.take()
    }

    /// Whether there is a head of a response.
    pub(super) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// The next head of a response.
    pub fn take_head(&mut self) -> Option<(Box<ResponseHead>, BodyLength)> {
        let next = self.heads.pop_front();
        std::mem::replace(&mut self.head, next)
    }

    /// Ends it early; returns whom to wake.
    pub(super) fn fail(&mut self, broken: Broken) -> [Option<Waker>; 2] {
        self.broken.get_or_insert(broken);
        [self.reader.take(), self.writer.take()]
    }

    /// Whether there is something to take.
    pub(super) fn is_readable(&self) -> bool {
        self.head.is_some() || self.taken < self.data.len() || self.ended || self.broken.is_some()
    }

    /// The trailers, if all of the body was taken.
    pub(super) fn take_end(&mut self) -> Option<Vec<u8>> {
        let is_over = self.ended && self.taken >= self.data.len();
        is_over.then(|| std::mem::take(&mut self.trailers))
    }

    /// Takes what there is. What arrived before a reset is taken first.
    pub(super) fn take(&mut self) -> Taken {
        if self.taken < self.data.len() {
            return Taken::Data(std::mem::take(&mut self.data), self.taken);
        }
        match self.broken {
            _ if self.ended => Taken::End(std::mem::take(&mut self.trailers)),
            Some(_) => Taken::Broken,
            None => Taken::Nothing,
        }
    }

    /// Gives the body's bytes back, after all before `taken` were taken. A long rest keeps its memory, an
    /// empty one does not if it is large.
    pub(super) fn put_back(&mut self, mut data: Vec<u8>, taken: usize) {
        self.taken = taken;
        if taken == data.len() {
            data.clear();
            self.taken = 0;
            if data.capacity() > limits::BLOCK_BYTES {
                data = Vec::new();
            }
        }
        self.data = data;
    }
}
