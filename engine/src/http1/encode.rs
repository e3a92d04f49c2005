//! Encodes heads. Only names, values and the target are taken from the received bytes.
//!
//! Consecutive lines that were received exactly as they will be sent are copied at once.

use std::ops::Range;

use crate::http::fields::{Field, Fields, Shape, Span};
use crate::http::{FieldName, RequestHead, ResponseHead, Version};

/// Writes a request head. `Host` comes first, as in Envoy.
#[inline(always)]
pub fn request(head: &RequestHead, out: &mut Vec<u8>) {
    let target = head.target();
    out.reserve(room(&head.fields) + target.len());
    if head.line == Span::default() {
        out.extend_from_slice(head.method_name());
        out.push(b' ');
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1");
    }
    let (fields, list) = (&head.fields, &head.fields.list);
    match list.iter().position(|field| field.id == FieldName::Host) {
        None | Some(0) => lines(fields, head.line, list.iter(), out),
        Some(host) => {
            let others = list.iter().filter(|field| field.id != FieldName::Host);
            lines(fields, head.line, list.get(host).into_iter().chain(others), out);
        }
    }
}

/// Writes a response head, in the version `head.version`.
pub fn response(head: &ResponseHead, out: &mut Vec<u8>) {
    out.reserve(room(&head.fields));
    if head.version == Version::Http11 && head.status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK");
    } else {
        out.extend_from_slice(head.version.as_str().as_bytes());
        out.push(b' ');
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(head.status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(head.status).as_bytes());
    }
    lines(&head.fields, Span::default(), head.fields.list.iter(), out);
}

/// Writes the bytes of `first`, the fields, each after the line end of the line before it, and the end
/// of the head.
fn lines<'a>(
    fields: &Fields,
    first: Span,
    list: impl Iterator<Item = &'a Field>,
    out: &mut Vec<u8>,
) {
    let received = &*fields.bytes;
    // Consecutive lines that are still to be copied.
    let mut run = first.start as usize..first.end as usize;
    for field in list {
        let (start, end) = (field.line_start(), field.value.end as usize);
        match field.shape {
            Shape::Line if start == run.end => run.end = end,
            Shape::Line => copy(received, std::mem::replace(&mut run, start..end), out),
            Shape::Parts | Shape::Secret => {
                copy(received, std::mem::take(&mut run), out);
                write(received, field, out);
            }
        }
    }
    copy(received, run, out);
    out.extend_from_slice(b"\r\n\r\n");
}

fn copy(received: &[u8], run: Range<usize>, out: &mut Vec<u8>) {
    if !run.is_empty() {
        out.extend_from_slice(received.get(run).unwrap_or_default());
    }
}

/// Writes a field whose name and value are in separate places.
#[cold]
fn write(received: &[u8], field: &Field, out: &mut Vec<u8>) {
    if field.id == FieldName::Other {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(field.name.of(received));
        out.extend_from_slice(b": ");
    } else {
        out.extend_from_slice(field.id.line());
    }
    out.extend_from_slice(field.value.of(received));
}

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The reason phrase that Envoy sends with a status.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        599 => "Last Unassigned Server Error Code",
        _ => "Unknown",
    }
}

/// Upper bound for the fields and the first line without its target: one reservation is enough.
fn room(fields: &Fields) -> usize {
    const LONGEST_NAME: usize = 48;
    fields.bytes.len() + fields.len() * (LONGEST_NAME + 4) + 64
}
