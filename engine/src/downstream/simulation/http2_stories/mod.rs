//! The stories of HTTP/2, of clients and of origins.

mod both;
mod clients;
mod origins;

use super::frames::Then::{End, More};
use super::frames::{
    INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, data, go_away, headers, preface, request, reset,
    response, send, settings, window,
};
use super::peer::Act::{Await, Close, Echo, Expect, Pause, Send, Shutdown, Sleep};
use super::peer::{self, Of};
use super::world::Options;
use super::{Story, tell_frames};

const GET: &str = "GET /one HTTP/1.1\r\nhost: a\r\n\r\n";
const GET_TWO: &str = "GET /two HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HEAD_END: peer::Act = Await("\r\n\r\n");

const TO_HTTP1: Options = Options { manager: "", route: "timeout: 0s", cluster: "" };
const TO_HTTP2: Options = Options {
    cluster: "typed_extension_protocol_options: { \
              envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": \
              type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
              explicit_http_config: { http2_protocol_options: { allow_connect: true } } } }",
    ..TO_HTTP1
};
const RETRIED: &str = "timeout: 0s, retry_policy: { retry_on: refused-stream }";

/// What a client gets whose request for `path` is echoed.
fn echoed(stream: u32, path: &str) -> String {
    format!(
        "{stream} HEADERS :status: 200 content-length: {} date: now server: envoy DATA {path} END",
        path.len()
    )
}

/// The same if the origin speaks HTTP/2.
fn echoed_as_it_was(stream: u32, path: &str) -> String {
    format!("{stream} HEADERS :status: 200 date: now server: envoy DATA {path} END")
}

/// What an origin gets for a GET of this path.
fn got(stream: u32, path: &str) -> String {
    format!(
        "{stream} HEADERS :authority: a :path: {path} :method: GET :scheme: http \
         x-forwarded-proto: http END"
    )
}

/// What is said on a stream.
fn on(text: &str, stream: u32) -> &str {
    let start = format!("{stream} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default()
}

const EXTENDED_CONNECT: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
];
const WEBSOCKET: &str = "upgrade_configs: [{ upgrade_type: websocket }]\n          \
                         http2_protocol_options: { allow_connect: true }";
