//! HTTP/2 for health checks: one request at a time.

use std::io;
use std::time::Instant;

use super::connection::{Connection, Endpoint};
use crate::http::{
    BodyLength, EndStream, HeadLimits, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::{self, Event, Input, StreamId};
use crate::shard::clock::millis;

/// A connection that speaks HTTP/2.
pub(super) struct Session {
    connection: Connection,
    codec: http2::Connection<()>,
    received: Vec<u8>,
    handled: usize,
    began: Instant,
    /// The host has said that it goes away.
    is_draining: bool,
}

/// A response, as it has arrived.
#[derive(Default)]
pub(super) struct Response {
    pub(super) head: ResponseHead,
    pub(super) body: Vec<u8>,
    /// As lines.
    pub(super) trailers: Vec<u8>,
    has_head: bool,
    has_ended: bool,
}

impl Session {
    fn new(connection: Connection) -> Self {
        let mut codec = http2::Connection::client(&http2::Options::default());
        codec.allow_heads_of(HeadLimits::default().bytes_max);
        codec.start();
        let (received, handled, began) = (Vec::new(), 0, Instant::now());
        Self { connection, codec, received, handled, began, is_draining: false }
    }

    /// Sends a request over a kept session, or over a new one. A session that the host has ended meanwhile, which may
    /// only show now, does not fail the check.
    pub(super) async fn exchange_on(
        kept: Option<Box<Self>>,
        endpoint: &Endpoint,
        request: &RequestHead,
        body: &[u8],
        kept_max: usize,
    ) -> io::Result<(Box<Self>, Response)> {
        if let Some(mut kept) = kept.filter(|kept| kept.is_usable()) {
            match kept.exchange(request, body, kept_max).await {
                Err(error) if has_ended(&error) => {}
                outcome => return Ok((kept, outcome?)),
            }
        }
        let mut new = Box::new(Self::new(endpoint.connect(&[b"h2"]).await?));
        let response = new.exchange(request, body, kept_max).await?;
        Ok((new, response))
    }

    /// Whether it can carry another request.
    fn is_usable(&self) -> bool {
        !self.is_draining && self.codec.may_open() && !self.connection.has_ended()
    }

    /// Sends a request and receives its response, of whose body at most `kept_max` bytes are kept.
    async fn exchange(
        &mut self,
        request: &RequestHead,
        body: &[u8],
        kept_max: usize,
    ) -> io::Result<Response> {
        let id = self.codec.open(()).ok_or_else(|| io::Error::other("no stream is allowed"))?;
        let end = if body.is_empty() { EndStream::Yes } else { EndStream::No };
        self.codec.send_request(id, request, end);
        let mut rest = body;
        let mut response = Response::default();
        loop {
            if !rest.is_empty() {
                let sent = self.codec.send_data(id, rest, EndStream::Yes);
                rest = rest.get(sent..).unwrap_or_default();
            }
            let out = self.codec.take_out();
            self.connection.write_all(&out).await?;
            if response.has_ended {
                self.codec.release(id);
                return Ok(response);
            }
            self.received.drain(..std::mem::take(&mut self.handled));
            if self.connection.read(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.take_events(id, request, kept_max, &mut response)?;
        }
    }

    fn take_events(
        &mut self,
        id: StreamId,
        request: &RequestHead,
        kept_max: usize,
        response: &mut Response,
    ) -> io::Result<()> {
        let Self { codec, received, handled, began, is_draining, .. } = self;
        let limits = HeadLimits::default();
        let now = millis(began.elapsed());
        let mut input = Input::new(received, handled);
        while let Some(event) = codec.next(&mut input, now).map_err(violated)? {
            match event {
                Event::Head(block) => {
                    let head = &mut response.head;
                    head.clear();
                    let decoded =
                        codec.decode_response(&block, &input, head, request.method, &limits);
                    let length = decoded.map_err(|_| io::ErrorKind::InvalidData)?;
                    response.has_head = !(100..200).contains(&head.status);
                    response.has_ended = response.has_head
                        && (block.end() == EndStream::Yes || length == BodyLength::None);
                }
                Event::Trailers(block) => {
                    let decoded = codec.decode_trailers(&block, &input, &trailer_rules(&limits));
                    response.trailers = decoded.map_err(|_| io::ErrorKind::InvalidData)?;
                    response.has_ended = true;
                }
                Event::Data { stream, data, end } if stream == id => {
                    let data = received.get(data).unwrap_or_default();
                    let room = kept_max.saturating_sub(response.body.len()).min(data.len());
                    response.body.extend_from_slice(data.get(..room).unwrap_or_default());
                    codec.consumed(id, data.len());
                    response.has_ended |= end;
                }
                Event::Reset { stream, .. } if stream == id => {
                    codec.release(id);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Event::GoAway { last, .. } => {
                    *is_draining = true;
                    if last < id {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                }
                Event::Data { .. }
                | Event::Reset { .. }
                | Event::WindowOpened { .. }
                | Event::PeerSettings
                | Event::PingAck(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether the connection was over, rather than the answer wrong.
fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn violated(error: http2::ConnectionError) -> io::Error {
    io::Error::other(error.to_string())
}

const fn trailer_rules(limits: &HeadLimits) -> TrailerRules {
    let HeadLimits { bytes_max, fields_max, .. } = *limits;
    TrailerRules { bytes_max, fields_max, underscores: Underscores::Allow, kept: true }
}
