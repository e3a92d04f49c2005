use corvoy_engine::http::{HeadLimits, RequestHead, ResponseHead};

use super::unchunked;

const REQUEST: &str =
    "POST /p?q HTTP/1.1\r\nHost: h\r\nA:  b \r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n";

/// "A server that receives an incomplete request message, usually due to a canceled request or a
/// triggered timeout exception, MAY send an error response prior to closing the connection."
#[test]
fn a_truncated_head_is_not_a_request() {
    for end in 0..REQUEST.len() {
        let mut head = RequestHead::default();
        head.received().extend_from_slice(&REQUEST.as_bytes()[..end]);
        assert_eq!(head.parse(&HeadLimits::default()), Ok(None), "{end}");
    }
}

/// "A client that receives an incomplete response message … MUST record the message as incomplete."
#[test]
fn a_truncated_head_is_not_a_response() {
    for end in 0..RESPONSE.len() {
        let mut head = ResponseHead::default();
        head.received().extend_from_slice(&RESPONSE.as_bytes()[..end]);
        assert_eq!(head.parse(&HeadLimits::default()), Ok(None), "{end}");
    }
}

/// "A message body that uses the chunked transfer coding is incomplete if the zero-sized chunk that
/// terminates the encoding has not been received."
#[test]
fn chunks_without_the_last_one_are_not_a_body() {
    for coded in
        ["5\r\nhello\r\n", "5;a=b\r\nhello\r\n", "5\r\nhello\r\n0", "0\r\n", "0\r\nT: x\r\n"]
    {
        let (_, ended) = unchunked(coded.as_bytes()).expect("so far well-formed");
        assert!(!ended, "{coded:?}");
    }
}
