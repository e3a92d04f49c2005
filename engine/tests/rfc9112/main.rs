//! RFC 9112, sentence by sentence: one module for each section with requirements for recipients.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod section_2_2_message_parsing;
mod section_2_3_http_version;
mod section_3_2_request_target;
mod section_3_request_line;
mod section_4_status_line;
mod section_5_2_obsolete_line_folding;
mod section_5_field_syntax;
mod section_6_1_transfer_encoding;
mod section_6_2_content_length;
mod section_6_3_message_body_length;
mod section_7_1_1_chunk_extensions;
mod section_7_1_2_chunked_trailer_section;
mod section_7_1_chunked_transfer_coding;
mod section_8_incomplete_messages;
mod section_9_3_persistence;

use corvoy_engine::http::{BodyLength, HeadLimits, Method, RequestHead, ResponseHead};
use corvoy_engine::http1::{Error, chunked, framing};

/// A request with a valid first line and `Host`.
fn get(fields: &str) -> Result<RequestHead, Error> {
    request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
}

/// A complete request head.
fn request(text: &str) -> Result<RequestHead, Error> {
    request_of(text.as_bytes(), &HeadLimits::default())
}

fn request_of(bytes: &[u8], limits: &HeadLimits) -> Result<RequestHead, Error> {
    let mut head = RequestHead::default();
    head.received().extend_from_slice(bytes);
    head.parse(limits)?.expect("a complete head");
    Ok(head)
}

/// The length of the body of a POST with these fields.
fn body_of(fields: &str) -> Result<BodyLength, Error> {
    framing::request(&request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))?)
}

/// A response with a valid status line.
fn ok(fields: &str) -> Result<ResponseHead, Error> {
    response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
}

/// A complete response head.
fn response(text: &str) -> Result<ResponseHead, Error> {
    let mut head = ResponseHead::default();
    head.received().extend_from_slice(text.as_bytes());
    head.parse(&HeadLimits::default())?.expect("a complete head");
    Ok(head)
}

/// The body length of a response to this method with this status and these fields.
fn answer(method: Method, status: u16, fields: &str) -> Result<BodyLength, Error> {
    framing::response(method, &response(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"))?)
}

/// The data of a chunked body, and whether it has ended. Nothing may follow it.
fn unchunked(coded: &[u8]) -> Result<(Vec<u8>, bool), Error> {
    let mut decoder = chunked::Decoder::new();
    let mut data = Vec::new();
    let mut rest = coded;
    loop {
        let decoded = decoder.decode(rest)?;
        data.extend_from_slice(&rest[decoded.data]);
        rest = &rest[decoded.consumed..];
        if decoded.end {
            assert_eq!(rest, b"", "the body ended early");
        }
        if rest.is_empty() {
            return Ok((data, decoded.end));
        }
    }
}
