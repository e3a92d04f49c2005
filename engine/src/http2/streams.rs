//! The streams of a connection, and their windows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::frame::WINDOW_DEFAULT;

/// The number of a stream, 31 bits; 0 is the connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u32);

impl StreamId {
    pub(super) const CONNECTION: Self = Self(0);
    pub(super) const MAX: Self = Self(u32::MAX >> 1);

    /// The first bit is reserved.
    pub(super) const fn new(number: u32) -> Self {
        Self(number & Self::MAX.0)
    }

    /// As on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether a client begins it.
    pub(super) const fn is_of_client(self) -> bool {
        self.0 % 2 == 1
    }
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Open,
    /// END_STREAM was sent.
    Ended,
}

/// What the peer sends next that is a header block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expects {
    /// A head: of a response, which may be an interim one.
    Head,
    Trailers,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream<S> {
    pub(super) state: S,
    pub(super) local: Side,
    pub(super) remote: Side,
    /// RST_STREAM was sent or received.
    pub(super) is_reset: bool,
    pub(super) expects: Expects,
    /// What `content-length` leaves to come.
    pub(super) left: Option<u64>,
    /// What we may send; negative after the peer has reduced its initial window.
    pub(super) send_window: i64,
    pub(super) receive_window: ReceiveWindow,
}

/// What a peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveWindow {
    size: i64,
    /// What it may send now.
    left: i64,
    /// Received and not read.
    unread: i64,
    /// Read and not given back.
    read: i64,
}

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> Self {
        let size = i64::from(size);
        Self { size, left: size, unread: 0, read: 0 }
    }

    /// Takes what has arrived; false if it is more than allowed.
    pub(super) const fn take(&mut self, bytes: i64) -> bool {
        self.left -= bytes;
        self.unread += bytes;
        self.left >= 0
    }

    /// What was received and not read.
    pub(super) const fn unread(&self) -> i64 {
        self.unread
    }

    /// Notes what was read; returns what to give back with WINDOW_UPDATE. As in nghttp2, and so Envoy, that
    /// is when it is half of the window.
    pub(super) const fn read(&mut self, bytes: i64) -> Option<i64> {
        self.unread -= bytes;
        self.read += bytes;
        if self.read == 0 || self.read < self.size / 2 {
            return None;
        }
        let given = self.read;
        self.read = 0;
        self.left += given;
        Some(given)
    }

    /// The window that all streams share begins with the default, whatever it becomes.
    pub(super) const fn growth(&self) -> i64 {
        self.size - WINDOW_DEFAULT
    }
}

/// Multiplies: the numbers of streams are consecutive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All streams that are not released.
pub(super) type Streams<S> = HashMap<StreamId, Stream<S>, BuildHasherDefault<IdHasher>>;
