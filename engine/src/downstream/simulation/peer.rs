//! A client or an origin: a socket, and what is done with it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::Connection;

use super::frames::{self, Frames, Then};
use crate::shard::clock::Millis;

/// What a peer does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Sends these bytes.
    Send(&'static str),
    /// Waits until it has received these bytes, after those that it has waited for before.
    Await(&'static str),
    /// Sends these frames.
    Frames(&'static [u8]),
    /// Waits until it has received this on a stream, or about the connection.
    Expect(u32, &'static str),
    /// Answers the last request of a connection, or that of a stream, with its path.
    Echo(Of),
    /// Closes its sending side.
    Shutdown,
    /// Closes the connection.
    Close,
    /// Closes the connection; over TLS without `close_notify`.
    Vanish,
    /// Receives nothing until it has slept.
    Pause,
    /// Does nothing until nothing else happens, and then for so long.
    Sleep(Millis),
}

/// What a request was sent on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Connection,
    Stream(u32),
}

/// How a connection of a peer ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum End {
    /// It is open.
    #[default]
    Open,
    /// In order.
    Closed,
    /// By a close without `close_notify`.
    Truncated,
    /// By a reset, or what came was no TLS.
    Broken,
}

impl Act {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Send(bytes) => bytes.len(),
            Self::Frames(bytes) => bytes.len(),
            Self::Await(_)
            | Self::Expect(..)
            | Self::Echo(_)
            | Self::Shutdown
            | Self::Close
            | Self::Vanish
            | Self::Pause
            | Self::Sleep(_) => 0,
        }
    }
}

/// One end of a connection of the proxy.
#[derive(Debug)]
pub(super) struct Peer {
    stream: Option<UnixStream>,
    tls: Option<Box<Connection>>,
    script: VecDeque<Act>,
    /// What is sent next.
    out: VecDeque<u8>,
    received: Vec<u8>,
    awaited: usize,
    frames: Frames,
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
    pub(super) fn new(stream: UnixStream, tls: Option<Connection>, script: &[Act]) -> Self {
        stream.set_nonblocking(true).unwrap();
        let mut peer = Self {
            stream: Some(stream),
            tls: tls.map(Box::new),
            script: script.iter().copied().collect(),
            out: VecDeque::new(),
            received: Vec::new(),
            awaited: 0,
            frames: Frames::default(),
            reading: Reading::Now,
            end: End::Open,
        };
        if let Some(tls) = &mut peer.tls {
            tls.set_buffer_limit(None);
        }
        peer.encrypt();
        peer
    }

    /// Receives what is there, and returns how many bytes that were.
    pub(super) fn receive(&mut self) -> usize {
        let Some(stream) = &mut self.stream else { return 0 };
        let (mut total, mut chunk) = (0, [0; 1 << 16]);
        while self.end == End::Open && self.reading == Reading::Now {
            match stream.read(&mut chunk) {
                Ok(0) => {
                    self.end = if self.tls.is_some() { End::Truncated } else { End::Closed };
                }
                Ok(n) => {
                    total += n;
                    self.end = match &mut self.tls {
                        None => {
                            self.received.extend_from_slice(&chunk[..n]);
                            End::Open
                        }
                        Some(tls) => decrypt(tls, &chunk[..n], &mut self.received),
                    };
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.end = End::Broken,
            }
        }
        self.encrypt();
        total
    }

    /// Moves what TLS has to say to what is sent next.
    fn encrypt(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while tls.wants_write() {
            tls.write_tls(&mut self.out).unwrap();
        }
    }

    /// What it has received.
    pub(super) fn told(&self) -> String {
        if !Frames::are(&self.received) {
            return String::from_utf8_lossy(&self.received).into_owned();
        }
        let mut frames = Frames::default();
        frames.read(&self.received);
        frames.text()
    }

    pub(super) const fn ended(&self) -> End {
        self.end
    }

    /// Whether it can do something now.
    pub(super) fn can_act(&mut self) -> bool {
        if self.stream.is_none() {
            return false;
        }
        if !self.out.is_empty() {
            return self.has_room();
        }
        // What is said in the middle of a handshake is another story.
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            return false;
        }
        match self.script.front() {
            Some(Act::Await(bytes)) => self.position(bytes).is_some(),
            Some(&Act::Expect(stream, text)) => {
                self.frames.read(&self.received);
                self.frames.on(stream).contains(text)
            }
            Some(
                Act::Send(_)
                | Act::Frames(_)
                | Act::Echo(_)
                | Act::Shutdown
                | Act::Close
                | Act::Vanish
                | Act::Pause,
            ) => true,
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
        memchr::memmem::find(&self.received[self.awaited..], bytes.as_bytes())
    }

    /// Does what comes next; `piece` says how many of so many bytes are sent now.
    pub(super) fn act(&mut self, piece: impl FnOnce(usize) -> usize) {
        if !self.out.is_empty() {
            return self.send(piece);
        }
        match self.script.pop_front().unwrap() {
            Act::Await(bytes) => self.awaited += self.position(bytes).unwrap() + bytes.len(),
            Act::Send(bytes) => self.say(bytes.as_bytes(), piece),
            Act::Frames(bytes) => self.say(bytes, piece),
            Act::Echo(of) => self.say(&self.echo(of), piece),
            // It was received: `can_act`.
            Act::Expect(..) => {}
            Act::Pause => self.reading = Reading::Paused,
            Act::Shutdown => {
                self.say_goodbye();
                drop(self.stream.as_ref().unwrap().shutdown(Shutdown::Write));
            }
            Act::Close => {
                self.say_goodbye();
                self.close();
            }
            Act::Vanish => self.close(),
            Act::Sleep(_) => unreachable!("time passes when nothing else happens"),
        }
    }

    fn say(&mut self, bytes: &[u8], piece: impl FnOnce(usize) -> usize) {
        match &mut self.tls {
            None => self.out.extend(bytes),
            Some(tls) => tls.writer().write_all(bytes).unwrap(),
        }
        self.encrypt();
        if !self.out.is_empty() {
            self.send(piece);
        }
    }

    fn echo(&self, of: Of) -> Vec<u8> {
        let received = String::from_utf8_lossy(&self.received);
        let (text, before) = match of {
            Of::Connection => (&*received, "GET "),
            Of::Stream(stream) => (self.frames.on(stream), ":path: "),
        };
        let (_, path) = text.rsplit_once(before).unwrap();
        let path = path.split(' ').next().unwrap();
        match of {
            Of::Connection => {
                let length = path.len();
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}").into_bytes()
            }
            Of::Stream(stream) => {
                [frames::response(stream, Then::More), frames::data(stream, path, Then::End)]
                    .concat()
            }
        }
    }

    fn send(&mut self, piece: impl FnOnce(usize) -> usize) {
        let piece = piece(self.out.len());
        let bytes = self.out.make_contiguous();
        let sent = match self.stream.as_mut().unwrap().write(&bytes[..piece]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // Nobody is there: the bytes are lost.
            Err(_) => piece,
        };
        self.out.drain(..sent);
    }

    /// Over TLS a close has a message of its own.
    fn say_goodbye(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        tls.send_close_notify();
        self.encrypt();
        self.send(|all| all);
    }

    /// Closes the connection; what comes in the script is not done.
    pub(super) fn close(&mut self) {
        self.reading = Reading::Now;
        self.receive();
        self.stream = None;
        self.script.clear();
        self.out.clear();
    }
}

/// Appends what is in the records to `received`; returns whether that was the end.
fn decrypt(tls: &mut Connection, mut records: &[u8], received: &mut Vec<u8>) -> End {
    while !records.is_empty() {
        tls.read_tls(&mut records).unwrap();
        let Ok(state) = tls.process_new_packets() else { return End::Broken };
        let (from, more) = (received.len(), state.plaintext_bytes_to_read());
        received.resize(from + more, 0);
        tls.reader().read_exact(&mut received[from..]).unwrap();
        if state.peer_has_closed() {
            return End::Closed;
        }
    }
    End::Open
}
