//! A client or an origin: a socket, and what is done with it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::shard::clock::Millis;

/// What a peer does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Sends these bytes.
    Send(&'static str),
    /// Waits until it has received these bytes, after those that it has waited for before.
    Await(&'static str),
    /// Closes its sending side.
    Shutdown,
    /// Closes the connection.
    Close,
    /// Receives nothing until it has slept.
    Pause,
    /// Does nothing until nothing else happens, and then for so long.
    Sleep(Millis),
}

/// How a connection of a peer ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum End {
    /// It is open.
    #[default]
    Open,
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

impl Act {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Send(bytes) => bytes.len(),
            Self::Await(_) | Self::Shutdown | Self::Close | Self::Pause | Self::Sleep(_) => 0,
        }
    }
}

/// One end of a connection of the proxy.
#[derive(Debug)]
pub(super) struct Peer {
    stream: Option<UnixStream>,
    script: VecDeque<Act>,
    /// How much of the bytes to be sent next were sent.
    sent: usize,
    received: Vec<u8>,
    awaited: usize,
    reading: Reading,
    end: End,
}

/// Whether a peer receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Now,
    Paused,
}

impl Peer {
    pub(super) fn new(stream: UnixStream, script: &[Act]) -> Self {
        stream.set_nonblocking(true).unwrap();
        let script = script.iter().copied().collect();
        Self {
            stream: Some(stream),
            script,
            sent: 0,
            received: Vec::new(),
            awaited: 0,
            reading: Reading::Now,
            end: End::Open,
        }
    }

    /// Receives what is there, and returns how many bytes that were.
    pub(super) fn receive(&mut self) -> usize {
        let before = self.received.len();
        let Some(stream) = &mut self.stream else { return 0 };
        let mut chunk = [0; 1 << 16];
        while self.end == End::Open && self.reading == Reading::Now {
            match stream.read(&mut chunk) {
                Ok(0) => self.end = End::Closed,
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.end = End::Reset,
            }
        }
        self.received.len() - before
    }

    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    pub(super) const fn ended(&self) -> End {
        self.end
    }

    /// Whether it can do something now.
    pub(super) fn can_act(&self) -> bool {
        match self.script.front() {
            Some(Act::Await(bytes)) => self.position(bytes).is_some(),
            Some(Act::Send(_)) => self.has_room(),
            Some(Act::Shutdown | Act::Close | Act::Pause) => true,
            Some(Act::Sleep(_)) | None => false,
        }
    }

    /// How long it sleeps, if that comes next.
    pub(super) fn wake_up(&mut self) -> Option<Millis> {
        let Some(&Act::Sleep(time)) = self.script.front() else { return None };
        self.script.pop_front();
        self.reading = Reading::Now;
        Some(time)
    }

    fn has_room(&self) -> bool {
        let stream = self.stream.as_ref().unwrap();
        let mut polled = [PollFd::new(stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&at_once)).unwrap() > 0
    }

    fn position(&self, bytes: &str) -> Option<usize> {
        let rest = &self.received[self.awaited..];
        memchr::memmem::find(rest, bytes.as_bytes())
    }

    /// Does what comes next; `piece` says how many of so many bytes are sent now.
    pub(super) fn act(&mut self, piece: impl FnOnce(usize) -> usize) {
        match self.script.front().copied().unwrap() {
            Act::Await(bytes) => self.awaited += self.position(bytes).unwrap() + bytes.len(),
            Act::Send(bytes) => {
                let rest = &bytes.as_bytes()[self.sent..];
                let piece = piece(rest.len());
                self.sent += match self.stream.as_mut().unwrap().write(&rest[..piece]) {
                    Ok(sent) => sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    // Nobody is there: the bytes are lost.
                    Err(_) => piece,
                };
                if self.sent < bytes.len() {
                    return;
                }
                self.sent = 0;
            }
            Act::Pause => self.reading = Reading::Paused,
            Act::Shutdown => drop(self.stream.as_ref().unwrap().shutdown(Shutdown::Write)),
            Act::Close => self.close(),
            Act::Sleep(_) => unreachable!("time passes when nothing else happens"),
        }
        self.script.pop_front();
    }

    /// Closes the connection; what comes in the script is not done.
    pub(super) fn close(&mut self) {
        self.reading = Reading::Now;
        self.receive();
        self.stream = None;
        self.script.clear();
    }
}
