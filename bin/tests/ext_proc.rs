//! `ext_proc` with a processor over gRPC, which is the real `grpcio` (`ext_proc/service.py`).
//!
//! The package is in `.venv` at the root of the repository, otherwise the tests print SKIPPED.

use serde_json::Value;

use crate::grpc::{HTTP2, protocols};
use crate::support::{Config, Message, Origin, Proxy, Service};

#[test]
fn a_processor_sees_heads() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy =
        proxy_asking(&processor, &origin, "request_attributes: [request.path, request.size]");
    assert_eq!(ask(&proxy, "see", "").status(), 200);
    let request = processor.told();
    assert_eq!(request["part"], "request_headers");
    assert_eq!(request["end"], true);
    assert_eq!(request["headers"][":authority"], "example");
    assert_eq!(request["headers"][":path"], "/a?b=c");
    assert_eq!(request["headers"][":method"], "GET");
    assert_eq!(request["headers"][":scheme"], "http");
    assert_eq!(request["headers"]["x-mine"], "me");
    assert_eq!(request["headers"].get("host"), None);
    assert_eq!(request["values"].as_object().unwrap().len(), 0);
    assert!(request["attributes"].as_str().unwrap().contains("request.path"));
    assert!(request["attributes"].as_str().unwrap().contains("/a?b=c"));
    assert_eq!(request["context"], "");
    assert_eq!(request["protocol"].as_array().unwrap().len(), 0);
    assert_eq!(request["metadata"].get("grpc-timeout"), None);
    let response = processor.told();
    assert_eq!(response["part"], "response_headers");
    assert_eq!(response["headers"][":status"], "200");
    assert_eq!(response["end"], false);
    assert_eq!(response.get("protocol"), None);
    assert_eq!(response.get("attributes"), None);
    for (stat, count) in
        [("streams_started", 1), ("stream_msgs_sent", 2), ("stream_msgs_received", 2)]
    {
        assert_eq!(proxy.stat(&format!("http.front.ext_proc.{stat}")), count, "{stat}");
    }
    proxy.stat_becomes("http.front.ext_proc.streams_closed", 1);
    assert_eq!(proxy.stat("http.front.ext_proc.streams_failed"), 0);
}

#[test]
fn a_processor_changes_heads() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    let response =
        ask(&proxy, "change", "x-set: mine\r\nx-set: twice\r\nx-added: 1\r\nx-gone: 1\r\n");
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("x-answer").as_deref(), Some("1"));
    let seen = origin.saw();
    assert_eq!(seen.values("x-set"), ["by-processor"]);
    assert_eq!(seen.values("x-added"), ["1", "2"]);
    assert_eq!(seen.header("x-absent").as_deref(), Some("1"));
    // As in Envoy, `append_action` does not count.
    assert_eq!(seen.values("x-mine"), ["never"]);
    assert_eq!(seen.header("x-gone"), None);
    assert_eq!(ask(&proxy, "status", "").status(), 201);
    assert_eq!(ask(&proxy, "value", "x-set: mine\r\n").status(), 200);
    assert_eq!(origin.seen()[2].values("x-set"), [""]);
}

#[test]
fn headers_that_the_rules_do_not_allow_stay() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    assert_eq!(ask(&proxy, "routing", "").status(), 200);
    let seen = origin.saw();
    assert_eq!(seen.header("host").as_deref(), Some("example"));
    assert_eq!(seen.header("x-envoy-a"), None);
    assert_eq!(proxy.stat("http.front.ext_proc.rejected_header_mutations"), 2);
    let injected = ask(&proxy, "inject", "");
    assert_eq!(injected.status(), 500);
    assert_eq!(proxy.stat("http.front.ext_proc.rejected_header_mutations"), 3);
    assert_eq!(ask(&proxy, "blank", "").status(), 500);
    assert_eq!(ask(&proxy, "no-path", "").status(), 500);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(ask(&proxy, "connection", "").status(), 200);
    assert_eq!(origin.seen()[1].header("te"), None);
    assert_eq!(origin.seen()[1].header("connection"), None);
    let strict = proxy_asking(&processor, &origin, "mutation_rules: { disallow_is_error: true }");
    assert_eq!(ask(&strict, "routing", "").status(), 500);
}

#[test]
fn a_processor_replies_itself() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    let denied = ask(&proxy, "deny", "");
    assert_eq!((denied.status(), denied.text()), (429, "slow down".into()));
    assert_eq!(denied.header("x-why").as_deref(), Some("you"));
    assert_eq!(denied.header("content-type").as_deref(), Some("text/html"));
    assert_eq!(ask(&proxy, "plain", "").status(), 200);
    let grpc = ask(&proxy, "deny-grpc", "content-type: application/grpc\r\n");
    assert_eq!(grpc.header("grpc-status").as_deref(), Some("7"));
    assert_eq!(origin.seen().len(), 0);
    let denied = ask(&proxy, "deny-response", "");
    assert_eq!((denied.status(), denied.text()), (429, "slow down".into()));
    let disabled = proxy_asking(&processor, &origin, "disable_immediate_response: true");
    assert_eq!(ask(&disabled, "deny", "").status(), 500);
    assert_eq!(disabled.stat("http.front.ext_proc.spurious_msgs_received"), 1);
}

#[test]
fn a_body_is_buffered_and_changed() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, BUFFERED);
    let response = post(&proxy, "longer", "abc");
    assert_eq!((response.status(), response.text()), (200, "a longer body".into()));
    assert_eq!(response.header("x-body").as_deref(), Some("seen"));
    let parts: Vec<Value> = (0..4).map(|_| processor.told()).collect();
    assert_eq!(parts[1]["part"], "request_body");
    assert_eq!((&parts[1]["body"], &parts[1]["end"]), (&"abc".into(), &true.into()));
    assert_eq!(parts[3]["part"], "response_body");
    let cleared = post(&proxy, "clear", "abc");
    assert_eq!(cleared.status(), 500, "{cleared:?}");
    assert_eq!(post(&proxy, "mismatch", "abc").status(), 500);
    assert_eq!(echoed(&post(&proxy, "upper", "abc")), "ABC");
}

#[test]
fn a_body_is_streamed_and_changed_part_by_part() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, STREAMED);
    assert_eq!(echoed(&post(&proxy, "upper", "abc")), "ABC");
    assert_eq!(post(&proxy, "clear", "abc").text(), "");
    let long = "ab".repeat(200_000);
    assert_eq!(echoed(&post(&proxy, "upper", &long)), long.to_uppercase());
    assert_eq!(echoed(&post(&proxy, "see", &long)), long);
    let denied = post(&proxy, "deny-body", "abc");
    assert_eq!((denied.status(), denied.text()), (429, "slow down".into()));
    let early = "send_body_without_waiting_for_header_response: true";
    let proxy = proxy_asking(&processor, &origin, &format!("{STREAMED}, {early}"));
    assert_eq!(echoed(&post(&proxy, "upper", &long)), long.to_uppercase());
}

#[test]
fn a_long_body_is_buffered_in_part() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy =
        proxy_with(&processor, &origin, PARTIAL, "per_connection_buffer_limit_bytes: 20000");
    let long = "ab".repeat(100_000);
    let upper = echoed(&post(&proxy, "upper", &long));
    assert_eq!(upper.to_lowercase(), long);
    assert!(upper.starts_with("ABAB") && upper.ends_with("abab"));
    assert_eq!(processor.told()["part"], "request_headers");
    let part = processor.told();
    assert_eq!(part["end"], false);
    assert!(part["size"].as_u64().unwrap() < 100_000);
    assert_eq!(echoed(&post(&proxy, "upper", "abc")), "ABC");
    let proxy =
        proxy_with(&processor, &origin, BUFFERED, "per_connection_buffer_limit_bytes: 20000");
    assert_eq!(post(&proxy, "upper", &long).status(), 413);
}

#[test]
fn a_processor_sends_a_body_in_full_duplex() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, DUPLEX);
    assert_eq!(echoed(&post(&proxy, "duplex", "abc")), "ABC");
    let long = "ab".repeat(200_000);
    assert_eq!(echoed(&post(&proxy, "duplex", &long)), long.to_uppercase());
}

#[test]
fn trailers_are_changed() {
    let Some(processor) = Service::start("ext_proc") else { return };
    for mode in [
        "",
        "request_body_mode: STREAMED, response_body_mode: STREAMED,",
        "request_body_mode: BUFFERED, response_body_mode: BUFFERED,",
    ] {
        let origin = Origin::that_says(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-trailer: a\r\nx-gone: 1\r\n\r\n",
        );
        let options = format!(
            "processing_mode: {{ {mode} request_trailer_mode: SEND, response_trailer_mode: SEND }}"
        );
        let proxy = proxy_asking(&processor, &origin, &options);
        let mut client = proxy.connect();
        client.send(
            "POST / HTTP/1.1\r\nhost: example\r\nx-do: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nx-trailer: a\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.text(), "abc", "{mode}");
        let canonical = String::from_utf8(response.canonical()).unwrap();
        assert!(canonical.contains("x-trailer: changed"), "{mode}: {canonical}");
        assert!(!canonical.contains("x-gone"), "{mode}: {canonical}");
        let seen = String::from_utf8(origin.saw().canonical()).unwrap();
        assert!(seen.contains("x-trailer: changed"), "{mode}: {seen}");
    }
}

#[test]
fn a_processor_that_fails_stops_the_request() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "status_on_error: { code: BadGateway }");
    assert_eq!(ask(&proxy, "abort", "").status(), 502);
    assert_eq!(ask(&proxy, "nonsense", "").status(), 502);
    assert_eq!(ask(&proxy, "hang", "").status(), 504);
    assert_eq!(proxy.stat("http.front.ext_proc.message_timeouts"), 1);
    assert_eq!(proxy.stat("http.front.ext_proc.streams_failed"), 2);
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(ask(&proxy, "abort-response_headers", "").status(), 502);
    // One that ends the stream has nothing to say about the request.
    assert_eq!(ask(&proxy, "close", "").status(), 200);
    assert_eq!(ask(&proxy, "spurious", "").status(), 502);
    assert_eq!(ask(&proxy, "empty", "").status(), 502);
    assert_eq!(proxy.stat("http.front.ext_proc.spurious_msgs_received"), 2);
    let allowed = proxy_asking(&processor, &origin, "failure_mode_allow: true");
    for what in ["abort", "hang", "nonsense", "spurious"] {
        assert_eq!(ask(&allowed, what, "").status(), 200, "{what}");
    }
    assert_eq!(allowed.stat("http.front.ext_proc.failure_mode_allowed"), 4);
    let echo = Origin::that_echoes();
    let streaming =
        proxy_asking(&processor, &echo, &format!("{STREAMED}, failure_mode_allow: true"));
    assert_eq!(echoed(&post(&streaming, "abort-request_body", "abc")), "abc");
    assert_eq!(echoed(&post(&streaming, "abort-response_body", "abc")), "abc");
}

#[test]
fn a_processor_asks_for_more_time() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy =
        proxy_asking(&processor, &origin, "max_message_timeout: 1s, message_timeout: 0.25s");
    assert_eq!(ask(&proxy, "more-time", "").status(), 200);
    assert_eq!(proxy.stat("http.front.ext_proc.override_message_timeout_received"), 2);
    let proxy = proxy_asking(&processor, &origin, "message_timeout: 0.25s");
    assert_eq!(ask(&proxy, "more-time", "").status(), 504);
    assert_eq!(proxy.stat("http.front.ext_proc.override_message_timeout_ignored"), 1);
}

#[test]
fn a_processor_replaces_messages() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, "");
    assert_eq!(post(&proxy, "replace", "abc").text(), "another answer");
    let seen = origin.saw();
    assert_eq!(seen.text(), "another body");
}

#[test]
fn what_is_replaced_stays_on_no_connection() {
    let Some(processor) = Service::start("ext_proc") else { return };
    // What it owes of its response is nobody else's response.
    let origin = Origin::that_stalls_after_headers();
    let proxy = proxy_asking(&processor, &origin, "");
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "replace", "").text(), "another answer");
    }
    assert_eq!(proxy.stat("cluster.service.upstream_cx_total"), 2);
    // What a client sends after its request was replaced is not its next request.
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    let mut client = proxy.connect();
    let head = "POST / HTTP/1.1\r\nhost: example\r\nx-do: replace\r\ncontent-length: 60\r\n\r\n";
    client.send(format!("{head}GET /smuggled HTTP/1.1\r\n"));
    let response = client.response();
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert_eq!(response.text(), "another answer");
    client.send("host: example\r\n\r\n");
    client.is_closed();
    assert!(origin.seen().iter().all(|request| !request.start_line.contains("smuggled")));
    // A response to HEAD has no body, whoever makes it.
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nhost: example\r\nx-do: replace\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 200);
    }
}

#[test]
fn a_processor_asks_for_another_mode() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, "allow_mode_override: true");
    assert_eq!(echoed(&post(&proxy, "buffer", "abc")), "abc");
    assert_eq!(processor.told()["part"], "request_headers");
    assert_eq!(processor.told()["part"], "request_body");
    assert_eq!(proxy.stat("http.front.ext_proc.stream_msgs_sent"), 2);
    // It would not see the end of a body with trailers.
    assert_eq!(echoed(&post(&proxy, "blind", "abc")), "abc");
    assert_eq!(processor.told()["part"], "request_headers");
    assert_eq!(processor.told()["part"], "response_headers");
    for options in [
        "allow_mode_override: true, allowed_override_modes: [{ request_body_mode: STREAMED }]",
        "allow_mode_override: false",
    ] {
        let proxy = proxy_asking(&processor, &origin, options);
        assert_eq!(echoed(&post(&proxy, "buffer", "abc")), "abc");
        assert_eq!(processor.told()["part"], "request_headers");
        assert_eq!(processor.told()["part"], "response_headers");
    }
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    // A body that is changed with its head still here is compared with what that says.
    let proxy = proxy_asking(&processor, &origin, "allow_mode_override: true");
    assert_eq!(post(&proxy, "partial", "abc").status(), 500);
    assert_eq!(post(&proxy, "partial-response", "abc").status(), 500);
    assert_eq!(origin.seen().len(), 1);
    // One that is changed behind its head goes as far as that says.
    let keeping = format!("{STREAMED}, allow_content_length_header: true");
    let proxy = proxy_asking(&processor, &origin, &keeping);
    let kept = post(&proxy, "upper", "abc");
    assert_eq!(echoed(&kept), "ABC");
    assert_eq!(origin.seen()[1].header("content-length").as_deref(), Some("3"));
    assert_eq!(post(&proxy, "stretch", "abc").status(), 500);
    assert_eq!(post(&proxy, "clear", "abc").status(), 500);
    assert_eq!(origin.seen().len(), 2, "the other requests were cut off");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\nx-do: stretch-response\r\n\r\n");
    // Its head may be on its way, or not.
    assert_eq!(client.try_response("GET").map_or(500, |response| response.status()), 500);
    // What the processor says of a body that it does not see any more is forgotten.
    let tolerant = format!("{BUFFERED}, failure_mode_allow: true");
    let proxy = proxy_asking(&processor, &origin, &tolerant);
    assert_eq!(echoed(&post(&proxy, "say-3-and-abort", "abcdef")), "abcdef");
    assert_eq!(echoed(&post(&proxy, "say-3", "abc")), "abc");
    assert_eq!(post(&proxy, "say-3", "abcdef").status(), 500);
    assert_eq!(ask(&proxy, "say-3", "").status(), 200);
}

#[test]
fn a_body_that_the_processor_has_begun_does_not_go_on_without_its_beginning() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    // It does not get rid of a body with the mode.
    let proxy = proxy_asking(&processor, &origin, &format!("{DUPLEX}, allow_mode_override: true"));
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: example\r\nx-do: give-back\r\ncontent-length: 6\r\n\r\nabc",
    );
    assert_eq!(processor.told()["part"], "request_headers");
    assert_eq!(processor.told()["body"], "abc");
    client.send("def");
    assert_eq!(processor.told()["body"], "def");
    client.reset();
    // Nor by going on with the message as it is, unless the body is still here.
    let proxy = proxy_asking(&processor, &origin, DUPLEX);
    assert_eq!(post(&proxy, "let-go", "abc").status(), 500);
    let early = "send_body_without_waiting_for_header_response: true";
    let proxy = proxy_asking(&processor, &origin, &format!("{STREAMED}, {early}"));
    assert_eq!(echoed(&post(&proxy, "let-go", "abc")), "abc");
    // Nor when a route allows it to fail.
    let proxy = proxy_asking(&processor, &origin, DUPLEX);
    let mut client = proxy.connect();
    client.send(
        "POST /tolerant HTTP/1.1\r\nhost: example\r\nx-do: abort-request_body\r\ncontent-length: 3\r\n\r\nabc",
    );
    assert_eq!(client.response().status(), 500);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_processor_that_goes_on_behind_the_end_stops_the_request() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, DUPLEX);
    assert_eq!(post(&proxy, "endless", "abc").status(), 500);
    assert_eq!(proxy.stat("http.front.ext_proc.spurious_msgs_received"), 1);
}

#[test]
fn a_processor_that_does_not_read_is_not_waited_for_by_an_observed_request() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_swallows();
    let observing = format!("{STREAMED}, observability_mode: true");
    let proxy = proxy_asking(&processor, &origin, &observing);
    assert_eq!(post(&proxy, "deaf", &"a".repeat(20_000_000)).status(), 200);
}

#[test]
fn little_is_taken_of_a_body_for_a_processor_that_does_not_read() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_swallows();
    let proxy = proxy_asking(&processor, &origin, DUPLEX);
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: example\r\nx-do: deaf\r\ncontent-length: 400000000\r\n\r\n",
    );
    let sent = client.wire().send(&vec![b'a'; 100_000_000]);
    assert!(sent.is_err(), "all of it was taken");
}

#[test]
fn the_method_says_as_much_of_the_response_as_before() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    assert_eq!(ask(&proxy, "head", "").status(), 500);
    assert_eq!(ask(&proxy, "get", "").status(), 200);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: example\r\nx-do: get\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 500);
    assert_eq!(proxy.stat("http.front.ext_proc.rejected_header_mutations"), 2);
}

#[test]
fn what_a_processor_has_said_before_it_leaves_counts() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    assert_eq!(ask(&proxy, "last-word", "").status(), 200);
    assert_eq!(origin.saw().header("x-set").as_deref(), Some("by-processor"));
}

#[test]
fn an_observer_sees_everything_and_changes_nothing() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, &format!("{STREAMED}, observability_mode: true"));
    assert_eq!(echoed(&post(&proxy, "upper", "abc")), "abc");
    let mut bodies = 0;
    for _ in 0..6 {
        let told = processor.told();
        assert_eq!(told["observes"], true);
        bodies += usize::from(told["body"] == "abc");
    }
    assert_eq!(bodies, 1);
}

#[test]
fn a_route_says_how_it_is_processed() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_echoes();
    let proxy = proxy_asking(&processor, &origin, "");
    let mut client = proxy.connect();
    client.send("GET /plain HTTP/1.1\r\nhost: example\r\nx-do: deny\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    client.send(
        "POST /buffered HTTP/1.1\r\nhost: example\r\nx-do: upper\r\ncontent-length: 3\r\n\r\nabc",
    );
    assert_eq!(echoed(&client.response()), "ABC");
    let told = processor.told();
    assert_eq!(told["part"], "request_body");
    assert_eq!(told["metadata"]["mine"], "1");
    assert_eq!(told["metadata"]["do"], "upper");
    client.send("GET /tolerant HTTP/1.1\r\nhost: example\r\nx-do: abort\r\n\r\n");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn the_route_is_looked_up_again() {
    let Some(processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "");
    assert_eq!(ask(&proxy, "path", "").status(), 204);
    assert_eq!(ask(&proxy, "route", "").status(), 200);
    assert_eq!(proxy.stat("http.front.ext_proc.clear_route_cache_ignored"), 1);
    let proxy = proxy_asking(&processor, &origin, "route_cache_action: RETAIN");
    assert_eq!(ask(&proxy, "path", "").status(), 200);
    assert_eq!(proxy.stat("http.front.ext_proc.clear_route_cache_disabled"), 1);
}

#[test]
fn a_client_that_goes_away_cancels_the_stream() {
    let Some(mut processor) = Service::start("ext_proc") else { return };
    let origin = Origin::that_answers();
    let proxy = proxy_asking(&processor, &origin, "message_timeout: 60s");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\nx-do: hang\r\n\r\n");
    processor.told();
    client.reset();
    proxy.stat_becomes("cluster.processor.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    assert_eq!(origin.seen().len(), 0);
}

const BUFFERED: &str =
    "processing_mode: { request_body_mode: BUFFERED, response_body_mode: BUFFERED }";
const STREAMED: &str =
    "processing_mode: { request_body_mode: STREAMED, response_body_mode: STREAMED }";
const PARTIAL: &str = "processing_mode: { request_body_mode: BUFFERED_PARTIAL }";
const DUPLEX: &str = "processing_mode: { request_body_mode: FULL_DUPLEX_STREAMED, \
    response_body_mode: FULL_DUPLEX_STREAMED, request_trailer_mode: SEND, response_trailer_mode: SEND }";

/// The body that an origin has echoed with the rest of the request.
fn echoed(response: &Message) -> String {
    let text = response.text();
    let (head, body) = text.split_once("\r\n\r\n").expect("it is a request");
    if !head.to_lowercase().contains("transfer-encoding") {
        return body.to_owned();
    }
    let (mut rest, mut echoed) = (body, String::new());
    loop {
        let (length, chunk) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return echoed;
        }
        echoed.push_str(&chunk[..length]);
        rest = &chunk[length + 2..];
    }
}

fn ask(proxy: &Proxy, what: &str, headers: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!(
        "GET /a?b=c HTTP/1.1\r\nhost: example\r\nx-do: {what}\r\nx-mine: me\r\n{headers}\r\n"
    ));
    client.response()
}

fn post(proxy: &Proxy, what: &str, body: &str) -> Message {
    let mut client = proxy.connect();
    let length = body.len();
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: example\r\nx-do: {what}\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    client.response()
}

/// A proxy whose messages are processed; `options` are further ones of the filter.
fn proxy_asking(processor: &Service, origin: &Origin, options: &str) -> Proxy {
    proxy_with(processor, origin, options, "")
}

fn proxy_with(processor: &Service, origin: &Origin, options: &str, listener: &str) -> Proxy {
    let patient = if options.contains("message_timeout") { "" } else { "message_timeout: 2s" };
    let options = [SERVICE, options, patient];
    let options: Vec<&str> = options.into_iter().filter(|option| !option.is_empty()).collect();
    let options = options.join(", ");
    let mut config = Config::to(origin)
        .manager("http_protocol_options: { enable_trailers: true }")
        .filter("proc", "ext_proc.v3.ExternalProcessor", &options);
    if !listener.is_empty() {
        config = config.listener(listener);
    }
    let yaml = config.yaml().replace("\n              routes:", ROUTES);
    let trailers = "http_protocol_options: { enable_trailers: true }";
    let options = protocols(HTTP2);
    let yaml = processor.in_cluster(&yaml, "processor", &options);
    let yaml = yaml.replace(
        "\n  - name: service",
        &format!("\n  - name: service\n    typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ {trailers} }} }} }}"),
    );
    Proxy::with(Config::verbatim(yaml))
}

const SERVICE: &str = "grpc_service: { envoy_grpc: { cluster_name: processor }, \
    initial_metadata: [{ key: do, value: \"%REQ(x-do)%\" }] }";

/// Routes before the one for everything.
const ROUTES: &str = r#"
              routes:
              - match: { path: /other }
                direct_response: { status: 204 }
              - match: { path: /plain }
                route: { cluster: service }
                typed_per_filter_config: { proc: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute, disabled: true } }
              - match: { path: /buffered }
                route: { cluster: service }
                typed_per_filter_config: { proc: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute, overrides: { processing_mode: { request_header_mode: SKIP, response_header_mode: SKIP, request_body_mode: BUFFERED }, grpc_initial_metadata: [{ key: mine, value: "1" }] } } }
              - match: { path: /tolerant }
                route: { cluster: service }
                typed_per_filter_config: { proc: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute, overrides: { failure_mode_allow: true } } }"#;
