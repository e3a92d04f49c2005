//! `grpc_http1_reverse_bridge`: lets HTTP/1 origins, which know nothing of gRPC, answer gRPC calls. The client gets
//! the status in trailers, and its messages with the bytes before them.

use super::grpc_stats::frames::HEAD_BYTES;
use super::{Back, Context, Flow, Piece, Progress, RouteConfig, Way};
use crate::head_matcher::HeaderName;
use crate::http::{BodyLength, Fault, FieldName, Misdeed, Reject, content_length, grpc};
use crate::request::reply::LocalReply;

/// The filter.
#[derive(Debug)]
pub struct GrpcHttp1ReverseBridge {
    /// What origins speak.
    pub(super) content_type: Box<[u8]>,
    /// Origins send and get a message without the bytes before it.
    pub(super) withholds_frames: bool,
    /// The header of a response that has the length of the message.
    pub(super) size_header: Option<HeaderName>,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub enum State {
    /// It is none that is bridged.
    #[default]
    Other,
    /// It is bridged.
    Bridged(Box<Call>),
}

/// A gRPC call.
#[derive(Debug, Default)]
pub struct Call {
    content_type: Box<[u8]>,
    request: RequestFrame,
    /// The beginning of the request.
    begun: Vec<u8>,
    response: ResponseFrame,
    /// The message of the response, until it has ended.
    message: Vec<u8>,
    /// The `grpc-status` that follows the response.
    status: u8,
}

/// The bytes before the message of the request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum RequestFrame {
    /// They are passed on, or have been removed.
    #[default]
    Passed,
    ToBeRemoved,
}

/// The bytes before the message of the response.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ResponseFrame {
    /// They come from the origin.
    #[default]
    Passed,
    /// They have been added, and so many bytes of the message are to come.
    Added { left: u32 },
    /// They are added as soon as the message begins, which is so long.
    Announced(u32),
    /// They are added when the message has ended.
    AtEnd,
}

impl GrpcHttp1ReverseBridge {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let disabled = cx.route_config(|config| match config {
            RouteConfig::GrpcHttp1ReverseBridge { disabled } => Some(disabled),
            _ => None,
        });
        let request = &mut cx.core.heads.request;
        if !has_body(cx.core.body) || disabled == Some(&true) || !request.is_grpc() {
            return Flow::Continue;
        }
        let content_type = request.fields.get(FieldName::ContentType).unwrap_or_default().into();
        request.fields.set(FieldName::ContentType, &self.content_type);
        request.fields.set(FieldName::Accept, &self.content_type);
        let mut call = Call { content_type, ..Call::default() };
        if self.withholds_frames {
            call.request = RequestFrame::ToBeRemoved;
            let length = request.fields.get(FieldName::ContentLength).and_then(content_length);
            cx.change_body(Way::Request);
            if let Some(length) = length {
                let length = length.saturating_sub(HEAD_BYTES as u64);
                cx.core.body = BodyLength::Length(length);
                let mut digits = itoa::Buffer::new();
                let length = digits.format(length).as_bytes();
                cx.core.heads.request.fields.set(FieldName::ContentLength, length);
            }
        }
        cx.set_client_speaks_grpc(true);
        cx.clear_route_cache();
        *state = State::Bridged(Box::new(call));
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        let State::Bridged(call) = state else { return Back::Continue };
        let response = &mut cx.core.heads.response;
        let found = response.fields.get(FieldName::ContentType);
        if found != Some(&*self.content_type) {
            let message = wrong_type(found, response.status);
            *state = State::Other;
            return refuse(&message, grpc::UNKNOWN, "grpc_bridge_content_type_wrong");
        }
        response.fields.set(FieldName::ContentType, &call.content_type);
        call.status = grpc::status_of_response(response.status);
        response.status = 200;
        let mut length = response.fields.get(FieldName::ContentLength).and_then(content_length);
        if self.withholds_frames {
            call.response = ResponseFrame::AtEnd;
            if let Some(name) = &self.size_header {
                let announced = name.joined_in(response).and_then(|text| content_length(&text));
                let announced = announced.and_then(|length| u32::try_from(length).ok());
                let Some(announced) = announced else {
                    *state = State::Other;
                    let message = "envoy reverse bridge: upstream did not set content length";
                    return refuse(message, grpc::INTERNAL, "grpc_bridge_content_length_missing");
                };
                length = Some(announced.into());
                call.response = ResponseFrame::Announced(announced);
            }
        }
        if !has_body(cx.response_body) {
            cx.resize_response(0);
            return Back::Continue;
        }
        let Some(length) = length else {
            cx.change_body(Way::Response);
            return Back::Continue;
        };
        let added = if self.withholds_frames { HEAD_BYTES as u64 } else { 0 };
        let length = length.saturating_add(added);
        let mut digits = itoa::Buffer::new();
        response.fields.set(FieldName::ContentLength, digits.format(length).as_bytes());
        cx.resize_response(length);
        Back::Continue
    }

    /// # Errors
    /// If a request is too short for a message.
    pub(super) fn body(
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
    ) -> Result<Progress, Fault> {
        let State::Bridged(call) = state else {
            output.take_all(input);
            return Ok(Progress::Moved);
        };
        match way {
            Way::Request => {
                if call.request == RequestFrame::ToBeRemoved {
                    call.begun.append(&mut input.data);
                    if call.begun.len() < HEAD_BYTES {
                        let ended = input.end.is_some();
                        return if ended {
                            Err(Fault::Malformed(TOO_SMALL))
                        } else {
                            Ok(Progress::Moved)
                        };
                    }
                    input.data = call.begun.split_off(HEAD_BYTES);
                    call.request = RequestFrame::Passed;
                }
                output.take_all(input);
            }
            Way::Response => {
                if call.response == ResponseFrame::AtEnd {
                    call.message.append(&mut input.data);
                    if input.end.is_none() {
                        return Ok(Progress::Moved);
                    }
                    input.data = std::mem::take(&mut call.message);
                }
                call.frame(input, output)?;
            }
        }
        Ok(Progress::Moved)
    }
}

impl Call {
    fn frame(&mut self, input: &mut Piece, output: &mut Piece) -> Result<(), Fault> {
        let length = match self.response {
            ResponseFrame::Passed | ResponseFrame::Added { .. } => None,
            ResponseFrame::Announced(length) => Some(length),
            ResponseFrame::AtEnd => Some(u32::try_from(input.data.len()).unwrap_or(u32::MAX)),
        };
        if let Some(length) = length {
            output.take_data([&[0][..], &length.to_be_bytes()].concat());
            self.response = ResponseFrame::Added { left: length };
        }
        let bytes = u32::try_from(input.data.len()).unwrap_or(u32::MAX);
        let ends = input.end.is_some();
        output.take_data(std::mem::take(&mut input.data));
        if let ResponseFrame::Added { left } = &mut self.response {
            *left = left.checked_sub(bytes).ok_or(Fault::Malformed(WRONG_LENGTH))?;
            if *left > 0 && ends {
                return Err(Fault::Malformed(WRONG_LENGTH));
            }
        }
        output.take_all(input);
        if let Some(trailers) = &mut output.end {
            trailers.extend_from_slice(format!("grpc-status: {}\r\n", self.status).as_bytes());
        }
        Ok(())
    }
}

fn wrong_type(found: Option<&[u8]>, status: u16) -> String {
    let found = match found {
        None => "no content-type header".into(),
        Some(found) => format!("unsupported content-type {}", String::from_utf8_lossy(found)),
    };
    format!("envoy reverse bridge: upstream responded with {found}, status code {status}")
}

const fn has_body(body: BodyLength) -> bool {
    !matches!(body, BodyLength::None | BodyLength::Length(0))
}

/// The reply to a call whose response cannot be bridged.
fn refuse(message: &str, status: u8, details: &'static str) -> Back {
    let mut reply = LocalReply::new(200, message).with_details(None, details);
    reply.grpc_status = Some(status);
    Back::Replace(Box::new(reply))
}

/// The message is not as long as its origin has announced.
const WRONG_LENGTH: Reject = Reject {
    status: 502,
    body: "",
    details: "grpc_bridge_content_length_wrong",
    misdeed: Misdeed::Content,
};

const TOO_SMALL: Reject = Reject {
    status: 200,
    body: "invalid request body",
    details: "grpc_bridge_data_too_small",
    misdeed: Misdeed::Content,
};
