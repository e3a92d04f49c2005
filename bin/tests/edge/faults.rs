//! Origins that answer wrongly, one row per fault: what the client gets, whether the connection to
//! the origin is reused, and that later clients are not affected.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::{Act, Broken, Client, Config, Origin, Proxy, is_oracle};

use super::lanes;

/// A fault. Where Envoy behaves differently, and Corvoy does so on purpose, `envoy` says what it
/// does.
struct Fault {
    name: &'static str,
    request: &'static str,
    act: Act,
    outcome: &'static str,
    envoy: Option<&'static str>,
}

#[test]
fn an_answer_with_an_ambiguous_length_is_a_502() {
    check(&[
        ok("one length", "Content-Length: 2\r\n\r\nok", "200 ok, reused"),
        ok("two lengths that differ", "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", REFUSED),
        ok("two lengths that agree", "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        ok("a list of lengths", "Content-Length: 2, 2\r\n\r\nok", REFUSED),
        ok("a negative length", "Content-Length: -1\r\n\r\nok", REFUSED),
        ok("a signed length", "Content-Length: +2\r\n\r\nok", REFUSED),
        ok("a hexadecimal length", "Content-Length: 0x2\r\n\r\nok", REFUSED),
        ok("an empty length", "Content-Length: \r\n\r\nok", REFUSED),
        ok("a length of 2^64", "Content-Length: 18446744073709551616\r\n\r\nok", REFUSED),
        ok("length and chunks", &(LENGTH.to_owned() + CHUNKED + CHUNKS), REFUSED),
        ok("identity", "Transfer-Encoding: identity\r\n\r\nok", REFUSED),
        ok("gzip, chunked", &("Transfer-Encoding: gzip, chunked\r\n".to_owned() + CHUNKS), REFUSED),
        ok("chunked, gzip", &("Transfer-Encoding: chunked, gzip\r\n".to_owned() + CHUNKS), REFUSED),
        ok("xchunked", &("Transfer-Encoding: xchunked\r\n".to_owned() + CHUNKS), REFUSED),
        ok("chunked twice", &(CHUNKED.to_owned() + CHUNKED + CHUNKS), REFUSED),
        raw("chunks in HTTP/1.0", &format!("HTTP/1.0 200 OK\r\n{CHUNKED}{CHUNKS}"), REFUSED)
            .but_envoy("200 ok, not reused"),
        ok("a length that is folded", "Content-Length:\r\n 2\r\n\r\nok", REFUSED)
            .but_envoy("200 ok, reused"),
    ]);
}

#[test]
fn an_answer_that_is_not_http_is_a_502() {
    let fields = |field: &str| format!("{field}\r\nContent-Length: 2\r\n\r\nok");
    check(&[
        ok("NUL in a value", &fields("a: b\0c"), REFUSED),
        ok("a control in a value", &fields("a: b\x01c"), REFUSED),
        ok("DEL in a value", &fields("a: b\x7fc"), REFUSED),
        ok("a bare CR in a value", &fields("a: b\rc"), REFUSED).but_envoy("200 ok, reused"),
        ok("NUL in a name", &fields("a\0: b"), REFUSED),
        ok("a space in a name", &fields("a b: c"), REFUSED),
        ok("a space before the colon", &fields("a : c"), REFUSED),
        ok("no name", &fields(": c"), REFUSED),
        ok("no colon", &fields("abc"), REFUSED),
        ok("a folded field", &fields("a: b\r\n c"), "200 ok, reused"),
        raw("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ok, reused"),
        raw("garbage", "garbage\r\n\r\n", REFUSED),
        raw("HTTP/0.9", "<html>ok</html>", REFUSED).and_closes(),
        raw("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", REFUSED),
        raw("another version", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", REFUSED)
            .but_envoy("200 ok, not reused"),
        raw("an empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("status 099", "HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("status 1000", "HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\nok", REFUSED)
            .but_envoy("hangs, not reused"),
        raw("status 20", "HTTP/1.1 20 No\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("status 2xx", "HTTP/1.1 2xx No\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("status -200", "HTTP/1.1 -200 No\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("a status without a reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", OK),
        ok("a field of 100 KB", &fields(&format!("a: {}", "b".repeat(100 << 10))), REFUSED),
        ok("500 fields", &fields(&["a: b"; 500].join("\r\n")), REFUSED),
    ]);
}

#[test]
fn interim_answers_are_skipped_and_an_unrequested_switch_is_a_502() {
    let after = |interim: &str, count: usize| interim.repeat(count) + SOUND;
    check(&[
        raw("a 100", &after("HTTP/1.1 100 Continue\r\n\r\n", 1), OK),
        raw("200 of 100", &after("HTTP/1.1 100 Continue\r\n\r\n", 200), OK),
        raw("200 of 102", &after("HTTP/1.1 102 Processing\r\n\r\n", 200), OK),
        raw("a 103", &after("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1), OK),
        raw("200 of 103", &after("HTTP/1.1 103 Early Hints\r\n\r\n", 200), OK),
        raw(
            "a 100 with a length",
            &after("HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n", 1),
            REFUSED,
        ),
        raw(
            "a 101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            REFUSED,
        )
        .but_envoy("101 , reused"),
        raw("a 100 and the end", "HTTP/1.1 100 Continue\r\n\r\n", GONE).and_closes(),
    ]);
}

#[test]
fn a_body_where_none_is_allowed_never_becomes_an_answer() {
    check(&[
        raw("204 with a length", "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok", REFUSED),
        raw("204 with chunks", &format!("HTTP/1.1 204 No\r\n{CHUNKED}{CHUNKS}"), REFUSED),
        raw("204 and bytes", "HTTP/1.1 204 No\r\n\r\nok", "204 , not reused"),
        raw("304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\n", "304 , reused"),
        raw("304 and a body", "HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\nok", "304 , not reused"),
        raw("HEAD and a body", SOUND, "200 , not reused").to("HEAD"),
        raw("bytes after an answer", &(SOUND.to_owned() + "more"), "200 ok, not reused"),
        raw("two answers", &(SOUND.to_owned() + EVIL), "200 ok, not reused"),
        raw(
            "two chunked answers",
            &format!("HTTP/1.1 200 OK\r\n{CHUNKED}{CHUNKS}{EVIL}"),
            "200 ok, not reused",
        ),
    ]);
}

#[test]
fn a_truncated_answer_is_visibly_truncated() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n{body}");
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    check(&[
        raw("nothing and FIN", "", GONE).and_closes(),
        raw("nothing and RST", "", GONE).and_resets(),
        raw("half a status line", "HTTP/1.1 20", REFUSED).and_closes(),
        raw("half a head", "HTTP/1.1 200 OK\r\nContent-Le", REFUSED).and_closes(),
        raw("half a body and FIN", half, CUT).and_closes(),
        raw("half a body and RST", half, CUT).and_resets(),
        raw("chunks without the last", &chunked("2\r\nok\r\n"), CUT).and_closes(),
        raw("half a chunk", &chunked("9\r\nok"), CUT).and_closes(),
        raw("half an end", &chunked("2\r\nok\r\n0\r\n"), CUT).and_closes(),
        raw("a bad size after a chunk", &chunked("2\r\nok\r\nxyz\r\n"), CUT),
        raw("a negative size", &chunked("2\r\nok\r\n-1\r\nx"), CUT),
        raw("a size of 2^64", &chunked("2\r\nok\r\n10000000000000000\r\nx"), CUT),
        raw("a chunk longer than its size", &chunked("2\r\nok\r\n1\r\nokok\r\n0\r\n\r\n"), CUT)
            .but_envoy("200 oko, reused"),
        raw("a body until FIN", "HTTP/1.1 200 OK\r\n\r\nok", "200 ok, not reused").and_closes(),
        raw("a body until RST", "HTTP/1.1 200 OK\r\n\r\nok", CUT)
            .and_resets()
            .but_envoy("200 ok, not reused"),
    ]);
}

#[test]
fn an_unsolicited_answer_reaches_no_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::with(Config::to_addresses(&[address]));
    let mut client = proxy.connect();
    client.ask("/first");
    let (mut idle, _) = listener.accept().unwrap();
    let mut buffer = [0; 4096];
    assert!(idle.read(&mut buffer).unwrap() > 0);
    idle.write_all(SOUND.as_bytes()).unwrap();
    assert_eq!(client.response().text(), "ok");

    idle.write_all(EVIL.as_bytes()).unwrap();
    // The proxy expects nothing more on this connection.
    assert!(matches!(idle.read(&mut buffer), Ok(0) | Err(_)));

    let later = thread::spawn(move || {
        let (mut sound, _) = listener.accept().unwrap();
        assert!(sound.read(&mut [0; 4096]).unwrap() > 0);
        sound.write_all(SOUND.as_bytes()).unwrap();
    });
    assert_eq!(client.get("/next").text(), "ok");
    later.join().unwrap();
}

/// Runs all rows through one proxy, each with its own listener and origin.
#[track_caller]
fn check(faults: &[Fault]) {
    let sound = Act::Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsound".into());
    let origins: Vec<Origin> =
        faults.iter().map(|f| Origin::that_does([f.act.clone(), sound.clone()])).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = Proxy::with(lanes(&addresses, &[], None));
    let mut differences = String::new();
    for ((fault, origin), address) in faults.iter().zip(&origins).zip(proxy.addresses()) {
        let mut client = Client::connect(address);
        let method = fault.request;
        client.send(format!("{method} / HTTP/1.1\r\nhost: client\r\n\r\n"));
        let got = describe(client.try_response(method));
        // The next clients, on a new connection and on this one, get their own answers.
        let victim = describe(Client::connect(address).ask("/victim").try_response("GET"));
        let next = describe(client.ask_if_open("/next"));
        let reused = if origin.connections() == 1 { "reused" } else { "not reused" };
        let outcome = format!("{got}, {reused}");
        let wanted = fault.envoy.filter(|_| is_oracle()).unwrap_or(fault.outcome);
        let harmed = victim != "200 sound" || !["200 sound", "closed"].contains(&next.as_str());
        if outcome != wanted || harmed {
            differences += &format!(
                "{}: {outcome:?}, not {wanted:?}; the victim {victim:?}, the next {next:?}\n",
                fault.name
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

impl Client {
    fn ask_if_open(&mut self, path: &str) -> Result<crate::support::Message, Broken> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: client\r\n\r\n");
        if self.wire().send(request.as_bytes()).is_err() {
            return Err(Broken::Closed(Vec::new()));
        }
        self.try_response("GET")
    }
}

/// Status and body, or how much of them was received.
fn describe(response: Result<crate::support::Message, Broken>) -> String {
    match response {
        Ok(response) => {
            let refused = response.status() >= 500;
            let body = if refused { String::new() } else { format!(" {}", response.text()) };
            format!("{}{body}", response.status())
        }
        Err(Broken::Silent(_)) => "hangs".into(),
        Err(Broken::Malformed(text)) => format!("malformed {text:?}"),
        Err(Broken::Closed(bytes) | Broken::Reset(bytes)) if bytes.is_empty() => "closed".into(),
        Err(_) => "cut off".into(),
    }
}

/// After a valid status line.
fn ok(name: &'static str, rest: &str, outcome: &'static str) -> Fault {
    raw(name, &format!("HTTP/1.1 200 OK\r\n{rest}"), outcome)
}

fn raw(name: &'static str, answer: &str, outcome: &'static str) -> Fault {
    Fault { name, request: "GET", act: Act::Reply(answer.into()), outcome, envoy: None }
}

impl Fault {
    fn but_envoy(self, outcome: &'static str) -> Self {
        Self { envoy: Some(outcome), ..self }
    }

    fn to(self, request: &'static str) -> Self {
        Self { request, ..self }
    }

    fn and_closes(self) -> Self {
        let Act::Reply(bytes) = self.act else { panic!("it does something else") };
        Self { act: Act::ReplyThenClose(bytes), ..self }
    }

    fn and_resets(self) -> Self {
        let Act::Reply(bytes) = self.act else { panic!("it does something else") };
        Self { act: Act::ReplyThenReset(bytes), ..self }
    }
}

const LENGTH: &str = "Content-Length: 2\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const CHUNKS: &str = "\r\n2\r\nok\r\n0\r\n\r\n";
const SOUND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

const OK: &str = "200 ok, reused";
const REFUSED: &str = "502, not reused";
const GONE: &str = "503, not reused";
const CUT: &str = "cut off, not reused";
