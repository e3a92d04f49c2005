//! The heads of one exchange, and a shard's pool of them.

use std::cell::RefCell;

use crate::http::header_key_format::AsReceived;
use crate::http::{Method, RequestHead, ResponseHead};
use crate::limits;
use crate::shard::clock::Millis;

/// The heads of one exchange, with the buffers that they were received into.
#[derive(Debug, Default)]
pub struct Heads {
    /// When the first byte of the request was received.
    pub began: Millis,
    /// From the client.
    pub request: RequestHead,
    /// From the origin.
    pub response: ResponseHead,
    /// The request as received, if the case of its field names is preserved.
    pub request_as_received: AsReceived,
    /// The response as received, if the case of its field names is preserved.
    pub response_as_received: AsReceived,
}

/// A shard's pools of heads.
#[derive(Debug)]
pub struct HeadsPools {
    /// For heads that are received.
    pub received: HeadsPool,
    /// For heads whose request is decoded.
    pub decoded: HeadsPool,
}

impl Default for HeadsPools {
    fn default() -> Self {
        Self { received: HeadsPool::new(Room::ToReceive), decoded: HeadsPool::new(Room::ToDecode) }
    }
}

/// Heads that are not in use.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "they move between tasks and this pool all the time")]
pub struct HeadsPool {
    heads: RefCell<Vec<Box<Heads>>>,
    room: Room,
}

/// How much room new heads have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Room {
    /// A block each: they are received into it.
    ToReceive,
    /// What a decoded request takes, and nothing for the response before it comes: a client may have many
    /// streams that wait.
    ToDecode,
}

impl Heads {
    /// Whether the response has no body, whatever its head says.
    #[must_use]
    pub const fn has_no_body(&self) -> bool {
        //= rfc9112#6.3
        // "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), or 304
        // (Not Modified) status code is always terminated by the first empty line after the header fields".
        matches!(self.request.method, Method::Head)
            || matches!(self.response.status, 100..=199 | 204 | 304)
    }
}

impl HeadsPool {
    fn new(room: Room) -> Self {
        Self { heads: RefCell::default(), room }
    }

    /// Empty heads for an exchange.
    #[must_use]
    pub fn take(&self) -> Box<Heads> {
        let heads = self.heads.borrow_mut().pop();
        heads.unwrap_or_else(|| {
            let mut heads = Box::<Heads>::default();
            match self.room {
                Room::ToReceive => {
                    heads.request.received().reserve_exact(limits::BLOCK_BYTES);
                    heads.response.received().reserve_exact(limits::BLOCK_BYTES);
                }
                Room::ToDecode => {
                    heads.request.received().reserve_exact(limits::DECODED_HEAD_BYTES);
                }
            }
            heads
        })
    }

    /// Returns heads to the pool; heads that had to grow are freed.
    pub fn give(&self, mut heads: Box<Heads>) {
        heads.request.clear();
        heads.response.clear();
        heads.request_as_received.clear();
        heads.response_as_received.clear();
        let bytes = heads.request.received().capacity() + heads.response.received().capacity();
        let mut pool = self.heads.borrow_mut();
        if bytes <= 4 * limits::BLOCK_BYTES && pool.len() < limits::POOLED_BLOCKS_MAX {
            pool.push(heads);
        }
    }
}
