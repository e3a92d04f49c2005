//! Stories of whole messages.

use super::*;

fn parsed(text: &str) -> (RequestHead, usize) {
    let mut head = RequestHead::default();
    head.received().extend_from_slice(text.as_bytes());
    let used = head.parse(&HeadLimits::default()).expect("valid").expect("complete");
    (head, used)
}

#[test]
fn a_plain_get_is_read_and_written_again() {
    let (head, used) = parsed("GET /a?b=1 HTTP/1.1\r\nUser-Agent: curl\r\nHost: x:80\r\n\r\nrest");
    assert_eq!(used, 53);
    assert_eq!((head.method, head.version), (Method::Get, Version::Http11));
    assert_eq!((head.target(), head.path()), (&b"/a?b=1"[..], &b"/a"[..]));
    assert_eq!(framing::request(&head), Ok(BodyLength::None));
    let mut out = Vec::new();
    encode::request(&head, &mut out);
    let text = "GET /a?b=1 HTTP/1.1\r\nhost: x:80\r\nuser-agent: curl\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}

#[test]
fn a_response_is_read_and_written_again() {
    let mut head = ResponseHead::default();
    head.received()
        .extend_from_slice(b"HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(head.parse(&HeadLimits::default()), Ok(Some(51)));
    assert_eq!(framing::response(Method::Get, &head), Ok(BodyLength::Length(3)));
    head.fields.set(FieldName::Server, b"envoy");
    let mut out = Vec::new();
    encode::response(&head, &mut out);
    let text = "HTTP/1.1 200 OK\r\nserver: envoy\r\ncontent-length: 3\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}

#[test]
fn an_absolute_target_does_not_touch_the_body_behind_it() {
    for (target, host, path) in [
        ("http://h2/p?q", "h2", "/p?q"),
        ("http://h2?q", "h2", "/?q"),
        ("http://h2", "h2", "/"),
        ("https://a", "a", "/"),
    ] {
        let text = format!("POST {target} HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody");
        let (mut head, used) = parsed(&text);
        let mut rest = Vec::new();
        head.split_off(used, &mut rest);
        assert_eq!(rest, b"body");
        assert_eq!((head.target(), head.authority()), (path.as_bytes(), Some(host.as_bytes())));
    }
}
