//! gRPC calls with one message each way; [`GrpcMethod::open`] begins a stream.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::grpc_stream::GrpcStream;
use super::{Body, Call, CallFailed, Response, Target};
use crate::format::Inputs;
use crate::http::{
    BodyLength, FieldName, Fields, JOINED_IN_REQUESTS, Method, RequestHead, Scheme, Version,
};
use crate::limits;
use crate::request::given::Given;
use crate::request::route::HeaderAddition;
use crate::request::route::action::stream_duration::set_grpc_timeout;

/// A method of a gRPC service, and where it is.
#[derive(Debug)]
pub struct GrpcMethod {
    pub(super) target: Arc<Target>,
    /// `/package.Service/Method`
    pub(super) path: Box<str>,
    pub(super) authority: Box<[u8]>,
    pub(super) timeout: Option<Duration>,
    /// What every call carries.
    pub(super) metadata: Box<[HeaderAddition]>,
    /// The longest answer, in bytes.
    pub(super) message_max: usize,
    /// Whether calls carry what tells an Envoy that another one has made them.
    pub(super) envoy_headers: bool,
}

/// What precedes a message: whether it is compressed, and its length.
pub(super) const FRAME_BYTES: usize = 5;

/// Why a call has no answer: `grpc-status`.
///
/// <https://grpc.io/docs/guides/status-codes/>
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status(pub u32);

impl Status {
    /// The call has succeeded.
    pub const OK: Self = Self(0);
    const UNKNOWN: Self = Self(2);
    pub(super) const RESOURCE_EXHAUSTED: Self = Self(8);
    /// A message makes no sense.
    pub const INTERNAL: Self = Self(13);
    pub(super) const UNAVAILABLE: Self = Self(14);
}

impl GrpcMethod {
    /// Begins a call with `message`, on behalf of the client of `given`. `inputs` is what its metadata can
    /// refer to.
    pub fn call(&self, given: &Given, inputs: &Inputs<'_>, message: &impl Message) -> Option<Call> {
        let body = frame(message)?;
        let fill = |head: &mut RequestHead| self.fill(given, inputs, head);
        let most = self.message_max.saturating_add(FRAME_BYTES);
        Call::start(given, &self.target, fill, Body::Whole(&body), most)
    }

    /// Begins a stream in both directions on behalf of the client of `given`, with this metadata besides its
    /// own. `inputs` is what its own can refer to.
    pub fn open(
        &self,
        given: &Given,
        inputs: &Inputs<'_>,
        metadata: &[HeaderAddition],
    ) -> Option<GrpcStream> {
        let fill = |head: &mut RequestHead| {
            self.fill(given, inputs, head);
            for addition in metadata {
                head.fields.remove_other(&addition.name);
                add(addition, inputs, head);
            }
        };
        let body = Body::Later(BodyLength::Chunked);
        let call = Call::start(given, &self.target, fill, body, limits::BLOCK_BYTES)?;
        Some(GrpcStream::new(call, self.message_max))
    }

    fn fill(&self, given: &Given, inputs: &Inputs<'_>, head: &mut RequestHead) {
        head.method = Method::Post;
        head.version = Version::Http2;
        head.scheme = Some(Scheme::Http);
        head.set_target(self.path.as_bytes());
        head.set_authority(&self.authority);
        let fields = &mut head.fields;
        fields.append(FieldName::Te, b"trailers");
        fields.append(FieldName::ContentType, b"application/grpc");
        if let Some(timeout) = self.timeout {
            set_grpc_timeout(fields, timeout);
        }
        if self.envoy_headers
            && let Some(address) =
                given.service.calls.as_ref().and_then(|calls| calls.manager.client.local_address)
        {
            fields.append(FieldName::XForwardedFor, address.to_string().as_bytes());
        }
        for addition in &self.metadata {
            add(addition, inputs, head);
        }
        if self.envoy_headers {
            head.fields.set(FieldName::XEnvoyInternal, b"true");
        }
    }
}

fn add(addition: &HeaderAddition, inputs: &Inputs<'_>, head: &mut RequestHead) {
    let mut value = Vec::new();
    addition.write_value(inputs, &mut value);
    if !value.is_empty() {
        addition.put(&value, &mut head.fields, JOINED_IN_REQUESTS);
    }
}

/// A message in its frame; none: it is too long for one.
pub(super) fn frame(message: &impl Message) -> Option<Vec<u8>> {
    let mut frame = vec![0];
    let length = u32::try_from(message.encoded_len()).ok()?;
    frame.extend_from_slice(&length.to_be_bytes());
    message.encode(&mut frame).ok()?;
    Some(frame)
}

/// The message in the response to a unary call.
///
/// # Errors
/// The status of the call, if it is not OK.
pub fn message(response: Result<Response, CallFailed>) -> Result<Vec<u8>, Status> {
    let response = response.map_err(|failed| match failed {
        CallFailed::Reset => Status::UNAVAILABLE,
        CallFailed::TooLarge => Status::RESOURCE_EXHAUSTED,
    })?;
    match status(&response) {
        Status::OK => {}
        status => return Err(status),
    }
    let mut body = response.body;
    let Some((&compressed, rest)) = body.split_first() else { return Err(Status::INTERNAL) };
    let Some((length, message)) = rest.split_first_chunk() else { return Err(Status::INTERNAL) };
    // No compression was offered.
    if compressed != 0 || message.len() as u64 != u64::from(u32::from_be_bytes(*length)) {
        return Err(Status::INTERNAL);
    }
    body.drain(..FRAME_BYTES);
    Ok(body)
}

/// The status with which a response ends.
pub(super) fn status(response: &Response) -> Status {
    let Response { head, trailers, .. } = response;
    let trailers = Fields::of_lines(trailers);
    // Without a body the head has what else the trailers have.
    match status_of(&trailers).or_else(|| status_of(&head.fields)) {
        Some(status) => status,
        None if head.status == 200 => Status::UNKNOWN,
        None => Status(crate::http::grpc::status_of_http(head.status).into()),
    }
}

fn status_of(fields: &Fields) -> Option<Status> {
    let text = std::str::from_utf8(fields.get(FieldName::GrpcStatus)?).ok()?;
    Some(text.parse().map_or(Status::UNKNOWN, Status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ResponseHead;

    fn response(status: u16, body: &[u8], trailers: &str) -> Result<Response, CallFailed> {
        let head = Box::new(ResponseHead { status, ..ResponseHead::default() });
        Ok(Response { head, body: body.to_vec(), trailers: trailers.as_bytes().to_vec() })
    }

    #[test]
    fn a_message_is_taken_out_of_its_frame() {
        let ok = "grpc-status: 0\r\n";
        assert_eq!(message(response(200, b"\0\0\0\0\x02ab", ok)), Ok(b"ab".to_vec()));
        assert_eq!(message(response(200, b"\0\0\0\0\0", ok)), Ok(Vec::new()));
        for broken in [&b""[..], b"\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab", b"\x01\0\0\0\0"] {
            assert_eq!(message(response(200, broken, ok)), Err(Status::INTERNAL), "{broken:?}");
        }
    }

    #[test]
    fn a_call_without_an_answer_has_a_status() {
        assert_eq!(message(response(200, b"", "grpc-status: 7\r\n")), Err(Status(7)));
        assert_eq!(message(response(200, b"", "grpc-status: x\r\n")), Err(Status::UNKNOWN));
        assert_eq!(message(response(200, b"\0\0\0\0\0", "")), Err(Status::UNKNOWN));
        assert_eq!(message(response(503, b"", "")), Err(Status::UNAVAILABLE));
        assert_eq!(message(response(404, b"", "")), Err(Status(12)));
        assert_eq!(message(Err(CallFailed::Reset)), Err(Status::UNAVAILABLE));
        assert_eq!(message(Err(CallFailed::TooLarge)), Err(Status::RESOURCE_EXHAUSTED));
        let mut head = Box::new(ResponseHead { status: 200, ..ResponseHead::default() });
        head.fields.append(FieldName::GrpcStatus, b"14");
        let trailers_only = Ok(Response { head, body: Vec::new(), trailers: Vec::new() });
        assert_eq!(message(trailers_only), Err(Status::UNAVAILABLE));
    }
}
