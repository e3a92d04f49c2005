//! Heads as they are sent. Nothing is copied from the received text but names, values and target.

use super::fields::{FieldName, Fields};
use super::head::{RequestHead, ResponseHead};

/// Writes a request's head. `Host` comes first, wherever it stood: so does Envoy.
pub fn request(head: &RequestHead, out: &mut Vec<u8>) {
    let target = head.target();
    out.reserve(room(&head.fields) + target.len());
    out.extend_from_slice(head.method_name());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = head.fields.get(FieldName::Host) {
        field(b"host", host, out);
    }
    for (id, name, value) in head.fields.iter() {
        if id != FieldName::Host {
            field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head, in the version that `head.version` says.
pub fn response(head: &ResponseHead, out: &mut Vec<u8>) {
    out.reserve(room(&head.fields));
    out.extend_from_slice(head.version.as_str().as_bytes());
    out.push(b' ');
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (_, name, value) in head.fields.iter() {
        field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The reason phrase that Envoy sends with a status.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
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
        _ => "Unknown",
    }
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Enough for every field and the first line without its target, so that one growth is enough.
fn room(fields: &Fields) -> usize {
    const LONGEST_NAME: usize = 48;
    fields.bytes.len() + fields.len() * (LONGEST_NAME + 4) + 64
}
