//! Which formats are accepted and what they show, as in Envoy 1.40.0.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::*;
use crate::access_log::entry_type::EntryType;
use crate::address::Address;
use crate::flags::{Flag, Flags};
use crate::http::{Fields, Version};
use crate::metadata::{Metadata, MetadataOf};
use crate::request::route::tests::{request, response};

struct Known;

impl StreamInfo for Known {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_465_566_754_321)
    }
    fn protocol(&self) -> Option<Version> {
        Some(Version::Http11)
    }
    fn response_code(&self) -> Option<u16> {
        Some(503)
    }
    fn response_code_details(&self) -> Option<&str> {
        Some("delayed connect error")
    }
    fn response_flags(&self) -> Flags {
        let mut flags = Flags::of(Flag::UpstreamRetryLimitExceeded);
        flags.set(Flag::UpstreamConnectionFailure);
        flags
    }
    fn bytes_sent(&self) -> u64 {
        91
    }
    fn duration(&self) -> Option<Duration> {
        Some(Duration::from_micros(2_700))
    }
    fn upstream_host(&self) -> Option<Address> {
        Some(([10, 0, 0, 1], 8080).into())
    }
    fn upstream_remote_address(&self) -> Option<Address> {
        self.upstream_host()
    }
    fn upstream_cluster(&self) -> Option<&str> {
        Some("echo")
    }
    fn downstream_remote_address(&self) -> Option<Address> {
        Some(([127, 0, 0, 1], 4711).into())
    }
    fn downstream_local_address(&self) -> Option<Address> {
        Some("[2001:db8::ff:1]:443".parse::<std::net::SocketAddr>().unwrap().into())
    }
    fn request_duration(&self) -> Option<Duration> {
        Some(Duration::from_micros(1_500))
    }
    fn response_duration(&self) -> Option<Duration> {
        Some(Duration::from_micros(2_000))
    }
    fn response_tx_duration(&self) -> Option<Duration> {
        Some(Duration::from_micros(700))
    }
    fn listener_name(&self) -> Option<&str> {
        Some("edge")
    }
    fn filter_chain_name(&self) -> Option<&str> {
        Some("")
    }
    fn upstream_protocol(&self) -> Option<Version> {
        Some(Version::Http2)
    }
    fn upstream_connection_id(&self) -> Option<u64> {
        Some(7)
    }
    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        static CLUSTER: LazyLock<Metadata> = LazyLock::new(|| {
            let values = serde_json::json!({
                "text": "a\"b", "number": 1.5, "big": 100_000, "nothing": null, "empty": "",
                "deep": { "z": [1, "x", true], "a": {} },
            });
            Metadata::new([("ns", values)])
        });
        (of == MetadataOf::Cluster).then(|| &*CLUSTER)
    }
}

struct Nothing;

impl StreamInfo for Nothing {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

fn shown(format: &str, stream: &dyn StreamInfo, unset: Unset) -> String {
    let request = request("/p?a=1&b&c=x%20y", &["x-a: first", "x-a: second"]);
    let response = response(200, &["x-r: answer"]);
    let mut trailers = Fields::default();
    trailers.append_other(b"x-t", b"trailer");
    let inputs = Inputs {
        request: Some(&request),
        response: Some(&response),
        trailers: Some(&trailers),
        entry_type: EntryType::DownstreamEnd,
        local_reply_body: b"because",
        ..Inputs::new(stream)
    };
    let mut out = Vec::new();
    Formatter::new(format).unwrap().format(&inputs, unset, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_server_name_that_is_no_host_name_is_marked_and_ends_no_line() {
    struct Forger;
    impl StreamInfo for Forger {
        fn start_time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
        fn requested_server_name(&self) -> Option<&str> {
            Some("a\nb_c\"")
        }
    }
    for command in ["%REQUESTED_SERVER_NAME%", "%REQUESTED_SERVER_NAME(SNI_FIRST)%"] {
        assert_eq!(shown(command, &Forger, Unset::Dash), "invalid:a_b_c_", "{command}");
    }
    assert_eq!(shown("%REQUESTED_SERVER_NAME(HOST_FIRST)%", &Forger, Unset::Dash), "t.test");
}

#[test]
fn commands_show_their_values() {
    for (format, text) in [
        ("plain", "plain"),
        ("100%%", "100%"),
        ("%REQ(:METHOD)% %REQ(:path)% %PROTOCOL%", "GET /p?a=1&b&c=x%20y HTTP/1.1"),
        ("%REQ(X-A)%", "first"),
        ("%REQ(x-none?x-a)%", "first"),
        ("%REQ(x-a):3%|%REQ(x-a):0%|%REQ(x-a):99%", "fir||first"),
        ("%REQ(:authority)%%RESP(x-r)%%RESP(:status)%", "t.testanswer200"),
        ("%RESPONSE_CODE% %RESPONSE_FLAGS%", "503 URX,UF"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"),
        ("%RESPONSE_CODE_DETAILS%", "delayed_connect_error"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "delayed connect error"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "0 91 2"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", "10.0.0.1:8080 echo"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "10.0.0.1 8080"),
        ("%UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%", "10.0.0.1:8080 10.0.0.1"),
        ("%ENVIRONMENT(CORVOY_IS_NOT_SET)%", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "127.0.0.1:4711"),
        ("%QUERY_PARAM(a)%|%QUERY_PARAM(b)%|%QUERY_PARAM(c)%", "1||x y"),
        ("%QUERY_PARAMS%", "a=1&b&c=x%20y"),
        ("%PATH(NQ)% %PATH(NQ:PATH)% %PATH(NQ:PATH:x)%", "/p /p /p"),
        ("%QUERY_PARAMS(ORIG)% %QUERY_PARAMS(DECODED):5%", "a=1&b&c=x%20y a=1&b"),
        ("%LOCAL_REPLY_BODY%", "because"),
        ("%START_TIME%", "2026-11-23T20:26:06.754Z"),
        ("%START_TIME(%s.%3f)%", "1795465566.754"),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z %6f)%", "2026/11/23T20:26:06+0000 754321"),
        ("%START_TIME(%H:%M:%E3S)%", "20:26:06.754"),
        ("%START_TIME(%f %E*S %Q %E)%", "754321000 06.754321 %Q %E"),
        ("%START_TIME(%c|%x|%X|%r)%", "Mon Nov 23 20:26:06 2026|11/23/26|20:26:06|08:26:06 PM"),
        ("%START_TIME(%a %A %b %B %h %C %D)%", "Mon Monday Nov November Nov 20 11/23/26"),
        ("%START_TIME(%e %F %g %G %I %j %k %l %P %p)%", "23 2026-11-23 26 2026 08 327 20  8 pm PM"),
        ("%START_TIME(%R %T %u %U %V %w %W %y %Z %%)%", "20:26 20:26:06 1 47 48 1 47 26 UTC %"),
        ("%START_TIME(%z %Ez %E*z %:z %::z %:::z)%", "+0000 +00:00 +00:00:00 +00:00 +00:00:00 +00"),
        ("%START_TIME(%-e %_d %^a %5Y %05d %3S)%", "23 23 MON 02026 00023 006"),
        (
            "%START_TIME(%EY %Ec %EC %Ed %Od %OY %E4Y %E5Y)%",
            "2026 Mon Nov 23 20:26:06 2026 20 %Ed 23 %OY 2026 %E5Y",
        ),
        (
            "%START_TIME(%E0S %E2S %E12S %E99S %E1025S)%",
            "06 06.75 06.754321000000 06.754321000000000000 %E1025S",
        ),
        ("%START_TIME(%E3f %E0f %E*f %ET %E3T %f3 %%3f)%", "754  754321 T %E3T 7543210003 %754"),
        ("%START_TIME(%N %q %i %0f %:a %! %é a%)%", "%N %q %i %0f %:a %! %é a%"),
    ] {
        assert_eq!(shown(format, &Known, Unset::Dash), text, "{format}");
    }
}

#[test]
fn commands_of_logs_show_their_values() {
    for (format, text) in [
        ("%TRAILER(x-t)% %RESPONSE_TRAILER(x-none?x-t):3%", "trailer tra"),
        ("%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES% %RESPONSE_TRAILERS_BYTES%", "75 19 10"),
        ("%ACCESS_LOG_TYPE%", "DownstreamEnd"),
        ("%STREAM_INFO_REQ(x-a):3%", "fir"),
        ("%LISTENER_NAME%|%FILTER_CHAIN_NAME%|%CUSTOM_FLAGS%", "edge||"),
        ("%BYTES_RETRANSMITTED% %PACKETS_RETRANSMITTED%", "0 0"),
        ("%TRACE_ID% %SPAN_ID% %ROUNDTRIP_DURATION%", "- - -"),
        ("%UPSTREAM_FILTER_STATE(any:FIELD:x):3%", "-"),
        ("%UPSTREAM_PROTOCOL% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%", "HTTP/2 7"),
        (
            "%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%",
            "10.0.0.1:8080 10.0.0.1",
        ),
        ("%UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%", "10.0.0.1"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)%", "127.0.0.0/8"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)%", "127.0.0.1/32"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%", "127.0.0.1"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(32)%", "2001:db8::/32"),
        (
            "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_PORT%",
            "[2001:db8::ff:1]:443 443",
        ),
        ("%DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%|%UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%", "|"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%", "2"),
        ("%COMMON_DURATION(DS_RX_END:US_RX_BEG:us)%", "500"),
        ("%COMMON_DURATION(US_RX_BEG:DS_TX_END:ns)%", "700000"),
        ("%COMMON_DURATION(US_RX_BEG:DS_RX_END:us)% %COMMON_DURATION(a:b)%", "- -"),
        ("%CLUSTER_METADATA(ns:text)% %METADATA(CLUSTER:ns:deep):8%", "a\"b {\"a\":{},"),
        (
            "%METADATA(CLUSTER:ns:nothing)%|%CLUSTER_METADATA(ns:empty)%|%METADATA(ROUTE:ns)%",
            "-||-",
        ),
        (
            r#"%COALESCE({"operators": ["ROUTE_NAME", {"command": "REQ", "param": "x-a", "max_length": 3}]}):2%"#,
            "fi",
        ),
        (r#"%COALESCE({"operators": ["ROUTE_NAME"]})%"#, "-"),
    ] {
        assert_eq!(shown(format, &Known, Unset::Dash), text, "{format}");
    }
}

#[test]
fn a_query_parameter_cannot_end_a_header() {
    let request = request("/?a=%0d%0Ax:%20y%00%09%7f", &[]);
    let inputs = Inputs { request: Some(&request), ..Inputs::new(&Nothing) };
    let mut out = Vec::new();
    Formatter::new("%QUERY_PARAM(a)%").unwrap().format(&inputs, Unset::Empty, &mut out);
    assert_eq!(out, b"%0d%0Ax: y%00\t%7f");
}

#[test]
fn a_missing_value_is_a_dash_in_logs_and_empty_in_headers() {
    let format = "%REQ(x-none)%|%UPSTREAM_HOST%|%ROUTE_NAME%|%QUERY_PARAM(z)%|%DURATION%";
    assert_eq!(shown(format, &Nothing, Unset::Dash), "-|-|-|-|-");
    assert_eq!(shown(format, &Nothing, Unset::Empty), "||||");
    let format = "%RESPONSE_CODE% %RESPONSE_FLAGS%";
    assert_eq!(shown(format, &Nothing, Unset::Empty), "0 -", "these two always have a value");
}

#[test]
fn what_envoy_rejects_is_rejected_with_its_message() {
    let at = |format: &str, position: usize| {
        format!(
            "Incorrect configuration: {format}. Couldn't find valid command at position {position}"
        )
    };
    for format in [
        "%",
        "%a%",
        "%NOPE",
        "%REQ(a):%",
        "%REQ(a):x%",
        "%REQ(a)",
        "%REQ(a)x%",
        "% PROTOCOL%",
        "%REQ(a\n)%",
    ] {
        assert_eq!(Formatter::new(format).unwrap_err(), at(format, 0));
    }
    assert_eq!(Formatter::new("%REQ(a)%x%").unwrap_err(), at("%REQ(a)%x%", 9));
    for (format, error) in [
        ("%NOPE%", "Not supported field in StreamInfo: NOPE"),
        ("%REQ%", "REQ requires parameters"),
        ("%REQ()%", "REQ requires parameters"),
        ("%QUERY_PARAM%", "QUERY_PARAM requires parameters"),
        ("%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"),
        ("%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(a)b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%CLUSTER_METADATA(x):3%", "CLUSTER_METADATA does not allow length to be specified."),
        ("%METADATA(x:y)%", "x is not supported type of metadata"),
        ("%COMMON_DURATION(x)%", "Invalid common duration configuration: x."),
        ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END:s)%", "Invalid common duration precision: s."),
        ("%UPSTREAM_FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
        (r#"%COALESCE({"x": 1})%"#, "COALESCE: JSON configuration must contain 'operators' array"),
        (r#"%COALESCE({"operators": []})%"#, "COALESCE: 'operators' array must not be empty"),
        (
            r#"%COALESCE({"operators": ["PROTOCOL", "REQ"]})%"#,
            "COALESCE: failed to parse operator at index 1: REQ requires parameters",
        ),
        (
            r#"%COALESCE({"operators": [{"command": "REQ", "param": "a", "max_length": 0}]})%"#,
            "COALESCE: failed to parse operator at index 0: 'max_length' must be a positive integer",
        ),
        (r#"%COALESCE({"operators": ["PROTOCOL"], "x": 1})%"#, "COALESCE: unknown field 'x'"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%START_TIME(a %_3En)%", "Invalid header configuration. Format string contains newline."),
        ("%START_TIME:3%", "START_TIME does not allow length to be specified."),
        ("%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"),
        ("%REQ(:)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(a?:)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%LOCAL_REPLY_BODY(x)%", "LOCAL_REPLY_BODY does not take any parameters or length"),
        (
            "%QUERY_PARAMS(X)%",
            "Invalid QUERY_PARAMS option: 'X', only 'ORIG'/'DECODED' are allowed",
        ),
        ("%PATH(X)%", "Invalid PATH option: 'X', only 'WQ'/'NQ' are allowed"),
        ("%PATH(WQ:X)%", "Invalid PATH option: 'X', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"),
        (
            "%GRPC_STATUS(X)%",
            "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: X",
        ),
    ] {
        assert_eq!(Formatter::new(format).unwrap_err(), error);
    }
}

#[test]
fn unsupported_commands_are_reported_as_such() {
    for (format, name) in [
        ("%DOWNSTREAM_CX_RTT%", "DOWNSTREAM_CX_RTT"),
        ("%ROUTE_RESOLUTION_COUNT%", "ROUTE_RESOLUTION_COUNT"),
    ] {
        assert_eq!(
            Formatter::new(format).unwrap_err(),
            format!("{name} is a valid Envoy command, not implemented by Corvoy")
        );
    }
}

fn json(format: &serde_json::Value, omit_empty: bool, stream: &dyn StreamInfo) -> String {
    let request = request("/p", &["x-a: first", "x-q: h\u{e9}\"\\\t</>"]);
    let inputs = Inputs { request: Some(&request), ..Inputs::new(stream) };
    let mut out = Vec::new();
    JsonFormatter::new(format, omit_empty, Extensions::default())
        .unwrap()
        .format(&inputs, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn values_keep_their_types_in_json() {
    let format = serde_json::json!({
        "a": "%CLUSTER_METADATA(ns:deep)%", "b": "%CLUSTER_METADATA(ns:text)%", "c": "%CLUSTER_METADATA(ns:number)%",
        "d": "x%CLUSTER_METADATA(ns:deep)%", "e": "%METADATA(CLUSTER:ns:text):1%", "f": "%METADATA(CLUSTER:ns:deep):1%",
        "g": r#"%COALESCE({"operators": ["ROUTE_NAME", "BYTES_SENT"]}):1%"#,
        "h": r#"%COALESCE({"operators": ["ROUTE_NAME", "PROTOCOL"]}):2%"#, "i": "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
        "j": "%METADATA(CLUSTER:ns:big)%", "k": "%METADATA(CLUSTER:ns:nothing)%", "l": "%REQUEST_DURATION%",
    });
    assert_eq!(
        json(&format, false, &Known),
        "{\"a\":{\"a\":{},\"z\":[1,\"x\",true]},\"b\":\"a\\\"b\",\"c\":1.5,\
         \"d\":\"x{\\\"a\\\":{},\\\"z\\\":[1,\\\"x\\\",true]}\",\"e\":\"a\",\"f\":{\"a\":{},\"z\":[1,\"x\",true]},\
         \"g\":91,\"h\":\"HT\",\"i\":1500,\"j\":1e+05,\"k\":null,\"l\":1}\n"
    );
}

#[test]
fn req_without_query_is_there_if_its_formatter_is() {
    let format = "%REQ_WITHOUT_QUERY(x-none?:path)%|%REQ_WITHOUT_QUERY(:PATH):1%|%REQ_WITHOUT_QUERY(x-none)%";
    let error = Formatter::new(format).unwrap_err();
    assert_eq!(error, "Not supported field in StreamInfo: REQ_WITHOUT_QUERY");
    let request = request("/p?a=1", &[]);
    let inputs = Inputs { request: Some(&request), ..Inputs::new(&Nothing) };
    let mut out = Vec::new();
    let formatter = Formatter::with(format, Extensions { req_without_query: true }).unwrap();
    formatter.format(&inputs, Unset::Dash, &mut out);
    assert_eq!(out, b"/p|/|-");
}

#[test]
fn expressions_are_commands() {
    let format = serde_json::json!({
        "a": "%CEL(1 + (2 * 3))%", "b": "%TYPED_CEL(1 + 1)%", "c": "%CEL(request.nope)%",
        "d": "x%TYPED_CEL({'a': 1})%", "e": "%TYPED_CEL(request.path):1%", "f": "%CEL(request.path):1%",
    });
    assert_eq!(
        json(&format, false, &Known),
        "{\"a\":\"7\",\"b\":2,\"c\":null,\"d\":\"xCelMap value\",\"e\":\"/\",\"f\":\"/\"}\n"
    );
}

#[test]
fn a_unique_id_is_another_uuid_each_time() {
    let id = || shown("%UNIQUE_ID%", &Nothing, Unset::Dash);
    let (first, second) = (id(), id());
    assert_ne!(first, second);
    assert_eq!(first.len(), 36);
    assert_eq!(first.as_bytes()[14], b'4');
}

/// In the time zone of the machine.
#[test]
fn local_times_have_their_offset() {
    let shown = shown("%START_TIME_LOCAL(%s)% %START_TIME_LOCAL%", &Known, Unset::Dash);
    let (seconds, local) = shown.split_once(' ').unwrap();
    assert_eq!(seconds, "1795465566");
    let local: jiff::Timestamp = local.parse().unwrap();
    assert_eq!(local.as_second(), 1_795_465_566);
}

/// Recorded from Envoy 1.40.0.
#[test]
fn json_has_sorted_keys_and_typed_values() {
    let format = serde_json::json!({
        "z": "text %PROTOCOL% x",
        "u": "%REQ(x-q)%",
        "code": "%RESPONSE_CODE%",
        "none": "%REQ(x-none)%",
        "short": "%REQ(x-a):3%",
        "a": {"n": "%BYTES_SENT%", "l": ["%PROTOCOL%", 5, 100_000, 120_000, true, null, 1.5, "q\"\\\u{e9}\n\u{1}"]},
    });
    assert_eq!(
        json(&format, false, &Known),
        "{\"a\":{\"l\":[\"HTTP/1.1\",5,1e+05,120000,true,null,1.5,\"q\\\"\\\\\u{e9}\\n\\u0001\"],\"n\":91},\
         \"code\":503,\"none\":null,\"short\":\"fir\",\
         \"u\":\"h\u{e9}\\\"\\\\\\t</>\",\"z\":\"text HTTP/1.1 x\"}\n"
    );
}

#[test]
fn json_omits_empty_values_if_configured() {
    let format = serde_json::json!({
        "none": "%REQ(x-none)%", "mix": "a %REQ(x-none)% b", "there": "%REQ(x-a)%", "nul": null,
        "nest": {"n": "%REQ(x-none)%"}, "list": ["%REQ(x-none)%", "x", null], "empty": "", "o3": {},
        "l4": [{"a": "%REQ(x-none)%"}], "two": "%REQ(x-none)%%REQ(x-none)%", "rc": "%RESPONSE_CODE%", "short": "%BYTES_SENT%%%",
    });
    assert_eq!(
        json(&format, true, &Nothing),
        "{\"empty\":\"\",\"l4\":[],\"list\":[\"x\"],\"mix\":\"a  b\",\"rc\":0,\"short\":\"0%\",\"there\":\"first\",\"two\":\"\"}\n"
    );
    assert_eq!(
        json(&format, false, &Nothing),
        "{\"empty\":\"\",\"l4\":[{\"a\":null}],\"list\":[null,\"x\",null],\"mix\":\"a - b\",\"nest\":{\"n\":null},\
         \"none\":null,\"nul\":null,\"o3\":{},\"rc\":0,\"short\":\"0%\",\"there\":\"first\",\"two\":\"--\"}\n"
    );
}

#[test]
fn invalid_utf_8_is_shown_byte_by_byte() {
    let mut request = request("/", &[]);
    request.fields.append_other(b"x-bin", b"a\xff\xc3\"\\");
    let inputs = Inputs { request: Some(&request), ..Inputs::new(&Nothing) };
    let format = serde_json::json!({"bin": "%REQ(x-bin)%"});
    let mut out = Vec::new();
    JsonFormatter::new(&format, false, Extensions::default()).unwrap().format(&inputs, &mut out);
    assert_eq!(out, b"{\"bin\":\"a\\u00ff\\u00c3\\u0022\\u005c\"}\n");
}

/// Recorded from Envoy 1.40.0: the pieces of a string are escaped one by one.
#[test]
fn invalid_utf_8_in_one_piece_of_a_string_leaves_the_others() {
    let mut request = request("/?a=%0a%0d%00b%22%ff", &["x-good: \u{e9}\t\u{2028}"]);
    request.fields.append_other(b"x-bad", b"a\xff\"");
    let inputs = Inputs { request: Some(&request), ..Inputs::new(&Nothing) };
    let format = serde_json::json!({
        "a": "\u{e9}%REQ(x-bad)%y%REQ(x-good)%%REQ(x-none)%", "b": "%REQ(x-good):1%"
    });
    let mut out = Vec::new();
    JsonFormatter::new(&format, false, Extensions::default()).unwrap().format(&inputs, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"a\":\"\u{e9}a\\u00ff\\u0022y\u{e9}\\t\u{2028}-\",\"b\":\"\\u00c3\"}\n"
    );
}

proptest::proptest! {
    /// Whatever a client sends.
    #[test]
    fn every_line_of_json_is_json(
        value in proptest::collection::vec(0..=255_u8, 0..40),
        length in 0..20_usize,
    ) {
        let mut request = request("/", &[]);
        request.fields.append_other(b"x-v", &value);
        let inputs = Inputs { request: Some(&request), ..Inputs::new(&Nothing) };
        let format = serde_json::json!({
            "alone": "%REQ(x-v)%", "cut": format!("%REQ(x-v):{length}%"),
            "list": ["\u{e9} %REQ(x-v)% %REQ(x-v):3%"],
        });
        let mut out = Vec::new();
        JsonFormatter::new(&format, false, Extensions::default()).unwrap().format(&inputs, &mut out);
        let (&end, line) = out.split_last().unwrap();
        proptest::prop_assert_eq!(end, b'\n');
        proptest::prop_assert!(line.iter().all(|byte| !byte.is_ascii_control() || *byte == 0x7f));
        let parsed: serde_json::Value = serde_json::from_slice(line).unwrap();
        if let Ok(text) = std::str::from_utf8(&value) {
            proptest::prop_assert_eq!(parsed["alone"].as_str(), Some(text));
        } else {
            let bytes: String = value.iter().copied().map(char::from).collect();
            proptest::prop_assert_eq!(parsed["alone"].as_str(), Some(&*bytes));
        }
    }
}

/// The list in COMPATIBILITY.md.
#[test]
fn the_documented_commands_are_supported() {
    let page = include_str!("../../../docs/COMPATIBILITY.md");
    let (_, documented) = page.split_once("Format strings support these commands").unwrap();
    let (documented, _) = documented.split_once("\n\n").unwrap();
    let names: Vec<&str> = documented.split('`').skip(1).step_by(2).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let bare = Formatter::new(&format!("%{name}%"));
        let parameter = match name {
            "COALESCE" => r#"{"operators": ["PROTOCOL"]}"#,
            "COMMON_DURATION" => "DS_RX_BEG:DS_RX_END",
            "FILTER_STATE" => "envoy.network.proxy_protocol.tlv",
            "METADATA" => "CLUSTER:x",
            _ => "x",
        };
        let given = || Formatter::new(&format!("%{name}({parameter})%"));
        assert!(bare.is_ok() || given().is_ok(), "{name}");
    }
}
