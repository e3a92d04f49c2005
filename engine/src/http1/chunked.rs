//! The chunked transfer coding (RFC 9112 §7.1): finds the data in the bytes of a body, without copying.
//!
//! Deliberate differences from Envoy 1.40, all of them stricter: data beyond the size of its chunk
//! (Envoy drops it), `;` without an extension, an extension that is not a token or a quoted string,
//! white space between size and CRLF, and control characters are errors. A line ends in CRLF, never in
//! a bare LF. Trailers are validated, and dropped unless enabled, as in Envoy; one that would change
//! framing or routing is an error.

use std::ops::Range;

use super::Error;
use crate::http::{
    FieldName, HOP_BY_HOP_OF_TRAILERS, NEVER_TRAILERS, TOKEN, TrailerRules, Underscores,
};

/// Decodes one body. The result does not depend on how its bytes are split over calls.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// While a size is read: the size so far; then the bytes of data still to come.
    remaining: u64,
    /// Bytes of extensions so far, over all chunks.
    extension_bytes: u32,
    /// Bytes of trailers so far.
    trailer_bytes: usize,
    /// The beginning of the name of the trailer that is being read, in lower case.
    name: [u8; NAME_MAX],
    name_len: u8,
    /// The trailers, if there are rules for them.
    trailers: Option<Trailers>,
}

/// Trailers and their rules.
#[derive(Clone, Debug)]
struct Trailers {
    rules: TrailerRules,
    /// Encoded as they will be sent, names in lower case; the last line may be incomplete.
    lines: Vec<u8>,
    /// Where the last line begins.
    line_start: usize,
    /// How many more trailers are allowed.
    fields_left: usize,
    /// How many were dropped because of underscores in their names.
    dropped: u64,
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// How many bytes of the input were consumed.
    pub consumed: usize,
    /// The range of the input that is data; may be empty.
    pub data: Range<usize>,
    /// Whether the body has ended. The remaining input does not belong to it.
    pub end: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a body.
    pub const fn new() -> Self {
        Self {
            state: State::SizeStart,
            remaining: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            name: [0; NAME_MAX],
            name_len: 0,
            trailers: None,
        }
    }

    /// Sets the rules for trailers.
    #[must_use]
    pub fn with_trailers(mut self, rules: TrailerRules) -> Self {
        self.set_trailer_rules(rules);
        self
    }

    /// Sets the rules for trailers, also in the middle of a body, but not of its trailers.
    pub fn set_trailer_rules(&mut self, rules: TrailerRules) {
        self.trailers = Some(Trailers {
            rules,
            lines: Vec::new(),
            line_start: 0,
            fields_left: rules.fields_max,
            dropped: 0,
        });
    }

    /// How many trailers were dropped because of underscores in their names.
    #[must_use]
    pub fn dropped_trailers(&self) -> u64 {
        self.trailers.as_ref().map_or(0, |trailers| trailers.dropped)
    }

    /// The trailers of a body that has ended, for [`encode_end_with`]; none if they are not kept.
    #[must_use]
    pub fn take_trailers(&mut self) -> Vec<u8> {
        self.trailers.take().map(|trailers| trailers.lines).unwrap_or_default()
    }

    /// Decodes up to the end of the next range of data. Call it again with the input that was not
    /// consumed, until all is consumed or the body has ended.
    ///
    /// # Errors
    /// The coding is invalid: the end of the message is unknown and the connection must be closed.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Error> {
        let mut at = 0;
        loop {
            at += self.skip_plain_lines(input.get(at..).unwrap_or_default());
            let Some(&byte) = input.get(at) else { break };
            if self.state == State::Data {
                let left = input.len() - at;
                let len = usize::try_from(self.remaining).map_or(left, |wanted| wanted.min(left));
                self.remaining -= len as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded { consumed: at + len, data: at..at + len, end: false });
            }
            self.state = self.step(byte)?;
            at += 1;
            if self.state == State::End {
                return Ok(Decoded { consumed: at, data: at..at, end: true });
            }
        }
        Ok(Decoded { consumed: at, data: at..at, end: self.state == State::End })
    }

    /// Fast path for the end of a chunk and a plain size line, which matter when chunks are short.
    /// Returns how many bytes it consumed; [`Self::step`] handles everything else.
    fn skip_plain_lines(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        if self.state == State::DataCr && input.starts_with(b"\r\n") {
            self.state = State::SizeStart;
            at = 2;
        }
        if self.state == State::SizeStart
            && let Some((size, len)) = plain_size_line(input.get(at..).unwrap_or_default())
        {
            self.remaining = size;
            self.state = State::Data;
            at += len;
        }
        at
    }

    fn step(&mut self, byte: u8) -> Result<State, Error> {
        match self.state {
            State::SizeStart | State::Size => self.size(byte),
            State::SizeLf => expect(byte, b'\n', Error::ChunkEnd, {
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }),
            State::DataCr => expect(byte, b'\r', Error::ChunkEnd, State::DataLf),
            State::DataLf => expect(byte, b'\n', Error::ChunkEnd, State::SizeStart),
            State::BeforeExtension
            | State::ExtensionStart
            | State::ExtensionName
            | State::AfterName
            | State::ValueStart
            | State::Token
            | State::Quoted
            | State::QuotedPair
            | State::AfterValue => self.extension(byte),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::EndLf => self.trailer(byte),
            State::Data | State::End => Ok(self.state),
        }
    }

    //= rfc9112#7.1
    // "chunk-size = 1*HEXDIG" … "a recipient MUST anticipate potentially large hexadecimal
    // numerals and prevent parsing errors due to integer conversion overflows"
    fn size(&mut self, byte: u8) -> Result<State, Error> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.state == State::SizeStart => return Err(Error::ChunkSize),
            b'\r' => return Ok(State::SizeLf),
            b';' => return Ok(State::ExtensionStart),
            b' ' | b'\t' => return Ok(State::BeforeExtension),
            _ => return Err(Error::ChunkSize),
        };
        if self.remaining >> 59 != 0 {
            return Err(Error::ChunkSize);
        }
        // Leading zeros are legal but useless: they are charged like an extension.
        if self.remaining == 0 && self.state == State::Size {
            self.charge_extension()?;
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(State::Size)
    }

    //= rfc9112#7.1.1
    // "chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )" …
    // "A recipient MUST ignore unrecognized chunk extensions. A server ought to limit the total
    // length of chunk extensions received in a request to an amount reasonable"
    fn extension(&mut self, byte: u8) -> Result<State, Error> {
        self.charge_extension()?;
        let state = self.state;
        let next = match (state, byte) {
            (State::Quoted, b'"') => State::AfterValue,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::BeforeExtension, b';') => State::ExtensionStart,
            (State::ExtensionName | State::AfterName | State::Token | State::AfterValue, b';') => {
                State::ExtensionStart
            }
            (State::ExtensionName | State::AfterName, b'=') => State::ValueStart,
            (State::ValueStart, b'"') => State::Quoted,
            (State::ExtensionStart | State::ExtensionName, _) if TOKEN.has(byte) => {
                State::ExtensionName
            }
            (State::ValueStart | State::Token, _) if TOKEN.has(byte) => State::Token,
            (State::ExtensionName, b' ' | b'\t') => State::AfterName,
            (State::Token | State::AfterValue, b' ' | b'\t') => State::BeforeExtension,
            (
                State::BeforeExtension
                | State::ExtensionStart
                | State::AfterName
                | State::ValueStart,
                b' ' | b'\t',
            ) => state,
            (State::ExtensionName | State::Token | State::AfterValue, b'\r') => State::SizeLf,
            _ => return Err(Error::ChunkExtension),
        };
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Error> {
        self.trailer_bytes += 1;
        let bytes_max = self.trailers.as_ref().map_or(TRAILER_BYTES_MAX, |t| t.rules.bytes_max);
        if self.trailer_bytes > bytes_max {
            return Err(Error::TrailersTooLarge);
        }
        if let Some(trailers) = &mut self.trailers
            && self.state != State::EndLf
        {
            trailers.lines.push(byte);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => {
                self.trailers.iter_mut().for_each(Trailers::drop_line);
                Ok(State::EndLf)
            }
            (State::TrailerStart | State::TrailerName, _) if TOKEN.has(byte) => {
                if self.state == State::TrailerStart {
                    self.name_len = 0;
                }
                if let Some(slot) = self.name.get_mut(usize::from(self.name_len)) {
                    *slot = byte.to_ascii_lowercase();
                    self.name_len += 1;
                }
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => {
                let name = self.name.get(..usize::from(self.name_len)).unwrap_or_default();
                if NEVER_TRAILERS.has(FieldName::of(name)) {
                    return Err(Error::Trailer);
                }
                Ok(State::TrailerValue)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => {
                if let Some(trailers) = &mut self.trailers {
                    trailers.end_line()?;
                }
                Ok(State::TrailerStart)
            }
            (State::EndLf, b'\n') => Ok(State::End),
            _ => Err(Error::Trailer),
        }
    }

    fn charge_extension(&mut self) -> Result<(), Error> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Error::ChunkExtension);
        }
        Ok(())
    }
}

impl Trailers {
    fn drop_line(&mut self) {
        self.lines.truncate(self.line_start);
    }

    /// Re-encodes a complete line, or drops it.
    fn end_line(&mut self) -> Result<(), Error> {
        let line = self.lines.split_off(self.line_start);
        let Some(colon) = memchr::memchr(b':', &line) else { return Ok(()) };
        let (name, value) = line.split_at(colon);
        if memchr::memchr(b'_', name).is_some() {
            match self.rules.underscores {
                Underscores::Allow => {}
                Underscores::Reject => return Err(Error::Underscore),
                Underscores::Drop => {
                    self.dropped += 1;
                    return Ok(());
                }
            }
        }
        self.fields_left = self.fields_left.checked_sub(1).ok_or(Error::TooManyFields)?;
        let name = name.to_ascii_lowercase();
        if self.rules.kept && !HOP_BY_HOP_OF_TRAILERS.has(FieldName::of(&name)) {
            self.lines.extend_from_slice(&name);
            self.lines.extend_from_slice(b": ");
            self.lines.extend_from_slice(value.get(1..).unwrap_or_default().trim_ascii());
            self.lines.extend_from_slice(b"\r\n");
        }
        self.line_start = self.lines.len();
        Ok(())
    }
}

/// The size in a complete line of up to eight digits and CRLF, and the length of the line. None for
/// leading zeros: they are charged, and a single zero begins the end of the body.
fn plain_size_line(line: &[u8]) -> Option<(u64, usize)> {
    if line.first() == Some(&b'0') {
        return None;
    }
    let mut size = 0;
    for (at, &byte) in line.iter().take(PLAIN_DIGITS_MAX + 1).enumerate() {
        if byte == b'\r' && at > 0 {
            return (line.get(at + 1) == Some(&b'\n')).then_some((size, at + 2));
        }
        size = size << 4 | u64::from((byte as char).to_digit(16)?);
    }
    None
}

/// Writes data as one chunk; nothing for empty data, which would end the body. Returns where the data
/// is.
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) -> Range<usize> {
    if data.is_empty() {
        return out.len()..out.len();
    }
    out.reserve(data.len() + SIZE_LINE_MAX + 2);
    out.extend(size_line(data.len()));
    out.extend_from_slice(data);
    let data = out.len() - data.len()..out.len();
    out.extend_from_slice(b"\r\n");
    data
}

/// Writes everything that `append` appends as one chunk; nothing for empty data. `most` is the largest
/// possible size: if the actual size has as many digits, the data is not moved. Returns where it is.
///
/// # Errors
/// Those of `append`: then nothing is written.
pub fn encode_joined<E>(
    out: &mut Vec<u8>,
    most: usize,
    append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    let start = out.len();
    out.extend(size_line(most));
    let data_start = out.len();
    let appended = append(out);
    let len = out.len() - data_start;
    if appended.is_err() || len == 0 {
        out.truncate(start);
        return appended.map(|()| start..start);
    }
    drop(out.splice(start..data_start, size_line(len)));
    let data = out.len() - len..out.len();
    out.extend_from_slice(b"\r\n");
    Ok(data)
}

/// The line before the data of a chunk.
fn size_line(len: usize) -> impl Iterator<Item = u8> {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    let digit = move |place| b"0123456789abcdef".get((len >> (place * 4)) & 0xf).copied();
    (0..digits).rev().filter_map(digit).chain(*b"\r\n")
}

/// Writes the end of a body without trailers.
pub fn encode_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Writes the end of a body with encoded trailers.
pub fn encode_end_with(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// The part of the coding that the next byte belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    SizeStart,
    Size,
    SizeLf,
    BeforeExtension,
    ExtensionStart,
    ExtensionName,
    AfterName,
    ValueStart,
    Token,
    Quoted,
    QuotedPair,
    AfterValue,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

fn expect(byte: u8, wanted: u8, otherwise: Error, next: State) -> Result<State, Error> {
    if byte == wanted { Ok(next) } else { Err(otherwise) }
}

/// Bytes of chunk extensions per body. They are ignored, so this bounds useless work.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of trailers without rules; the default limit of a head.
const TRAILER_BYTES_MAX: usize = 60 * 1024;

/// The longest forbidden name, and one more byte to recognise longer names.
const NAME_MAX: usize = "transfer-encoding".len() + 1;

/// Enough for a chunk of up to 4 GiB.
const PLAIN_DIGITS_MAX: usize = 8;

/// Sixteen digits and CRLF.
const SIZE_LINE_MAX: usize = 18;
