//! Our ends: an echo server, and a client.

use corvoy_engine::http::{
    EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use corvoy_engine::http2::{
    Block, Connection, ErrorCode, Event, Input, Last, Options, RequestLimits, StreamId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const LIMITS: HeadLimits = HeadLimits {
    bytes_max: 60 * 1024,
    fields_max: 100,
    accept_http_10: false,
    allow_custom_methods: false,
    allow_absolute_url: true,
};

const RULES: TrailerRules = TrailerRules {
    bytes_max: 60 * 1024,
    fields_max: 100,
    underscores: Underscores::Allow,
    kept: true,
};

/// A connection over a pipe.
struct End<S> {
    codec: Connection<S>,
    io: DuplexStream,
    received: Vec<u8>,
    handled: usize,
}

impl<S> End<S> {
    fn new(mut codec: Connection<S>, io: DuplexStream) -> Self {
        codec.start();
        Self { codec, io, received: Vec::new(), handled: 0 }
    }

    fn next(&mut self) -> Option<Event> {
        let mut input = Input::new(&self.received, &mut self.handled);
        self.codec.next(&mut input, 0).expect("both are right")
    }

    /// Sends all there is to send, and receives something; false if nothing more comes.
    async fn exchange(&mut self) -> bool {
        self.codec.wake_writers(|_| {});
        let out = self.codec.out();
        let sent = out.len();
        if self.io.write_all(out).await.is_err() {
            return false;
        }
        self.codec.sent(sent);
        self.received.drain(..self.handled);
        self.handled = 0;
        // Some odd size, so that frames are cut.
        let mut piece = [0; 10_007];
        match self.io.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.received.extend_from_slice(&piece[..count]);
                true
            }
        }
    }
}

/// What a stream sends, as far as it has.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    sent: usize,
    trailers: Vec<u8>,
    is_complete: bool,
}

impl Body {
    /// Sends what the windows allow; whether that was all.
    fn send<S>(&mut self, codec: &mut Connection<S>, id: StreamId) -> bool {
        let end = match self.is_complete && self.trailers.is_empty() {
            true => EndStream::Yes,
            false => EndStream::No,
        };
        self.sent += codec.send_data(id, &self.bytes[self.sent..], end);
        let is_sent = self.is_complete && self.sent == self.bytes.len();
        if is_sent && !self.trailers.is_empty() {
            codec.send_trailers(id, &self.trailers);
        }
        is_sent
    }
}

/// A server that sends back the fields, the body and the trailers of each request.
pub(crate) struct Echo {
    end: End<()>,
    open: Vec<(StreamId, Body)>,
    seen: Vec<String>,
}

impl Echo {
    /// Serves until the client has gone; returns what has happened.
    pub(crate) async fn serve(io: DuplexStream, options: &Options) -> Vec<String> {
        let end = End::new(Connection::server(options), io);
        let mut echo = Self { end, open: Vec::new(), seen: Vec::new() };
        loop {
            while let Some(event) = echo.end.next() {
                echo.take(event);
            }
            echo.send();
            if !echo.end.exchange().await {
                return echo.seen;
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Head(block) => self.begin(&block),
            Event::Data { stream, data, end } => {
                let received = &self.end.received[data.clone()];
                if let Some((_, body)) = self.open.iter_mut().find(|(id, _)| *id == stream) {
                    body.bytes.extend_from_slice(received);
                    body.is_complete = end;
                }
                self.end.codec.consumed(stream, data.len());
            }
            Event::Trailers(block) => {
                let input = Input::new(&self.end.received, &mut self.end.handled);
                let lines = self.end.codec.decode_trailers(&block, &input, &RULES).unwrap();
                let (_, body) = self.open.iter_mut().find(|(id, _)| *id == block.stream()).unwrap();
                body.trailers = lines;
                body.is_complete = true;
            }
            Event::Reset { stream, code } => {
                self.open.retain(|(id, _)| *id != stream);
                self.end.codec.release(stream);
                self.seen.push(format!("cancelled: {code:?}"));
            }
            Event::WindowOpened { .. }
            | Event::GoAway { .. }
            | Event::PeerSettings
            | Event::PingAck(_) => {}
        }
    }

    fn begin(&mut self, block: &Block) {
        let mut request = RequestHead::default();
        let limits = RequestLimits { head: &LIMITS, underscores: Underscores::Allow };
        let input = Input::new(&self.end.received, &mut self.end.handled);
        let codec = &mut self.end.codec;
        let body = codec.decode_request(block, &input, &mut request, limits).unwrap();
        codec.accept(block, body, ());
        let id = block.stream();
        match request.target() {
            b"/reset" => {
                codec.reset(id, ErrorCode::EnhanceYourCalm);
                codec.release(id);
                return self.seen.push("reset".to_owned());
            }
            b"/goaway" => {
                codec.go_away(Last::Unlimited, ErrorCode::NoError);
                codec.go_away(Last::Seen, ErrorCode::NoError);
                self.seen.push("goaway".to_owned());
            }
            _ => {}
        }
        let mut response = ResponseHead::default();
        response.status = 200;
        if let Some(long) = request.fields.find(b"x-long") {
            response.fields.append_other(b"x-long", long);
        }
        codec.send_response(id, &response, EndStream::No);
        let is_complete = block.end() == EndStream::Yes;
        self.open.push((id, Body { is_complete, ..Body::default() }));
    }

    fn send(&mut self) {
        let Self { end, open, seen } = self;
        open.retain_mut(|(id, body)| {
            let is_sent = body.send(&mut end.codec, *id);
            if is_sent {
                assert!(end.codec.is_complete(*id));
                end.codec.release(*id);
                seen.push(format!("echo {}", body.bytes.len()));
            }
            !is_sent
        });
    }
}

/// A request of our client.
pub(crate) struct Get {
    /// Its path.
    pub(crate) path: &'static str,
    /// Its body, which has to come back.
    pub(crate) body: Vec<u8>,
}

/// A request of our client, in progress.
struct Exchange {
    id: StreamId,
    body: Body,
    status: u16,
    received: Vec<u8>,
}

/// Sends the requests, as many at once as the server allows; returns what has happened, in order.
pub(crate) async fn get_all(io: DuplexStream, options: &Options, gets: Vec<Get>) -> Vec<String> {
    let mut end = End::new(Connection::client(options), io);
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let mut gets = gets.into_iter().peekable();
    loop {
        while let Some(event) = end.next() {
            take(&mut end, event, &mut open, &mut seen);
        }
        // Before it knows the limit of the server, it would be refused.
        while end.codec.peer_allows_streams() < u32::MAX
            && gets.peek().is_some()
            && let Some(id) = end.codec.open(())
            && let Some(get) = gets.next()
        {
            let mut head = RequestHead::default();
            head.method = Method::Post;
            head.set_target(get.path.as_bytes());
            head.set_authority(b"a.test");
            end.codec.send_request(id, &head, EndStream::No);
            let body = Body { bytes: get.body, is_complete: true, ..Body::default() };
            open.push(Exchange { id, body, status: 0, received: Vec::new() });
        }
        for exchange in &mut open {
            exchange.body.send(&mut end.codec, exchange.id);
        }
        if open.is_empty() && gets.peek().is_none() {
            return seen;
        }
        assert!(end.exchange().await, "the server has gone: {seen:?}");
    }
}

fn take(end: &mut End<()>, event: Event, open: &mut Vec<Exchange>, seen: &mut Vec<String>) {
    match event {
        Event::Head(block) => {
            let mut head = ResponseHead::default();
            let input = Input::new(&end.received, &mut end.handled);
            let method = Method::Post;
            end.codec.decode_response(&block, &input, &mut head, method, &LIMITS).unwrap();
            let exchange = open.iter_mut().find(|it| it.id == block.stream()).unwrap();
            exchange.status = head.status;
        }
        Event::Data { stream, data, end: is_end } => {
            let at = open.iter().position(|it| it.id == stream).unwrap();
            open[at].received.extend_from_slice(&end.received[data.clone()]);
            end.codec.consumed(stream, data.len());
            if is_end {
                let Exchange { body, status, received, .. } = open.swap_remove(at);
                assert!(received == body.bytes, "{} bytes came back", received.len());
                seen.push(format!("{status} and {} bytes", received.len()));
                end.codec.release(stream);
            }
        }
        Event::Reset { stream, code } => {
            open.retain(|it| it.id != stream);
            end.codec.release(stream);
            seen.push(format!("reset: {code:?}"));
        }
        Event::GoAway { code, .. } => seen.push(format!("goaway: {code:?}")),
        other @ Event::Trailers(_) => panic!("{other:?}"),
        Event::WindowOpened { .. } | Event::PeerSettings | Event::PingAck(_) => {}
    }
}
