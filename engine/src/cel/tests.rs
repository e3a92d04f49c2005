//! What expressions are worth, as in Envoy 1.40.0: recorded from it, but for the names of functions.

use std::time::{Duration, SystemTime};

use super::*;
use crate::address::Address;
use crate::flags::{Flag, Flags};
use crate::format::stream_info::StreamInfo;
use crate::http::Version;
use crate::listener_facts::ListenerFacts;
use crate::metadata::{Metadata, MetadataOf};
use crate::request::route::tests::{request, response};

struct Known(Metadata);

impl StreamInfo for Known {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_465_566_754_321)
    }
    fn duration(&self) -> Option<Duration> {
        Some(Duration::from_micros(23_701))
    }
    fn protocol(&self) -> Option<Version> {
        Some(Version::Http11)
    }
    fn response_code(&self) -> Option<u16> {
        Some(200)
    }
    fn response_flags(&self) -> Flags {
        let mut flags = Flags::of(Flag::UpstreamRetryLimitExceeded);
        flags.set(Flag::UpstreamConnectionFailure);
        flags
    }
    fn bytes_received(&self) -> u64 {
        3
    }
    fn downstream_remote_address(&self) -> Option<Address> {
        Some(([127, 0, 0, 1], 4711).into())
    }
    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        (of == MetadataOf::Cluster).then_some(&self.0)
    }
}

fn shown(expression: &str) -> (Option<String>, Option<String>) {
    let metadata = serde_json::json!({ "k": "v", "n": 1.5, "l": [1, null, true] });
    let stream = Known(Metadata::new([("cm", metadata)]));
    let request = request("/a?b=c", &["x-a: 1", "x-a: 2", "user-agent: t"]);
    let response = response(200, &["x-r: y"]);
    let inputs =
        Inputs { request: Some(&request), response: Some(&response), ..Inputs::new(&stream) };
    let program = Program::new(expression).expect(expression);
    let text = |written: Option<()>, out| written.map(|()| String::from_utf8(out).unwrap());
    let mut out = Vec::new();
    let written = program.write(&inputs, &mut out);
    let plain = text(written, out);
    let mut out = Vec::new();
    let written = program.write_json(&inputs, None, &mut out);
    (plain, text(written, out))
}

#[test]
fn no_value_ends_the_line_that_it_is_written_to() {
    struct Forger(ListenerFacts);
    impl StreamInfo for Forger {
        fn start_time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
        fn requested_server_name(&self) -> Option<&str> {
            Some("a\nb\"")
        }
        fn dynamic_metadata(&self) -> Option<&Metadata> {
            Some(&self.0.metadata)
        }
    }
    let mut facts = ListenerFacts::default();
    facts.metadata.set("ns", "authority", "a\n\x1bb");
    let forger = Forger(facts);
    for (expression, text, json) in [
        ("connection.requested_server_name", "invalid:a_b_", "\"invalid:a_b_\""),
        ("metadata.filter_metadata['ns']['authority']", "a\\0A\\1Bb", "\"a\\n\\u001bb\""),
    ] {
        let (program, inputs) = (Program::new(expression).unwrap(), Inputs::new(&forger));
        let (mut plain, mut quoted) = (Vec::new(), Vec::new());
        program.write(&inputs, &mut plain).unwrap();
        program.write_text_as_json(&inputs, None, &mut quoted).unwrap();
        assert_eq!(String::from_utf8(plain).unwrap(), text);
        assert_eq!(String::from_utf8(quoted).unwrap(), json);
    }
}

#[test]
fn values_are_shown_as_text_and_as_json() {
    for (expression, text, json) in [
        ("request.path", "/a?b=c", r#""/a?b=c""#),
        ("request.url_path", "/a", r#""/a""#),
        ("request.query", "b=c", r#""b=c""#),
        ("request.host", "t.test", r#""t.test""#),
        ("request.useragent", "t", r#""t""#),
        ("request.time", "2026-11-23T20:26:06.754321+00:00", r#""2026-11-23T20:26:06.754321Z""#),
        ("request.duration", "23.701ms", r#""0.023701s""#),
        ("request.size", "3", "3"),
        ("request.headers['x-a']", "1,2", r#""1,2""#),
        ("request.headers['X-A']", "1,2", r#""1,2""#),
        ("request.headers[':path']", "/a?b=c", r#""/a?b=c""#),
        ("request['path']", "/a?b=c", r#""/a?b=c""#),
        ("response.code", "200", "200"),
        ("response.flags", "32800", "32800"),
        ("response.headers['x-r']", "y", r#""y""#),
        ("response.trailers", "CelMap value", "{}"),
        ("source.address", "127.0.0.1:4711", r#""127.0.0.1:4711""#),
        ("source.port", "4711", "4711"),
        ("connection.mtls", "false", "false"),
        ("metadata.filter_metadata", "CelMap value", "{}"),
        ("xds.cluster_metadata.filter_metadata['cm']['k']", "v", r#""v""#),
        (
            "xds.cluster_metadata.filter_metadata",
            "CelMap value",
            r#"{"cm":{"k":"v","l":[1,null,true],"n":1.5}}"#,
        ),
        ("has(request.path)", "true", "true"),
        ("has(request.nope)", "false", "false"),
        ("has(request.headers.nope)", "false", "false"),
        ("request.headers.nope == 'a' || true", "true", "true"),
        ("request.duration < duration('1s')", "true", "true"),
        ("request.time.getFullYear()", "2026", "2026"),
        ("request.path.startsWith('/a') && request.path.matches('b=')", "true", "true"),
        ("duration('90061.5s')", "25h1m1.5s", r#""90061.500s""#),
        ("duration('0s')", "0", r#""0s""#),
        ("duration('-1.5s')", "-1.5s", r#""-1.500s""#),
        (
            "timestamp('2020-01-01T00:00:00.5Z')",
            "2020-01-01T00:00:00.5+00:00",
            r#""2020-01-01T00:00:00.500Z""#,
        ),
        ("b'a\\xff'.size()", "2", "2"),
        ("b'ab'", "ab", r#""YWI=""#),
        ("[1, 2]", "CelList value", "[1,2]"),
        ("{'a': [1, true, null, 1.5, 'x']}", "CelMap value", r#"{"a":[1,true,null,1.5,"x"]}"#),
        ("null", "NULL", "null"),
        ("1.0 / 3.0", "0.333333", "0.3333333333333333"),
        ("123456789.0", "1.23457e+08", "123456789"),
        ("100000.0", "100000", "1e+05"),
        ("1.0e-7", "1e-07", "1e-07"),
        ("18446744073709551615u", "18446744073709551615", "18446744073709551616"),
        ("-7 / 2", "-3", "-3"),
        ("5 > 3 ? 'y' : 'n'", "y", r#""y""#),
        ("1 == 1.0", "true", "true"),
        ("'x' in ['x']", "true", "true"),
    ] {
        let expected = (Some(text.to_owned()), Some(json.to_owned()));
        assert_eq!(shown(expression), expected, "{expression}");
    }
    assert_eq!(shown("type(1)"), (Some("CelType value".to_owned()), None));
}

#[test]
fn an_attribute_without_a_value_leaves_none() {
    for expression in [
        "request.nope",
        "request.referer",
        "nope",
        "x.y.z",
        "upstream.address",
        "1 + 'a'",
        "7 / 0",
        "[1, 2][5]",
        "request.headers.nope",
        "connection.tls_version",
        "response.code + 'x'",
    ] {
        assert_eq!(shown(expression), (None, None), "{expression}");
    }
}

#[test]
fn only_true_holds() {
    let stream = Known(Metadata::default());
    let holds = |text: &str| Program::new(text).unwrap().holds(&Inputs::new(&stream));
    assert!(holds("response.code == 200"));
    for not in ["response.code == 404", "'x'", "1", "request.nope == 1", "null"] {
        assert!(!holds(not), "{not}");
    }
}

#[test]
fn what_envoy_refuses_is_refused_when_it_is_loaded() {
    for (expression, error) in [
        ("", "invalid expression"),
        ("1 +", "invalid expression"),
        ("foo(1)", "there is no function 'foo'"),
        ("'a'.lowerAscii()", "there is no function 'lowerAscii'"),
        ("string(1)", "there is no function 'string'"),
        ("[1].exists(x, x > 0)", "comprehensions"),
        ("[1].map(x, x)", "comprehensions"),
        ("optional.of(1)", "there is no function 'of'"),
        ("'a'.matches('[')", "invalid regular expression"),
        ("upstream.locality.zone", "'upstream.locality' is not implemented by Corvoy"),
        ("filter_state['a']", "'filter_state' is not implemented by Corvoy"),
    ] {
        let found = Program::new(expression).map(drop).unwrap_err();
        assert!(found.contains(error), "{expression}: {found}");
    }
}

proptest::proptest! {
    /// A configuration is text that somebody has written.
    #[test]
    fn no_text_panics(text in "[a-z.\\[\\]()'\" 0-9+*/%<>=!&|?:,{}-]{0,40}") {
        let stream = Known(Metadata::default());
        if let Ok(program) = Program::new(&text) {
            let _value = program.write(&Inputs::new(&stream), &mut Vec::new());
        }
    }
}
