//! Values from the heads of a request and its response.

use super::names::GRPC_STATUSES;
use super::stream_info::Inputs;
use crate::http::grpc;
use crate::http::{FieldName, Fields, RequestHead, ResponseHead, TOKEN};

/// A header, and another one to use if it is absent; lower case.
#[derive(Clone, Debug)]
pub(super) struct HeaderLookup {
    name: Box<[u8]>,
    alternative: Option<Box<[u8]>>,
}

impl HeaderLookup {
    pub(super) fn new(parameters: &str) -> Result<Self, String> {
        let mut names = parameters.split('?');
        let name = names.next().unwrap_or_default();
        let alternative = names.next();
        if names.next().is_some() {
            return Err(format!("More than 1 alternative header specified in token: {parameters}"));
        }
        let is_valid = |name: &str| {
            name != ":" && TOKEN.has_all(name.strip_prefix(':').unwrap_or(name).as_bytes())
        };
        if !is_valid(name) || !alternative.is_none_or(is_valid) {
            return Err("Invalid header configuration. Format string contains invalid characters."
                .to_owned());
        }
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into();
        let alternative = alternative.filter(|name| !name.is_empty());
        Ok(Self { name: lower(name), alternative: alternative.map(lower) })
    }

    pub(super) fn in_request<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        let value = |name: &[u8]| match name {
            b":authority" => head.authority(),
            b":method" => Some(head.method_name()),
            b":path" => head.path_and_query(),
            b":scheme" => head.scheme.map(|scheme| scheme.as_str().as_bytes()),
            name => head.fields.find(name),
        };
        self.first_of(value)
    }

    pub(super) fn in_fields<'a>(&self, fields: &'a Fields) -> Option<&'a [u8]> {
        self.first_of(|name| fields.find(name))
    }

    pub(super) fn write_response(&self, head: &ResponseHead, out: &mut Vec<u8>) -> Option<()> {
        if &*self.name == b":status" {
            out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
        } else {
            out.extend_from_slice(self.in_fields(&head.fields)?);
        }
        Some(())
    }

    fn first_of<'a>(&self, value: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
        value(&self.name).or_else(|| value(self.alternative.as_deref()?))
    }
}

/// Which path to show.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathSource {
    Original,
    OriginalOrPath,
    Path,
}

impl PathSource {
    pub(super) fn path(self, head: &RequestHead, with_query: bool) -> Option<&[u8]> {
        let original = head.fields.get(FieldName::XEnvoyOriginalPath);
        let path = match self {
            Self::Original => original?,
            Self::OriginalOrPath => original.or_else(|| head.path_and_query())?,
            Self::Path => head.path_and_query()?,
        };
        let end = if with_query { None } else { memchr::memchr(b'?', path) };
        path.get(..end.unwrap_or(path.len()))
    }
}

/// Whose names and values are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadBytes {
    Request,
    Response,
    Trailers,
}

impl HeadBytes {
    /// The bytes of names and values. The first line counts as the pseudo-headers of HTTP/2.
    pub(crate) fn count(self, inputs: &Inputs<'_>) -> u64 {
        let count = match self {
            Self::Request => inputs.request.map(request_bytes),
            Self::Response => inputs.response.map(|head| {
                let status = ":status".len() + itoa::Buffer::new().format(head.status).len();
                status + head.fields.byte_size()
            }),
            Self::Trailers => inputs.trailers.map(Fields::byte_size),
        };
        u64::try_from(count.unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

fn request_bytes(head: &RequestHead) -> usize {
    let pseudo =
        |name: &str, value: Option<&[u8]>| value.map_or(0, |value| name.len() + value.len());
    let host = head.fields.get(FieldName::Host).map_or(0, |value| "host".len() + value.len());
    let scheme = head.scheme.map(|scheme| scheme.as_str().as_bytes());
    pseudo(":method", Some(head.method_name()))
        + pseudo(":path", head.path_and_query())
        + pseudo(":scheme", scheme)
        + pseudo(":authority", head.authority())
        + head.fields.byte_size()
        - host
}

/// How a gRPC status is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcStatusForm {
    Camel,
    Number,
    Snake,
}

impl GrpcStatusForm {
    /// # Errors
    /// There is no such form; with Envoy's message.
    pub(super) fn new(name: &str) -> Result<Self, String> {
        match name {
            "" | "CAMEL_STRING" => Ok(Self::Camel),
            "SNAKE_STRING" => Ok(Self::Snake),
            "NUMBER" => Ok(Self::Number),
            other => Err(format!(
                "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. \
                 Got: {other}"
            )),
        }
    }

    /// As in Envoy, for gRPC requests only.
    pub(super) fn write(self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        inputs.request.filter(|request| request.is_grpc())?;
        let number = grpc_status(inputs)?;
        let names = usize::try_from(number).ok().and_then(|number| GRPC_STATUSES.get(number));
        match (self, names) {
            (Self::Camel, Some((camel, _))) => out.extend_from_slice(camel.as_bytes()),
            (Self::Snake, Some((_, snake))) => out.extend_from_slice(snake.as_bytes()),
            (Self::Number, _) | (_, None) => {
                out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
        }
        Some(())
    }
}

/// The status of a gRPC response: that of the trailers, else of the head, else the one that corresponds to
/// the HTTP status.
pub(crate) fn grpc_status(inputs: &Inputs<'_>) -> Option<i64> {
    let in_trailers = inputs.trailers.and_then(|trailers| trailers.get(FieldName::GrpcStatus));
    let in_head = || inputs.response?.fields.get(FieldName::GrpcStatus);
    match in_trailers.or_else(in_head) {
        Some(status) => Some(number(status).unwrap_or(INVALID_CODE)),
        None => Some(i64::from(grpc::status_of_http(inputs.stream.response_code()?))),
    }
}

/// Envoy's number for a status that is none.
const INVALID_CODE: i64 = -1;

fn number(status: &[u8]) -> Option<i64> {
    let number: u32 = std::str::from_utf8(status).ok()?.trim().parse().ok()?;
    Some(i64::from(number))
}

pub(crate) fn query(head: &RequestHead) -> Option<&[u8]> {
    let target = head.target();
    target.get(memchr::memchr(b'?', target)? + 1..)
}

pub(crate) fn query_param<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut decoded = Vec::new();
    query.split(|&byte| byte == b'&').find_map(|parameter| {
        let end = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
        let value = parameter.get(end + 1..).unwrap_or_default();
        decoded.clear();
        percent_decode(parameter.get(..end)?, |_| true, &mut decoded);
        (decoded == name).then_some(value)
    })
}

/// RFC 9110 §5.5: anything else would end the header, or be rejected by the recipient.
pub(super) const fn stands_in_a_header(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// The characters that are not escaped in a query, as in Envoy.
pub(super) fn stands_in_a_query(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"<>\\^{|}".contains(&byte)
}

/// Decodes the escapes of bytes that are `wanted`.
pub(super) fn percent_decode(text: &[u8], wanted: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte == b'%'
            && let [high, low, behind @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
            && wanted(high << 4 | low)
        {
            out.push(high << 4 | low);
            rest = behind;
        } else {
            out.push(*byte);
        }
    }
}
