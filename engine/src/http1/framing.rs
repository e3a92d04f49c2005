//! Where a body ends: the one place that decides it, by RFC 9112 §6.3.
//!
//! Deliberate differences to Envoy 1.40, all of them refusals: `Content-Length` with leading
//! zeros in a request (a reader may take it for octal); `Transfer-Encoding` in HTTP/1.0; a list
//! with empty members; `chunked` twice or not last is 400 instead of 501.

use super::Error;
use crate::http::{
    BodyLength, FieldName, FieldSet, Fields, Method, RequestHead, ResponseHead, Version,
};

/// The length of a request's body.
///
/// # Errors
/// Framing that is ambiguous or unknown: the request is refused and its connection closed.
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
        return match content_length(fields, Zeros::Refused)? {
            // As Envoy says it.
            _ if fields.has(FieldName::TransferEncoding) => Err(Error::TransferEncodingUnsupported),
            None | Some(0) => Ok(BodyLength::None),
            Some(_) => Err(Error::BodyNotAllowed),
        };
    }
    if fields.has(FieldName::TransferEncoding) {
        return chunked(head.version, fields);
    }
    Ok(content_length(fields, Zeros::Refused)?.map_or(BodyLength::None, BodyLength::Length))
}

/// The length of the body of a response to a request with this method.
///
/// A 101 and a 2xx to CONNECT have none: what follows them is the tunnel.
///
/// # Errors
/// Framing that is ambiguous or unknown: a protocol error of the origin (502).
pub fn response(method: Method, head: &ResponseHead) -> Result<BodyLength, Error> {
    let fields = &head.fields;
    let announced = fields.has(FieldName::ContentLength) || fields.has(FieldName::TransferEncoding);

    //= rfc9110#8.6
    // "A server MUST NOT send a Content-Length header field in any response with a status code of
    // 1xx (Informational) or 204 (No Content)."; rfc9112#6.1 says it of Transfer-Encoding.
    if matches!(head.status, 100..=199 | 204) {
        return match content_length(fields, Zeros::Accepted)? {
            None | Some(0) if !fields.has(FieldName::TransferEncoding) => Ok(BodyLength::None),
            _ => Err(Error::BodyNotAllowed),
        };
    }
    // What would announce a body is checked even where none comes: a peer that is wrong about it
    // is not to be trusted with the next message.
    let length = if fields.has(FieldName::TransferEncoding) {
        chunked(head.version, fields)?
    } else {
        content_length(fields, Zeros::Accepted)?.map_or(BodyLength::UntilClose, BodyLength::Length)
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

/// Writes into the fields how the body of a request is sent on. The length stands where the client
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

/// Writes into the fields how the body of a response is sent on, by what [`response`] said of it
/// and what the client understands. Returns how it is sent.
///
/// [`BodyLength::UntilClose`] is returned for an HTTP/1.0 client that cannot be told the length:
/// its connection ends with the body.
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
                // To HEAD it says what the body of a GET would have.
                _ if fields.has(FieldName::ContentLength) || client == Version::Http10 => {
                    fields.remove(FieldName::TransferEncoding);
                }
                _ => set_chunked(fields),
            }
            BodyLength::None
        }
    }
}

fn set_length(fields: &mut Fields, length: u64) {
    fields.remove(FieldName::TransferEncoding);
    let said = fields.get(FieldName::ContentLength).is_some_and(|text| says(text, length));
    if !said || fields.is_repeated(FieldName::ContentLength) {
        let mut digits = itoa::Buffer::new();
        fields.set(FieldName::ContentLength, digits.format(length).as_bytes());
    }
}

/// Whether the text is the number as it would be written.
fn says(text: &[u8], number: u64) -> bool {
    let is_short = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
    is_short && digits_of(text) == Some(number)
}

/// The number that these digits are; none if it is longer than any length.
fn digits_of(text: &[u8]) -> Option<u64> {
    /// A number with so many digits fits.
    const DIGITS_MAX: usize = 19;
    let mut digits = text;
    while digits.len() > DIGITS_MAX {
        digits = digits.strip_prefix(b"0")?;
    }
    let (mut number, mut is_number) = (0_u64, true);
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        is_number &= digit < 10;
        number = number.wrapping_mul(10).wrapping_add(digit.into());
    }
    is_number.then_some(number)
}

fn set_chunked(fields: &mut Fields) {
    fields.remove_set(FRAMING);
    fields.append(FieldName::TransferEncoding, b"chunked");
}

const FRAMING: FieldSet = FieldSet::of(&[FieldName::ContentLength, FieldName::TransferEncoding]);

/// Whether a `Content-Length` may begin with zeros.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Zeros {
    Accepted,
    Refused,
}

fn content_length(fields: &Fields, zeros: Zeros) -> Result<Option<u64>, Error> {
    let Some(digits) = fields.get(FieldName::ContentLength) else { return Ok(None) };
    //= rfc9112#6.3
    // "If a message is received without Transfer-Encoding and with an invalid Content-Length
    // header field, then the message framing is invalid and the recipient MUST treat it as an
    // unrecoverable error". A repetition with the same value could be forgiven; we do not.
    if fields.is_repeated(FieldName::ContentLength) {
        return Err(Error::ContentLength);
    }
    if zeros == Zeros::Refused && digits.len() > 1 && digits.first() == Some(&b'0') {
        return Err(Error::ContentLength);
    }
    // Counters of the bytes of a connection are signed in many a peer.
    let length = digits_of(digits).filter(|&length| length <= i64::MAX as u64);
    match length {
        Some(length) if !digits.is_empty() => Ok(Some(length)),
        _ => Err(Error::ContentLength),
    }
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
                    // Some other coding first: valid, and not implemented.
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
