//! `grpc_http1_bridge`: lets HTTP/1 clients, which may not understand trailers, call gRPC methods. The status is
//! in the head of the response, which waits for the trailers.

use super::grpc_stats::frames::HEAD_BYTES;
use super::{Back, Context, Flow, HeldFor, Piece, Progress, Wait, Way};
use crate::http::{BodyLength, FieldName, Fields, Version};

/// The filter.
#[derive(Debug)]
pub struct GrpcHttp1Bridge {
    /// `upgrade_protobuf_to_grpc`
    pub(super) upgrades_protobuf: bool,
    /// `ignore_query_parameters`
    pub(super) removes_query: bool,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub struct State {
    /// The response is bridged.
    bridges: bool,
    /// The client sends and gets a message without the bytes before it.
    frames: Framing,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Framing {
    /// It is the client's.
    #[default]
    None,
    /// The request waits for its end.
    Waiting,
    /// It is added to the request.
    Added {
        /// The length of the message.
        bytes: u32,
    },
    /// It is removed from the response: so many bytes are left to be removed.
    Removed { left: usize },
}

const PROTOBUF: &[u8] = b"application/x-protobuf";

impl GrpcHttp1Bridge {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        if state.frames == Framing::Waiting {
            let bytes = u32::try_from(cx.held.data.len()).unwrap_or(u32::MAX);
            state.frames = Framing::Added { bytes };
            cx.change_body(Way::Request);
            return Flow::Continue;
        }
        let request = &mut cx.core.heads.request;
        let is_protobuf = request.fields.get(FieldName::ContentType) == Some(PROTOBUF);
        let upgrades = self.upgrades_protobuf && is_protobuf;
        if upgrades {
            request.fields.set(FieldName::ContentType, b"application/grpc");
            request.fields.remove(FieldName::ContentLength);
        }
        if !request.is_grpc() {
            return Flow::Continue;
        }
        if self.removes_query && request.path().len() < request.target().len() {
            let path = request.path().to_vec();
            request.set_target(&path);
        }
        let is_http1 = request.version != Version::Http2;
        state.bridges = is_http1;
        if upgrades {
            cx.set_client_speaks_grpc(false);
            state.frames = Framing::Added { bytes: 0 };
            if has_body(cx.core.body) {
                state.frames = Framing::Waiting;
                let limit = cx.core.given.service.buffer_limit;
                return Flow::Wait(Wait::Body {
                    bytes_max: if limit == 0 { usize::MAX } else { limit },
                });
            }
        }
        Flow::Continue
    }

    pub(super) fn response_head(state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        let held = &*cx.held;
        if !state.bridges || !has_body(cx.response_body) {
            return Back::Continue;
        }
        if !held.has_ended() {
            return Back::Hold(HeldFor::Body);
        }
        let response = &mut cx.core.heads.response;
        let trailers = held.end.as_deref().filter(|lines| !lines.is_empty());
        let mut bytes = held.data.len();
        if state.frames != Framing::None && response.is_grpc() {
            let left = bytes.min(HEAD_BYTES);
            bytes -= left;
            state.frames = Framing::Removed { left };
        }
        if let Some(lines) = trailers {
            let trailers = Fields::of_lines(lines);
            if let Some(status) = trailers.get(FieldName::GrpcStatus) {
                if status != b"0" {
                    response.status = 503;
                }
                response.fields.set(FieldName::GrpcStatus, status);
            }
            if let Some(message) = trailers.get(FieldName::GrpcMessage) {
                response.fields.set(FieldName::GrpcMessage, message);
            }
            let mut digits = itoa::Buffer::new();
            response.fields.set(FieldName::ContentLength, digits.format(bytes).as_bytes());
            cx.resize_response(bytes as u64);
        } else if let Framing::Removed { .. } = state.frames {
            response.fields.remove(FieldName::ContentLength);
            cx.change_body(Way::Response);
        }
        Back::Continue
    }

    pub(super) fn body(
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
    ) -> Progress {
        match (way, &mut state.frames) {
            (Way::Request, Framing::Added { bytes }) if !input.data.is_empty() => {
                output.take_data([&[0][..], &bytes.to_be_bytes()].concat());
            }
            (Way::Response, Framing::Removed { left }) => {
                let removed = input.data.len().min(*left);
                input.data.drain(..removed);
                *left -= removed;
            }
            _ => {}
        }
        output.take_all(input);
        if let (Way::Response, Some(trailers)) = (way, &mut output.end) {
            // They are in the head.
            trailers.clear();
        }
        Progress::Moved
    }
}

const fn has_body(body: BodyLength) -> bool {
    !matches!(body, BodyLength::None | BodyLength::Length(0))
}
