//! Values from the heads of a request and its response.

use super::Inputs;
use super::names::GRPC_STATUSES;
use crate::http::grpc;
use crate::http::{FieldName, Fields, RequestHead, TOKEN};

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

    pub(super) fn in_response<'a>(
        &self,
        inputs: &Inputs<'a>,
        out: &mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let head = inputs.response?;
        if &*self.name == b":status" {
            out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
            return Some(&[]);
        }
        let fields: &Fields = &head.fields;
        self.first_of(|name| fields.find(name))
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

/// How a gRPC status is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcStatusForm {
    Camel,
    Number,
    Snake,
}

impl GrpcStatusForm {
    /// As in Envoy, for gRPC requests only, and a response without the status has the one that corresponds
    /// to its HTTP status. Headers are formatted before the trailers come.
    pub(super) fn write(
        self,
        inputs: &Inputs<'_>,
        http_status: Option<u16>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        inputs.request.filter(|request| request.is_grpc())?;
        let told = inputs.response.and_then(|head| head.fields.get(FieldName::GrpcStatus));
        let number = match told {
            Some(status) => number(status).unwrap_or(INVALID_CODE),
            None => i64::from(grpc::status_of_http(http_status?)),
        };
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

/// Envoy's number for a status that is none.
const INVALID_CODE: i64 = -1;

fn number(status: &[u8]) -> Option<i64> {
    let number: u32 = std::str::from_utf8(status).ok()?.trim().parse().ok()?;
    Some(i64::from(number))
}

pub(super) fn query(head: &RequestHead) -> Option<&[u8]> {
    let target = head.target();
    target.get(memchr::memchr(b'?', target)? + 1..)
}

pub(super) fn query_param<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
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
