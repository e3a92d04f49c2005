//! A connection of HTTP/2 with any peer.

use crate::http::{
    EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::{
    Block, Connection, ConnectionError, ErrorCode, Event, HeadRefused, Input, Options, PREFACE,
    RequestLimits, StreamErrors, StreamId,
};

/// What a connection sees of its peer, and what it sends, does not depend on how the bytes are split; and
/// whatever a peer sends, what is kept and sent for it is bounded.
///
/// The first byte chooses role and options, the others are frames in a short form; see [`written_out`].
pub fn frames(input: &[u8]) {
    let Some((&options, rest)) = input.split_first() else { return };
    let bytes = written_out(rest);
    let begin = |piece: usize| {
        let mut end = End::new(options);
        for piece in bytes.chunks(piece) {
            end.receive(piece);
        }
        end
    };
    let whole = begin(bytes.len().max(1));
    for piece in [1, 7, 20] {
        let split = begin(piece);
        assert_eq!(whole.seen, split.seen, "in pieces of {piece}");
        assert_eq!(whole.error, split.error, "in pieces of {piece}");
        assert_eq!(whole.connection.out(), split.connection.out(), "in pieces of {piece}");
    }
}

/// The most streams at once.
const STREAMS_MAX: u32 = 4;

/// A frame is its kind, flags, the last byte of its stream, its length and its payload, so that most inputs
/// are frames. After 255 a length and bytes follow that are taken as they are.
fn written_out(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((&kind, rest)) = input.split_first() {
        let header = if kind == 255 { 1 } else { 3 };
        let Some((header, rest)) = rest.split_at_checked(header) else { break };
        let length = header[header.len() - 1];
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(length)));
        if let &[flags, stream, _length] = header {
            let length = u8::try_from(payload.len()).expect("it was a byte");
            bytes.extend([0, 0, length, kind, flags, 0, 0, 0, stream]);
        }
        bytes.extend(payload);
        input = rest;
    }
    bytes
}

/// Our end.
struct End {
    connection: Connection<()>,
    is_server: bool,
    /// Whether bodies are read as they arrive.
    reads: bool,
    received: Vec<u8>,
    handled: usize,
    seen: String,
    /// The stream of the last event, if that was DATA.
    data: Option<StreamId>,
    error: Option<ConnectionError>,
}

impl End {
    fn new(choice: u8) -> Self {
        let options = Options {
            max_concurrent_streams: STREAMS_MAX,
            initial_stream_window_size: 65_535,
            initial_connection_window_size: 65_535,
            max_outbound_control_frames: 20,
            stream_reset_burst: 5,
            max_inbound_priority_frames_per_stream: 3,
            allow_connect: choice & 2 != 0,
            stream_errors: match choice & 4 {
                0 => StreamErrors::EndTheConnection,
                _ => StreamErrors::EndTheStream,
            },
            ..Options::default()
        };
        let is_server = choice & 1 == 0;
        let mut end = Self {
            connection: match is_server {
                true => Connection::server(&options),
                false => Connection::client(&options),
            },
            is_server,
            reads: choice & 8 == 0,
            received: Vec::new(),
            handled: 0,
            seen: String::new(),
            data: None,
            error: None,
        };
        end.connection.allow_heads_of(1000);
        end.connection.start();
        if is_server {
            end.receive(PREFACE);
            // SETTINGS
            end.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        } else {
            for _ in 0..3 {
                let id = end.connection.open(()).expect("there are no limits yet");
                let mut head = RequestHead::default();
                head.set_target(b"/");
                head.set_authority(b"a");
                end.connection.send_request(id, &head, EndStream::No);
            }
        }
        end
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.drain(..self.handled);
        self.handled = 0;
        self.received.extend_from_slice(bytes);
        while self.error.is_none() {
            let (out, handled) = (self.connection.out().len(), self.handled);
            let mut input = Input::new(&self.received, &mut self.handled);
            let event = self.connection.next(&mut input, 0);
            let grown = self.connection.out().len() - out;
            assert!(grown <= 64 + 2 * (self.handled - handled), "{grown} bytes of answers");
            match event {
                Ok(None) => break,
                Ok(Some(event)) => self.take(event),
                Err(error) => self.error = Some(error),
            }
        }
        let rest = self.received.len() - self.handled;
        assert!(self.error.is_some() || rest < 16_384 + 9, "{rest} bytes are not handled");
        assert!(self.connection.streams() <= STREAMS_MAX as usize);
    }

    fn take(&mut self, event: Event) {
        let data_before = self.data.take();
        let failed = match &event {
            Event::Head(block) if self.is_server => self.take_request(block).err(),
            Event::Head(block) => self.take_response(block).err(),
            Event::Trailers(block) => self.take_trailers(block).err(),
            Event::Data { stream, data, end } => {
                // How many pieces it came in makes no difference.
                if data_before != Some(*stream) {
                    self.see(format!("data of {stream:?}: "));
                }
                self.seen.extend(self.received[data.clone()].iter().map(|&byte| char::from(byte)));
                if self.reads {
                    self.connection.consumed(*stream, data.len());
                }
                match end {
                    true => self.see("end".to_owned()),
                    false => self.data = Some(*stream),
                }
                None
            }
            Event::Reset { stream, .. } => {
                self.connection.release(*stream);
                self.see(format!("{event:?}"));
                None
            }
            other => {
                self.see(format!("{other:?}"));
                None
            }
        };
        self.connection.wake_writers(|_| {});
        match failed {
            None => {}
            Some(HeadRefused::Stream(flaw)) => self.see(format!("refused: {flaw}")),
            Some(HeadRefused::Connection(error)) => self.error = Some(error),
        }
    }

    fn see(&mut self, what: String) {
        self.seen.push('\n');
        self.seen.push_str(&what);
    }

    fn take_request(&mut self, block: &Block) -> Result<(), HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let mut head = RequestHead::default();
        let limits = HeadLimits { bytes_max: 1000, fields_max: 10, ..HeadLimits::default() };
        let limits = RequestLimits { head: &limits, underscores: Underscores::Drop };
        let body = self.connection.decode_request(block, &input, &mut head, limits)?;
        self.connection.accept(block, body, ());
        let target = String::from_utf8_lossy(head.target()).into_owned();
        self.see(format!("{:?} {target} {body:?}", block.stream()));
        self.answer(block.stream(), head.target().len());
        Ok(())
    }

    /// Some are answered, some reset, some wait.
    fn answer(&mut self, id: StreamId, length: usize) {
        let head = ResponseHead { status: 200, ..ResponseHead::default() };
        match length % 4 {
            0 => self.connection.send_response(id, &head, EndStream::Yes),
            1 => {
                self.connection.send_response(id, &head, EndStream::No);
                self.connection.send_data(id, &[b'x'; 20_000], EndStream::Yes);
            }
            2 => self.connection.reset(id, ErrorCode::Cancel),
            _ => return,
        }
        if length % 3 == 0 {
            self.connection.reset(id, ErrorCode::NoError);
            self.connection.release(id);
        }
    }

    fn take_response(&mut self, block: &Block) -> Result<(), HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let mut head = ResponseHead::default();
        let limits = HeadLimits { bytes_max: 1000, fields_max: 10, ..HeadLimits::default() };
        let body =
            self.connection.decode_response(block, &input, &mut head, Method::Get, &limits)?;
        self.see(format!("{:?} {} {body:?}", block.stream(), head.status));
        Ok(())
    }

    fn take_trailers(&mut self, block: &Block) -> Result<(), HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let rules = TrailerRules {
            bytes_max: 1000,
            fields_max: 10,
            underscores: Underscores::Allow,
            kept: true,
        };
        let lines = self.connection.decode_trailers(block, &input, &rules)?;
        self.see(format!("{:?} {}", block.stream(), String::from_utf8_lossy(&lines)));
        Ok(())
    }
}
