use corvoy_engine::http::{HeadLimits, Method, RequestHead, Scheme};
use corvoy_engine::http1::Error;

use super::{request, request_of};

fn target(target: &str) -> Result<RequestHead, Error> {
    request(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
}

/// "Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error or a
/// 301 (Moved Permanently) redirect".
#[test]
fn a_target_in_none_of_the_forms_is_rejected() {
    for text in ["foo", "?a=b", "h:80", "*", "http:/p", "http:p", "#"] {
        assert_eq!(target(text).err(), Some(Error::Target), "{text}");
    }
    for text in ["ftp://h2/p", "ws://h2/p"] {
        assert_eq!(target(text).err(), Some(Error::Scheme), "{text}");
    }
}

/// RFC 3986 allows only ASCII; nothing else of the target is validated.
#[test]
fn a_target_is_printable_ascii() {
    for text in ["/\u{e9}", "/?\u{e9}", "/a\u{7f}", "/a\u{1}", "/\u{0}"] {
        assert_eq!(target(text).expect_err(text).status(), 400, "{text:?}");
    }
    let bytes = b"GET /\xc0\xaf HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(request_of(bytes, &HeadLimits::default()).is_err());
    let odd = "/a\"<>\\^`{|}b?%zz%00";
    assert_eq!(target(odd).expect("as Envoy").target(), odd.as_bytes());
}

/// §3.2.1: "When making a request directly to an origin server … a client MUST send only the
/// absolute path and query components of the target URI as the request-target."
#[test]
fn origin_form() {
    let head = target("//x/../y?a=b").expect("accepted");
    assert_eq!((head.target(), head.path()), (&b"//x/../y?a=b"[..], &b"//x/../y"[..]));
    assert_eq!((head.authority(), head.scheme), (Some(&b"h"[..]), None));
}

/// §3.2.2: "a server MUST accept the absolute-form in requests even though most HTTP clients will
/// only send the absolute-form to a proxy." "When an origin server receives a request with an
/// absolute-form of request-target, the origin server MUST ignore the received Host header field
/// (if any) and instead use the host information of the request-target."
#[test]
fn absolute_form() {
    for (text, authority, rest, scheme) in [
        ("http://h2", "h2", "/", Scheme::Http),
        ("http://h2/p?q", "h2", "/p?q", Scheme::Http),
        ("HTTP://h2:81/p", "h2:81", "/p", Scheme::Http),
        ("https://[::1]:80/p", "[::1]:80", "/p", Scheme::Https),
        ("http://h-2.:00080", "h-2.:00080", "/", Scheme::Http),
    ] {
        let head = target(text).expect(text);
        assert_eq!(head.authority(), Some(authority.as_bytes()), "{text}");
        assert_eq!((head.target(), head.scheme), (rest.as_bytes(), Some(scheme)), "{text}");
        assert_eq!(head.fields.len(), 1);
    }
    let head = request("GET http://h2/p HTTP/1.1\r\n\r\n").expect("the target names the host");
    assert_eq!(head.authority(), Some(&b"h2"[..]));
    let no_path = target("http://h2?x=1").expect("as Envoy");
    assert_eq!(no_path.target(), b"?x=1");
    for text in ["http:///p", "http://u@h2/p", "http://h2:x/p", "http://a,b/p", "http://h2\\@x/p"] {
        assert_eq!(target(text).err(), Some(Error::Url), "{text}");
    }
    for host in
        ["h_2", "h2:", "h2:65536", "h2:+8", "h%20", "h~", "*", "[1]", "[::1", "[::1]:", "[::1]x"]
    {
        assert_eq!(target(&format!("http://{host}/")).err(), Some(Error::Url), "{host}");
    }
}

/// Two hosts are ambiguous even where the target overrides them.
#[test]
fn absolute_form_does_not_allow_two_hosts() {
    let text = "GET http://h2/p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(request(text).err(), Some(Error::Authority));
}

/// §3.2.3: "authority-form = uri-host ":" port", "only used for CONNECT requests".
#[test]
fn authority_form() {
    let connect = |target: &str| request(&format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    let head = connect("h2:443").expect("accepted");
    assert_eq!((head.method, head.target()), (Method::Connect, &b"h2:443"[..]));
    assert_eq!(head.authority(), Some(&b"h2:443"[..]));
    for text in ["/", "h2", "h2:", ":443", "http://h2/", "u@h2:443"] {
        assert_eq!(connect(text).err(), Some(Error::Url), "{text}");
    }
}

/// §3.2.4: "The "asterisk-form" of request-target is only used for a server-wide OPTIONS request".
#[test]
fn asterisk_form() {
    assert_eq!(request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").expect("accepted").target(), b"*");
    assert_eq!(target("*").err(), Some(Error::Target));
}

/// "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that
/// lacks a Host header field and to any request message that contains more than one Host header
/// field line or a Host header field with an invalid field value." A missing one is
/// left to the connection manager.
#[test]
fn a_host_that_is_repeated_or_invalid_is_rejected() {
    let host = |host: &str| request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for text in [
        "", "a b", "a,b", "u@h", "a/b", "h:x", ":80", "::1", "[::1", "[::1]x", "[zz]", "a\\b",
        "h#x", "h?x", "h:80:80", "\u{e9}.x", "a\"b", "h:-1",
    ] {
        let error = host(text).expect_err(text);
        assert_eq!(
            (error, error.details()),
            (Error::Authority, "http.invalid_authority"),
            "{text}"
        );
    }
    for text in ["h", "h:80", "h:", "h.", "a_b", "a%41", "[::1]", "[::1]:80", "1.2.3.4", "*"] {
        assert_eq!(host(text).expect(text).authority(), Some(text.as_bytes()));
    }
    for second in ["a", "b"] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nHost: {second}\r\n\r\n");
        assert_eq!(request(&text).err(), Some(Error::Authority));
    }
}
