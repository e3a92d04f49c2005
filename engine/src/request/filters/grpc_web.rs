//! `grpc_web`: gRPC for browsers, which have no trailers: they become the last frame of the body. Bodies may
//! be in base64.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::grpc_stats::frames::{Frames, HEAD_BYTES};
use super::grpc_stats::methods::{GrpcStats, Method, Naming};
use super::{Back, Context, Flow, HeldFor, Piece, Progress, Way};
use crate::http::grpc;
use crate::http::{BodyLength, Fault, FieldName, Fields, Misdeed, Reject};
use crate::request::reply;
use crate::stats::{Registry, Scope};

/// The filter.
#[derive(Debug)]
pub struct GrpcWeb {
    /// For the stats of methods.
    pub(super) registry: Registry,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub enum State {
    /// It is not gRPC-Web.
    #[default]
    Other,
    /// It is.
    GrpcWeb(Box<Call>),
}

/// A request of gRPC-Web.
#[derive(Debug, Default)]
pub struct Call {
    stats: Option<Arc<Scope<GrpcStats>>>,
    /// The request is in base64: what is left of it is fewer than four bytes.
    request: Option<Vec<u8>>,
    response: Response,
}

/// How the body of the response is sent.
#[derive(Debug, Default)]
enum Response {
    /// As it is, but for the trailers.
    #[default]
    Binary,
    /// In base64, frame by frame.
    Text {
        frames: Frames,
        /// The beginning of a frame.
        begun: Vec<u8>,
    },
    /// Not at all: it was not gRPC, and has become a message in the head.
    Dropped,
}

/// The flag of the frame with the trailers.
const TRAILERS: u8 = 0x80;
/// The longest body that becomes a message in the head, as in Envoy.
const MESSAGE_MAX: usize = 16_384;

impl GrpcWeb {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let fields = &mut cx.core.heads.request.fields;
        let is_text = match fields.get(FieldName::ContentType) {
            Some(b"application/grpc-web" | b"application/grpc-web+proto") => false,
            Some(b"application/grpc-web-text" | b"application/grpc-web-text+proto") => true,
            _ => return Flow::Continue,
        };
        let accept = fields.get(FieldName::Accept);
        let wants_text = matches!(
            accept,
            Some(b"application/grpc-web-text" | b"application/grpc-web-text+proto")
        );
        fields.remove(FieldName::ContentLength);
        fields.set(FieldName::ContentType, b"application/grpc");
        fields.set(FieldName::Te, b"trailers");
        fields.set(FieldName::GrpcAcceptEncoding, b"identity");
        let mut call = Call::default();
        if wants_text {
            call.response = Response::Text { frames: Frames::default(), begun: Vec::new() };
        }
        let method = Method::of(cx.core.heads.request.path());
        if let (Some(cluster), Some(method)) = (&cx.core.upstream.cluster, method) {
            let name = &cluster.cluster().observability_name;
            let methods = cx.core.given.service.grpc_methods;
            let stats = methods.stats(&self.registry, Naming::GrpcWeb, name, Some(method));
            call.stats = Some(stats);
        }
        cx.set_client_speaks_grpc(false);
        if has_body(cx.core.body) {
            call.request = is_text.then(Vec::new);
            cx.change_body(Way::Request);
        }
        *state = State::GrpcWeb(Box::new(call));
        Flow::Continue
    }

    pub(super) fn response_head(state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        let State::GrpcWeb(call) = state else { return Back::Continue };
        let has_body = has_body(cx.response_body);
        let held = &*cx.held;
        let response = &mut cx.core.heads.response;
        let is_grpc = response.fields.get(FieldName::ContentType).is_some_and(is_grpc_or_grpc_web);
        if has_body && !is_grpc && !held.has_ended() {
            return Back::Hold(HeldFor::Body);
        }
        if let (Some(stats), Some(status)) =
            (&call.stats, response.fields.get(FieldName::GrpcStatus))
        {
            stats.shard(cx.core.shard.id).count_status(status);
        }
        let content_type: &[u8] = match &call.response {
            Response::Text { .. } => b"application/grpc-web-text+proto",
            Response::Binary | Response::Dropped => b"application/grpc-web+proto",
        };
        response.fields.remove(FieldName::ContentLength);
        response.fields.set(FieldName::ContentType, content_type);
        if !has_body {
            cx.resize_response(0);
            return Back::Continue;
        }
        if is_grpc {
            cx.change_body(Way::Response);
            return Back::Continue;
        }
        let body = held.data.get(..MESSAGE_MAX).unwrap_or(&held.data);
        let mut message = Vec::with_capacity(body.len());
        reply::percent_encode(body, &mut message);
        let status = grpc::status_of_http(response.status);
        let mut digits = itoa::Buffer::new();
        response.fields.set(FieldName::GrpcMessage, &message);
        response.fields.set(FieldName::GrpcStatus, digits.format(status).as_bytes());
        response.fields.set(FieldName::ContentLength, b"0");
        call.response = Response::Dropped;
        cx.resize_response(0);
        Back::Continue
    }

    /// # Errors
    /// If a request is not in base64.
    pub(super) fn body(
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        shard: usize,
    ) -> Result<Progress, Fault> {
        let State::GrpcWeb(call) = state else {
            output.take_all(input);
            return Ok(Progress::Moved);
        };
        match way {
            Way::Request => {
                if let Some(left) = &mut call.request {
                    decode(left, input, output)?;
                }
                output.take_all(input);
            }
            Way::Response => call.encode(input, output, shard),
        }
        Ok(Progress::Moved)
    }
}

impl Call {
    fn encode(&mut self, input: &mut Piece, output: &mut Piece, shard: usize) {
        let data = std::mem::take(&mut input.data);
        match &mut self.response {
            Response::Binary => output.take_data(data),
            Response::Text { frames, begun } => encode_frames(frames, begun, &data, output),
            Response::Dropped => {}
        }
        let Some(trailers) = input.end.take() else { return };
        if let (Some(stats), Some(status)) = (&self.stats, grpc::status_in_trailers(&trailers)) {
            stats.shard(shard).count_status(status);
        }
        if matches!(self.response, Response::Dropped) {
            // Its end is in the head.
            return;
        }
        output.end = Some(Vec::new());
        if trailers.is_empty() {
            return;
        }
        let frame = trailers_frame(&Fields::of_lines(&trailers));
        match &self.response {
            Response::Binary => output.take_data(frame),
            Response::Text { .. } => output.take_data(STANDARD.encode(frame).into_bytes()),
            Response::Dropped => {}
        }
    }
}

/// Puts out what is whole of a body in base64; what is left stays in `left`.
fn decode(left: &mut Vec<u8>, input: &mut Piece, output: &mut Piece) -> Result<(), Fault> {
    left.append(&mut input.data);
    let whole = left.len() / 4 * 4;
    if input.end.is_some() && whole < left.len() {
        return Err(Fault::Malformed(reject("grpc_base_64_decode_failed_bad_size")));
    }
    let rest = left.split_off(whole);
    let decoded = STANDARD.decode(std::mem::replace(left, rest));
    let decoded = decoded.map_err(|_| Fault::Malformed(reject("grpc_base_64_decode_failed")))?;
    output.take_data(decoded);
    Ok(())
}

/// Puts out each frame that is whole, in base64.
fn encode_frames(frames: &mut Frames, begun: &mut Vec<u8>, data: &[u8], output: &mut Piece) {
    for byte in data {
        begun.push(*byte);
        frames.count(std::slice::from_ref(byte));
        if frames.is_between() {
            output.take_data(STANDARD.encode(&*begun).into_bytes());
            begun.clear();
        }
    }
}

fn trailers_frame(trailers: &Fields) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (_, name, value) in trailers.iter() {
        frame.extend_from_slice(name);
        frame.push(b':');
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
    }
    let length = u32::try_from(frame.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    if let Some(bytes) = frame.get_mut(1..HEAD_BYTES) {
        bytes.copy_from_slice(&length.to_be_bytes());
    }
    frame
}

/// Whether a host speaks one of the two.
fn is_grpc_or_grpc_web(content_type: &[u8]) -> bool {
    grpc::is_content_type(content_type) || content_type.starts_with(b"application/grpc-web")
}

const fn has_body(body: BodyLength) -> bool {
    !matches!(body, BodyLength::None | BodyLength::Length(0))
}

const fn reject(details: &'static str) -> Reject {
    let body = "Bad gRPC-web request, invalid base64 data.";
    Reject { status: 400, body, details, misdeed: Misdeed::Content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Intake as _;

    #[test]
    fn base64_may_be_split_anywhere() {
        let text = b"AAAAAAMxMjM=";
        for split in 0..text.len() {
            let (mut left, mut output) = (Vec::new(), Piece::default());
            let mut give = |part: &[u8], ends: bool| {
                let mut input = Piece::default();
                input.data(part);
                if ends {
                    input.end(Vec::new());
                }
                decode(&mut left, &mut input, &mut output)
            };
            let (first, second) = text.split_at(split);
            assert!(give(first, false).is_ok() && give(second, true).is_ok(), "{split}");
            assert_eq!(output.data, b"\0\0\0\0\x03123", "{split}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in [&b"AAA"[..], b"AA*A", b"AA==AAAA"] {
            let mut input = Piece::default();
            input.data(text);
            input.end(Vec::new());
            assert!(
                decode(&mut Vec::new(), &mut input, &mut Piece::default()).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn each_frame_is_in_base64_of_its_own() {
        let (mut frames, mut begun) = (Frames::default(), Vec::new());
        let mut output = Piece::default();
        encode_frames(&mut frames, &mut begun, b"\0\0\0\0\x01a\0\0", &mut output);
        assert_eq!(output.data, b"AAAAAAFh");
        encode_frames(&mut frames, &mut begun, b"\0\0\x01b", &mut output);
        assert_eq!(output.data, b"AAAAAAFhAAAAAAFi");
    }

    #[test]
    fn trailers_become_a_frame() {
        let frame = trailers_frame(&Fields::of_lines(b"grpc-status: 0\r\na: b\r\n"));
        assert_eq!(frame, b"\x80\0\0\0\x14grpc-status:0\r\na:b\r\n");
    }
}
