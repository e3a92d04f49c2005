//! Where a body ends (RFC 9112 §6.3). Nothing else decides this.
//!
//! Deliberate differences from Envoy 1.40, all of them stricter: rejected are `Content-Length` with
//! leading zeros in a request (a parser may read it as octal), `Transfer-Encoding` in HTTP/1.0, and a
//! list with empty members; `chunked` twice or not last is 400 instead of 501.

use super::Error;
use crate::http::{
    self, BodyLength, FieldName, FieldSet, Fields, Method, RequestHead, ResponseHead, Version,
};

/// The length of a request body.
///
/// # Errors
/// The framing is ambiguous or unknown: the request is rejected and its connection closed.
#[inline]
pub fn request(head: &RequestHead) -> Result<BodyLength, Error> {
    let fields = &head.fields;
    if !fields.has(FieldName::ContentLength) && !fields.has(FieldName::TransferEncoding) {
        //= rfc9112#6.3
        // "If this is a request message and none of the above are true, then the message body
        // length is zero (no message body is present)."
        return Ok(BodyLength::None);
    }
    if head.method == Method::Connect {
        //= rfc9110#9.3.6
        // "A CONNECT request message does not have content."
        return match content_length(fields, LeadingZeros::Rejected)? {
            // The same error as in Envoy.
            _ if fields.has(FieldName::TransferEncoding) => Err(Error::TransferEncodingUnsupported),
            None | Some(0) => Ok(BodyLength::None),
            Some(_) => Err(Error::BodyNotAllowed),
        };
    }
    if fields.has(FieldName::TransferEncoding) {
        return chunked(head.version, fields);
    }
    Ok(content_length(fields, LeadingZeros::Rejected)?.map_or(BodyLength::None, BodyLength::Length))
}

/// The length of the body of a response to a request with this method.
///
/// A 101 and a 2xx to CONNECT have no body: the tunnel follows.
///
/// # Errors
/// The framing is ambiguous or unknown: an upstream protocol error (502).
#[inline(always)]
pub fn response(method: Method, head: &ResponseHead) -> Result<BodyLength, Error> {
    let fields = &head.fields;
    let announced = fields.has(FieldName::ContentLength) || fields.has(FieldName::TransferEncoding);

    //= rfc9110#8.6
    // "A server MUST NOT send a Content-Length header field in any response with a status code of
    // 1xx (Informational) or 204 (No Content)."; rfc9112#6.1 says it of Transfer-Encoding.
    if matches!(head.status, 100..=199 | 204) {
        return match content_length(fields, LeadingZeros::Accepted)? {
            None | Some(0) if !fields.has(FieldName::TransferEncoding) => Ok(BodyLength::None),
            _ => Err(Error::BodyNotAllowed),
        };
    }
    // The fields are validated even where there is no body: a peer that gets them wrong cannot be
    // trusted with the next message.
    let length = if fields.has(FieldName::TransferEncoding) {
        chunked(head.version, fields)?
    } else {
        content_length(fields, LeadingZeros::Accepted)?
            .map_or(BodyLength::UntilClose, BodyLength::Length)
    };
    //= rfc9112#6.3
    // "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No
    // Content), or 304 (Not Modified) status code is always terminated by the first empty line
    // after the header fields"
    if method == Method::Head || head.status == 304 {
        return Ok(BodyLength::None);
    }
    //= rfc9112#6.3
    // "Any 2xx (Successful) response to a CONNECT request implies that the connection will become
    // a tunnel immediately after the empty line that concludes the header fields."
    if method == Method::Connect && matches!(head.status, 200..=299) {
        return if announced { Err(Error::BodyNotAllowed) } else { Ok(BodyLength::None) };
    }
    Ok(length)
}

/// Sets the fields that announce the body of a forwarded request. The length stays where the client
/// had it; `transfer-encoding` comes last.
pub fn announce_request(head: &mut RequestHead, length: BodyLength) {
    let method = head.method;
    let fields = &mut head.fields;
    match length {
        BodyLength::None if method.announces_no_body() => set_length(fields, 0),
        BodyLength::None => fields.remove_set(FRAMING),
        BodyLength::Length(length) => set_length(fields, length),
        BodyLength::Chunked | BodyLength::UntilClose => set_chunked(fields),
    }
}

/// Sets the fields that announce the body of a forwarded response, given the length that [`response`]
/// returned and the client's version. Returns how the body is sent.
///
/// [`BodyLength::UntilClose`] is returned for an HTTP/1.0 client if the length is unknown: its
/// connection is closed at the end of the body.
pub fn announce_response(
    method: Method,
    client: Version,
    head: &mut ResponseHead,
    length: BodyLength,
) -> BodyLength {
    let fields = &mut head.fields;
    match length {
        BodyLength::Length(length) => {
            set_length(fields, length);
            BodyLength::Length(length)
        }
        BodyLength::Chunked | BodyLength::UntilClose if client == Version::Http10 => {
            fields.remove_set(FRAMING);
            BodyLength::UntilClose
        }
        BodyLength::Chunked | BodyLength::UntilClose => {
            set_chunked(fields);
            BodyLength::Chunked
        }
        BodyLength::None => {
            match head.status {
                100..=199 | 204 => fields.remove_set(FRAMING),
                200..=299 if method == Method::Connect => fields.remove_set(FRAMING),
                304 => fields.remove(FieldName::TransferEncoding),
                // For HEAD, the length of the body that a GET would have.
                _ if fields.has(FieldName::ContentLength) || client == Version::Http10 => {
                    fields.remove(FieldName::TransferEncoding);
                }
                _ => set_chunked(fields),
            }
            BodyLength::None
        }
    }
}

/// Sets the field that announces the body of a response that the proxy makes itself, if its head does
/// not give a length.
pub fn announce_local_response(method: Method, client: Version, head: &mut ResponseHead) {
    if head.fields.has(FieldName::ContentLength) || matches!(head.status, 100..=199 | 204 | 304) {
        return;
    }
    // As in Envoy, a response to HEAD announces how it would have been framed.
    match (method, client) {
        (Method::Head, Version::Http11 | Version::Http2) => {
            head.fields.append(FieldName::TransferEncoding, b"chunked");
        }
        (Method::Head, Version::Http10) => {}
        _ => head.fields.append(FieldName::ContentLength, b"0"),
    }
}

fn set_length(fields: &mut Fields, length: u64) {
    fields.remove(FieldName::TransferEncoding);
    let same = fields.get(FieldName::ContentLength).is_some_and(|text| is_decimal(text, length));
    if !same || fields.is_repeated(FieldName::ContentLength) {
        let mut digits = itoa::Buffer::new();
        fields.set(FieldName::ContentLength, digits.format(length).as_bytes());
    }
}

/// Whether the text is exactly this number, without leading zeros.
fn is_decimal(text: &[u8], number: u64) -> bool {
    let no_leading_zero = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
    no_leading_zero && http::content_length(text) == Some(number)
}

fn set_chunked(fields: &mut Fields) {
    fields.remove_set(FRAMING);
    fields.append(FieldName::TransferEncoding, b"chunked");
}

const FRAMING: FieldSet = FieldSet::of(&[FieldName::ContentLength, FieldName::TransferEncoding]);

/// Whether a `Content-Length` may have leading zeros.
#[derive(Clone, Copy, Eq, PartialEq)]
enum LeadingZeros {
    Accepted,
    Rejected,
}

fn content_length(fields: &Fields, zeros: LeadingZeros) -> Result<Option<u64>, Error> {
    let Some(digits) = fields.get(FieldName::ContentLength) else { return Ok(None) };
    //= rfc9112#6.3
    // "If a message is received without Transfer-Encoding and with an invalid Content-Length
    // header field, then the message framing is invalid and the recipient MUST treat it as an
    // unrecoverable error". Repetitions of the same value could be accepted; they are not here.
    if fields.is_repeated(FieldName::ContentLength) {
        return Err(Error::ContentLength);
    }
    if zeros == LeadingZeros::Rejected && digits.len() > 1 && digits.first() == Some(&b'0') {
        return Err(Error::ContentLength);
    }
    http::content_length(digits).map(Some).ok_or(Error::ContentLength)
}

fn chunked(version: Version, fields: &Fields) -> Result<BodyLength, Error> {
    //= rfc9112#6.3
    // "Such a message might indicate an attempt to perform request smuggling (Section 11.2) or
    // response splitting (Section 11.1) and ought to be handled as an error."
    if fields.has(FieldName::ContentLength) {
        return Err(Error::ContentLengthAndTransferEncoding);
    }
    //= rfc9112#6.1
    // "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header
    // field MUST treat the message as if the framing is faulty"
    if version == Version::Http10 {
        return Err(Error::TransferEncoding);
    }
    let mut seen = Coding::Nothing;
    for value in fields.get_all(FieldName::TransferEncoding) {
        for member in value.split(|&byte| byte == b',') {
            let name = trim_ows(member);
            if seen == Coding::Chunked || name.is_empty() {
                return Err(Error::TransferEncoding);
            }
            seen = if name.eq_ignore_ascii_case(b"chunked") {
                match seen {
                    Coding::Nothing => Coding::Chunked,
                    // After another coding: valid, but not implemented.
                    _ => Coding::Other,
                }
            } else {
                Coding::Other
            };
        }
    }
    match seen {
        Coding::Chunked => Ok(BodyLength::Chunked),
        Coding::Other => Err(Error::TransferEncodingUnsupported),
        Coding::Nothing => Err(Error::TransferEncoding),
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Coding {
    Nothing,
    Chunked,
    Other,
}

fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
