//! One payload through the proxy: what the client got, what the origin saw, and what went wrong.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::{Broken, Message, Tls, Wire};

use super::corpus::Case;
use super::origin::{Behaviour, Capture};
use super::reader::{End, Leniency, Request, requests};

/// How long the proxy may take for a response that it need not send.
const QUIET: Duration = Duration::from_millis(100);

/// The result.
#[derive(Debug)]
pub(super) struct Exchange {
    /// All bytes that were written, including the canary.
    sent: Vec<u8>,
    pub(super) answers: Vec<Message>,
    pub(super) answered_before_canary: usize,
    /// The proxy closed before the client did.
    pub(super) closed: bool,
    /// What reached the origin, except for the victim.
    pub(super) seen: Vec<Request>,
    /// The index of the first of them at the origin.
    first: usize,
    /// The violations.
    pub(super) findings: Vec<String>,
}

/// Whether a request that a strict reader rejects reached the origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    Strict,
    Lenient,
}

/// How paths may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paths {
    AsTheyAre,
    /// Escapes, dots, slashes and backslashes may be resolved.
    Normalized,
}

/// How fast the client writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    AtOnce,
    /// One byte at a time; or a thousandth at a time if it is long.
    InPieces,
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener<'a> {
    pub(super) address: SocketAddr,
    /// Clients speak TLS.
    pub(super) tls: Option<&'a Tls>,
}

impl Listener<'_> {
    fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).unwrap();
        match self.tls {
            None => Wire::new(stream),
            Some(tls) => Wire::over_tls(stream, tls.client()),
        }
    }
}

impl Exchange {
    /// Runs a case: its writes, a canary on the same connection, a victim on a new one.
    pub(super) fn play(case: &Case, pace: Pace, proxy: Listener<'_>, origin: &Capture) -> Self {
        let mut exchange = Self {
            sent: Vec::new(),
            answers: Vec::new(),
            answered_before_canary: 0,
            closed: false,
            seen: Vec::new(),
            first: origin.count(),
            findings: Vec::new(),
        };
        let mut wire = proxy.connect();
        for write in case.writes() {
            match pace {
                Pace::AtOnce => exchange.write(&mut wire, &write),
                Pace::InPieces => {
                    for piece in write.chunks(write.len() / 1000 + 1) {
                        exchange.write(&mut wire, piece);
                    }
                }
            }
            exchange.settle(&mut wire);
        }
        exchange.answered_before_canary = exchange.answers.len();
        exchange.write(&mut wire, b"GET /canary HTTP/1.1\r\nHost: canary\r\n\r\n");
        exchange.settle(&mut wire);
        exchange.wait_for_verdict(&mut wire);
        exchange.end(&mut wire);
        origin.catch_up();
        exchange.victim(proxy, origin);
        exchange
    }

    /// Collects the violations, and whether the proxy accepted more than a strict reader does.
    pub(super) fn judge(&mut self, paths: Paths, behaviour: Behaviour) -> Reading {
        if behaviour == Behaviour::Unpredictable {
            // It truncates responses.
            self.findings.retain(|finding| !finding.starts_with("no whole answer"));
        }
        let (strict, _) = requests(&self.sent, Leniency::EmptyLines);
        let (lenient, end) = requests(&self.sent, Leniency::AsEnvoy);
        let (strict, lenient) = (paths.of(&strict), paths.of(&lenient));
        let all_seen = paths.of(&self.seen);
        let reading =
            if is_within(&all_seen, &strict) { Reading::Strict } else { Reading::Lenient };
        let mut once = all_seen.clone();
        if behaviour == Behaviour::Unpredictable {
            // A request on a closing connection may be sent again.
            once.dedup_by(|one, other| one.values("x-request-id") == other.values("x-request-id"));
        }
        if !is_within(&once, &lenient) {
            let seen: Vec<String> =
                self.seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
            self.findings.push(format!("the origin saw a request that was not sent: {seen:?}"));
        }
        for (place, answer) in self.answers.iter().enumerate() {
            let Some(number) = answer.header("x-number") else { continue };
            let number: usize = number.parse().unwrap();
            let seen = number.checked_sub(self.first).and_then(|number| all_seen.get(number));
            let sent = lenient.get(place);
            if !seen.zip(sent).is_some_and(|(seen, sent)| seen.means(sent)) {
                self.findings.push(format!(
                    "answer {place} belongs to request {number}, not to the client's"
                ));
            }
        }
        let whole = lenient.iter().filter(|request| request.end.is_some()).count();
        let possible = whole + usize::from(end != End::Clean);
        if self.answers.len() > possible {
            self.findings.push(format!("{} answers to {whole} requests", self.answers.len()));
        }
        if whole > 0 && self.answers.is_empty() && behaviour != Behaviour::Unpredictable {
            self.findings.push("no answer at all".into());
        }
        if self.answers.len() < whole && !self.closed {
            self.findings.push("it hangs".into());
        }
        reading
    }

    pub(super) fn describe(&self, case: &Case) -> String {
        let mut text = String::new();
        let sent = String::from_utf8_lossy(&self.sent[..self.sent.len().min(600)]).into_owned();
        let _ = writeln!(text, "{}: {:?}\n  sent {sent:?}", case.id, self.findings);
        for answer in &self.answers {
            let _ = writeln!(text, "  got {:?}", answer.to_string());
        }
        for seen in &self.seen {
            let _ = writeln!(text, "  seen {seen:?}");
        }
        text
    }

    fn write(&mut self, wire: &mut Wire, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        // A proxy that has sent an error response may have closed.
        drop(wire.send(bytes));
    }

    /// Reads the required responses, and optional ones.
    fn settle(&mut self, wire: &mut Wire) {
        let (read, end) = requests(&self.sent, Leniency::AsEnvoy);
        let whole = read.iter().filter(|request| request.end.is_some()).count();
        while !self.closed {
            if self.answers.len() < whole {
                self.read(wire);
            } else if end == End::Clean || wire.stays_open(QUIET) {
                return;
            } else {
                self.read(wire);
            }
        }
    }

    /// Bytes that can never become a request must be rejected eventually.
    fn wait_for_verdict(&mut self, wire: &mut Wire) {
        let (read, end) = requests(&self.sent, Leniency::AsEnvoy);
        if matches!(end, End::Wrong(_)) && !self.closed && self.answers.len() <= read.len() {
            self.read(wire);
        }
    }

    fn end(&mut self, wire: &mut Wire) {
        let closed = self.closed || !wire.stays_open(Duration::from_millis(1));
        drop(wire.half_close());
        while !self.closed {
            self.read(wire);
        }
        self.closed = closed;
    }

    fn read(&mut self, wire: &mut Wire) {
        let method = self.method_of(self.answers.len());
        let answer =
            if method == "HEAD" { wire.response_to_head() } else { wire.response(&method) };
        match answer {
            Ok(answer) => self.answers.push(answer),
            Err(Broken::Closed(bytes) | Broken::Reset(bytes)) if bytes.is_empty() => {
                self.closed = true;
            }
            Err(broken) if self.speaks_http2(broken.bytes()) => self.closed = true,
            Err(broken) => {
                let bytes = String::from_utf8_lossy(broken.bytes()).into_owned();
                let what = match broken {
                    Broken::Silent(_) if bytes.is_empty() => "it hangs",
                    _ => "no whole answer",
                };
                self.findings.push(format!("{what}: {bytes:?}"));
                self.closed = true;
            }
        }
    }

    /// The payload begins as HTTP/2 does, and the answer is the server's first frame, SETTINGS.
    fn speaks_http2(&self, answer: &[u8]) -> bool {
        const SETTINGS: u8 = 4;
        self.sent.starts_with(b"PRI * HTTP/2") && answer.get(3) == Some(&SETTINGS)
    }

    fn method_of(&self, place: usize) -> String {
        let (read, _) = requests(&self.sent, Leniency::AsEnvoy);
        if let Some(request) = read.get(place) {
            return request.method.clone();
        }
        let start = read.last().and_then(|request| request.end).unwrap_or(0);
        let rest = String::from_utf8_lossy(&self.sent[start..]);
        rest.trim_start().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Another client, unrelated to this one.
    fn victim(&mut self, proxy: Listener<'_>, origin: &Capture) {
        let mut wire = proxy.connect();
        wire.send(b"GET /victim HTTP/1.1\r\nhost: victim\r\n\r\n").unwrap();
        let answer = wire.response("GET");
        let mut seen = origin.since(self.first);
        let number = seen.iter().position(|request| request.target == "/victim");
        match (answer, number) {
            (Ok(answer), Some(number))
                if answer.header("x-number") == Some((self.first + number).to_string())
                    && number + 1 == seen.len()
                    && seen[number].body.is_empty() =>
            {
                seen.truncate(number);
            }
            (answer, _) => {
                self.findings
                    .push(format!("the victim is affected: {answer:?}, the origin saw {seen:?}"));
            }
        }
        self.seen = seen;
    }
}

impl Paths {
    /// The requests, with normalized targets if the proxy may normalize them.
    fn of(self, requests: &[Request]) -> Vec<Request> {
        let mut requests = requests.to_vec();
        for request in requests.iter_mut().filter(|_| self == Self::Normalized) {
            let path = request.path().to_owned();
            let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
            request.target = resolved(path) + query;
        }
        requests
    }
}

/// A path without escapes, dots, backslashes and repeated slashes.
fn resolved(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let escape = rest.get(1..3).filter(|_| first == '%');
        let byte = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.map_or(first, char::from));
        rest = &rest[if byte.is_some() { 3 } else { first.len_utf8() }..];
    }
    let decoded = decoded.replace('\\', "/");
    let mut segments = Vec::new();
    for segment in decoded.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segment {
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Whether each request that was seen was sent, once and in this order. The proxy may have answered
/// some itself.
fn is_within(seen: &[Request], sent: &[Request]) -> bool {
    let mut sent = sent.iter();
    seen.iter().all(|seen| sent.any(|sent| seen.means(sent)))
}
