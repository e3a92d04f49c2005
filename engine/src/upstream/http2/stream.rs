//! One request on an HTTP/2 connection.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection::Connection;
use crate::address::Address;
use crate::http::{
    BodyLength, EndStream, Fault, FieldName, Intake, Method, More, TrailerRules, Version,
};
use crate::http2::ErrorCode;
use crate::pipe::heads::Heads;
use crate::pipe::outlet::Outlet;
use crate::session::{self, Broken, Slot, Trailers};
use crate::transport::tls::facts::TlsFacts;
use crate::upstream::error::Error;
use crate::upstream::origin::{HeadReceived, HeadTaken};
use crate::upstream::pool::Pool;

/// Room for a request on a connection, and from [`Self::begin_request`] on the request. When it is dropped
/// before both sides have ended, the stream is reset.
#[derive(Debug)]
pub struct Stream {
    connection: Rc<Connection>,
    stream: Option<session::Stream>,
    trailers: Trailers,
    asks: Asks,
}

/// What the request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    /// A response.
    Response,
    /// A tunnel, by CONNECT.
    Tunnel,
    /// A tunnel, by an upgrade of HTTP/1: it is sent as an extended CONNECT (RFC 8441).
    Upgrade,
}

impl Stream {
    pub(super) fn new(connection: &Rc<Connection>) -> Self {
        Self {
            connection: Rc::clone(connection),
            stream: None,
            trailers: Trailers::Dropped,
            asks: Asks::Response,
        }
    }

    pub(in crate::upstream) fn begin_request(
        &mut self,
        heads: &Heads,
        end: EndStream,
    ) -> HeadTaken {
        let (request, session) = (&heads.request, &self.connection.session);
        self.asks = if request.method == Method::Connect {
            Asks::Tunnel
        } else if request.upgrade().is_some() {
            Asks::Upgrade
        } else {
            Asks::Response
        };
        // What follows the head of a tunnel is up to both ends.
        let (method, end) = match self.asks {
            Asks::Response => (request.method, end),
            Asks::Tunnel | Asks::Upgrade => (Method::Connect, EndStream::No),
        };
        // As in Envoy, the connection is asked for a sign of life in front of the request.
        self.connection.pings.before_request(session);
        let begun = session.write(|codec| {
            let id = codec.open(Slot::request(method))?;
            codec.send_request(id, request, end);
            Some(id)
        });
        if let Some(id) = begun {
            self.stream = Some(session::Stream::new(session, id));
            self.connection.begin_request();
            self.connection.stats().streams_active.inc();
        }
        HeadTaken::Yes
    }

    pub(in crate::upstream) fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.as_ref().map_or(Poll::Ready(()), |stream| stream.poll_in(cx))
    }

    pub(in crate::upstream) fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.as_ref().map_or(Poll::Ready(()), |stream| stream.poll_out(cx))
    }

    pub(in crate::upstream) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.as_ref().map_or(Poll::Ready(()), |stream| stream.poll_gone(cx))
    }

    pub(in crate::upstream) fn push(&self, out: &mut Outlet) -> Result<usize, Fault> {
        self.stream.as_ref().ok_or(Fault::Sink)?.push(out)
    }

    pub(in crate::upstream) fn receive_head(&self) -> HeadReceived {
        let Some(stream) = &self.stream else { return HeadReceived::Failed(NOT_PROCESSED) };
        if stream.has_head() {
            return HeadReceived::Bytes;
        }
        stream.broken().map_or(HeadReceived::Nothing, |why| HeadReceived::Failed(error(why)))
    }

    pub(in crate::upstream) fn next_head(&self, heads: &mut Heads) -> Option<BodyLength> {
        let (mut head, length) = self.stream.as_ref()?.take_head()?;
        std::mem::swap(&mut heads.response, &mut *head);
        self.connection.give_head(head);
        heads.response_as_received.clear();
        let response = &mut heads.response;
        let is_success = (200..300).contains(&response.status);
        if self.asks == Asks::Upgrade && is_success {
            //= rfc8441#section-5: 200 is what 101 is to HTTP/1.
            response.status = 101;
            let protocol = heads.request.upgrade().unwrap_or_default();
            response.fields.set(FieldName::Upgrade, protocol);
            response.fields.set(FieldName::Connection, b"upgrade");
        }
        let has_no_body = heads.request.method == Method::Head
            || matches!(response.status, 101 | 204 | 304)
            || (self.asks == Asks::Tunnel && is_success);
        // In the exchange a response looks like one of HTTP/1.
        response.version = Version::Http11;
        Some(match length {
            _ if has_no_body => BodyLength::None,
            BodyLength::None => BodyLength::Length(0),
            length => length,
        })
    }

    pub(in crate::upstream) fn begin_body(
        &mut self,
        length: BodyLength,
        trailers: Option<TrailerRules>,
        to: &mut impl Intake,
    ) {
        let is_kept = trailers.is_some_and(|rules| rules.kept);
        self.trailers = if is_kept { Trailers::Kept } else { Trailers::Dropped };
        if EndStream::with(length) == EndStream::No {
            // If it is broken, the next pull says so, when the head is sent.
            let _broken = self.pull(to);
        }
    }

    pub(in crate::upstream) fn pull(&self, to: &mut impl Intake) -> Result<More, Fault> {
        let stream = self.stream.as_ref().ok_or(Fault::Source)?;
        stream.pull(to, self.trailers).map(|pulled| pulled.more)
    }

    pub(in crate::upstream) fn failure(&self) -> Option<Error> {
        self.stream.as_ref()?.broken().map(error)
    }

    pub(in crate::upstream) fn end_sending(&self) {
        if let Some(stream) = &self.stream {
            stream.end();
        }
    }

    pub(in crate::upstream) fn id(&self) -> u64 {
        self.connection.id
    }

    pub(in crate::upstream) fn local(&self) -> Option<Address> {
        self.connection.local
    }

    pub(in crate::upstream) fn tls(&self) -> Option<&Rc<TlsFacts>> {
        self.connection.session.transport().tls()
    }

    pub(in crate::upstream) fn pool(&self) -> &Rc<Pool> {
        &self.connection.pool
    }

    /// Counts how the stream ends, as Envoy does.
    fn count_end(&self, stream: &session::Stream) {
        let stats = self.connection.pool.stats();
        match stream.broken() {
            None if stream.is_complete() => {}
            None | Some(Broken::Reset(ErrorCode::ProtocolError)) => {
                stats.upstream_rq_tx_reset.inc();
            }
            Some(Broken::Reset(ErrorCode::RefusedStream) | Broken::NotProcessed) => {}
            Some(Broken::Reset(_)) => stats.upstream_rq_rx_reset.inc(),
            Some(Broken::ConnectionLost) => stats.upstream_rq_pending_failure_eject.inc(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.count_end(&stream);
            self.connection.stats().streams_active.dec();
        }
        self.connection.end_request();
    }
}

/// The connection has gone away before the request was begun.
const NOT_PROCESSED: Error = Error::RemoteRefusedStreamReset;

/// Why there is no response.
const fn error(broken: Broken) -> Error {
    match broken {
        Broken::Reset(ErrorCode::RefusedStream) | Broken::NotProcessed => NOT_PROCESSED,
        Broken::Reset(ErrorCode::ProtocolError) => Error::ProtocolError,
        Broken::Reset(_) => Error::RemoteReset,
        Broken::ConnectionLost => Error::ConnectionTermination,
    }
}
