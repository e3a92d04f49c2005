//! What a connection waits for, and how the wait ends.

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four independent readinesses")]
pub struct Interest {
    /// The client's socket is readable.
    pub client_in: bool,
    /// The client's socket is writable.
    pub client_out: bool,
    /// The origin's socket is readable.
    pub origin_in: bool,
    /// The origin's socket is writable.
    pub origin_out: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// Which sockets are ready.
    pub io: Interest,
    /// The alarm has expired.
    pub timed_out: bool,
    /// The client has reset the connection, during a wait for neither side of its socket.
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

/// The timeout that limits how long a head may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadLimit {
    /// `request_headers_timeout`
    Head,
    /// `request_timeout`, which covers the body too.
    Request,
    /// `stream_idle_timeout`, which bytes of a head do not restart.
    Idle,
    /// `max_stream_duration`
    Duration,
}

/// What happens to the connection after an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Keep-alive: wait for the next request.
    Next,
    /// Close.
    Close,
    /// Lingering close: the client may still be sending, and gets time to read the response.
    Linger,
    /// Reset: the response is incomplete, and the client must be able to tell.
    Reset,
}
