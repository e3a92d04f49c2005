//! Runs a case about a connection without HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Refusing;
use crate::support::tcp::reset;

use super::case::{Case, Kind, Step};
use super::log::AccessLog;
use super::{run, text};

/// A connection is quiet if nothing arrives for this long.
const QUIET: Duration = Duration::from_millis(700);

/// The case as it ran: given steps unchanged, recorded ones with their results.
pub(super) fn run(case: &Case, config: &str) -> Case {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refusing = Refusing::new();
    let yaml = case
        .configuration(config)
        .replace("ORIGIN_PORT", &origin.local_addr().unwrap().port().to_string())
        .replace("REFUSED_PORT", &refusing.address().port().to_string());
    origin.set_nonblocking(true).unwrap();
    let log = AccessLog::of(case);
    let proxy = run::start(&yaml, log.as_ref());
    let client = Some(TcpStream::connect(proxy.address()).unwrap());
    let mut ends = Ends { client, origin, host: None };
    let steps = case.steps.iter().map(|step| match step.kind {
        Kind::Stats => run::stats(&proxy, &step.text),
        _ => ends.take(step),
    });
    let mut steps: Vec<Step> = steps.filter(|step| step.kind != Kind::AccessLog).collect();
    // It is written when a connection has ended.
    drop(ends);
    steps.extend(run::logged(case, log.as_ref()));
    case.with_steps(steps)
}

struct Ends {
    client: Option<TcpStream>,
    origin: TcpListener,
    /// The origin's connection, accepted when it is first asked for.
    host: Option<TcpStream>,
}

impl Ends {
    /// Takes a step; returns it with what was recorded.
    fn take(&mut self, step: &Step) -> Step {
        let bytes = || text::decode(&step.text).unwrap();
        match step.kind {
            // The proxy may have closed.
            Kind::ClientSends => drop(self.client().write_all(&bytes())),
            Kind::ClientHalfCloses => self.client().shutdown(Shutdown::Write).unwrap(),
            Kind::ClientResets => reset(self.client.take().unwrap()),
            Kind::ClientWaits => {
                thread::sleep(Duration::from_millis(step.text.trim().parse().unwrap()));
            }
            Kind::ClientReceives | Kind::ClientReceivesEnd | Kind::ClientReceivesReset => {
                let kinds =
                    [Kind::ClientReceives, Kind::ClientReceivesEnd, Kind::ClientReceivesReset];
                return received(self.client(), kinds);
            }
            Kind::OriginSends => self.host().unwrap().write_all(&bytes()).unwrap(),
            Kind::OriginHalfCloses => self.host().unwrap().shutdown(Shutdown::Write).unwrap(),
            Kind::OriginResets => {
                self.host().unwrap();
                reset(self.host.take().unwrap());
            }
            Kind::OriginReceives
            | Kind::OriginReceivesEnd
            | Kind::OriginReceivesReset
            | Kind::OriginHasNoClient => {
                let kinds =
                    [Kind::OriginReceives, Kind::OriginReceivesEnd, Kind::OriginReceivesReset];
                return match self.host() {
                    Some(host) => received(host, kinds),
                    None => Step { kind: Kind::OriginHasNoClient, text: String::new() },
                };
            }
            _ => {}
        }
        step.clone()
    }

    fn client(&mut self) -> &mut TcpStream {
        self.client.as_mut().unwrap()
    }

    fn host(&mut self) -> Option<&mut TcpStream> {
        let until = Instant::now() + QUIET;
        while self.host.is_none() && Instant::now() < until {
            self.host = self.origin.accept().ok().map(|(stream, _)| {
                stream.set_nonblocking(false).unwrap();
                stream
            });
            thread::sleep(Duration::from_millis(5));
        }
        self.host.as_mut()
    }
}

/// What arrives until the connection is quiet, has ended, or was reset.
fn received(stream: &mut TcpStream, [quiet, end, reset]: [Kind; 3]) -> Step {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let mut all = Vec::new();
    let mut block = [0; 4096];
    let kind = loop {
        match stream.read(&mut block) {
            Ok(0) => break end,
            Ok(n) => all.extend_from_slice(&block[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break reset,
            Err(_) => break quiet,
        }
    };
    Step { kind, text: text::encode(&all) }
}
