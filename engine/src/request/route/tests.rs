//! Heads as received, for the tests of this folder.

use crate::http::{HeadLimits, RequestHead, ResponseHead, Scheme};

pub(crate) fn request(target: &str, fields: &[&str]) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("GET {target} HTTP/1.1\r\nhost: t.test\r\n{}\r\n", lines(fields));
    head.received().extend_from_slice(text.as_bytes());
    assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(text.len())), "{text}");
    head.scheme = Some(Scheme::Http);
    head
}

pub(crate) fn response(status: u16, fields: &[&str]) -> ResponseHead {
    let mut head = ResponseHead::default();
    let text = format!("HTTP/1.1 {status} x\r\n{}\r\n", lines(fields));
    head.received().extend_from_slice(text.as_bytes());
    assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(text.len())), "{text}");
    head
}

/// The fields of a head, as lines.
pub(crate) fn shown(fields: &crate::http::Fields) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
}

fn lines(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("{field}\r\n")).collect()
}
