//! What a connection waits for, and what came of it.

/// What a wait is for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four independent readinesses")]
pub struct Interest {
    /// Bytes from the client.
    pub client_in: bool,
    /// Room towards the client.
    pub client_out: bool,
    /// Bytes from the origin.
    pub origin_in: bool,
    /// Room towards the origin.
    pub origin_out: bool,
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// What of the interest came true.
    pub io: Interest,
    /// The deadline passed.
    pub timed_out: bool,
    /// The client has reset the connection while neither its bytes nor room towards it were wanted.
    pub client_gone: bool,
}

/// Whether the client may still send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// It may.
    Open,
    /// It has closed its side; it can still read.
    HalfClosed,
}

/// Which side ended the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClosedBy {
    /// This proxy.
    Us,
    /// The client.
    Client,
}

/// What limits the time of a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadLimit {
    /// `request_headers_timeout`
    Head,
    /// `request_timeout`, which the body shares.
    Request,
    /// `stream_idle_timeout`, which the bytes of a head do not move.
    Idle,
    /// `max_stream_duration`
    Duration,
}

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// The next request may come.
    Next,
    /// Everything is said; close.
    Close,
    /// The client may still be sending: close once it has seen the answer.
    Linger,
    /// The answer is not whole, and the client must be able to tell.
    Reset,
}
