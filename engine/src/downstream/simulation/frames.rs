//! HTTP/2 as a peer of a story speaks it: frames from their parts, and what was received as text.
//!
//! The text of a stream is what was said on it, in order, however it was cut: `HEADERS :status: 200 DATA ok END`.
//! That of stream 0 is what was said about the connection; WINDOW_UPDATE is left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::peer::Act;
use crate::http2::PREFACE;
use crate::http2::hpack::Decoder;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A setting.
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// A setting.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Whether a frame is the last one of its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    More,
    End,
}

impl Then {
    const fn flag(self) -> u8 {
        match self {
            Self::More => 0,
            Self::End => END_STREAM,
        }
    }
}

/// Sends these frames.
pub(super) fn send(frames: &[Vec<u8>]) -> Act {
    Act::Frames(frames.concat().leak())
}

/// How a client begins.
pub(super) fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    [PREFACE, &self::settings(settings)].concat()
}

/// SETTINGS
pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let setting =
        |&(number, value): &(u16, u32)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &settings.iter().flat_map(setting).collect::<Vec<_>>())
}

/// HEADERS, with each field as a literal.
pub(super) fn headers(stream: u32, fields: &[(&str, &str)], then: Then) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS | then.flag(), stream, &block)
}

/// The head of a request for `path`.
pub(super) fn request(stream: u32, method: &str, path: &str, then: Then) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")];
    headers(stream, &fields, then)
}

/// The head of a response.
pub(super) fn response(stream: u32, then: Then) -> Vec<u8> {
    headers(stream, &[(":status", "200")], then)
}

/// DATA
pub(super) fn data(stream: u32, data: &str, then: Then) -> Vec<u8> {
    frame(DATA, then.flag(), stream, data.as_bytes())
}

/// RST_STREAM
pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// WINDOW_UPDATE
pub(super) fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// GOAWAY
pub(super) fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a peer has received.
#[derive(Debug, Default)]
pub(super) struct Frames {
    read: usize,
    decoder: Decoder,
    /// Of a header block, and whether it ends the stream.
    block: Vec<u8>,
    block_ends: bool,
    streams: BTreeMap<u32, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    text: String,
    /// Whether the last that was said is DATA.
    in_data: bool,
}

impl Frames {
    /// Whether these bytes are frames.
    pub(super) fn are(received: &[u8]) -> bool {
        received.first() == Some(&0) || PREFACE.starts_with(&received[..received.len().min(16)])
    }

    /// Takes what is new of everything received.
    pub(super) fn read(&mut self, received: &[u8]) {
        if self.read == 0 && received.starts_with(PREFACE) {
            self.read = PREFACE.len();
        }
        while let Some((&[a, b, c, kind, flags, d, e, f, g], rest)) =
            received.get(self.read..).and_then(|rest| rest.split_first_chunk::<9>())
        {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = rest.get(..length) else { return };
            self.read += 9 + length;
            self.take(kind, flags, u32::from_be_bytes([d, e, f, g]), payload);
        }
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let ends = flags & END_STREAM != 0;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            DATA => {
                let Stream { text, in_data } = self.streams.entry(stream).or_default();
                if !payload.is_empty() && !std::mem::replace(in_data, true) {
                    text.push_str(" DATA ");
                }
                text.push_str(&String::from_utf8_lossy(payload));
                if ends {
                    text.push_str(" END");
                }
            }
            HEADERS | CONTINUATION => {
                self.block.extend_from_slice(payload);
                self.block_ends |= kind == HEADERS && ends;
                if flags & END_HEADERS != 0 {
                    self.take_block(stream);
                }
            }
            RST_STREAM => self.say(stream, &format!("RST {}", number(0))),
            SETTINGS if flags & ACK != 0 => self.say(0, "ACK"),
            SETTINGS => self.say(0, "SETTINGS"),
            PING if flags & ACK != 0 => self.say(0, "PONG"),
            PING => self.say(0, "PING"),
            GOAWAY => self.say(0, &format!("GOAWAY {} {}", number(0), number(4))),
            WINDOW_UPDATE => {}
            kind => panic!("a frame of the kind {kind}"),
        }
    }

    fn take_block(&mut self, stream: u32) {
        let mut text = String::from("HEADERS");
        let block = std::mem::take(&mut self.block);
        let decoded = self.decoder.decode(&block, |field| {
            let (name, value) = (field.name, field.value);
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            write!(text, " {name}: {value}").unwrap();
        });
        decoded.unwrap();
        if std::mem::take(&mut self.block_ends) {
            text.push_str(" END");
        }
        self.say(stream, &text);
    }

    fn say(&mut self, stream: u32, what: &str) {
        let Stream { text, in_data } = self.streams.entry(stream).or_default();
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(what);
        *in_data = false;
    }

    /// What was said on a stream so far.
    pub(super) fn on(&self, stream: u32) -> &str {
        self.streams.get(&stream).map_or("", |stream| &stream.text)
    }

    /// What was said on all streams, without what begins every connection.
    pub(super) fn text(&self) -> String {
        let said = self.streams.iter().map(|(number, stream)| (number, &*stream.text));
        let mut lines = Vec::new();
        for (number, text) in said {
            let text = if *number == 0 {
                text.replace("SETTINGS", "").replace("ACK", "")
            } else {
                text.to_owned()
            };
            if !text.trim().is_empty() {
                lines.push(format!("{number} {}", text.trim()));
            }
        }
        lines.join("\n")
    }
}
