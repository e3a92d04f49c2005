//! gRPC streams in both directions.

use std::task::{Context, Poll};

use percent_encoding::percent_decode;
use prost::Message;

use super::grpc::{FRAME_BYTES, Status, frame, status};
use super::{Call, CallFailed, Response};
use crate::http::{FieldName, Fields};

/// A stream in progress. It is cancelled when this is dropped.
#[derive(Debug)]
pub struct GrpcStream {
    call: Call,
    /// What has come and was not taken yet: the beginning of a message.
    received: Vec<u8>,
    /// The longest message, in bytes.
    message_max: usize,
}

/// What comes next from the service.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing yet.
    Nothing,
    /// A message.
    Message(Vec<u8>),
    /// The end.
    Ended(End),
}

/// How a stream ends.
#[derive(Debug, Eq, PartialEq)]
pub struct End {
    /// `grpc-status`
    pub status: Status,
    /// `grpc-message`, or that of the local reply if there was no response from a host.
    pub message: String,
    /// Whether a host has sent it.
    pub by_host: bool,
}

impl End {
    /// This end is the proxy's own.
    const fn local(status: Status) -> Self {
        Self { status, message: String::new(), by_host: false }
    }

    /// A host has sent something that makes no sense.
    #[must_use]
    pub const fn nonsense() -> Self {
        Self { status: Status::INTERNAL, message: String::new(), by_host: true }
    }
}

impl GrpcStream {
    pub(super) const fn new(call: Call, message_max: usize) -> Self {
        Self { call, received: Vec::new(), message_max }
    }

    /// Sends a message. One that is too long for gRPC is not sent.
    pub fn send(&self, message: &impl Message) {
        if let Some(frame) = frame(message) {
            self.call.send(&frame);
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.call.unsent()
    }

    /// Nothing more is sent.
    pub fn end(&self) {
        self.call.end(Vec::new());
    }

    /// Ready when [`Self::take_next`] may have something.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.call.poll_received(cx)
    }

    /// Takes what comes next. To be called until there is nothing, or the end.
    pub fn take_next(&mut self) -> Next {
        self.received.append(&mut self.call.take_received());
        let is_http = self.call.response_status().is_some_and(|status| status != 200);
        if !is_http {
            match take_message(&mut self.received, self.message_max) {
                Ok(Some(message)) => return Next::Message(message),
                Ok(None) => {}
                Err(status) => return Next::Ended(End { status, ..End::nonsense() }),
            }
        }
        if !self.call.has_ended() {
            return Next::Nothing;
        }
        let response = match self.call.take_whole() {
            Ok(response) => response,
            Err(CallFailed::Reset) => return Next::Ended(End::local(Status::UNAVAILABLE)),
            Err(CallFailed::TooLarge) => {
                return Next::Ended(End::local(Status::RESOURCE_EXHAUSTED));
            }
        };
        let status = status(&response);
        if is_http {
            let message = String::from_utf8_lossy(&self.received).into_owned();
            return Next::Ended(End { message, ..End::local(status) });
        }
        if status == Status::OK && !self.received.is_empty() {
            // The end cuts a message off.
            return Next::Ended(End::nonsense());
        }
        Next::Ended(End { status, message: message_of(&response), by_host: true })
    }

    /// The call itself.
    #[must_use]
    pub fn into_call(self) -> Call {
        self.call
    }
}

fn message_of(response: &Response) -> String {
    let trailers = Fields::of_lines(&response.trailers);
    let message = trailers.get(FieldName::GrpcMessage);
    let message = message.or_else(|| response.head.fields.get(FieldName::GrpcMessage));
    let decoded = percent_decode(message.unwrap_or_default());
    decoded.decode_utf8_lossy().into_owned()
}

/// Takes the first message out of its frame, if all of it is here.
fn take_message(received: &mut Vec<u8>, message_max: usize) -> Result<Option<Vec<u8>>, Status> {
    let Some((&[compressed, a, b, c, d], rest)) = received.split_first_chunk() else {
        return Ok(None);
    };
    // No compression was offered.
    if compressed != 0 {
        return Err(Status::INTERNAL);
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > message_max {
        return Err(Status::RESOURCE_EXHAUSTED);
    }
    let Some(message) = rest.get(..length) else { return Ok(None) };
    let message = message.to_vec();
    received.drain(..FRAME_BYTES + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_any_pieces() {
        let mut received = Vec::new();
        let mut messages = Vec::new();
        for byte in b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c\0\0" {
            received.push(*byte);
            while let Some(message) = take_message(&mut received, 2).unwrap() {
                messages.push(message);
            }
        }
        assert_eq!(messages, [b"ab".to_vec(), Vec::new(), b"c".to_vec()]);
        assert_eq!(received, b"\0\0");
    }

    #[test]
    fn a_message_is_neither_compressed_nor_too_long() {
        let take = |frame: &[u8]| take_message(&mut frame.to_vec(), 2);
        assert_eq!(take(b"\x01\0\0\0\0"), Err(Status::INTERNAL));
        assert_eq!(take(b"\0\0\0\0\x03"), Err(Status::RESOURCE_EXHAUSTED));
        assert_eq!(take(b"\0\0\0\0\x02a"), Ok(None));
    }
}
