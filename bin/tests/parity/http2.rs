//! Runs a case whose client, origin or both speak HTTP/2, frame by frame.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Broken, Client, Origin, PATIENCE, Refusing, Tls, Wire};

use super::case::{Case, Kind, Step};
use super::frames::{self, Line, Reader};
use super::log::AccessLog;
use super::{is_recording, run, text};

/// A connection is quiet if nothing arrives for this long.
const QUIET: Duration = Duration::from_millis(800);

/// The same if something is still expected.
const QUIET_TOO_EARLY: Duration = Duration::from_millis(2500);

/// How often connections are looked at.
const TICK: Duration = Duration::from_millis(10);

/// The case as it ran: given steps unchanged, recorded ones with their results.
pub(super) fn run(case: &Case, config: &str, tls: Option<&Tls>) -> Case {
    let refusing = Refusing::new();
    let mut origin = match case.origin_speaks_http2() {
        true => OriginEnd::Http2(Box::new(Http2Origin::new(case, tls))),
        false => OriginEnd::Http1(run::origin(case, tls)),
    };
    let yaml = case
        .configuration(config)
        .replace("ORIGIN_PORT", &origin.port().to_string())
        .replace("REFUSED_PORT", &refusing.address().port().to_string());
    let log = AccessLog::of(case);
    let proxy = run::start(&yaml, log.as_ref());
    let mut client = match case.client_speaks_http2() {
        true => {
            let wire = match tls {
                None => Wire::connect(proxy.address()).unwrap(),
                Some(tls) => proxy.connect_tls(&tls.clone().with_offers(&["h2"])).into_wire(),
            };
            let greeting = case.text_of(Kind::ClientGreets);
            ClientEnd::Http2(Peer::new(
                wire,
                Reader::of_server(),
                greeting,
                "PREFACE\nSETTINGS 0\n",
            ))
        }
        false => {
            ClientEnd::Http1(tls.map_or_else(|| proxy.connect(), |tls| proxy.connect_tls(tls)))
        }
    };
    let mut steps: Vec<Step> =
        case.steps.iter().filter_map(|step| take(step, &mut client, &mut origin)).collect();
    steps.extend(client.end(&steps));
    steps.extend(origin.end());
    let of_stats = case.steps.iter().filter(|step| step.kind == Kind::Stats);
    steps.extend(of_stats.map(|step| run::stats(&proxy, &step.text)));
    client.reset();
    steps.extend(run::logged(case, log.as_ref()));
    case.with_steps(steps)
}

/// Takes a step; returns it with what was recorded. None: it is recorded at the end.
fn take(step: &Step, client: &mut ClientEnd, origin: &mut OriginEnd) -> Option<Step> {
    match (step.kind, client, origin) {
        (Kind::ClientSendsFrames, ClientEnd::Http2(peer), _) => peer.send(&step.text),
        (Kind::ClientGetsFrames, ClientEnd::Http2(peer), _) => return Some(peer.step(&step.text)),
        (Kind::OriginSendsFrames, _, OriginEnd::Http2(origin)) => origin.send(&step.text),
        (Kind::OriginGetsFrames, _, OriginEnd::Http2(origin)) => {
            return Some(Step { kind: step.kind, text: origin.receive(&step.text) });
        }
        // A proxy that has sent an error response may have closed.
        (Kind::ClientSends, ClientEnd::Http1(client), _) => {
            drop(client.wire().send(&text::decode(&step.text).unwrap()));
        }
        (Kind::ClientHalfCloses, ClientEnd::Http1(client), _) => drop(client.wire().half_close()),
        (
            Kind::ClientGets | Kind::ClientGetsCutOff | Kind::ClientGetsNothing,
            ClientEnd::Http1(client),
            _,
        ) => return Some(run::answer(client, "GET", Kind::ClientGets)),
        (Kind::ClientGetsHead, ClientEnd::Http1(client), _) => {
            return Some(run::answer(client, "HEAD", step.kind));
        }
        (Kind::ClientWaits, ..) => {
            thread::sleep(Duration::from_millis(step.text.trim().parse().unwrap()));
        }
        (kind, ..) if kind.is_recorded() => return None,
        (kind, ..) => assert!(!kind.is_an_act(), "{kind:?} is not of such a case"),
    }
    Some(step.clone())
}

enum ClientEnd {
    Http1(Client),
    Http2(Peer),
}

enum OriginEnd {
    Http1(Origin),
    Http2(Box<Http2Origin>),
}

impl ClientEnd {
    /// Ends what is still in progress.
    fn reset(self) {
        match self {
            Self::Http1(client) => client.reset(),
            Self::Http2(peer) => peer.wire.into_iter().for_each(Wire::reset),
        }
    }

    /// What came that no step has read, and the state of the connection.
    fn end(&mut self, steps: &[Step]) -> Vec<Step> {
        match self {
            Self::Http1(client) => {
                vec![Step { kind: run::end(client, steps), text: String::new() }]
            }
            Self::Http2(peer) => {
                while peer.receive(Duration::from_millis(100)) {}
                let text = peer.take_text();
                let looks = steps.iter().any(|step| step.kind == Kind::ClientGetsFrames);
                let rest = looks && !text.is_empty();
                let rest = rest.then_some(Step { kind: Kind::ClientGetsFrames, text });
                let kind =
                    if peer.is_open { Kind::ConnectionStaysOpen } else { Kind::ConnectionCloses };
                rest.into_iter().chain([Step { kind, text: String::new() }]).collect()
            }
        }
    }
}

impl OriginEnd {
    fn port(&self) -> u16 {
        match self {
            Self::Http1(origin) => origin.port(),
            Self::Http2(origin) => origin.listener.local_addr().unwrap().port(),
        }
    }

    fn end(&self) -> Vec<Step> {
        match self {
            Self::Http1(origin) => run::sights(&origin.seen()),
            Self::Http2(_) => Vec::new(),
        }
    }
}

/// An origin that does only what the case says.
struct Http2Origin {
    listener: TcpListener,
    tls: Option<Tls>,
    greeting: Option<String>,
    connections: Vec<Peer>,
}

impl Http2Origin {
    fn new(case: &Case, tls: Option<&Tls>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let tls = tls.map(|tls| tls.clone().with_protocols(&["h2"]));
        let greeting = case.text_of(Kind::OriginGreets).map(str::to_owned);
        Self { listener, tls, greeting, connections: Vec::new() }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).unwrap();
            let wire = match &self.tls {
                None => Wire::new(stream),
                Some(tls) => Wire::over_tls(stream, tls.server()),
            };
            let peer =
                Peer::new(wire, Reader::of_client(), self.greeting.as_deref(), "SETTINGS 0\n");
            self.connections.push(peer);
        }
    }

    /// Sends frames, each part on its connection.
    fn send(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        for (connection, frames) in by_connection(text) {
            while self.connections.len() < connection && Instant::now() < until {
                self.accept();
                thread::sleep(TICK);
            }
            self.connections.get_mut(connection - 1).expect("a connection").send(&frames);
        }
    }

    /// What all connections received until they are quiet, or as much as is `expected`.
    fn receive(&mut self, expected: &str) -> String {
        read_until_quiet(expected, || {
            self.accept();
            thread::sleep(TICK);
            let mut arrived = false;
            for peer in &mut self.connections {
                arrived |= peer.receive(TICK);
            }
            (arrived, self.text())
        });
        let text = self.text();
        self.connections.iter_mut().for_each(|peer| drop(peer.take_text()));
        text
    }

    fn text(&self) -> String {
        let mut all = String::new();
        for (at, peer) in self.connections.iter().enumerate() {
            let text = peer.text();
            if at > 0 && !text.is_empty() {
                all += &format!("connection {}\n", at + 1);
            }
            all += &text;
        }
        text::mask(&all)
    }
}

/// Reads until what was read is as expected, or the connection is quiet. `read` returns whether something
/// has arrived, and everything so far.
fn read_until_quiet(expected: &str, mut read: impl FnMut() -> (bool, String)) {
    let is_new = expected.is_empty() || is_recording();
    let patience = if is_new { QUIET } else { QUIET_TOO_EARLY };
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < patience {
        let (arrived, all) = read();
        if arrived {
            quiet_since = Instant::now();
        }
        if !is_new && all == expected {
            return;
        }
    }
}

/// The frames for each connection: those before a line `connection 2` are for the first one.
fn by_connection(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for line in text.lines() {
        match line.strip_prefix("connection ") {
            Some(number) => parts.push((number.parse().unwrap(), String::new())),
            None => {
                let (_, part) = parts.last_mut().unwrap();
                *part += line;
                *part += "\n";
            }
        }
    }
    parts.retain(|(_, part)| !part.is_empty());
    parts
}

/// One connection of HTTP/2, of which every frame is visible. It acknowledges SETTINGS.
struct Peer {
    /// None: the case has reset it.
    wire: Option<Wire>,
    reader: Reader,
    received: VecDeque<Line>,
    /// The case does not look at how the connection begins.
    hides_greeting: bool,
    is_open: bool,
}

impl Peer {
    fn new(wire: Wire, reader: Reader, greeting: Option<&str>, default: &str) -> Self {
        let hides_greeting = greeting.is_none();
        let (wire, received) = (Some(wire), VecDeque::new());
        let mut peer = Self { wire, reader, received, hides_greeting, is_open: true };
        peer.send(greeting.unwrap_or(default));
        peer
    }

    /// Sends frames; the last line may be `END` or `RESET`.
    fn send(&mut self, text: &str) {
        let (frames, end) = match text.lines().last() {
            Some(end @ ("END" | "RESET")) => (text.trim_end().trim_end_matches(end), end),
            _ => (text, ""),
        };
        let Some(wire) = &mut self.wire else { return };
        // The proxy may have closed.
        drop(wire.send(&frames::encode(frames).unwrap()));
        match end {
            "END" => drop(wire.half_close()),
            "RESET" => {
                self.is_open = false;
                self.wire.take().into_iter().for_each(Wire::reset);
            }
            _ => {}
        }
    }

    /// What came until the connection is quiet, or as much as is expected.
    fn step(&mut self, expected: &str) -> Step {
        read_until_quiet(expected, || (self.receive(TICK), text::mask(&self.text())));
        Step { kind: Kind::ClientGetsFrames, text: self.take_text() }
    }

    /// Whether something has come within this time.
    fn receive(&mut self, time: Duration) -> bool {
        let Some(wire) = self.wire.as_mut().filter(|_| self.is_open) else {
            thread::sleep(time);
            return false;
        };
        let bytes = match wire.next_bytes(time) {
            Ok(bytes) => bytes,
            Err(Broken::Silent(_)) => return false,
            // A reset too: the proxy may have left our acknowledgement unread.
            Err(_) => {
                self.received.push_back(Line::Other("END\n".to_owned()));
                self.is_open = false;
                return true;
            }
        };
        for line in self.reader.read(&bytes) {
            match &line {
                Line::Settings(_) => self.send("SETTINGS 0 ack\n"),
                // The case may be about one that is not answered.
                Line::Ping(payload) if self.hides_greeting => self.acknowledge(payload),
                _ => {}
            }
            if line.is_settings_ack() || self.hides_greeting && line.is_of_greeting() {
                continue;
            }
            if !self.received.back_mut().is_some_and(|last| last.joins(&line)) {
                self.received.push_back(line);
            }
        }
        true
    }

    fn acknowledge(&mut self, ping: &[u8]) {
        if let Some(wire) = &mut self.wire {
            drop(wire.send(&frames::ping_ack(ping)));
        }
    }

    fn text(&self) -> String {
        self.received.iter().map(Line::text).collect()
    }

    fn take_text(&mut self) -> String {
        self.received.drain(..).map(|line| line.text()).collect()
    }
}
