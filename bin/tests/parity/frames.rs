//! HTTP/2 frames as readable, editable text, and back.
//!
//! One line per frame: its type, its stream, its flags and parameters; after a colon its payload, or
//! below it the fields of its header block. What a case sends is encoded literally, without Huffman
//! codes and without the dynamic table; a payload can be any bytes. What a case receives is decoded by
//! an HPACK decoder from elsewhere.

use std::fmt::Write as _;

use httlib_hpack::Decoder;

use super::text;

const TYPES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// From identifier 1 on.
const SETTINGS: [&str; 8] = [
    "HEADER_TABLE_SIZE",
    "ENABLE_PUSH",
    "MAX_CONCURRENT_STREAMS",
    "INITIAL_WINDOW_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_HEADER_LIST_SIZE",
    "7",
    "ENABLE_CONNECT_PROTOCOL",
];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS_FRAME: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The largest payload that a peer takes unless it says otherwise.
const PAYLOAD_MAX: usize = 16_384;

#[derive(Clone, Debug, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut out = length[1..].to_vec();
        out.extend([self.kind, self.flags]);
        out.extend(self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

// === What is sent ===

/// The bytes of the frames in a text.
pub(super) fn encode(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "PREFACE" {
            out.extend_from_slice(PREFACE);
            continue;
        }
        if let Some(bytes) = line.strip_prefix("BYTES: ") {
            out.extend(text::decode(bytes)?);
            continue;
        }
        let (times, line) = times(line);
        let mut frame = parse(line)?;
        while let Some(field) = lines.next_if(|line| line.starts_with("  ")) {
            frame.payload.extend(field_of(field)?);
        }
        let bytes = match frame.kind == HEADERS && frame.payload.len() > PAYLOAD_MAX {
            true => in_continuations(frame),
            false => frame.bytes(),
        };
        out.extend(bytes.repeat(times));
    }
    Ok(out)
}

/// How often a frame is sent: `300 times PING 0: 12345678`.
fn times(line: &str) -> (usize, &str) {
    let repeated = line.split_once(" times ");
    repeated.and_then(|(times, frame)| Some((times.parse().ok()?, frame))).unwrap_or((1, line))
}

/// A frame without the fields below it.
fn parse(line: &str) -> Result<Frame, String> {
    let (head, payload) = match line.split_once(": ") {
        Some((head, payload)) => (head, text::decode(payload)?),
        None => (line.trim_end_matches(':'), Vec::new()),
    };
    let unknown = || format!("no frame: {line}");
    let mut words = head.split(' ');
    let kind = words.next().unwrap_or_default();
    let kind = position(&TYPES, kind).or_else(|| number(kind)).ok_or_else(unknown)?;
    let kind = u8::try_from(kind).map_err(|_| unknown())?;
    let mut frame = Frame { kind, payload, ..Frame::default() };
    if matches!(kind, HEADERS | CONTINUATION) {
        frame.flags = END_HEADERS;
    }
    for (at, word) in words.enumerate() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match (name, number(word)) {
            ("flags", _) => {
                frame.flags =
                    number(value).and_then(|it| it.try_into().ok()).ok_or_else(unknown)?;
            }
            ("end", _) => frame.flags |= END_STREAM,
            ("ack", _) => frame.flags |= ACK,
            ("continued", _) => frame.flags &= !END_HEADERS,
            (_, Some(stream)) if at == 0 => frame.stream = stream,
            (_, Some(value)) => frame.payload.extend(value.to_be_bytes()),
            _ if kind == SETTINGS_FRAME => {
                let id = position(&SETTINGS, name).map(|at| at + 1).or_else(|| number(name));
                let id = id.and_then(|id| u16::try_from(id).ok()).ok_or_else(unknown)?;
                frame.payload.extend(id.to_be_bytes());
                frame.payload.extend(number(value).ok_or_else(unknown)?.to_be_bytes());
            }
            _ => {
                let code = position(&CODES, word).ok_or_else(unknown)?;
                // GOAWAY may have more after its code.
                let at = if kind == GOAWAY { 4 } else { 0 };
                let tail = frame.payload.split_off(at.min(frame.payload.len()));
                frame.payload.extend(code.to_be_bytes());
                frame.payload.extend(tail);
            }
        }
    }
    Ok(frame)
}

fn position(names: &[&str], name: &str) -> Option<u32> {
    names.iter().position(|known| *known == name)?.try_into().ok()
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A line `  name: value`, as a literal that is not indexed.
fn field_of(line: &str) -> Result<Vec<u8>, String> {
    let line = &line[2..];
    let (name, value) =
        line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))).unwrap_or((line, ""));
    let mut out = vec![0];
    for part in [text::decode(name)?, text::decode(value)?] {
        prefixed(part.len(), &mut out);
        out.extend(part);
    }
    Ok(out)
}

/// A length with a prefix of seven bits (RFC 7541, 5.1).
fn prefixed(length: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        out.push(u8::try_from(length).unwrap());
        return;
    };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

fn in_continuations(mut frame: Frame) -> Vec<u8> {
    let block = std::mem::take(&mut frame.payload);
    let end = frame.flags & END_HEADERS;
    let mut parts = block.chunks(PAYLOAD_MAX).peekable();
    let mut out = Vec::new();
    while let Some(part) = parts.next() {
        let of_end = if parts.peek().is_none() { end } else { 0 };
        frame.flags = frame.flags & !END_HEADERS | of_end;
        frame.payload = part.to_vec();
        out.extend(frame.bytes());
        frame = Frame { kind: CONTINUATION, stream: frame.stream, ..Frame::default() };
    }
    out
}

// === What is received ===

/// Reads the frames of one side of a connection.
#[derive(Debug)]
pub(super) struct Reader {
    unread: Vec<u8>,
    awaits_preface: bool,
    decoder: Decoder<'static>,
    /// The first frame of a header block that is not complete yet.
    block: Option<Frame>,
}

/// What was received, as a text shows it.
#[derive(Debug)]
pub(super) enum Line {
    /// Adjacent frames of a stream are joined: their boundaries depend on timing.
    Data {
        stream: u32,
        end: bool,
        payload: Vec<u8>,
    },
    /// The peer's SETTINGS, which wait to be acknowledged.
    Settings(String),
    /// The peer's PING.
    Ping(Vec<u8>),
    Other(String),
}

impl Reader {
    /// Reads what a server sends.
    pub(super) fn of_server() -> Self {
        Self {
            unread: Vec::new(),
            awaits_preface: false,
            decoder: Decoder::with_dynamic_size(4096),
            block: None,
        }
    }

    /// Reads what a client sends.
    pub(super) fn of_client() -> Self {
        Self { awaits_preface: true, ..Self::of_server() }
    }

    /// The frames that are complete with these bytes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Line> {
        self.unread.extend_from_slice(bytes);
        if self.awaits_preface {
            if self.unread.len() < PREFACE.len() {
                return Vec::new();
            }
            assert!(self.unread.starts_with(PREFACE), "no preface: {:?}", self.unread);
            self.unread.drain(..PREFACE.len());
            self.awaits_preface = false;
        }
        let mut lines = Vec::new();
        while let Some(frame) = self.frame() {
            lines.extend(self.line(frame));
        }
        lines
    }

    fn frame(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, s, t, u, v, ..] = self.unread.as_slice() else { return None };
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.unread.get(9..end)?.to_vec();
        self.unread.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s, t, u, v]), payload })
    }

    /// None: the block of the frame is not complete.
    fn line(&mut self, frame: Frame) -> Option<Line> {
        match frame.kind {
            DATA if frame.flags & !END_STREAM == 0 => Some(Line::Data {
                stream: frame.stream,
                end: frame.flags & END_STREAM != 0,
                payload: frame.payload,
            }),
            HEADERS | CONTINUATION => {
                let mut block = self.block.take();
                let first = block.get_or_insert(Frame { payload: Vec::new(), ..frame });
                first.payload.extend_from_slice(&frame.payload);
                if frame.flags & END_HEADERS == 0 {
                    self.block = block;
                    return None;
                }
                block.map(|block| Line::Other(self.header_block(block)))
            }
            SETTINGS_FRAME if frame.flags & ACK == 0 => Some(Line::Settings(describe(&frame))),
            PING if frame.flags & ACK == 0 => Some(Line::Ping(frame.payload)),
            _ => Some(Line::Other(describe(&frame))),
        }
    }

    fn header_block(&mut self, mut frame: Frame) -> String {
        let end = if frame.flags & END_STREAM != 0 { " end" } else { "" };
        let mut text = format!("HEADERS {}{end}\n", frame.stream);
        let mut fields = Vec::new();
        self.decoder.decode(&mut frame.payload, &mut fields).expect("a header block");
        // The order of pseudo-headers means nothing.
        let pseudo = fields.iter().take_while(|(name, ..)| name.starts_with(b":")).count();
        fields[..pseudo].sort();
        for (name, value, _) in fields {
            let space = if value.is_empty() { "" } else { " " };
            let (name, value) = (text::encode_line(&name), text::encode_line(&value));
            let _ = writeln!(text, "  {name}:{space}{value}");
        }
        text
    }
}

impl Line {
    /// Adds what follows if it belongs to this.
    pub(super) fn joins(&mut self, next: &Self) -> bool {
        let Self::Data { stream, end: end @ false, payload } = self else { return false };
        match next {
            Self::Data { stream: same, end: last, payload: more } if same == stream => {
                payload.extend_from_slice(more);
                *end = *last;
                true
            }
            _ => false,
        }
    }

    /// Whether it is part of how every connection begins, or about its windows.
    pub(super) fn is_of_greeting(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Ping(_) => true,
            Self::Other(text) => text.starts_with("WINDOW_UPDATE "),
            Self::Data { .. } => false,
        }
    }

    /// Its place among other frames depends on timing.
    pub(super) fn is_settings_ack(&self) -> bool {
        matches!(self, Self::Other(text) if text == "SETTINGS 0 ack\n")
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Settings(text) | Self::Other(text) => text.clone(),
            // Each has another payload.
            Self::Ping(_) => "PING 0\n".to_owned(),
            Self::Data { stream, end, payload } => {
                let end = if *end { " end" } else { "" };
                format!("DATA {stream}{end}{}\n", after_colon(payload))
            }
        }
    }
}

/// The acknowledgement of a PING.
pub(super) fn ping_ack(payload: &[u8]) -> Vec<u8> {
    Frame { kind: PING, flags: ACK, payload: payload.to_vec(), stream: 0 }.bytes()
}

/// A frame without a header block.
fn describe(frame: &Frame) -> String {
    let Frame { kind, flags, stream, payload } = frame;
    let mut words = payload.chunks_exact(4);
    let mut word = || words.next().map_or(0, |it| u32::from_be_bytes(it.try_into().unwrap()));
    let name = TYPES.get(usize::from(*kind)).copied();
    let mut text = name.map_or_else(|| format!("{kind:#x}"), str::to_owned);
    let _ = write!(text, " {stream}");
    match *kind {
        SETTINGS_FRAME if *flags == 0 => {
            for setting in payload.chunks_exact(6) {
                let (id, value) = setting.split_at(2);
                let id = u16::from_be_bytes(id.try_into().unwrap());
                let value = u32::from_be_bytes(value.try_into().unwrap());
                let name = usize::from(id).checked_sub(1).and_then(|at| SETTINGS.get(at));
                let name = name.map_or_else(|| id.to_string(), |name| (*name).to_owned());
                let _ = write!(text, " {name}={value}");
            }
        }
        RST_STREAM => text += &format!(" {}", code(word())),
        WINDOW_UPDATE => text += &format!(" {}", word()),
        GOAWAY => {
            let _ = write!(text, " {}", word() & !(1 << 31));
            // What follows is for people.
            text += &format!(" {}", code(word()));
        }
        _ if *flags == ACK => text += &format!(" ack{}", after_colon(payload)),
        _ if *flags == 0 => text += &after_colon(payload),
        _ => text += &format!(" flags={flags:#x}{}", after_colon(payload)),
    }
    text + "\n"
}

fn code(code: u32) -> String {
    CODES.get(code as usize).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

fn after_colon(payload: &[u8]) -> String {
    if payload.is_empty() { String::new() } else { format!(": {}", text::encode_line(payload)) }
}

#[test]
fn frames_and_texts_are_the_same() {
    let text = "SETTINGS 0 HEADER_TABLE_SIZE=4096 ENABLE_CONNECT_PROTOCOL=0 77=1
SETTINGS 0 ack
WINDOW_UPDATE 0 25100289
HEADERS 1
  :method: GET
  x-long: \\*300{a}
  empty:
DATA 1 end: a\\x00\\\\b
HEADERS 3 end
  :method: POST
RST_STREAM 3 CANCEL
PING 0 ack: 12345678
GOAWAY 2147483647 NO_ERROR
0xa 5 flags=0x9: what
";
    // GOAWAY is on stream 0.
    let sent = text.replace("GOAWAY ", "GOAWAY 0 ");
    let lines = Reader::of_server().read(&encode(&sent).unwrap());
    let read: String = lines.iter().map(Line::text).collect();
    assert_eq!(read, sent);
    assert_eq!(encode("3 times DATA 1: a\n"), encode("DATA 1: a\nDATA 1: a\nDATA 1: a\n"));
    let mut client = Reader::of_client();
    let bytes = encode("PREFACE\nDATA 1: a\nDATA 1 end: b\n").unwrap();
    let mut lines: Vec<Line> = bytes.iter().flat_map(|byte| client.read(&[*byte])).collect();
    let second = lines.pop().unwrap();
    assert!(lines[0].joins(&second));
    assert_eq!(lines[0].text(), "DATA 1 end: ab\n");
}

#[test]
fn large_header_blocks_continue() {
    let text = "HEADERS 1 end\n  a: \\*40000{b}\n";
    let bytes = encode(text).unwrap();
    assert_eq!(bytes.len(), 40_000 + 7 + 3 * 9);
    let lines = Reader::of_server().read(&bytes);
    assert_eq!(lines.iter().map(Line::text).collect::<String>(), text);
    for wrong in ["HEADER 1", "HEADERS x", "RST_STREAM 1 NOTHING", "SETTINGS 0 A=1"] {
        assert!(encode(wrong).is_err(), "{wrong}");
    }
}
